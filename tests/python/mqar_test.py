# SPDX-License-Identifier: Apache-2.0
"""bench/mqar.py with stand-ins for the programs, which write down how they were called."""
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

MQAR = Path(__file__).resolve().parents[2] / "bench" / "mqar.py"

PROGRAMS = {
    "gf-dist-train": """
values = dict(word[2:].split("=", 1) for word in sys.argv if word.startswith("--train.") and "=" in word)
folder = values["train.proj_dir"] + "/" + values["train.proj_name"] + "-" + values["train.proj_suffix"]
os.makedirs(folder)  # fails where two runs share a folder
with open(folder + "/metrics.jsonl", "w") as out:
    out.write('{"step_s": 2.0}\\n')
""",
    "gf": """
if "eval" in sys.argv:
    print('{"loss": 1.0, "acc": %s}' % os.environ["ACC"])
""",
}


class MqarTest(unittest.TestCase):
    def setUp(self):
        self.tmp = tempfile.TemporaryDirectory()
        self.addCleanup(self.tmp.cleanup)
        self.root = Path(self.tmp.name)
        for name, text in PROGRAMS.items():
            program = self.root / name
            program.write_text(f"#!{sys.executable}\nimport os, sys\n"
                               f"open({str(self.root / 'calls')!r}, 'a').write({name!r} + '\\n')\n"
                               + text)
            program.chmod(0o755)

    def mqar(self, *words, acc=0.5):
        subprocess.run([sys.executable, MQAR, "--bin", self.root, "--out", self.root / "out", "--tasks", "64:4", *words],
                       check=True, env={**os.environ, "ACC": str(acc)}, stdout=subprocess.DEVNULL)
        return [json.loads(line) for line in (self.root / "out/results.jsonl").read_text().splitlines()]

    def trained(self):
        return (self.root / "calls").read_text().split().count("gf-dist-train")

    def test_other_settings_are_other_runs(self):
        self.mqar("--only", "llama", acc=0.25)
        for number, words in enumerate((["--examples", "500"], ["--passes", "2"], ["--seed", "2"],
                                        ["--", "--train.lr_init", "1e-3"]), start=2):
            rows = self.mqar("--only", "llama", *words, acc=0.75)
            self.assertEqual(len({row["run"] for row in rows}), number, words)
            self.assertEqual(self.trained(), number, words)
        self.assertEqual([row["acc"] for row in rows], [0.25, 0.75, 0.75, 0.75, 0.75])
        self.assertEqual(rows[4]["options"], ["--train.lr_init", "1e-3"])

    def test_the_same_settings_are_trained_once(self):
        first = self.mqar("--only", "finch", acc=0.25)
        self.assertEqual(self.mqar("--only", "finch", acc=0.75), first)
        self.assertEqual(self.trained(), 1)

    def test_results_stay_and_the_plot_has_the_best(self):
        self.mqar("--only", "finch", acc=0.25)
        self.mqar("--only", "goldfinch", "--widths", "64", acc=0.875)
        rows = self.mqar("--only", "goldfinch", "--widths", "32,64", "--passes", "2", acc=0.625)
        self.assertEqual([row["model"] for row in rows], ["finch", "goldfinch", "goldfinch", "goldfinch"])
        plot = (self.root / "out/mqar.svg").read_text()
        for seen in ("finch, 64: 0.25", "goldfinch, 32: 0.625", "goldfinch, 64: 0.875"):
            self.assertIn(seen, plot)
        self.assertNotIn("goldfinch, 64: 0.625", plot)

    def test_links_in_the_folder_are_not_written_through(self):
        [row] = self.mqar("--only", "llama")
        (self.root / "out/results.jsonl").unlink()
        victim = self.root / "victim"
        victim.write_text("precious")
        for name in (f"{row['run']}.log", "data-64-4-train-100000.bin", "data-64-4-test-3000.mask.bin"):
            path = self.root / "out" / name
            path.unlink(missing_ok=True)
            path.symlink_to(victim)
            words = ["--bin", self.root, "--out", self.root / "out", "--tasks", "64:4", "--only", "llama"]
            done = subprocess.run([sys.executable, MQAR, *words], capture_output=True, text=True)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn(f"{path} is a symbolic link to {victim}", done.stderr)
            self.assertEqual(self.trained(), 1)
            path.unlink()
        self.assertEqual(victim.read_text(), "precious")


if __name__ == "__main__":
    unittest.main()
