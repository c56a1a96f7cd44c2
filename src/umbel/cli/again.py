"""A kept run of an app as what `simulate` was given for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from umbel.cli.place import Place
from umbel.cli.resume import entry_of, loaded
from umbel.errors import NotSupported
from umbel.runtimes.app import App
from umbel.stores import RunInfo


def app_for(info: RunInfo, folder: Path | None, place: Place, *, force: bool, instead: str) -> App:
    """The app of a run that can be simulated again.

    Args:
        instead: what can be done with a run over real nodes.

    Raises:
        NotSupported: the run was led over real nodes.
        AppError: the app is not there, or has changed.
    """
    if place.server is not None or "engine" not in info.plan:
        raise NotSupported(f"run {info.id} was led over real nodes, which would have to train again; {instead}")
    return loaded(info, entry_of(info), folder, force=force)


def arguments(app: App, info: RunInfo) -> dict[str, Any]:
    """The arguments of `simulate` that made the run, its seed and its blocks included."""
    settings = entry_of(info)["settings"]
    run = app.describe(settings)
    engine: Mapping[str, Any] = info.plan.get("engine") or {}
    blocks = {"engine": "vmap", "block": engine["block"]} if engine.get("block", 1) > 1 else {}
    # The plan's seed: a sweep gives its own, and an app that names none was given one.
    seeded = replace(run.config, seed=info.plan["config"]["seed"])
    return {**run.arguments, "config": seeded, "settings": settings, **blocks}
