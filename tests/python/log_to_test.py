# SPDX-License-Identifier: Apache-2.0
"""log_to.py against stand-ins for the packages of both services, which write down what they are given."""
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

LOG_TO = Path(__file__).resolve().parents[2] / "python" / "log_to.py"

FAKES = {
    "wandb.py": """
import json, os
def write(kind, **what):
    with open(os.environ["SENT"], "a") as out:
        out.write(json.dumps({"kind": kind, **what}) + "\\n")
class Run:
    def log(self, values, step): write("log", step=step, values=values)
    def finish(self): write("finish")
def init(**arguments):
    write("init", **arguments)
    return Run()
""",
    "tensorboard/summary/writer/event_file_writer.py": """
import json, os
class EventFileWriter:
    def __init__(self, folder): self.folder = folder
    def add_event(self, event):
        values = {row["tag"]: row["simple_value"] for row in event["summary"]["value"]}
        with open(os.environ["SENT"], "a") as out:
            out.write(json.dumps({"kind": "log", "folder": self.folder, "step": event["step"], "values": values}) + "\\n")
    def flush(self): pass
    def close(self): pass
""",
    "tensorboard/compat/proto/event_pb2.py": "Event = dict\n",
    "tensorboard/compat/proto/summary_pb2.py": """
class Summary(dict):
    Value = dict
""",
}

CONFIG = """model:
  tmix: gold
  rope:
    base: 10000
train:
  wandb: "my: project"
  lr_init: 1e-05
  data_file: ''
  validation_data_file: ["a, b", "c"]
"""


def line(step, **more):
    return json.dumps({"step": step, "tokens": 10 * (step + 1), "loss": 2.5, **more}) + "\n"


