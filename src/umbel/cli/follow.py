"""A run at a server, told while it goes on: over as many connections as it takes, each event once."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Mapping
from typing import Any

import click

from umbel.arrays import Arrays
from umbel.cli.codes import FAILED, FINE
from umbel.cli.drive import closing, progress
from umbel.cli.options import find_run
from umbel.cli.place import RemoteRuns
from umbel.cli.remote import Remote
from umbel.errors import LinkError
from umbel.runtimes.history import History
from umbel.runtimes.progress import PASSING, plain_progress
from umbel.stores import RunInfo
from umbel.stores.abstract import REWOUND
from umbel.stores.link import LINK

PATIENCE_S = 600.0
FIRST_WAIT_S, LAST_WAIT_S = 0.5, 10.0
UNDER_WAY = ("running", "queued")


def tell(place: Remote, run: str, *, follow: bool, as_json: bool) -> int:
    """Print a run's log, each round of it.

    Args:
        follow: go on until the run is over, also where the server is gone for a while.

    Returns:
        the exit code, which says whether the run failed.

    Raises:
        LinkError: the server is gone, and did not come back within `PATIENCE_S`.
    """
    info = find_run(RemoteRuns(place), run)
    ended, observe = "", plain_progress(least_s=0)
    for event in _events(place, info, follow=follow):
        ended = event["reason"] if event["kind"] == "ended" else ended
        if as_json:
            click.echo(json.dumps(event))
        else:
            observe(event)
    return _code(ended)


def watch(place: Remote, run: str) -> int:
    """Show a run until it is over as a simulation is shown; as `tell` otherwise."""
    info = find_run(RemoteRuns(place), run)
    kept: list[Mapping[str, Any]] = []
    with progress(info.plan["config"]["num_rounds"]) as observe:
        for event in _events(place, info, follow=True):
            if event["kind"] not in PASSING:
                kept.append(event)
            observe(event)
    history = History.of(kept, Arrays.of({}), info.id, info.plan)
    if _code(history.ended) == FINE:
        closing(history, place.option)
    return _code(history.ended)


def outcome(place: Remote, run: str) -> History:
    """Wait until a run is over, and say nothing of it but that the server is gone; as `tell` otherwise."""
    info = find_run(RemoteRuns(place), run)
    kept = [event for event in _events(place, info, follow=True) if event["kind"] not in PASSING]
    return History.of(kept, Arrays.of({}), info.id, info.plan)


def _code(ended: str) -> int:
    return FAILED if ended.startswith("failed") else FINE


def _events(place: Remote, info: RunInfo, *, follow: bool) -> Iterator[Mapping[str, Any]]:
    """A run's events, each once."""
    rounds, others = -1, set[str]()
    path = f"/v1/runs/{info.id}/events?follow={int(follow)}"
    heard, wait_s, lost = time.monotonic(), FIRST_WAIT_S, False
    while True:
        try:
            for event in place.lines(path):
                heard, wait_s, lost = time.monotonic(), FIRST_WAIT_S, False
                if event["kind"] == "round":
                    if event["round"] <= rounds:
                        continue
                    rounds = event["round"]
                elif event["kind"] == REWOUND:
                    continue
                elif event["kind"] not in PASSING:
                    # What was said in a round that is repeated after a crash is in the log once more.
                    key = json.dumps({**event, LINK: None}, sort_keys=True)
                    if key in others:
                        continue
                    others.add(key)
                yield event
            if not follow or find_run(RemoteRuns(place), info.id).status not in UNDER_WAY:
                return
            heard = time.monotonic()
        except LinkError as error:
            if not follow or time.monotonic() - heard > PATIENCE_S:
                raise
            if not lost:
                minutes = f"{PATIENCE_S / 60:.0f} min"
                click.echo(
                    f"{error}; the run goes on when the server is back: waiting for it up to {minutes}", err=True
                )
            lost = True
        time.sleep(wait_s * random.uniform(0.5, 1))
        wait_s = min(2 * wait_s, LAST_WAIT_S)
