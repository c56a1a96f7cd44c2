"""`umbel nodes`, `logs`, `stop`: what goes on at a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from umbel.cli.codes import INTERRUPTED
from umbel.cli.follow import tell
from umbel.cli.options import with_json
from umbel.cli.remote import Remote, remote, with_server
from umbel.coordinators.where import shown
from umbel.errors import ConfigError


def needed(server: str | None, user: Path, insecure: bool) -> Remote:
    """The server that the options name.

    Raises:
        ConfigError: they name none.
    """
    if server is None:
        raise ConfigError("which server? give --server HOST:PORT")
    return remote(server, user, insecure)


@click.command()
@with_json
@with_server
def nodes(as_json: bool, server: str | None, user: Path, insecure: bool) -> None:
    """List the nodes that are connected to a server, and why they refuse runs."""
    found = needed(server, user, insecure).get("/v1/nodes")["nodes"]
    if as_json:
        click.echo(json.dumps(found))
        return
    for node in found:
        runs = ", ".join(node["runs"]) or "no run"
        click.echo(f"{node['name']:24} {node['address']:22} {runs}")
        if node.get("attributes"):
            click.echo(f"    {shown(node['attributes'])}")
        for run, reason in node["refused"].items():
            click.echo(f"    refuses {run}: {reason}")
    click.echo(f"{len(found)} nodes are connected")


@click.command()
@click.argument("run", default="last")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run is over.")
@with_json
@with_server
def logs(run: str, follow: bool, as_json: bool, server: str | None, user: Path, insecure: bool) -> int:
    """Print the log of RUN at a server."""
    try:
        return tell(needed(server, user, insecure), run, follow=follow, as_json=as_json)
    except KeyboardInterrupt:
        return INTERRUPTED  # who looks on has seen enough


@click.command()
@click.argument("run")
@with_json
@with_server
def stop(run: str, as_json: bool, server: str | None, user: Path, insecure: bool) -> None:
    """End RUN at a server after the step under way; umbel resume goes on with it."""
    stopped: Any = needed(server, user, insecure).post(f"/v1/runs/{run}/stop", {})
    click.echo(json.dumps(stopped) if as_json else f"run {stopped['run']} stops")
