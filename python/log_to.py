#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Sends the metrics of runs to Weights & Biases or to TensorBoard, while they train (--follow) or later.

The trainer itself opens no connection. This reads metrics.jsonl of each run folder and keeps there, in
.log_to-<service>.json, how far it got: run again, it goes on, and no step is sent twice, also where a resumed run
repeats some. It needs the package of the service (wandb or tensorboard) and nothing else. A run folder may come from
anywhere: what symbolic links in it lead to is neither sent nor written.
"""
import argparse
import errno
import importlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path


def refuse(what, hint):
    sys.stderr.write(f"log_to: {what}\n  try: {hint}\n")
    sys.exit(2)


def need(module, package):
    try:
        return importlib.import_module(module)
    except ImportError as error:
        refuse(f"the package {package} cannot be used: {error}", f"{sys.executable} -m pip install {package}")


def refuse_link(path):
    if path.is_symlink():
        refuse(f"{path} is a symbolic link to {os.readlink(path)}, which is neither read nor written",
               "remove it, or put what it leads to in its place")


def open_file(path):
    """For reading. Of what is in a run folder only regular files: no link, and no pipe that would wait for ever."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            refuse_link(path)
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        refuse(f"{path} is not a regular file", "remove it")
    return open(descriptor, "rb")


def read_file(path):
    with open_file(path) as file:
        return file.read()


def folder_of_service(run, name, made):
    """Where the service's own package writes into files that it names: `made` says how they are called."""
    for path in [run / name, *(run / name).glob(made)]:
        refuse_link(path)
    return run / name


def read_config(path):
    """config.yaml as {"train.lr_init": 0.001}: of YAML only the nested "key: value" lines that the trainer writes."""
    values, parents = {}, []  # parents: (indentation, key)
    for line in read_file(path).decode(errors="replace").splitlines() if os.path.lexists(path) else []:
        match = re.match(r"( *)([\w.-]+):(?:\s+(.*\S))?\s*$", line)
        if not match:
            continue
        indent, key, text = len(match[1]), match[2], match[3]
        while parents and parents[-1][0] >= indent:
            parents.pop()
        parents.append((indent, key))
        if text is None or text.startswith("#"):
            continue
        try:
            value = json.loads(text)
        except ValueError:
            value = text.strip("'")
        values[".".join(name for _, name in parents)] = value
    return values


class Wandb:
    def __init__(self, run, state, project):
        wandb = need("wandb", "wandb")
        for name in ("wandb", ".wandb"):  # it takes the second where that is there
            folder_of_service(run, name, "*run-*")  # not latest-run, a link of its own making
        config = read_config(run / "config.yaml")
        project = project or config.get("train.wandb")
        if not project:
            refuse(f"{run}/config.yaml names no project under train.wandb", "--project NAME")
        run_id = state.setdefault("id", uuid.uuid4().hex[:12])
        state.save()  # before anything is sent, so that a second start finds the same run
        self.run = wandb.init(project=str(project), name=run.name, id=run_id, resume="allow", config=config, dir=str(run))

    def send(self, step, values):
        self.run.log(values, step=step)

    def flush(self):
        pass  # wandb sends in the background, and keeps what it could not send

    def close(self):
        self.run.finish()


class TensorBoard:
    def __init__(self, run, state, project):
        module = need("tensorboard.summary.writer.event_file_writer", "tensorboard")
        self.event = need("tensorboard.compat.proto.event_pb2", "tensorboard").Event
        self.summary = need("tensorboard.compat.proto.summary_pb2", "tensorboard").Summary
        self.writer = module.EventFileWriter(str(folder_of_service(run, "tensorboard", "*tfevents*")))

    def send(self, step, values):
        rows = [self.summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self.writer.add_event(self.event(wall_time=time.time(), step=step, summary=self.summary(value=rows)))

    def flush(self):
        self.writer.flush()

    def close(self):
        self.writer.close()


SERVICES = {"wandb": Wandb, "tensorboard": TensorBoard}


class State(dict):
    """What is remembered of one run and service; written beside and renamed."""

    def __init__(self, path):
        self.path = path
        super().__init__({"next_step": 0})
        if os.path.lexists(path):
            try:
                self.update(json.loads(read_file(path)))
            except ValueError as error:
                refuse(f"{path} is damaged: {error}", "remove it; all steps are then sent again")

    def save(self):
        beside = self.path.with_suffix(".new")
        beside.unlink(missing_ok=True)  # what a start that was killed left; of a link, the link
        with open(beside, "x", encoding="utf-8") as file:  # O_EXCL: nothing that is there is written to or followed
            file.write(json.dumps(self))
        os.replace(beside, self.path)


class Tail:
    """The whole lines of a growing file. A resumed run cuts lines off its end and writes them again: then what stood
    before the place reached is no longer there, and reading starts over."""

    def __init__(self, path):
        self.path, self.offset, self.number, self.last = path, 0, 0, b""

    def lines(self):
        with open_file(self.path) as file:
            file.seek(self.offset - len(self.last))
            if file.read(len(self.last)) != self.last:
                self.offset, self.number = 0, 0
                file.seek(0)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # not written out yet, or torn
                self.offset, self.number, self.last = self.offset + len(line), self.number + 1, line
                yield line


def send_new(tail, state, sink):
    """Sends the steps that were not sent before."""
    first = state["next_step"]
    for line in tail.lines():
        try:
            metrics = json.loads(line)
            step = metrics.pop("step")
        except (ValueError, KeyError, AttributeError, TypeError):
            refuse(f"{tail.path}:{tail.number} is not a step's object", "delete that line")
        if step >= state["next_step"]:
            sink.send(step, {key: value for key, value in metrics.items() if type(value) in (int, float)})
            state["next_step"] = step + 1
    if state["next_step"] != first:
        sink.flush()
        state.save()
    return state["next_step"] - first


def log_run(service, run, args, stop):
    metrics = run / "metrics.jsonl"
    if not os.path.lexists(metrics):
        refuse(f"{run} has no metrics.jsonl", "a folder that gf-dist-train has written")
    open_file(metrics).close()  # refused now, not when the service has been told of a run
    state = State(run / f".log_to-{service}.json")
    sink = SERVICES[service](run, state, args.project)
    tail, sent = Tail(metrics), 0
    try:
        sent += send_new(tail, state, sink)
        while args.follow and not stop.wait(args.every):
            sent += send_new(tail, state, sink)
    finally:
        sink.close()
    print(f"{run}: {sent} steps sent to {service}, next is step {state['next_step']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("service", choices=sorted(SERVICES))
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders")
    parser.add_argument("--follow", action="store_true", help="go on while the runs train, until Ctrl-C")
    parser.add_argument("--every", type=float, default=2, metavar="SECONDS", help="how often to look (default: 2)")
    parser.add_argument("--project", metavar="NAME", help="wandb project (default: train.wandb of the run's config.yaml)")
    args = parser.parse_args()

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    runs = [run.resolve() for run in args.runs]
    if not args.follow or len(runs) == 1:
        for run in runs:
            log_run(args.service, run, args, stop)
        return 0
    # Several runs at once: a process each, for wandb follows one run in a process.
    options = ["--follow", "--every", str(args.every)] + (["--project", args.project] if args.project else [])
    children = [subprocess.Popen([sys.executable, __file__, args.service, str(run)] + options) for run in runs]
    while any(child.poll() is None for child in children) and not stop.wait(0.2):
        pass
    for child in children:
        if child.poll() is None:
            child.terminate()
    return max(child.wait() for child in children)


if __name__ == "__main__":
    sys.exit(main())
