#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whole training steps of this program and of a PyTorch peer, in turn, in one run: their ratio.

    bench/compare_peer.py --peer PEER.py [--python PYTHON] [--rounds 3] [--models llama finch goldfinch]
                          [--sizes L12D256 L4D768] [--threads 2]

PEER.py trains the same model for some steps and prints one JSON line with "step_s" and "tokens_per_s":

    PYTHON PEER.py MODEL --n-layer N --n-embd D --ctx-len 512 --batch 4 --threads N --steps 4 [--compile]

Ours is build/cpu/bench/step_bench (cmake --preset cpu -DGF_BENCH=ON). In each round both run once, the peer eager and
compiled; the better of its medians counts. Nothing else should run beside it.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def last_json(command, environment):
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    lines = [line for line in result.stdout.splitlines() if line.startswith("{")]
    if result.returncode != 0 or not lines:
        sys.exit(f"{' '.join(command)}: exit status {result.returncode}\n{result.stderr.strip()[-2000:]}")
    return json.loads(lines[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, help="the peer's program")
    parser.add_argument("--python", default=sys.executable, help="a Python that has torch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=["llama", "finch", "goldfinch"])
    parser.add_argument("--sizes", nargs="+", default=["L12D256", "L4D768"])
    parser.add_argument("--threads", type=int, default=2)
    a = parser.parse_args()
    environment = {**os.environ, "OMP_NUM_THREADS": str(a.threads)}
    print("| size | model | ours, tokens/s | share of sgemm | eager | compiled | ratio | peak memory |\n" + "|---" * 8 + "|")
    for size in a.sizes:
        layers, width = re.fullmatch(r"L(\d+)D(\d+)", size).groups()
        for model in a.models:
            ours = [f"{ROOT}/build/cpu/bench/step_bench", "-c", f"{ROOT}/configs/{model}.yaml", "--model.n_layer", layers,
                    "--model.n_embd", width, "--model.ctx_len", "512", "--model.vocab_size", "4096",
                    "--train.micro_bsz", "4", "--steps", "5"]
            peer = [a.python, a.peer, model, "--n-layer", layers, "--n-embd", width, "--ctx-len", "512", "--batch", "4",
                    "--threads", str(a.threads), "--steps", "4"]
            rates = {"ours": [], "eager": [], "compiled": []}
            shares, memory = [], 0
            for _ in range(a.rounds):
                figures = last_json(ours, environment)
                rates["ours"].append(figures["tokens_per_s"])
                shares.append(figures["share"])
                memory = max(memory, figures["peak_mb"])
                rates["eager"].append(last_json(peer, environment)["tokens_per_s"])
                rates["compiled"].append(last_json(peer + ["--compile"], environment)["tokens_per_s"])
            median = {name: statistics.median(values) for name, values in rates.items()}
            ratio = median["ours"] / max(median["eager"], median["compiled"])
            print(f"| {size} | {model} | {median['ours']:.0f} | {statistics.median(shares):.2f} | {median['eager']:.0f} | "
                  f"{median['compiled']:.0f} | {ratio:.2f} | {memory / 1000:.2f} GB |", flush=True)


if __name__ == "__main__":
    main()
