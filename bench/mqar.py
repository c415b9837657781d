#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains small models on MQAR and draws how well they recall: bench/mqar.py [--out DIR] [--only MODEL]...

Each (tokens, pairs) x model x width gets a run folder, whose name has a digest of all that the result depends on, and one
line in results.jsonl; a plot with a panel for each length goes to mqar.svg. Started again it goes on: what has its line is not
trained again. With other settings it makes other runs beside those that are there; the plot has the best of each point.
"""
import argparse
import hashlib
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


def written(path):
    """A name in --out that is written to: the folder may be somebody else's, and no link in it leads out of it."""
    if path.is_symlink():
        sys.exit(f"mqar.py: {path} is a symbolic link to {os.readlink(path)}, which is not written; "
                 "remove it, or choose another --out")
    return path


def make_data(a, length, pairs):
    prefixes = {}
    for part, examples, seed, more in (("train", a.examples, 1, []), ("test", TEST_EXAMPLES, 2, ["--windows"])):
        prefix = a.out / f"data-{length}-{pairs}-{part}-{examples}"
        if not pathlib.Path(f"{prefix}.idx").exists():
            for end in ("bin", "idx", "mask.bin"):
                written(pathlib.Path(f"{prefix}.{end}"))
            call([a.bin / "gf", "data", "mqar", "--length", length, "--pairs", pairs, "--examples", examples,
                  "--seed", seed, "--out", prefix, *more], stdout=subprocess.DEVNULL)
        prefixes[part] = prefix
    return prefixes


def options_of(a, width, length):
    return {"model.n_embd": width, "model.ctx_len": length, "train.val_check_interval": 500,
            "train.my_exit_tokens": a.examples * a.passes * length, "train.seed_everything": a.seed}


def files_of(model):
    return [ROOT / "configs/mqar" / f"{name}.yaml" for name in ("task", model)]


def run_name(a, model, width, length, pairs):
    """A run is what its settings make of it: without the digest, one with other --examples would be taken for this one."""
    settings = [options_of(a, width, length), a.examples, TEST_EXAMPLES, a.more, [file.read_text() for file in files_of(model)]]
    digest = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:8]
    return f"{model}-d{width}-{length}-{pairs}", f"s{a.seed}-{digest}"


def train(a, model, name, options, data):
    project, suffix = name
    options = {**options, "train.data_file": data["train"], "train.validation_data_file": data["test"],
               "train.proj_dir": a.out, "train.proj_name": project, "train.proj_suffix": suffix}
    words = [a.bin / "gf-dist-train"] + [word for file in files_of(model) for word in ("-c", file)]
    folder = a.out / "-".join(name)
    with open(written(pathlib.Path(f"{folder}.log")), "a", encoding="utf-8") as log:
        call(words + [f"--{key}={value}" for key, value in options.items()] + a.more, stdout=log)
    return folder


def steps_of(folder):
    with open(folder / "metrics.jsonl", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def measure(a, model, width, length, pairs, name):
    began = time.time()
    data = make_data(a, length, pairs)
    folder = train(a, model, name, options_of(a, width, length), data)
    said = call([a.bin / "gf", "eval", "--masked", "--checkpoint", folder, "--data", data["test"]],
                stdout=subprocess.PIPE)
    steps = steps_of(folder)
    return {"run": folder.name, "model": model, "width": width, "length": length, "pairs": pairs, **json.loads(said),
            "examples": a.examples, "passes": a.passes, "seed": a.seed, "options": a.more,
            "train_s": round(sum(s["step_s"] for s in steps), 1), "wall_s": round(time.time() - began, 1)}


def read_results(a):
    file = a.out / "results.jsonl"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    if any("run" not in row for row in rows):
        sys.exit(f"mqar.py: {file} has lines that name no run; move it away, or choose another --out")
    return {row["run"]: row for row in rows}


def add_result(a, result):
    """Reads again what is there, since another mqar.py may train other models beside this one."""
    results = {**read_results(a), result["run"]: result}
    for name, text in (("results.jsonl", "".join(json.dumps(row) + "\n" for row in results.values())),
                       ("mqar.svg", plot(list(results.values())))):
        part = written(a.out / f"{name}.{os.getpid()}")
        part.write_text(text, encoding="utf-8")
        part.replace(a.out / name)


def plot(results):
    """As the paper's: accuracy over the width of the model, a panel for each length, the best of several runs at a point."""
    panels = []
    for length, pairs in sorted({(r["length"], r["pairs"]) for r in results}):
        here = sorted((r for r in results if (r["length"], r["pairs"]) == (length, pairs)), key=lambda r: r["acc"])
        series = {model: {r["width"]: r["acc"] for r in here if r["model"] == model} for model in MODELS}
        panels.append((f"{length} tokens, {pairs} pairs", sorted({r["width"] for r in here}), series))
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
    print(f"{'model':10} {'width':>5} {'tokens':>6} {'pairs':>5} {'accuracy':>8} {'loss':>7} {'trained in':>10}")
    for length, pairs in (map(int, task.split(":")) for task in a.tasks.split(",")):
        for model in a.only or MODELS:
            for width in map(int, a.widths.split(",")):
                name = run_name(a, model, width, length, pairs)
                r = read_results(a).get("-".join(name)) or measure(a, model, width, length, pairs, name)
                add_result(a, r)
                print(f"{model:10} {width:5} {length:6} {pairs:5} {r['acc']:8.4f} {r['loss']:7.4f} {r['train_s']:9.0f}s",
                      flush=True)
    print(a.out / "mqar.svg")


if __name__ == "__main__":
    main()
