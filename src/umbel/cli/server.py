"""`umbel server`, `umbel invite`, `umbel revoke`, `umbel members`: the server's side of a deployment."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from umbel.cli import log
from umbel.cli.remote import remote, with_server
from umbel.errors import ConfigError
from umbel.runtimes.app import load_app

if TYPE_CHECKING:
    from umbel.identity import Authority

DEFAULT_FOLDER = Path(".umbel/server")
LONGEST_HOURS = 87600
LONGEST_AWAY_S = 30 * 86400
ROLES = ("node", "viewer", "researcher", "admin")


def with_folder(command: click.decorators.FC) -> click.decorators.FC:
    text = "Where the server keeps its runs and its CA."
    return click.option("--folder", type=Path, default=DEFAULT_FOLDER, show_default=True, help=text)(command)


@click.command()
@click.option("--app", "apps", type=Path, multiple=True, help="An app's folder to install. Repeatable.")
@click.option("--listen", default="127.0.0.1:8080", show_default=True, help="host:port; port 0 takes a free one.")
@click.option(
    "--also", metavar="ADDRESS", multiple=True, help="One more door: grpc://…, ws://…, flower://… Repeatable."
)
@click.option("--host", "hosts", multiple=True, help="A name or address at which nodes reach it. Repeatable.")
@click.option("--insecure", is_flag=True, help="Plaintext, and everybody may do everything.")
@click.option("--standby", is_flag=True, help="If another server leads there, take over when it ends.")
@click.option("--store", metavar="URL", help="postgresql://… to keep runs there; default a file in the folder.")
@click.option(
    "--memory-gb", type=float, help="What a round's sums and uploads may take; default most of the machine's."
)
@click.option("--spool", is_flag=True, help="Keep updates on disk, encrypted, instead of in memory.")
@click.option("--compress", type=click.Choice(["zstd"]), help="Pack models and updates; good for sparse and int8 ones.")
@click.option(
    "--away",
    type=float,
    default=3600.0,
    show_default=True,
    help="Seconds that devices which check in stay away, at the most on average.",
)
@log.option
@with_folder
def server(
    apps: tuple[Path, ...],
    listen: str,
    also: tuple[str, ...],
    hosts: tuple[str, ...],
    insecure: bool,
    standby: bool,
    store: str | None,
    memory_gb: float | None,
    spool: bool,
    compress: str | None,
    away: float,
    log_format: str,
    folder: Path,
) -> None:
    """Lead runs of the installed apps over the nodes that connect, until SIGTERM or Ctrl-C.

    The first start makes a certificate authority of the server's own; nodes are invited with umbel invite. Runs that
    were under way when the server ended go on by themselves.
    """
    from umbel.runtimes.server.also import scheme_of
    from umbel.runtimes.server.daemon import Daemon, make_folder
    from umbel.runtimes.server.memory import memory_for

    places = [listen, *(address.partition("://")[2] for address in also)]
    names = [*hosts, socket.gethostname(), *(place.rpartition(":")[0].strip("[]") for place in places)]
    reached = tuple(name for name in dict.fromkeys(names) if name and name not in ("0.0.0.0", "::"))
    with log.told(log_format) as say:
        if not 1 <= away <= LONGEST_AWAY_S:
            raise ConfigError(f"--away is in seconds, from 1 to {LONGEST_AWAY_S} (30 days), got {away:g}; try 3600")
        for address in also:
            scheme_of(address)
        memory = memory_for(memory_gb, spool=spool)
        make_folder(folder)
        daemon = Daemon(
            folder=folder,
            listen=listen,
            also=also,
            apps=[load_app(app) for app in apps],
            hosts=reached,
            secure=not insecure,
            standby=standby,
            store=store,
            memory=memory,
            compress=compress,
            away_s=away,
        )
        asyncio.run(daemon.serve(say))


@click.command()
@click.option("--name", help="Only a node of this name can use the code.")
@click.option("--role", type=click.Choice(ROLES), default="node", show_default=True, help="What it may do.")
@click.option("--address", default="127.0.0.1:8080", show_default=True, help="Where the server is reached.")
@click.option(
    "--expires", "hours", type=float, default=24.0, show_default=True, help="Hours that the code is good for."
)
@click.option("--federation", default="default", show_default=True, help="The federation that it joins.")
@with_folder
def invite(name: str | None, role: str, address: str, hours: float, federation: str, folder: Path) -> None:
    """Print a one-time code with which a node or a user joins this server."""
    scheme, separator, place = address.partition("://")
    if separator:
        # The port of another door is not the one at which one joins.
        there = place if scheme in ("http", "https", "tcp") else f"{place.rpartition(':')[0] or 'fl.example.org'}:8080"
        raise ConfigError(
            f"--address is the host:port of --listen, at which one joins, without {scheme}://, got {address!r}; "
            f"try {there}, and name another door with umbel node --server"
        )
    if not 0 < hours <= LONGEST_HOURS:
        raise ConfigError(f"--expires is in hours, above 0 and at most {LONGEST_HOURS} (10 years), got {hours:g}")
    with authority_in(folder) as authority:
        click.echo(authority.invite(address, name=name, role=role, expires_s=3600 * hours, federation=federation))


@click.command()
@click.argument("name")
@with_server
@with_folder
def revoke(name: str, folder: Path, server: str | None, user: Path, insecure: bool) -> None:
    """Turn the member NAME away from now on.

    With --server its stream ends at once. Without, this works on the server's folder, even if the server is not
    running; a stream that is open ends within a heartbeat.
    """
    if server is not None:
        remote(server, user, insecure).post(f"/v1/members/{name}/revoke", {})
    else:
        with authority_in(folder) as authority:
            authority.revoke(name)
    click.echo(f"{name} is revoked")


@click.command()
@click.option("--federation", help="Only those of this federation.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@with_folder
def members(federation: str | None, as_json: bool, folder: Path) -> None:
    """List who has joined, and which codes are still open."""
    with authority_in(folder) as authority:
        asked = federation and authority.federation(federation).name
        there = [
            {"name": m.name, "role": m.role, "revoked": m.revoked_at_s is not None, "federation": m.federation}
            for m in authority.members()
            if m.federation == (asked or m.federation)
        ]
        waiting = [
            {"name": i.name, "role": i.role, "federation": i.federation}
            for i in authority.invitations()
            if i.used_at_s is None and i.expires_at_s > time.time() and i.federation == (asked or i.federation)
        ]
    if as_json:
        click.echo(json.dumps({"members": there, "invitations": waiting}))
        return
    for member in there:
        where = "" if member["federation"] == "default" else f"{member['federation']} "
        click.echo(f"{member['name']:24} {member['role']:12}{where}{'revoked' if member['revoked'] else ''}".rstrip())
    click.echo(f"{len(waiting)} invitations are open")


@contextmanager
def authority_in(folder: Path) -> Generator[Authority]:
    """The CA in a server's folder."""
    from umbel.identity import Authority

    if not (folder / "identity").is_dir():
        raise ConfigError(f"{folder} is no server's folder; start umbel server once, or name the folder")
    authority = Authority.open(folder / "identity", server_name=socket.gethostname(), hosts=())
    try:
        yield authority
    finally:
        authority.close()
