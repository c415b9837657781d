#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Training over ranks against one process with as many threads, in turn, in one run: ratios of tokens/s.

    bench/compare_ranks.py [--rounds 3] [--sizes quickstart L8D512] [--steps 6]
    bench/compare_ranks.py --startup [--rounds 3]

Each layout runs with one thread a rank on as many cores as the one process has threads: pipeline 2 with 16 microbatches,
and two data ranks with zero 1 and 2. Programs: build/cpu/bin. Nothing else should run beside it.

--startup: seconds from the command (mpirun and all) to the line of the first step, of the quickstart's model, for
one process, and for 2 and 4 data ranks of one thread each; that step itself is told apart.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = f"{ROOT}/build/cpu/bin"
SIZES = {
    "quickstart": ["-c", f"{ROOT}/configs/quickstart.yaml"],
    "L8D512": ["-c", f"{ROOT}/configs/goldfinch.yaml", "--model.n_layer", "8", "--model.n_embd", "512",
               "--model.ctx_len", "512", "--model.vocab_size", "257"],
}
LAYOUTS = {
    "one process": [],
    "pipeline 2": ["--parallel.pipeline", "2"],
    "pipeline 2, zero_bubble": ["--parallel.pipeline", "2", "--parallel.schedule", "zero_bubble"],
    "data 2, zero 1": ["--parallel.zero", "1"],
    "data 2, zero 2": ["--parallel.zero", "2"],
}


STARTED_RANKS = (1, 2, 4)


def training(folder, size, steps):
    return [f"{BIN}/gf-dist-train", *SIZES[size], "--train.data_file", f"{folder}/data", "--train.validation_data_file=",
            "--train.val_check_interval", "auto", "--train.micro_bsz", "1", "--train.accumulate_grad_batches", "16",
            "--train.max_steps", str(steps), "--train.my_exit_tokens", "100000000", "--train.proj_dir", folder,
            "--train.proj_name", "run", "--train.save_every_steps", "0"]


def on_ranks(ranks, command):
    return ["mpirun", "--allow-run-as-root", "-n", str(ranks), "--oversubscribe", "--bind-to", "none", *command]


def start_up(folder, ranks):
    """Seconds until metrics.jsonl has the first step's line, and how many of these the step took."""
    command = training(folder, "quickstart", 1)
    if ranks > 1:
        command = on_ranks(ranks, command)
    subprocess.run(["rm", "-rf", f"{folder}/run-0"], check=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PMIX_MCA_psec": "native"}
    begin = time.monotonic()
    with open(f"{folder}/log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        while True:
            ended = process.poll() is not None  # asked before the file, which may get its line in between
            try:
                with open(f"{folder}/run-0/metrics.jsonl") as lines:
                    line = lines.readline()
            except FileNotFoundError:
                line = ""
            if line.endswith("\n"):
                seconds = time.monotonic() - begin
                break
            if ended:
                sys.exit(f"{' '.join(command)}: no step was taken, see {open(log.name).read()[-1500:]}")
            time.sleep(0.005)  # a four-hundredth of the goal of 2 s
        process.wait()
    return seconds, json.loads(line)["step_s"]


def print_start_up(folder, rounds):
    seen = {ranks: [] for ranks in STARTED_RANKS}
    for _ in range(rounds):
        for ranks in STARTED_RANKS:
            seen[ranks].append(start_up(folder, ranks))
    print("| ranks | to the first step's line, s | least to most | of which the step |\n|---|---|---|---|")
    for ranks, times in seen.items():
        totals = [total for total, _ in times]
        step = statistics.median(step for _, step in times)
        print(f"| {ranks} | {statistics.median(totals):.2f} | {min(totals):.2f} to {max(totals):.2f} | {step:.2f} |")


def speed(folder, size, layout, steps):
    command = training(folder, size, steps) + LAYOUTS[layout]
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "PMIX_MCA_psec": "native"}
    if layout != "one process":
        environment["OMP_NUM_THREADS"] = "1"
        command = on_ranks(2, command)
    subprocess.run(["rm", "-rf", f"{folder}/run-0"], check=True)
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    if result.returncode != 0:
        sys.exit(f"{' '.join(command)}: {result.stdout[-500:]}{result.stderr[-1500:]}")
    with open(f"{folder}/run-0/metrics.jsonl") as lines:
        return statistics.median(json.loads(line)["tokens_per_s"] for line in list(lines)[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES))
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--startup", action="store_true", help="how long a run takes to begin, instead")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([f"{BIN}/gf", "data", "tokenize", "--vocab", "byte", "--out", f"{folder}/data", f"{ROOT}/src"],
                       check=True, stdout=subprocess.DEVNULL)
        if a.startup:
            print_start_up(folder, a.rounds)
            return
        print("| size | layout | tokens/s | of one process |\n|---|---|---|---|")
        for size in a.sizes:
            seen = {layout: [] for layout in LAYOUTS}
            for _ in range(a.rounds):
                for layout in LAYOUTS:
                    seen[layout].append(speed(folder, size, layout, a.steps))
            one = statistics.median(seen["one process"])
            for layout, speeds in seen.items():
                median = statistics.median(speeds)
                print(f"| {size} | {layout} | {median:.0f} | {median / one:.2f} |", flush=True)


if __name__ == "__main__":
    main()