class LogTo(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name).resolve()
        for name, text in FAKES.items():
            path = self.folder / "fakes" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            for parent in path.relative_to(self.folder / "fakes").parents:
                (self.folder / "fakes" / parent / "__init__.py").touch()
            path.write_text(text)
        self.sent_file = self.folder / "sent"
        self.env = {**os.environ, "PYTHONPATH": str(self.folder / "fakes"), "SENT": str(self.sent_file)}
        self.run_folder = self.make_run("run", 3)

    def make_run(self, name, steps):
        folder = self.folder / name
        folder.mkdir()
        (folder / "config.yaml").write_text(CONFIG)
        (folder / "metrics.jsonl").write_text("".join(line(i) for i in range(steps)))
        return folder

    def log_to(self, *arguments, status=0):
        done = subprocess.run([sys.executable, LOG_TO, *map(str, arguments)], env=self.env, capture_output=True, text=True)
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stderr if status else done.stdout

    def sent(self, kind="log"):
        rows = [json.loads(row) for row in self.sent_file.read_text().splitlines()] if self.sent_file.exists() else []
        return [row for row in rows if row["kind"] == kind]

    def steps(self):
        return [row["step"] for row in self.sent()]

    def append(self, text):
        with open(self.run_folder / "metrics.jsonl", "a") as out:
            out.write(text)

    def follow(self, service, *runs):
        child = subprocess.Popen([sys.executable, LOG_TO, service, *runs, "--follow", "--every", "0.02"], env=self.env,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(lambda: (child.kill(), child.communicate()))
        return child

    def wait_for(self, condition):
        limit = time.monotonic() + 30
        while not condition():
            self.assertLess(time.monotonic(), limit, f"sent so far: {self.sent()}")
            time.sleep(0.01)

    def test_wandb_gets_project_name_config_and_steps(self):
        out = self.log_to("wandb", self.run_folder)
        self.assertIn("3 steps sent to wandb", out)
        [init] = self.sent("init")
        self.assertEqual((init["project"], init["name"], init["resume"]), ("my: project", "run", "allow"))
        self.assertEqual(init["config"], {"model.tmix": "gold", "model.rope.base": 10000, "train.wandb": "my: project",
                                          "train.lr_init": 1e-05, "train.data_file": "", "train.validation_data_file": ["a, b", "c"]})
        self.assertEqual(self.steps(), [0, 1, 2])
        self.assertEqual(self.sent()[1]["values"], {"tokens": 20, "loss": 2.5})
        self.assertEqual(len(self.sent("finish")), 1)

    def test_run_again_it_goes_on_as_the_same_run(self):
        self.log_to("wandb", self.run_folder)
        self.append(line(3, val_loss=1.5, note="text"))
        self.log_to("wandb", self.run_folder)
        self.assertEqual(self.steps(), [0, 1, 2, 3])
        self.assertEqual(self.sent()[-1]["values"], {"tokens": 40, "loss": 2.5, "val_loss": 1.5})
        first, second = self.sent("init")
        self.assertEqual(first["id"], second["id"])

    def test_tensorboard_writes_into_the_run_folder(self):
        self.log_to("tensorboard", self.run_folder)
        self.log_to("tensorboard", self.run_folder)
        self.assertEqual(self.steps(), [0, 1, 2])
        self.assertEqual(self.sent()[0]["folder"], str(self.run_folder / "tensorboard"))
        self.assertEqual(self.sent()[0]["values"], {"tokens": 10, "loss": 2.5})

    def test_the_services_do_not_share_their_state(self):
        self.log_to("wandb", self.run_folder)
        self.log_to("tensorboard", self.run_folder)
        self.assertEqual(self.steps(), [0, 1, 2, 0, 1, 2])

    def test_several_runs(self):
        self.log_to("wandb", self.run_folder, self.make_run("other", 2), "--project", "given")
        self.assertEqual([(row["name"], row["project"]) for row in self.sent("init")], [("run", "given"), ("other", "given")])
        self.assertEqual(self.steps(), [0, 1, 2, 0, 1])

    def test_a_torn_last_line_waits_until_it_is_whole(self):
        self.append(line(3)[:10])
        self.log_to("wandb", self.run_folder)
        self.assertEqual(self.steps(), [0, 1, 2])
        self.append(line(3)[10:])
        self.log_to("wandb", self.run_folder)
        self.assertEqual(self.steps(), [0, 1, 2, 3])

    def test_follow_sends_each_step_once_also_after_a_resume(self):
        child = self.follow("tensorboard", self.run_folder)
        self.wait_for(lambda: self.steps() == [0, 1, 2])
        self.append(line(3))
        self.wait_for(lambda: self.steps() == [0, 1, 2, 3])
        # Resumed at step 1, with other times, and already further than before.
        (self.run_folder / "metrics.jsonl").write_text(line(0) + "".join(line(i, step_s=0.123) for i in range(1, 6)))
        self.wait_for(lambda: len(self.steps()) >= 6)
        self.append(line(6))
        self.wait_for(lambda: len(self.steps()) >= 7)
        child.send_signal(signal.SIGINT)
        out, error = child.communicate(timeout=30)
        self.assertEqual(child.returncode, 0, error)
        self.assertIn("7 steps sent", out)
        self.assertEqual(self.steps(), [0, 1, 2, 3, 4, 5, 6])

    def test_follow_several_runs_at_once(self):
        child = self.follow("wandb", self.run_folder, self.make_run("other", 2))
        self.wait_for(lambda: sorted(self.steps()) == [0, 0, 1, 1, 2])
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=30)
        self.assertEqual(child.returncode, 0)
        self.assertEqual(len(self.sent("finish")), 2)

    def test_bad_input_is_named(self):
        self.assertIn("has no metrics.jsonl", self.log_to("wandb", self.folder, status=2))
        (self.run_folder / "config.yaml").unlink()
        self.assertIn("--project NAME", self.log_to("wandb", self.run_folder, status=2))
        self.append("garbage\n")
        self.assertIn("metrics.jsonl:4 is not a step's object", self.log_to("tensorboard", self.run_folder, status=2))
        (self.run_folder / ".log_to-tensorboard.json").write_text("{")
        self.assertIn("is damaged", self.log_to("tensorboard", self.run_folder, status=2))

    def link(self, name, to):
        """In place of what is there. A run folder handed over is somebody else's work."""
        path = self.run_folder / name
        path.unlink(missing_ok=True)
        path.symlink_to(to)
        return path

    def test_links_to_files_are_refused_before_anything_is_sent(self):
        (self.folder / "secret").write_text('{"next_step": 1}\ntrain:\n  wandb: leaked\n')
        for service, name in (("wandb", "config.yaml"), ("wandb", "metrics.jsonl"), ("tensorboard", "metrics.jsonl"),
                              ("wandb", ".log_to-wandb.json"), ("tensorboard", ".log_to-tensorboard.json")):
            for to in ("../secret", "../nothing"):
                kept = (self.run_folder / name).read_text() if (self.run_folder / name).exists() else None
                path = self.link(name, to)
                error = self.log_to(service, self.run_folder, status=2)
                self.assertIn(f"{path} is a symbolic link to {to}", error)
                self.assertEqual(error.count("\n"), 2, error)
                path.unlink()
                if kept is not None:
                    path.write_text(kept)
        self.assertFalse(self.sent_file.exists())
        self.assertFalse((self.folder / "nothing").exists())
        self.log_to("wandb", self.run_folder)
        self.assertEqual(self.steps(), [0, 1, 2])

    def test_the_state_is_a_file_of_its_own(self):
        (self.folder / "victim").write_text("precious")
        for step, to in enumerate(("../victim", "../nothing"), start=3):
            self.append(line(step))
            for service in ("wandb", "tensorboard"):
                path = self.link(f".log_to-{service}.new", to)
                self.log_to(service, self.run_folder)
                self.assertFalse(os.path.lexists(path))
                self.assertEqual(json.loads(path.with_suffix(".json").read_text())["next_step"], step + 1)
        self.assertEqual((self.folder / "victim").read_text(), "precious")
        self.assertFalse((self.folder / "nothing").exists())

    def test_the_folder_of_a_service_is_no_link(self):
        victim = self.folder / "victim"
        victim.mkdir()
        for service, name in (("tensorboard", "tensorboard"), ("wandb", "wandb"), ("wandb", ".wandb"),
                              ("tensorboard", "tensorboard/events.out.tfevents.1.node.2.0"),
                              ("wandb", "wandb/run-20250101_000000-0123456789ab"),
                              ("wandb", "wandb/offline-run-20250101_000000-0123456789ab")):
            (self.run_folder / name).parent.mkdir(exist_ok=True)
            path = self.link(name, victim)
            self.assertIn(f"{path} is a symbolic link to {victim}", self.log_to(service, self.run_folder, status=2))
            path.unlink()
            if "/" in name:
                path.parent.rmdir()
        self.assertFalse(self.sent_file.exists())
        self.assertEqual(list(victim.iterdir()), [])
        (self.run_folder / "wandb").mkdir()
        self.link("wandb/latest-run", "run-20250101_000000-0123456789ab")  # of the service's own making
        self.log_to("wandb", self.run_folder)
        self.assertEqual(self.steps(), [0, 1, 2])

    def test_a_run_folder_may_be_a_link_itself(self):
        (self.folder / "link").symlink_to(self.run_folder)
        self.log_to("tensorboard", self.folder / "link")
        self.assertEqual(self.steps(), [0, 1, 2])

    def test_a_pipe_is_no_file_to_wait_for(self):
        (self.run_folder / "config.yaml").unlink()
        os.mkfifo(self.run_folder / "config.yaml")
        self.assertIn("config.yaml is not a regular file", self.log_to("wandb", self.run_folder, status=2))

    def test_a_missing_package_is_named_with_the_command(self):
        (self.folder / "fakes" / "wandb.py").write_text("raise ImportError('no wandb here')\n")
        self.assertIn("-m pip install wandb", self.log_to("wandb", self.run_folder, status=2))


if __name__ == "__main__":
    unittest.main()
