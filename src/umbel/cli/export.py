"""`umbel export`: a run's model as a file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from umbel.cli.options import find_run, with_json
from umbel.cli.place import Place, with_place
from umbel.errors import CheckpointCorrupt, ConfigError, WireError
from umbel.runtimes import checkpoint
from umbel.stores import RunReader
from umbel.strategy import State


@click.command()
@click.argument("run")
@click.argument("file", type=Path)
@click.option("--round", "number", type=int, help="The model after this round; default the last that is kept.")
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@with_json
@with_place
def export(run: str, file: Path, number: int | None, force: bool, as_json: bool, place: Place) -> None:
    """Write the model of RUN (its id, the beginning of it, or "last") as a .safetensors file."""
    if file.suffix != ".safetensors":
        raise ConfigError(f"the model is written as .safetensors, got {file.name!r}; try {file.stem}.safetensors")
    if file.exists() and not force:
        raise ConfigError(f"{file} is there already; choose another name or overwrite it with --force")
    with place.opened() as store:
        info = find_run(store, run)
        after, state = _state(store, info.id, number)
    _write(state, file)
    params = state.params
    if as_json:
        told = {"run": info.id, "round": after, "file": str(file), "bytes": params.nbytes, "digest": params.digest}
        click.echo(json.dumps(told))
        return
    arrays = f"{len(params)} array{'' if len(params) == 1 else 's'}"
    click.echo(f"{file}: the model of run {info.id} after round {after}, {arrays}, {params.nbytes} bytes")


def _state(store: RunReader, run: str, number: int | None) -> tuple[int, State]:
    if number is None:
        after, state, _, sentences = checkpoint.latest(store, run)
        for text in sentences:
            click.echo(f"warning: {text}", err=True)
        return after, state
    kept = store.checkpoints(run)
    if number not in kept:
        there = ", ".join(map(str, kept)) or "none"
        raise ConfigError(f"round {number} of run {run} is not kept; there are the rounds {there}")
    try:
        return number, checkpoint.read(store.checkpoint(run, number))[0]
    except WireError as error:
        raise CheckpointCorrupt(f"the checkpoint of round {number} is damaged: {error}; try another round") from error


def _write(state: State, file: Path) -> None:
    """Into a file beside it first, so that no half-written model is ever found."""
    part = file.with_name(f".{file.name}.part")
    try:
        state.params.save(str(part))
        os.replace(part, file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ConfigError(f"{file} cannot be written: {error.strerror}; choose another place") from error
