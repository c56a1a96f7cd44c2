"""The child's side of the line protocol: a contestant runs one round when it is told to.

Parent to child: `round` and `end`, one a line. Child to parent, JSON lines: `{"ready": seconds}` when the first
round could begin, `{"round": r, "seconds": s}` after each, `{"end": path}` when the result is written.
Contestants that own their loop (umbel, flwr) call `wait` from the callback that opens a round, so a round lasts from
its release to the opening of the next one: whatever a framework does between two rounds is counted.
"""

import json
import os
import sys
import time
from typing import Any

import numpy as np


class Gate:
    """Holds every round until the parent releases it, and reports how long it took."""

    def __init__(self) -> None:
        self._begun = time.perf_counter()
        # print() and native libraries must not mix with the protocol, so standard output becomes standard error
        self._out = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        self._round = 0
        self._released: float | None = None

    def wait(self) -> None:
        """Closes the running round, if any, and blocks until the parent releases the next one."""
        self._close()
        if self._round == 0:
            self._say({"ready": time.perf_counter() - self._begun})
        if sys.stdin.readline().strip() != "round":
            os._exit(1)  # the parent gave up; a framework's own shutdown may take long
        self._round += 1
        self._released = time.perf_counter()

    def finish(
        self,
        result: str,
        parameters: list[np.ndarray],
        cohorts: list[list[int]],
        models: list[np.ndarray] | None = None,
        **facts: Any,
    ) -> None:
        """Closes the last round, waits for `end`, writes the parameters to `result` and reports the cohorts.

        Args:
            models: the flat model after each round, if the contestant was asked to keep them.
        """
        self._close()
        sys.stdin.readline()
        with open(result, "wb") as file:
            flat = np.concatenate([np.ravel(p) for p in parameters]).astype(np.float64)
            np.savez(file, flat=flat, models=np.array(models or []))
        self._say({"end": result, "cohorts": cohorts, **facts})

    def _close(self) -> None:
        if self._released is not None:
            self._say({"round": self._round, "seconds": time.perf_counter() - self._released})
            self._released = None

    def _say(self, message: dict[str, Any]) -> None:
        self._out.write(json.dumps(message) + "\n")
