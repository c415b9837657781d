#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Training over ranks against one process with as many threads, in turn, in one run: ratios of tokens/s.

    bench/compare_ranks.py [--rounds 3] [--sizes quickstart L8D512] [--steps 6]

Each layout runs with one thread a rank on as many cores as the one process has threads: pipeline 2 with 16 microbatches,
and two data ranks with zero 1 and 2. Programs: build/cpu/bin. Nothing else should run beside it.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

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


def speed(folder, size, layout, steps):
    command = [f"{BIN}/gf-dist-train", *SIZES[size], *LAYOUTS[layout], "--train.data_file", f"{folder}/data",
               "--train.validation_data_file=", "--train.val_check_interval", "auto", "--train.micro_bsz", "1",
               "--train.accumulate_grad_batches", "16", "--train.max_steps", str(steps), "--train.my_exit_tokens", "100000000",
               "--train.proj_dir", folder, "--train.proj_name", "run", "--train.save_every_steps", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "PMIX_MCA_psec": "native"}
    if layout != "one process":
        environment["OMP_NUM_THREADS"] = "1"
        command = ["mpirun", "--allow-run-as-root", "-n", "2", "--oversubscribe", "--bind-to", "none", *command]
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
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([f"{BIN}/gf", "data", "tokenize", "--vocab", "byte", "--out", f"{folder}/data", f"{ROOT}/src"],
                       check=True, stdout=subprocess.DEVNULL)
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
