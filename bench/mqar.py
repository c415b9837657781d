#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains small models on MQAR and draws how well they recall: bench/mqar.py [--out DIR] [--only MODEL]...

Each (tokens, pairs) x model x width gets data of its own seed, a run folder and one line in results.jsonl; a plot with a
panel for each length goes to mqar.svg. Started again it goes on: what is trained is not trained again.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

from plots import line_plot

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODELS = ["goldfinch", "llama", "finch"]
COLOURS = {"goldfinch": "#d18f00", "llama": "#0072b2", "finch": "#009e73"}
TASKS = "64:4,128:8,256:16"
TEST_EXAMPLES = 3000


def call(command, **more):
    result = subprocess.run([str(word) for word in command], text=True, **more)
    if result.returncode:
        sys.exit(f"mqar.py: {command[0]} ended with status {result.returncode}")
    return result.stdout


def make_data(a, length, pairs):
    prefixes = {}
    for part, examples, seed, more in (("train", a.examples, 1, []), ("test", TEST_EXAMPLES, 2, ["--windows"])):
        prefix = a.out / f"data-{length}-{pairs}-{part}-{examples}"
        if not pathlib.Path(f"{prefix}.idx").exists():
            call([a.bin / "gf", "data", "mqar", "--length", length, "--pairs", pairs, "--examples", examples,
                  "--seed", seed, "--out", prefix, *more], stdout=subprocess.DEVNULL)
        prefixes[part] = prefix
    return prefixes


def train(a, model, width, length, pairs, data):
    name = f"{model}-d{width}-{length}-{pairs}"
    folder = a.out / f"{name}-s{a.seed}"
    options = {
        "model.n_embd": width, "model.ctx_len": length,
        "train.data_file": data["train"], "train.validation_data_file": data["test"], "train.val_check_interval": 100,
        "train.my_exit_tokens": a.examples * a.passes * length, "train.seed_everything": a.seed,
        "train.proj_dir": a.out, "train.proj_name": name, "train.proj_suffix": f"s{a.seed}",
    }
    words = [a.bin / "gf-dist-train", "-c", ROOT / "configs/mqar/task.yaml", "-c", ROOT / f"configs/mqar/{model}.yaml"]
    with open(a.out / f"{name}.log", "a", encoding="utf-8") as log:
        call(words + [f"--{key}={value}" for key, value in options.items()] + a.more, stdout=log)
    return folder


def steps_of(folder):
    with open(folder / "metrics.jsonl", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def measure(a, model, width, length, pairs):
    began = time.time()
    data = make_data(a, length, pairs)
    folder = train(a, model, width, length, pairs, data)
    said = call([a.bin / "gf", "eval", "--masked", "--checkpoint", folder, "--data", data["test"]],
                stdout=subprocess.PIPE)
    steps = steps_of(folder)
    return {"model": model, "width": width, "length": length, "pairs": pairs, **json.loads(said),
            "examples": a.examples * a.passes, "train_s": round(sum(s["step_s"] for s in steps), 1),
            "wall_s": round(time.time() - began, 1)}


def plot(results):
    """As the paper's: accuracy over the width of the model, a panel for each length."""
    panels = []
    for length, pairs in sorted({(r["length"], r["pairs"]) for r in results}):
        here = [r for r in results if (r["length"], r["pairs"]) == (length, pairs)]
        series = {model: {r["width"]: r["acc"] for r in here if r["model"] == model} for model in MODELS}
        panels.append((f"{length} tokens, {pairs} pairs", series))
    return line_plot(panels, COLOURS, [0, 0.25, 0.5, 0.75, 1], "width of the model; upwards: share of values recalled")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build/cpu/bin", help="where the programs are")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out/mqar"))
    parser.add_argument("--tasks", default=TASKS, help=f"tokens:pairs, ... (default {TASKS})")
    parser.add_argument("--widths", default="64", help="n_embd, ... (default 64)")
    parser.add_argument("--only", choices=MODELS, action="append", help="this model; may be given again")
    parser.add_argument("--examples", type=int, default=100_000, help="of a data set (default 100000)")
    parser.add_argument("--passes", type=int, default=1, help="over the examples (default 1)")
    parser.add_argument("--seed", type=int, default=1, help="of the fresh parameters")
    parser.add_argument("more", nargs="*", help="options of gf-dist-train, behind --")
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    results = []
    print(f"{'model':10} {'width':>5} {'tokens':>6} {'pairs':>5} {'accuracy':>8} {'loss':>7} {'trained in':>10}")
    for length, pairs in (map(int, task.split(":")) for task in a.tasks.split(",")):
        for model in a.only or MODELS:
            for width in map(int, a.widths.split(",")):
                r = measure(a, model, width, length, pairs)
                results.append(r)
                print(f"{model:10} {width:5} {length:6} {pairs:5} {r['acc']:8.4f} {r['loss']:7.4f} {r['train_s']:9.0f}s",
                      flush=True)
                (a.out / "results.jsonl").write_text("".join(json.dumps(one) + "\n" for one in results), encoding="utf-8")
                (a.out / "mqar.svg").write_text(plot(results), encoding="utf-8")
    print(a.out / "mqar.svg")


if __name__ == "__main__":
    main()
