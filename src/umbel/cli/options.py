"""Options that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from umbel.errors import ConfigError, StoreError, UmbelError
from umbel.stores import RunInfo, RunReader, SQLiteStore

Command = TypeVar("Command", bound=Callable[..., Any])
DEFAULT_STORE = Path(".umbel/runs.db")
WIDE = 200


def with_store(command: Command) -> Command:
    """`--store PATH`."""
    text = "The SQLite file that keeps runs."
    return click.option("--store", "path", type=Path, default=DEFAULT_STORE, show_default=True, help=text)(command)


def with_json(command: Command) -> Command:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(command)


def with_set(command: Command) -> Command:
    """`--set KEY=VALUE`."""
    text = "Change one of the app's settings; the value is written as in TOML. Repeatable."
    return click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help=text)(command)


def with_engine(command: Command) -> Command:
    """`--engine`, `--workers` and `--cluster`."""
    workers = click.option(
        "--workers", type=int, help="Processes of the pool, on each node of a cluster; default one per core."
    )
    text = "auto, serial, pool or ray (the same bits), or vmap (in blocks)."
    engine = click.option("--engine", default="auto", show_default=True, help=text)
    text = 'With --engine ray: the Ray cluster to join, HOST:PORT or "auto"; default one on this machine alone.'
    cluster = click.option("--cluster", metavar="ADDRESS", help=text)
    return engine(workers(cluster(command)))


@contextmanager
def opened(path: Path, *, create: bool = False) -> Generator[SQLiteStore]:
    """The store in the file `path`, closed afterwards.

    Raises:
        StoreError: there is none (and it is not to be made), or it cannot be used.
    """
    if create:
        _make_folder(path.parent)
    elif not path.exists():
        raise StoreError(f"there is no store {path}; run an app first (umbel run), or name another with --store")
    store = SQLiteStore(path)
    try:
        yield store
    finally:
        store.close()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"the folder {folder} cannot be made: {error.strerror}; choose another store with --store"
        ) from None


def find_run(store: RunReader, text: str) -> RunInfo:
    """The run whose id begins with `text`; "last" is the newest.

    Raises:
        ConfigError: there is none, or there are several.
    """
    runs = store.runs()
    if not runs:
        raise ConfigError(f"there is no run {text!r}: the store is empty; start one with umbel run")
    found = runs[-1:] if text == "last" else [run for run in runs if run.id == text]
    found = found or [run for run in runs if run.id.startswith(text)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(run.id for run in (found or runs)[-3:])
    if not found:
        raise ConfigError(f"there is no run {text!r}; the newest are {names}: umbel ls shows all")
    raise ConfigError(f"{len(found)} runs begin with {text!r}, such as {names}; give more of the id")


@contextmanager
def legible(run: str) -> Generator[None]:
    """Where the plan or the log of `run` is not what it should be, a sentence instead of the first symptom.

    Raises:
        StoreError: so it is.
    """
    try:
        yield
    except UmbelError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise StoreError(
            f"the plan or the log of run {run} is not what was written ({type(error).__name__}: {error}); umbel audit "
            "verify shows where, else restore the store from a backup"
        ) from error


def console() -> Console:
    """Standard output; wide where it is no terminal, so that nothing is cut off."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)
