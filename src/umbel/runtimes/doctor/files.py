"""What a node or a server keeps: its databases, its identity, its policy, its app."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from contextlib import closing
from pathlib import Path

from umbel.errors import AppError, ConfigError, IdentityError
from umbel.identity import Credentials
from umbel.runtimes.app import find_app
from umbel.runtimes.doctor.finding import Finding
from umbel.runtimes.node.policy import load_policy


def check_database(path: Path) -> Finding:
    """Whether a SQLite file is whole. It is opened to read alone."""
    name = f"database {path}"
    mend = f"end what uses it, and put a backup in its place; sqlite3 {path} .recover saves what can be read"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            told = [row[0] for row in db.execute("PRAGMA quick_check(1)")]
    except sqlite3.Error as error:
        return Finding(name, "fail", f"it cannot be read: {error}", mend)
    if told != ["ok"]:
        return Finding(name, "fail", f"it is damaged: {' '.join(str(told[0]).split())}", mend)
    return Finding(name, "ok", "it is whole")


def check_identity(folder: Path, now_s: float) -> Finding:
    """Whether the credentials in `folder` are whole and valid for longer.

    Args:
        now_s: seconds since 1970.
    """
    name = f"identity in {folder}"
    try:
        mine = Credentials.load(folder)
    except IdentityError as error:
        return Finding(name, "fail", str(error), "ask the server's operator for an invitation: umbel invite")
    days = (mine.expires_at_s - now_s) / 86400
    if days <= 0:
        text = f"the certificate of {mine.name} ended {-days:.0f} days ago"
        return Finding(name, "fail", text, "join again with a new invitation code, or set this machine's clock")
    if now_s < mine.starts_at_s:
        return Finding(name, "fail", f"the certificate of {mine.name} is not valid yet", "set this machine's clock")
    text = f"the certificate of {mine.name} is good for {days:.0f} days"
    if mine.wants_renewal(now_s):
        return Finding(name, "warn", text, "start umbel node, which renews it; a user joins again with a new code")
    return Finding(name, "ok", text)


def check_policy(path: Path, worker_enforces: Collection[str]) -> Finding:
    """Whether a node would accept the data owner's policy file."""
    name = f"policy {path}"
    try:
        load_policy(path, worker_enforces=worker_enforces)
    except ConfigError as error:
        return Finding(
            name, "fail", str(error), "correct the file; docs/reference/policy.md lists the keys and their values"
        )
    return Finding(name, "ok", "every rule is understood and kept")


def check_app(path: Path, at_server: Mapping[str, str] | None) -> Finding:
    """Whether an app is here, and is the one that the server has.

    Args:
        at_server: digest by name of the server's apps; None is not known.
    """
    name = f"app {path}"
    try:
        mine = find_app(path)
    except AppError as error:
        return Finding(name, "fail", str(error), "name the app's folder, or make one with umbel new")
    if at_server is None:
        return Finding(name, "ok", f"{mine.name} is here, with digest {mine.digest[:12]}")
    theirs = at_server.get(mine.name)
    if theirs is None:
        known = ", ".join(sorted(at_server)) or "none"
        mend = f"take one of the server's apps ({known}), or start umbel server with --app {mine.name}"
        return Finding(name, "fail", f"the server has no app {mine.name}", mend)
    if theirs != mine.digest:
        text = f"{mine.name} differs: digest {mine.digest[:12]} here, {theirs[:12]} at the server"
        return Finding(name, "fail", text, "copy the server's version of the app's folder to this machine")
    return Finding(name, "ok", f"{mine.name} is the same as the server's")
