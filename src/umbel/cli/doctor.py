"""`umbel doctor`: what keeps this machine, or the way to a server, from working."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import click
from rich.markup import escape

from umbel.cli.codes import FAILED, FINE
from umbel.cli.options import DEFAULT_STORE, console, with_json
from umbel.cli.remote import DEFAULT_USER, with_server
from umbel.errors import UmbelError
from umbel.runtimes.doctor.finding import Finding
from umbel.transports.choose import host_and_port

KNOWN = (DEFAULT_STORE.parent / "node", DEFAULT_STORE.parent / "server", DEFAULT_USER)
COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@click.option("--folder", "folders", type=Path, multiple=True, help="A node's or a server's folder. Repeatable.")
@click.option("--app", type=Path, help="An app's folder; with --server, whether it is the same there.")
@click.option("--policy", type=Path, help="Whether a node would accept this policy.toml.")
@click.option("--nodes", type=int, default=100, show_default=True, help="How many nodes a server here has to hold.")
@with_json
@with_server
def doctor(
    folders: tuple[Path, ...],
    app: Path | None,
    policy: Path | None,
    nodes: int,
    as_json: bool,
    server: str | None,
    user: Path,
    insecure: bool,
) -> int:
    """Look for what is wrong with this machine, and with --server on the way to a server.

    Changes nothing; each fault comes with its mend. The exit code is 1 if something fails.
    """
    from umbel.runtimes.doctor.files import check_app, check_policy
    from umbel.runtimes.node.process import ENFORCES

    found = [*_machine(nodes), *_folders(folders)]
    at_server: dict[str, str] | None = None
    if server is not None:
        on_the_way, at_server = _server(server, None if insecure else user)
        found += on_the_way
    if app is not None:
        found.append(check_app(app, at_server))
    if policy is not None:
        found.append(check_policy(policy, ENFORCES))
    _tell(found, as_json)
    return FAILED if any(finding.verdict == "fail" for finding in found) else FINE


def _machine(nodes: int) -> Iterator[Finding]:
    from umbel.runtimes.doctor.machine import bounds, check_open_files, check_packages, check_python

    about = metadata.metadata("umbel")
    yield check_python(platform.python_version(), about["Requires-Python"])
    yield from check_packages(bounds(metadata.requires("umbel") or ()), sys.path)
    if os.name == "posix":
        import resource

        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        yield check_open_files(sys.maxsize if limit == resource.RLIM_INFINITY else limit, nodes)


def _folders(folders: tuple[Path, ...]) -> Iterator[Finding]:
    from umbel.runtimes.doctor.files import check_database, check_identity
    from umbel.runtimes.doctor.machine import check_disk

    looked = folders or tuple(folder for folder in KNOWN if folder.is_dir())
    for folder in folders:
        if not folder.is_dir():
            mend = (
                "name the folder of a node or a server that was started once; this one would be made at its first start"
            )
            yield Finding(f"folder {folder}", "fail", "it is not there", mend)
    for folder in [folder for folder in looked if folder.is_dir()] or ([] if folders else [DEFAULT_STORE.parent]):
        yield check_disk(folder)
    stores = [] if folders or not DEFAULT_STORE.is_file() else [DEFAULT_STORE]
    for path in [*stores, *(path for folder in looked for path in _files(folder, "*.db", "*.sqlite"))]:
        yield check_database(path)
    for path in (path for folder in looked for path in _files(folder, "identity.json")):
        yield check_identity(path.parent, time.time())


def _files(folder: Path, *patterns: str) -> Iterator[Path]:
    for pattern in patterns:
        yield from sorted(path for path in folder.rglob(pattern) if path.is_file())


def _server(address: str, user: Path | None) -> tuple[list[Finding], dict[str, str] | None]:
    from umbel.identity import Credentials
    from umbel.runtimes.doctor import network as n

    host, port = host_and_port(address)
    found = [n.check_proxies(os.environ, host)]
    for check in (lambda: n.check_name(host), lambda: n.check_port(host, port)):
        found.append(check())
        if found[-1].verdict == "fail":
            return found, None  # the rest would say the same
    if user is None:
        plain = n.check_plaintext(host, port)
        found.append(plain)
        if plain.verdict == "fail":
            return found, None
    found.append(n.check_clock(host, port, secure=user is not None))
    mine = None
    if user is not None:
        try:
            mine = Credentials.load(user)
        except UmbelError as error:
            mend = "join with an invitation code, or name the folder of your credentials with --as"
            return [*found, Finding("tls", "fail", str(error), mend)], None
        tls = n.check_tls(host, port, mine, time.time())
        found.append(tls)
        if tls.verdict == "fail":
            return found, None
    membership, apps = n.check_membership(host, port, mine)
    return [*found, membership], apps


def _tell(found: list[Finding], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(finding) for finding in found]))
        return
    out = console()
    for finding in found:
        colour = COLOURS[finding.verdict]
        out.print(f"[{colour}]{finding.verdict:4}[/] {escape(finding.name)}: {escape(finding.text)}", soft_wrap=True)
        if finding.mend:
            out.print(f"     → {escape(finding.mend)}", soft_wrap=True)
    counts = {verdict: sum(finding.verdict == verdict for finding in found) for verdict in COLOURS}
    out.print(f"{counts['ok']} are well, {counts['warn']} warnings, {counts['fail']} faults")
