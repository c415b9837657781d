#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What `gf plan` predicts for six layouts of this machine, against what they take: in turn, in one run.

    bench/plan_check.py [--rounds 3] [--steps 8] [--only TEXT] [--others 0.03]

A quickstart model with 16 microbatches of one sequence. In each round the machine is measured (`gf plan --measure`) as
each layout uses it: by one rank with one thread, by one with two, and by two ranks at once; then each layout trains. A
line has the medians over rounds of the predicted and the measured seconds of a step, and of their ratio. Needs two
cores: a pair during which other programs took more than this share of them is thrown away, and taken again when they
are idle. Programs: build/cpu/bin.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = f"{ROOT}/build/cpu/bin"
MODEL = ["-c", f"{ROOT}/configs/quickstart.yaml", "--train.validation_data_file=", "--train.val_check_interval", "auto",
         "--train.micro_bsz", "1", "--train.accumulate_grad_batches", "16"]
# Ranks, threads of each, options.
LAYOUTS = {
    "1 rank, 1 thread": (1, 1, []),
    "1 rank, 2 threads": (1, 2, []),
    "pipeline 2": (2, 1, ["--parallel.pipeline", "2"]),
    "pipeline 2, zero_bubble": (2, 1, ["--parallel.pipeline", "2", "--parallel.schedule", "zero_bubble"]),
    "data 2, zero 1": (2, 1, ["--parallel.zero", "1"]),
    "data 2, zero 2": (2, 1, ["--parallel.zero", "2"]),
}


def run(command, ranks, threads):
    if ranks > 1:
        command = ["mpirun", "--allow-run-as-root", "-n", str(ranks), "--oversubscribe", "--bind-to", "none", *command]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)})
    if result.returncode != 0:
        sys.exit(f"{' '.join(command)}: {result.stdout[-500:]}{result.stderr[-1500:]}")
    return result.stdout


def predicted(hardware, options):
    out = run([f"{BIN}/gf", "plan", *MODEL, *options, "--hardware", hardware, "--layout"], 1, 1)
    return float(re.search(r"^step +([0-9.e-]+)s predicted", out, re.MULTILINE).group(1))


def measured(folder, ranks, threads, options, steps):
    run(["rm", "-rf", f"{folder}/run-0"], 1, 1)
    run([f"{BIN}/gf-dist-train", *MODEL, *options, "--train.data_file", f"{folder}/data", "--train.max_steps", str(steps + 1),
         "--train.my_exit_tokens", "100000000", "--train.proj_dir", folder, "--train.proj_name", "run",
         "--train.save_every_steps", "0"], ranks, threads)
    with open(f"{folder}/run-0/metrics.jsonl") as lines:
        return statistics.median(json.loads(line)["step_s"] for line in list(lines)[1:])


def clocks():
    """Seconds: by the clock, of work of all programs on all cores, of work of the programs started here."""
    with open("/proc/stat") as stat:
        user, nice, system, _, _, *interrupts = map(int, stat.readline().split()[1:9])
    own = os.times()
    return time.monotonic(), (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK"), sum(own[:4])


def share_of_others(before):
    wall, busy, own = (now - then for now, then in zip(clocks(), before))
    return (busy - own) / wall / os.cpu_count()


def undisturbed(body, limit):
    for _ in range(1000):
        before = clocks()
        time.sleep(1)
        if share_of_others(before) > limit:
            continue
        before = clocks()
        result = body()
        if share_of_others(before) <= limit:
            return result
    sys.exit("other programs never left the cores alone")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--only", default="", help="layouts with this in their names")
    parser.add_argument("--others", type=float, default=0.03, help="share of the cores' time that others may take")
    a = parser.parse_args()
    layouts = {name: layout for name, layout in LAYOUTS.items() if a.only in name}
    seen = {name: [] for name in layouts}
    with tempfile.TemporaryDirectory() as folder:
        run([f"{BIN}/gf", "data", "tokenize", "--vocab", "byte", "--out", f"{folder}/data", f"{ROOT}/src"], 1, 1)
        for _ in range(a.rounds):
            for name, (ranks, threads, options) in layouts.items():
                def pair():
                    hardware = f"{folder}/{ranks}-{threads}.yaml"
                    run([f"{BIN}/gf", "plan", *MODEL, "--measure", hardware], ranks, threads)
                    return predicted(hardware, options), measured(folder, ranks, threads, options, a.steps)
                seen[name].append(undisturbed(pair, a.others))
                print(f"{name}: predicted {seen[name][-1][0]:.3f}, measured {seen[name][-1][1]:.3f}", file=sys.stderr)
    print("| layout | predicted s | measured s | predicted / measured |\n|---|---|---|---|")
    for name, pairs in seen.items():
        ratios = [p / m for p, m in pairs]
        print(f"| {name} | {statistics.median(p for p, _ in pairs):.3f} | {statistics.median(m for _, m in pairs):.3f} "
              f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |")


if __name__ == "__main__":
    main()
