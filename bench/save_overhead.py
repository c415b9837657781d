#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a save in the background adds to the steps it overlaps.

    bench/save_overhead.py [--size L8D512] [--ranks 1] [--saves 4] [--every 120] [--folder FOLDER]

One run that saves every so many steps, with a trace of all of them. A save begins within a step, which copies the state;
its folder's first and last file times tell how long the writing goes on, and so which steps it overlaps. What those and
the copy took beyond the median of the free steps around them (as many before as after: machines drift), over that
median, is what the save added. Programs: build/cpu/bin; FOLDER says on which disk. Nothing else should run beside it.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

from compare_ranks import BIN, ROOT, SIZES


def seconds_of_writing(checkpoint):
    born = subprocess.run(["stat", "-c", "%.W", checkpoint], capture_output=True, text=True, check=True).stdout
    return os.stat(f"{checkpoint}/DONE").st_mtime - float(born)


def spans(trace, name):
    """Of the first rank: seconds by step."""
    found, step = {}, None
    for e in sorted((e for e in trace["traceEvents"] if e.get("ph") == "X" and e["pid"] == 0), key=lambda e: e["ts"]):
        if e["name"] == "step":
            step = e["args"]["step"]
        if e["name"] == name:
            found[step] = found.get(step, 0) + e["dur"] / 1e6
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="L8D512", choices=SIZES)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--saves", type=int, default=4)
    parser.add_argument("--every", type=int, default=120)
    parser.add_argument("--folder")
    a = parser.parse_args()
    steps = a.saves * a.every + a.every // 2
    with tempfile.TemporaryDirectory(dir=a.folder) as folder:
        subprocess.run([f"{BIN}/gf", "data", "tokenize", "--vocab", "byte", "--out", f"{folder}/data", f"{ROOT}/src"],
                       check=True, stdout=subprocess.DEVNULL)
        command = [f"{BIN}/gf-dist-train", *SIZES[a.size], "--train.data_file", f"{folder}/data",
                   "--train.validation_data_file=", "--train.val_check_interval", "auto", "--train.micro_bsz", "1",
                   "--train.accumulate_grad_batches", str(2 * a.ranks), "--train.my_exit_tokens", "100000000",
                   "--train.max_steps", str(steps), "--train.proj_dir", folder, "--train.proj_name", "run",
                   "--train.save_every_steps", str(a.every), "--train.keep_checkpoints", str(a.saves + 1),
                   "--parallel.trace_steps", str(steps)]
        if a.ranks > 1:
            command = ["mpirun", "--allow-run-as-root", "-n", str(a.ranks), "--oversubscribe", "--bind-to", "none", *command]
        environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, 2 // a.ranks)), "PMIX_MCA_psec": "native"}
        result = subprocess.run(command, capture_output=True, text=True, env=environment)
        if result.returncode != 0:
            sys.exit(f"{' '.join(command)}: {result.stdout[-500:]}{result.stderr[-1500:]}")
        with open(f"{folder}/run-0/trace.json") as text:
            trace = json.load(text)
        step_s, save_s = spans(trace, "step"), spans(trace, "save")
        print("| save after step | copied in ms | written in s | steps overlapped | added |\n|---|---|---|---|---|")
        saves, busy = {}, set(save_s)
        for step in sorted(save_s):
            checkpoint = f"{folder}/run-0/checkpoints/step-{step + 1:08d}"
            if not os.path.exists(f"{checkpoint}/DONE") or step + 1 >= steps:
                continue
            writing, covered = seconds_of_writing(checkpoint), []
            while sum(step_s[s] for s in covered) < writing and step + 1 + len(covered) < steps:
                covered.append(step + 1 + len(covered))
            saves[step] = (writing, covered)
            busy.update(covered)
        free = [s for s in sorted(step_s) if s > 0 and s not in busy]
        added = []
        for step, (writing, covered) in saves.items():
            around = [s for s in free if s < step][-len(covered):] + [s for s in free if s > step][:len(covered)]
            usual = statistics.median(step_s[s] for s in around)
            cost = save_s[step] + sum(step_s[s] for s in covered) - usual * len(covered)
            added.append(cost / (usual * len(covered)))
            print(f"| {step} | {1e3 * save_s[step]:.0f} | {writing:.2f} | {len(covered)} | {100 * added[-1]:.1f} % |")
        print(f"median of {len(added)} saves: {100 * statistics.median(added):.1f} % (a step takes {usual:.3f} s)")


if __name__ == "__main__":
    main()
