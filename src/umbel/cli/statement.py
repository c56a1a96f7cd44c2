"""Files of what a server signed: tree heads, receipts, proofs, and reports on unlearning and on privacy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, final

from umbel.audit import proof, receipt, unlearning
from umbel.audit.receipt import receipt_bytes
from umbel.cli.trust import Trust
from umbel.errors import ConfigError
from umbel.runtimes.privacy_report import report
from umbel.stores.link import TREE_HEAD

_WANTED = {"run": str, "size": int, "root": str, "head": str}
_OF_REPORT = {"app": str, "run": str, "holds": bool, "at_s": int}


@final
@dataclass(frozen=True)
class Statement:
    """One thing that a server signed.

    Attributes:
        data: the receipt, tree head, proof or report.
        signed: what the signature is over: of a proof, its tree head.
    """

    data: Mapping[str, Any]
    signed: Mapping[str, Any]

    @property
    def kind(self) -> str:
        return str(self.data["kind"])

    @property
    def text(self) -> str:
        """What it says."""
        if self.kind == report.KIND:
            what = f"run {self.data['run']} of the app" if self.data["run"] else "the app"
            return f"report on privacy: of {what} {self.data['app']} {'all' if self.data['holds'] else 'not all'} holds"
        place = f"run {self.signed['run']}, the first {self.signed['size']} events"
        if self.kind == TREE_HEAD:
            return f"tree head: {place} have the root {self.signed['root']}"
        if self.kind == proof.KIND:
            event = self.data["event"]
            return f"proof: round {event['round']} has an answer of {self.data['client']}; {place} include it"
        if self.kind == unlearning.KIND:
            return f"unlearning: client {self.data['client']}, guarantee: {self.data['guarantee']}; {place} say so"
        card = f" under the data card {self.data['card']}" if "card" in self.data else ""
        return (
            f"receipt: the update {self.data['update']} of {self.data['client']}{card} to the ask of round "
            f"{self.data['round']} is in event {self.data['index'] + 1}; {place} include it"
        )

    def problem(self, trust: Trust) -> str | None:
        """What is wrong with it, in the rest of a sentence."""
        if self.kind == proof.KIND:
            return proof.why_no_proof(self.data, trust.check())
        if self.kind == receipt.KIND:
            return receipt.why_no_receipt(self.data, trust.check(receipt_bytes))
        if self.kind == unlearning.KIND:
            return unlearning.why_no_report(self.data, trust.check(unlearning.report_bytes))
        check = trust.check(report.report_bytes) if self.kind == report.KIND else trust.check()
        return check and check(self.data)


def read_statements(file: Path) -> list[Statement]:
    """The receipts, tree heads, proofs and reports in a file: one as JSON, or one a line.

    Raises:
        ConfigError: something else is in it.
    """
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(f"{file} cannot be read: {reason}") from None
    try:
        found = [json.loads(text)]
    except (ValueError, RecursionError):
        try:
            found = [json.loads(line) for line in text.splitlines() if line.strip()]
        except (ValueError, RecursionError):
            found = [None]
    return [_statement(file, one) for one in found]


def _statement(file: Path, found: object) -> Statement:
    data = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
    head: object = data.get("tree_head") if data.get("kind") == proof.KIND else data
    signed = cast("dict[str, Any]", head) if isinstance(head, dict) else {}
    known = data.get("kind") in (TREE_HEAD, receipt.KIND, proof.KIND, unlearning.KIND, report.KIND)
    wanted = _OF_REPORT if data.get("kind") == report.KIND else _WANTED
    if not known or any(type(signed.get(name)) is not kind for name, kind in wanted.items()):
        raise ConfigError(
            f"{file} holds something that is no tree head, receipt, proof or report on unlearning or privacy; a node's "
            "are in its folder, the others come from umbel audit export, audit prove, forget and privacy"
        )
    if data["kind"] == receipt.KIND:
        receipt.read_receipt(json.dumps(data).encode())
    return Statement(data, signed)
