"""From the shell and back: the group of commands, and what each error becomes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import cast

import click

import umbel
from umbel.cli import codes
from umbel.cli.audit import audit
from umbel.cli.check import check
from umbel.cli.contributions import contributions_command
from umbel.cli.control import logs, nodes, stop
from umbel.cli.doctor import doctor
from umbel.cli.export import export
from umbel.cli.federation import federation
from umbel.cli.forget import forget
from umbel.cli.new import new
from umbel.cli.node import agree, join, node
from umbel.cli.privacy import privacy
from umbel.cli.resume import resume
from umbel.cli.run import run
from umbel.cli.server import invite, members, revoke, server
from umbel.cli.show import ls, show
from umbel.cli.tune import tune
from umbel.cli.usage import usage

EXTRAS = {
    "cryptography": "server",
    "starlette": "server",
    "uvicorn": "server",
    "grpc": "grpc",
    "websockets": "websocket",
    "torch": "torch",
    "sklearn": "sklearn",
    "pandas": "pandas",
}
EXIT_CODES = """
\b
Exit codes:
  0    all went well
  1    the run failed, check has warnings, doctor found a fault, a log is broken, or privacy does not hold
  2    wrong use: arguments, settings or the app
  3    a package is missing: pip install 'umbel[cli]', or the extra that is named
  4    the store cannot be used
  130  interrupted; finished rounds are kept
"""


@click.group(
    invoke_without_command=True,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Umbel: train, evaluate and analyse models on data that cannot be moved.",
)
@click.version_option(umbel.__version__, prog_name="umbel", message="%(prog)s %(version)s")
@click.option("--traceback", is_flag=True, help="Show Python's traceback with an error, for bug reports.")
@click.pass_context
def group(ctx: click.Context, traceback: bool) -> None:
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


COMMANDS = (
    new,
    check,
    run,
    tune,
    resume,
    ls,
    show,
    export,
    server,
    invite,
    members,
    revoke,
    federation,
    usage,
    node,
    join,
    agree,
    nodes,
    logs,
    stop,
    doctor,
    audit,
    contributions_command,
    forget,
    privacy,
)
for command in COMMANDS:
    group.add_command(command)


def enter(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; every error becomes one sentence on stderr and an exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if sys.stdout is None:  # closed by who started it  # pyright: ignore[reportUnnecessaryComparison]
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A terminal that knows no bars or arrows gets question marks, not an exception.
            # Lines go out as they come, also into a pipe.
            stream.reconfigure(errors="replace", line_buffering=True)  # pyright: ignore[reportAttributeAccessIssue]
    if "_UMBEL_COMPLETE" in os.environ:
        group.main(prog_name="umbel")  # a shell asks how a command line could go on
    try:
        # Not `group.main`, which turns interrupts and closed pipes into exits of its own.
        with group.make_context("umbel", list(words)) as ctx:
            code = cast("object", group.invoke(ctx))
        sys.stdout.flush()
        return code if isinstance(code, int) else codes.FINE
    except click.exceptions.Exit as done:
        return done.exit_code
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python's own flush at the end must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return codes.FINE
    except SystemExit as error:
        # rich ends the process where a pipe was closed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return codes.FINE if isinstance(error.__context__, BrokenPipeError) else codes.FAILED
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        click.echo(f"this needs {error.name}; install it with: pip install 'umbel[{extra}]'", err=True)
        return codes.MISSING
    except BaseException as error:
        if "--traceback" in words[:1]:
            import traceback

            traceback.print_exception(error)
        else:
            click.echo(codes.text_of(error), err=True)
        return codes.code_of(error)
