"""`umbel federation`: named groups of members, apps and quotas on one server."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from umbel.cli.options import with_json
from umbel.cli.server import authority_in, with_folder
from umbel.errors import ConfigError

if TYPE_CHECKING:
    from umbel.identity import Federation

Command = TypeVar("Command", bound=Callable[..., Any])
NO_LIMIT = -1


def _with_quotas(command: Command) -> Command:
    """The options for what a federation may do; -1 takes a limit away."""
    options = (
        click.option("--app", "apps", multiple=True, help="An installed app that it may run. Repeatable; default all."),
        click.option("--all-apps", is_flag=True, help="It may run all installed apps (again)."),
        click.option(
            "--region", "regions", multiple=True, help="Where data may be from. Repeatable; default anywhere."
        ),
        click.option("--all-regions", is_flag=True, help="Data may be from anywhere (again)."),
        click.option("--rounds-per-day", type=click.IntRange(NO_LIMIT), metavar="N", help="Rounds in a day of UTC."),
        click.option("--bytes-per-day", type=click.IntRange(NO_LIMIT), metavar="N", help="Bytes, both ways together."),
        click.option(
            "--node-seconds-per-day", type=click.FloatRange(NO_LIMIT), metavar="S", help="Seconds that nodes train."
        ),
        click.option("--runs-at-once", type=click.IntRange(NO_LIMIT), metavar="N", help="Runs under way at once."),
        click.option("--over", type=click.Choice(("wait", "refuse")), help="What becomes of a run over quota."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _changed(
    federation: Federation,
    apps: tuple[str, ...],
    all_apps: bool,
    regions: tuple[str, ...],
    all_regions: bool,
    **quotas: Any,
) -> Federation:
    """With what was given; what was not stays."""
    if apps and all_apps:
        raise ConfigError("--app and --all-apps do not go together; give one of them")
    if regions and all_regions:
        raise ConfigError("--region and --all-regions do not go together; give one of them")
    changes = {key: None if value == NO_LIMIT else value for key, value in quotas.items() if value is not None}
    if apps or all_apps:
        changes["apps"] = apps or None
    if regions or all_regions:
        changes["regions"] = regions or None
    return replace(federation, **changes)


@click.group()
def federation() -> None:
    """Named groups of members, apps and quotas that see nothing of each other. Works on the server's folder."""


@federation.command("new")
@click.argument("name")
@_with_quotas
@with_folder
def new_federation(name: str, folder: Path, **given: Any) -> None:
    """Make the federation NAME; umbel invite --federation NAME lets members in."""
    from umbel.identity import Federation

    with authority_in(folder) as authority:
        authority.add_federation(_changed(Federation(name=name), **given))
    click.echo(f"made; let members in with: umbel invite --federation {name}")


@federation.command("set")
@click.argument("name")
@_with_quotas
@with_folder
def set_federation(name: str, folder: Path, **given: Any) -> None:
    """Change what NAME may do; -1 takes a limit away. A server that runs sees it before the next round."""
    with authority_in(folder) as authority:
        authority.set_federation(_changed(authority.federation(name), **given))
    click.echo(f"{name} is changed")


@federation.command("rm")
@click.argument("name")
@with_folder
def remove_federation(name: str, folder: Path) -> None:
    """Remove NAME, which nobody is in any more. Its runs stay in the store, and its name stays taken."""
    with authority_in(folder) as authority:
        authority.remove_federation(name)
    click.echo(f"{name} is removed")


@federation.command("ls")
@with_json
@with_folder
def list_federations(as_json: bool, folder: Path) -> None:
    """List the federations."""
    with authority_in(folder) as authority:
        found = authority.federations()
        members = [member.federation for member in authority.members() if member.revoked_at_s is None]
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found]))
        return
    for one in found:
        click.echo(f"{one.name:24} {members.count(one.name):4} members")


@federation.command("show")
@click.argument("name")
@with_json
@with_folder
def show_federation(name: str, as_json: bool, folder: Path) -> None:
    """Show what NAME may do, and who is in it."""
    with authority_in(folder) as authority:
        found = authority.federation(name)
        members = [m.name for m in authority.members() if m.federation == name and m.revoked_at_s is None]
    told: dict[str, Any] = {**asdict(found), "members": members}
    if as_json:
        click.echo(json.dumps(told))
        return
    for key, value in told.items():
        text = ", ".join(value) if isinstance(value, (list, tuple)) else value  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        all_of = "all" if key in ("apps", "regions") else "no limit"
        click.echo(f"{key.replace('_', ' '):22} {all_of if text is None else text}")
