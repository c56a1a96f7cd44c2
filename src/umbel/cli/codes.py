"""Exit codes, as `umbel --help` lists them, and what each error becomes."""

from __future__ import annotations

from typing import final

import click

from umbel.errors import ArraysError, ConfigError, StoreError, UmbelError
from umbel.runtimes.turn import sentence

FINE = 0
FAILED = 1
WRONG_USE = 2
MISSING = 3
STORE = 4
INTERRUPTED = 130


@final
class Stopped(Exception):
    """Ends the command with this sentence on stderr and this exit code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def code_of(error: BaseException) -> int:
    """The exit code of an error."""
    if isinstance(error, Stopped):
        return error.code
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return INTERRUPTED
    if isinstance(error, StoreError):
        return STORE
    return WRONG_USE if isinstance(error, (click.ClickException, ConfigError, ArraysError)) else FAILED


def text_of(error: BaseException) -> str:
    """The sentence of an error."""
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return "interrupted before anything was done"
    if isinstance(error, click.ClickException):
        return _usage(error)
    if isinstance(error, (Stopped, UmbelError)):
        return str(error)
    return f"{sentence(error)}; umbel --traceback … shows where it comes from"


def _usage(error: click.ClickException) -> str:
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    place = "umbel" if ctx is None else ctx.command_path
    text = error.format_message().strip().rstrip(".")
    return f"{' '.join(text.split())}; see {place} --help"
