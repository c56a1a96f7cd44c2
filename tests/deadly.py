"""A store that kills its own process at the n-th visit of a named place, for programs that tests run and kill."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from umbel.stores import Store


class Fuse:
    """Kills this process at the `countdown`-th visit of `place`."""

    def __init__(self, place, countdown):
        self.place, self.countdown = place, countdown

    def __call__(self, name):
        if name == self.place:
            self.countdown -= 1
            if self.countdown == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class Deadly(Store):
    """`inner`, with a visit before or after what it writes."""

    def __init__(self, inner, here):
        self.inner, self.here = inner, here

    def create(self, run):
        self.inner.create(run)
        self.here("created")

    def runs(self):
        return self.inner.runs()

    def set_status(self, run, status):
        self.inner.set_status(run, status)
        self.here("status")

    def set_plan(self, run, plan, event=None):
        self.inner.set_plan(run, plan, event)

    def append(self, run, event):
        self.here("before append")
        self.here(f"before {event['kind']}")
        self.inner.append(run, event)
        self.here("after append")
        self.here(f"after {event['kind']}")

    def log(self, run):
        return self.inner.log(run)

    def commit(self, run, event, **rest):
        self.here("between fold and checkpoint")
        self.inner.commit(run, event, **rest)
        self.here("after checkpoint")

    def checkpoints(self, run):
        return self.inner.checkpoints(run)

    def checkpoint(self, run, round):
        return self.inner.checkpoint(run, round)

    def state(self, run, client, round):
        self.here("state")
        return self.inner.state(run, client, round)

    def forget(self, run, round):
        self.here("rewound")
        self.inner.forget(run, round)
        self.here("forgotten")


def played(folder, program, *words):
    """A program that may import this file, in a process of its own."""
    script = folder / "program.py"
    script.write_text(program)
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths}
    command = [sys.executable, str(script), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
