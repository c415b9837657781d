#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whole training steps of this program against one another, in turn, in one run.

    bench/compare_steps.py --recompute [--sizes L12D256] [--ctx-len 512] [--batch 4]
    bench/compare_steps.py --contexts 512,1024,2048,4096,8192,16384 [--sizes L4D256] [--tokens 16384]
    both: [--rounds 3] [--models llama finch goldfinch] [--threads 2]

--recompute: train.grad_cp 1 over the plain step, time and peak memory; the median of the rounds' ratios, with the least
and the largest. --contexts: microseconds a token of steps of --tokens tokens, in sequences of these lengths, and the
longest time over the shortest: 1 for a model whose time a token does not depend on the length. Built with
cmake --preset cpu -DGF_BENCH=ON. Nothing else should run beside it.
"""
import argparse
import statistics

from compare_peer import measured, step_bench


def compare_recompute(a, sizes):
    print(f"ctx {a.ctx_len}, batch {a.batch}; each: the plain step, with recompute")
    print("| size | model | step, s | ratio | peak memory, GB |\n|---|---|---|---|---|")
    for size in sizes:
        for model in a.models:
            programs = [step_bench(model, size, a.ctx_len, a.batch, 5, ["--train.grad_cp", on]) for on in "01"]
            seen = [[measured(program, a.threads) for program in programs] for _ in range(a.rounds)]
            plain, recompute = zip(*seen)
            ratios = [again["step_s"] / once["step_s"] for once, again in seen]
            step = [statistics.median(f["step_s"] for f in figures) for figures in (plain, recompute)]
            memory = [max(f["peak_gb"] for f in figures) for figures in (plain, recompute)]
            print(f"| {size} | {model} | {step[0]:.3f}, {step[1]:.3f} | {statistics.median(ratios):.2f} ({min(ratios):.2f} to "
                  f"{max(ratios):.2f}) | {memory[0]:.2f}, {memory[1]:.2f} |", flush=True)


def compare_contexts(a, sizes):
    print(f"{a.tokens} tokens a step; microseconds a token")
    print(f"| size | model | {' | '.join(map(str, a.contexts))} | longest / shortest |\n{'|---' * (len(a.contexts) + 3)}|")
    for size in sizes:
        for model in a.models:
            programs = [step_bench(model, size, ctx, a.tokens // ctx, 3) for ctx in a.contexts]
            seen = [[1e6 / measured(program, a.threads)["tokens_per_s"] for program in programs] for _ in range(a.rounds)]
            times = [statistics.median(column) for column in zip(*seen)]
            print(f"| {size} | {model} | {' | '.join(f'{t:.1f}' for t in times)} | {max(times) / min(times):.3f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--recompute", action="store_true")
    what.add_argument("--contexts", type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=["llama", "finch", "goldfinch"])
    parser.add_argument("--sizes", nargs="+")
    parser.add_argument("--ctx-len", type=int, default=512, help="with --recompute")
    parser.add_argument("--batch", type=int, default=4, help="with --recompute: sequences a step")
    parser.add_argument("--tokens", type=int, default=16384, help="with --contexts: of a step")
    parser.add_argument("--threads", type=int, default=2)
    a = parser.parse_args()
    if a.recompute:
        compare_recompute(a, a.sizes or ["L12D256"])
        return
    if any(a.tokens % ctx for ctx in a.contexts):
        parser.error(f"--tokens {a.tokens} is no multiple of each of --contexts")
    compare_contexts(a, a.sizes or ["L4D256"])


if __name__ == "__main__":
    main()
