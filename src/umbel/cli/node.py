"""`umbel node` and `umbel join`: the data owner's side of a deployment."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import click

from umbel.cli import codes, log
from umbel.cli.remote import DEFAULT_USER
from umbel.errors import ConfigError, StoreError
from umbel.runtimes.app import find_app

DEFAULT_FOLDER = Path(".umbel/node")
_STOPPING = "stopping: an update that is not settled yet is kept, and a round under way is worked on anew"


@click.command()
@click.argument("app", type=Path, default=Path("."))
@click.option("--join", "code", help="The invitation's code, the first time.")
@click.option("--join-file", type=Path, help="A file with that code; not looked at while this node has an identity.")
@click.option("--name", help="This node's name at the server; with --join, or with --insecure.")
@click.option("--partition", type=int, help="context.partition_id of the app's client.")
@click.option("--policy", type=Path, help="The data owner's policy.toml: what a server may ask of this node.")
@click.option("--card", type=Path, help="The data owner's card.toml: what the data are, from where, on which basis.")
@click.option("--review", is_flag=True, help="Show each new plan on the terminal, and take part only after a yes.")
@click.option("--attribute", "attributes", metavar="NAME=VALUE", multiple=True, help="What it is like. Repeatable.")
@click.option("--check-in", is_flag=True, help="Connect for a moment, take a task or come back when the server says.")
@click.option("--threads", type=int, help="Threads that the client may use; default as many as it takes.")
@click.option("--server", "address", metavar="ADDRESS", help="Where the server is; default as the code said.")
@click.option("--insecure", is_flag=True, help="Plaintext, to a server that speaks it.")
@log.option
@click.option(
    "--folder", type=Path, default=DEFAULT_FOLDER, show_default=True, help="Where this node keeps what is its own."
)
def node(
    app: Path,
    code: str | None,
    join_file: Path | None,
    name: str | None,
    partition: int | None,
    policy: Path | None,
    card: Path | None,
    review: bool,
    attributes: tuple[str, ...],
    check_in: bool,
    threads: int | None,
    address: str | None,
    insecure: bool,
    log_format: str,
    folder: Path,
) -> None:
    """Take part in runs of the app APP (default: this folder) with the data that are here.

    Connects to the server, and reconnects for ever. What leaves this machine are updates of the model.
    """
    from umbel.coordinators.where import read_attributes
    from umbel.runtimes.node.card import load_card
    from umbel.runtimes.node.live import NodeLife
    from umbel.runtimes.node.numbers import check_numbers
    from umbel.runtimes.node.policy import load_policy
    from umbel.runtimes.node.process import ENFORCES

    with log.told(log_format) as say, _Sigterm(say) as sigterm:
        check_numbers(partition=partition, threads=threads)
        found, said = find_app(app), read_attributes(attributes)
        _make(folder)
        code = _code(code, join_file, folder)
        if code is not None:
            _join(code, folder, name, say)
        life = NodeLife(
            app=found,
            folder=folder,
            address=address,
            name=name,
            partition=partition,
            threads=threads,
            secure=not insecure,
            policy=None if policy is None else load_policy(policy, worker_enforces=ENFORCES),
            attributes=said,
            card=None if card is None else load_card(card),
            review=review,
            check_in=check_in,
            ask=_ask if sys.stdin is not None and sys.stdin.isatty() else None,
        )
        sigterm.ends = life.end
        life.live(say)


@click.command()
@click.argument("code")
@click.option("--name", help="Your name at the server.")
@click.option(
    "--as", "user", type=Path, default=DEFAULT_USER, show_default=True, help="The folder for your credentials."
)
def join(code: str, name: str | None, user: Path) -> None:
    """Become a user of the server that made CODE: umbel run, ls, logs and others then take --server."""
    _make(user)
    _join(code, user, name, click.echo)


@click.command()
@click.argument("digest")
@click.option("--folder", type=Path, default=DEFAULT_FOLDER, show_default=True, help="The node's folder.")
def agree(digest: str, folder: Path) -> None:
    """Let runs of the plan DIGEST in at a node that was started with --review, without its terminal."""
    from umbel.runtimes.node.reviewer import agree as remember

    remember(folder, digest)
    click.echo(f"agreed to {digest}")


def _ask(text: str) -> bool:
    _forget_what_was_typed_before()
    click.echo(text, nl=False)
    # Not `input`: a thread that waits in it holds a lock that Python's end needs.
    return os.read(0, 4096).decode(errors="replace").strip().lower() in ("y", "yes")


def _forget_what_was_typed_before() -> None:
    """An answer is to what was read: a "y" from before the plan was shown is none."""
    if os.name == "posix":
        import termios

        with contextlib.suppress(termios.error):
            termios.tcflush(0, termios.TCIFLUSH)


def _code(code: str | None, file: Path | None, folder: Path) -> str | None:
    """The invitation's code, if this node has yet to join. A file stays in place over restarts, and works but once."""
    if file is None:
        return code
    if code is not None:
        raise ConfigError("--join and --join-file both give a code; take one")
    if (folder / "identity.json").exists() and not (_has_ended(folder) and file.exists()):
        return None
    try:
        return file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(
            f"the code in {file} cannot be read: {reason}; write what umbel invite prints there"
        ) from None


def _has_ended(folder: Path) -> bool:
    from umbel.identity import Credentials

    return Credentials.load(folder).why_ended(time.time()) is not None


def _join(code: str, folder: Path, name: str | None, say: Callable[[str], None]) -> None:
    from umbel.identity import join as join_server
    from umbel.identity import joined

    before = joined(code, folder)
    if before is not None and name in (None, before.name):
        say(f"this code was used here before: going on as {before.name} of {before.address}")
        return
    if before is not None:
        raise ConfigError(f"this code made this node {before.name}, not {name}; leave --name out, or take a new code")
    if name is None:
        raise ConfigError("a name is needed to join: --name, such as the hospital's")
    credentials = join_server(code, folder, name)
    say(f"joined {credentials.address} as {credentials.name}")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreError(f"the folder {folder} cannot be made: {error.strerror}; choose another") from None


@final
class _Sigterm:
    """Says how SIGTERM or Ctrl-C ended what is inside. The first is a good end: a service was stopped."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._asked = say, False
        self.ends: Callable[[], bool] = lambda: False
        """Ends what is inside, and says whether it does; otherwise it is broken off."""

    def __enter__(self) -> _Sigterm:
        self._before = signal.signal(signal.SIGTERM, self._came)
        return self

    def _came(self, number: int, frame: Any) -> None:
        # A second one must not break off the tidying up.
        if not self._asked:
            self._asked = True
            if not self.ends():
                raise KeyboardInterrupt

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> bool:
        signal.signal(signal.SIGTERM, self._before)
        if error is not None and kind is not KeyboardInterrupt:
            return False
        if self._asked:
            self._say(_STOPPING)
        elif error is not None:
            raise codes.Stopped(codes.INTERRUPTED, _STOPPING) from None
        return True
