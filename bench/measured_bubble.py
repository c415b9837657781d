#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Bubbles of real runs beside those that their schedules promise: pipelines of two ranks with one thread each.

    bench/measured_bubble.py [--microbatches 4 8 16] [--steps 8] [--size L8D512]

Each run writes a trace of its steps (parallel.trace_steps), and gf report takes the bubble from it: the median of the
steps. `formula` is the schedule's with passes of one length, `of passes` with the measured mean length of each rank's
passes. Programs: build/cpu/bin. It needs two cores for itself: what else runs there is seen as bubble, so the load is
printed with each run.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

from compare_ranks import BIN, ROOT, SIZES

SCHEDULES = {
    "gpipe": [],
    "one_f_one_b": [],
    "zero_bubble": [],
    "interleaved": ["--parallel.pieces", "2"],
}


def trace_of(folder, size, schedule, microbatches, steps):
    run = f"{folder}/run-0"
    subprocess.run(["rm", "-rf", run], check=True)
    command = ["mpirun", "--allow-run-as-root", "-n", "2", "--oversubscribe", "--bind-to", "none", f"{BIN}/gf-dist-train",
               *SIZES[size], "--parallel.pipeline", "2", "--parallel.schedule", schedule, *SCHEDULES[schedule],
               "--parallel.trace_steps", str(steps), "--train.data_file", f"{folder}/data", "--train.validation_data_file=",
               "--train.val_check_interval", "auto", "--train.micro_bsz", "1", "--train.accumulate_grad_batches",
               str(microbatches), "--train.max_steps", str(steps + 1), "--train.my_exit_tokens", "100000000",
               "--train.proj_dir", folder, "--train.proj_name", "run", "--train.save_every_steps", "0"]
    for words in (command, [f"{BIN}/gf", "report", run]):
        result = subprocess.run(words, capture_output=True, text=True,
                                env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"})
        if result.returncode != 0:
            sys.exit(f"{' '.join(words)}: {result.stdout[-500:]}{result.stderr[-1500:]}")
    with open(f"{run}/report.html") as page:
        return json.loads(re.search(r'id="data">(.*?)</script>', page.read(), re.DOTALL)[1])[0]["trace"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--microbatches", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--schedules", nargs="+", default=list(SCHEDULES), choices=SCHEDULES)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--size", default="L8D512", choices=SIZES)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([f"{BIN}/gf", "data", "tokenize", "--vocab", "byte", "--out", f"{folder}/data", f"{ROOT}/src"],
                       check=True, stdout=subprocess.DEVNULL)
        print(f"{a.size}, pipeline 2, {a.steps} steps each; bubbles in %")
        print("| schedule | microbatches | measured | least to most | formula | difference | of passes | overlap | load |")
        print("|---|---|---|---|---|---|---|---|---|")
        for schedule in a.schedules:
            for microbatches in a.microbatches:
                t = trace_of(folder, a.size, schedule, microbatches, a.steps)
                measured = statistics.median(t["bubbles"])
                print(f"| {schedule} | {microbatches} | {100 * measured:.1f} | {100 * min(t['bubbles']):.1f} to "
                      f"{100 * max(t['bubbles']):.1f} | {100 * t['formula']:.1f} | {100 * (measured - t['formula']):+.1f} | "
                      f"{100 * t['formula_of_passes']:.1f} | {100 * t['overlap']:.0f} | {os.getloadavg()[0]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
