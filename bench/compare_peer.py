#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whole training steps of this program and of a PyTorch peer, in turn, in one run: ratios of their speed and memory.

    bench/compare_peer.py --peer PEER.py [--python PYTHON] [--rounds 3] [--models llama finch goldfinch]
                          [--sizes L12D256 L4D768] [--ctx-len 512] [--batch 4] [--threads 2]

PEER.py trains the same model for some steps and prints one JSON line with "tokens_per_s":

    PYTHON PEER.py MODEL --n-layer N --n-embd D --ctx-len 512 --batch 4 --threads N --steps 4 --vocab-size 4096 [--compile]

Ours is build/cpu/bench/step_bench (cmake --preset cpu -DGF_BENCH=ON). In each round both run once, the peer eager and
compiled; the better of its medians counts. Memory is the largest resident size of a process, as the system tells it,
whosever process it is; of the peer, again, the better counts. Nothing else should run beside it.

With --gpu both compute on the GPU in bf16, the peer by way of peer_on_gpu.py, with a vocabulary of 65536; instead of
memory there is the share of what the GPU could do (mfu), reckoned from ours for both. --step-bench names our program.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def measured(command, threads):
    """The last JSON line that the command prints, with "peak_gb", its largest resident size."""
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True,
                                   env={**os.environ, "OMP_NUM_THREADS": str(threads)})
        lines = [line for line in process.stdout if line.startswith("{")]
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0 or not lines:
            errors.seek(0)
            sys.exit(f"{' '.join(command)}: exit status {process.returncode}\n{errors.read().strip()[-2000:]}")
    return {**json.loads(lines[-1]), "peak_gb": usage.ru_maxrss * 1024 / 1e9}


def step_bench(model, size, ctx_len, batch, steps, more=(), program=f"{ROOT}/build/cpu/bench/step_bench", vocabulary=4096):
    """The command; `size`: LxDy."""
    layers, width = layers_and_width(size)
    return [program, "-c", f"{ROOT}/configs/{model}.yaml", "--model.n_layer", layers,
            "--model.n_embd", width, "--model.ctx_len", str(ctx_len), "--model.vocab_size", str(vocabulary),
            "--train.micro_bsz", str(batch), "--steps", str(steps), *more]


def layers_and_width(size):
    found = re.fullmatch(r"L(\d+)D(\d+)", size)
    return found.groups() if found else sys.exit(f"a size is {size}; one is L12D256")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, help="the peer's program")
    parser.add_argument("--python", default=sys.executable, help="a Python that has torch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=["llama", "finch", "goldfinch"])
    parser.add_argument("--sizes", nargs="+", default=["L12D256", "L4D768"])
    parser.add_argument("--ctx-len", type=int, default=512)
    parser.add_argument("--batch", type=int, default=4, help="sequences a step")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--gpu", action="store_true", help="both on a GPU")
    parser.add_argument("--step-bench", help="ours")
    a = parser.parse_args()
    ours = a.step_bench or f"{ROOT}/build/{'cuda' if a.gpu else 'cpu'}/bench/step_bench"
    more = ["--train.accelerator", "gpu", "--train.precision", "bf16"] if a.gpu else []
    python = [a.python, f"{ROOT}/bench/peer_on_gpu.py"] if a.gpu else [a.python]
    vocabulary = 65536 if a.gpu else 4096
    last = "mfu" if a.gpu else "peak memory, GB | of the peer's"
    print(f"ctx {a.ctx_len}, batch {a.batch}; each: ours, the peer eager, compiled\n"
          f"| size | model | tokens/s | ratio | share of the best product | {last} |\n" + "|---" * (6 if a.gpu else 7) + "|")
    for size in a.sizes:
        layers, width = layers_and_width(size)
        for model in a.models:
            peer = [*python, a.peer, model, "--n-layer", layers, "--n-embd", width, "--ctx-len", str(a.ctx_len), "--batch",
                    str(a.batch), "--threads", str(a.threads), "--steps", "4", "--vocab-size", str(vocabulary)]
            programs = [step_bench(model, size, a.ctx_len, a.batch, 5, more, ours, vocabulary), peer, peer + ["--compile"]]
            seen = [[] for _ in programs]
            for _ in range(a.rounds):
                for program, figures in zip(programs, seen):
                    figures.append(measured(program, a.threads))
            speed = [statistics.median(f["tokens_per_s"] for f in figures) for figures in seen]
            memory = [max(f["peak_gb"] for f in figures) for figures in seen]
            share = statistics.median(f["share"] for f in seen[0])
            if a.gpu:
                mfu = statistics.median(f["mfu"] for f in seen[0])
                rest = ", ".join(f"{mfu * s / speed[0]:.3f}" for s in speed)
            else:
                rest = f"{', '.join(f'{m:.2f}' for m in memory)} | {memory[0] / min(memory[1:]):.2f}"
            print(f"| {size} | {model} | {', '.join(f'{s:.0f}' for s in speed)} | {speed[0] / max(speed[1:]):.2f} | "
                  f"{share:.2f} | {rest} |", flush=True)


if __name__ == "__main__":
    main()
