#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long reading a prompt takes a token, over its length: bench/prefill.py [--out FILE.svg] [--lengths 1024,...]

GoldFinch and Llama, L6 D256, vocabulary 4096, by decode_bench --prompt; a table, and a plot where --out says.
"""
import argparse
import pathlib
import re
import subprocess
import sys

from plots import line_plot

ROOT = pathlib.Path(__file__).resolve().parent.parent
COLOURS = {"goldfinch": "#d18f00", "llama": "#0072b2"}


def microseconds(bench, model, lengths):
    command = [bench, "-c", ROOT / f"configs/{model}.yaml", "--model.n_layer", 6, "--model.n_embd", 256,
               "--model.vocab_size", 4096, "--prompt", lengths]
    result = subprocess.run([str(word) for word in command], text=True, stdout=subprocess.PIPE)
    if result.returncode:
        sys.exit(f"prefill.py: {bench} ended with status {result.returncode}")
    found = re.findall(r"prompt of (\d+): .* s, ([\d.]+) us a token", result.stdout)
    return {int(length): float(us) for length, us in found}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", type=pathlib.Path, default=ROOT / "build/cpu/bench/decode_bench")
    parser.add_argument("--lengths", default="1024,2048,4096,8192,16384,32768,65536")
    parser.add_argument("--out", type=pathlib.Path, help="the plot")
    a = parser.parse_args()
    series = {model: microseconds(a.bench, model, a.lengths) for model in COLOURS}
    for model, times in series.items():
        print(f"{model:10}" + "".join(f" {length:>6}: {us:7.1f}" for length, us in times.items()))
        print(f"{'':10} most over least: {max(times.values()) / min(times.values()):.3f}")
    if a.out:
        most = max(us for times in series.values() for us in times.values())
        step = next(step for step in (10, 20, 50, 100, 200, 500, 1000) if most / step <= 6)
        ticks = [step * n for n in range(int(most // step) + 2)]
        lines = {model: {f"{length // 1024}k": us for length, us in times.items()} for model, times in series.items()}
        panels = [("L6 D256", list(next(iter(lines.values()))), lines)]
        a.out.write_text(line_plot(panels, COLOURS, ticks, "tokens of a prompt; upwards: microseconds a token"),
                         encoding="utf-8")


if __name__ == "__main__":
    main()
