"""A strategy's client half as plain data: what a plan names, and what a node makes of it.

Built-in halves go by name. A strategy of the user's that changes the server's half only is, for the clients, the
built-in one that it began from. One with a client half of its own goes as "app:package.module.Name", which a node takes
only from an app that its owner installed.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Collection, Mapping
from typing import Any, cast

import umbel.optimizers as optimizers
import umbel.reducers as reducers
import umbel.strategies as strategies
from umbel.errors import NotSupported
from umbel.plan import describe
from umbel.privacy.adaptive import AdaptiveClip
from umbel.privacy.correlation import Correlation
from umbel.privacy.mechanism import DpSgd, Mechanism
from umbel.privacy.plan import PrivacyPlan
from umbel.privacy.private import Private
from umbel.privacy.promised import Promised
from umbel.privacy.sharing import Sharing
from umbel.privacy.training import DpSgdTraining
from umbel.strategies.averaging import Averaging
from umbel.strategy import Strategy

SECURED, CIPHERED = "Secured", "Ciphered"
_SUMS = {SECURED: "umbel.privacy.sa1.secured", CIPHERED: "umbel.privacy.ckks.ciphered"}
"""Client halves of secure rounds, which need cryptography, and where they are."""
_CLIENT_METHODS = ("local", "correction", "answer", "weight", "corrects", "needs")
_KINDS: set[type[Any]] = {
    kind
    for module in (strategies, reducers, optimizers)
    for kind in vars(module).values()
    if isinstance(kind, type) and dataclasses.is_dataclass(kind)
} | {Private, DpSgdTraining, PrivacyPlan, AdaptiveClip, Mechanism, Sharing, Correlation, DpSgd}
_KNOWN = {kind.__name__: kind for kind in _KINDS}


def client_half(strategy: Strategy) -> dict[str, Any]:
    """The client half of `strategy` as plain data."""
    kind = type(strategy)
    if kind.__name__ in _SUMS and kind is _secured(kind.__name__):
        return {"name": kind.__name__, "inner": client_half(cast("Any", strategy).inner)}
    if isinstance(strategy, Promised):
        # Nodes clip, and add their part of noise that is made together.
        return {**describe(strategy), "inner": client_half(strategy.inner)}
    if _KNOWN.get(kind.__name__) is kind:
        half = describe(strategy)
        if not _can_be_made(half.get("reducer"), getattr(strategy, "reducer", None)):
            # It works at the server alone: nodes that do not know it can do without.
            half.pop("reducer")
        return half
    if isinstance(strategy, Averaging) and _is_plain(kind):
        return describe(strategies.FedAvg(shared=strategy.shared, weighting=strategy.weighting))
    fields: Any = dataclasses.fields(cast("Any", strategy))
    values = {f.name: describe(getattr(strategy, f.name)) for f in fields}
    return {"name": f"app:{kind.__module__}.{kind.__qualname__}", **values}


def _can_be_made(described: Any, reducer: Any) -> bool:
    try:
        return bool(_made(described, ()) == reducer)
    except NotSupported:
        return False


def _secured(name: str) -> Any:
    """The client half of a secure round.

    Raises:
        NotSupported: the package `cryptography` is not there.
    """
    try:
        return getattr(importlib.import_module(_SUMS[name]), name)
    except ImportError:
        raise NotSupported("a secure round needs the package cryptography: pip install 'umbel[identity]'") from None


def check_cryptography() -> None:
    """Refuse a secure round where it cannot be.

    Raises:
        NotSupported: the package `cryptography` is not there.
    """
    _secured(SECURED)


def is_secured(plan: Any) -> bool:
    """Whether a plan is one of secure rounds."""
    return is_masked(plan) or _half_in(plan) == CIPHERED


def is_masked(plan: Any) -> bool:
    """Whether a plan is one of secure rounds whose clients mask their vectors, and do not encrypt them."""
    return _half_in(plan) == SECURED


def _half_in(plan: Any) -> Any:
    half: Any = plan.get("client_half") if isinstance(plan, Mapping) else None  # pyright: ignore
    return half.get("name") if isinstance(half, Mapping) else None  # pyright: ignore


def sharing_in(plan: Mapping[str, Any]) -> Sharing | None:
    """Of the noise that clients make together under a plan of secure sums, if they do.

    Raises:
        NotSupported: it is none that is known here.
    """
    found = _table(_promised_in(plan), "mechanism").get("sharing")
    made = None if found is None else _made(found, ())
    if made is not None and not isinstance(made, Sharing):
        raise NotSupported(
            "the plan's noise of clients is none that this node knows; do both sides run the same Umbel?"
        )
    return made


def _promised_in(plan: Mapping[str, Any]) -> Mapping[str, Any]:
    """The half within a plan of secure sums that keeps a plan's privacy; empty if none does."""
    half: Any = plan["client_half"].get("inner")
    return half if is_promised(half) else {}


def _table(table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value: Any = table.get(key)
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def is_promised(half: Any) -> bool:
    """Whether a strategy as plain data keeps a plan's privacy."""
    return isinstance(half, Mapping) and half.get("name") in (Private.__name__, DpSgdTraining.__name__)  # pyright: ignore


def _is_plain(kind: type[Any]) -> bool:
    """Whether the client's side of a strategy class is FedAvg's."""
    own = {name for base in kind.__mro__[: kind.__mro__.index(Averaging)] for name in vars(base)}
    only = own & set(_CLIENT_METHODS)
    return not only or (only == {"correction"} and _corrects_nothing(kind))


def _corrects_nothing(kind: type[Any]) -> bool:
    return kind.correction is strategies.FedAvg.correction


def restored(half: Mapping[str, Any], packages: Collection[str] = ()) -> Strategy:
    """The strategy that `client_half` described.

    Args:
        packages: top-level packages of installed apps, from which other halves may come.

    Raises:
        NotSupported: it is neither built in nor from an installed app, or does not take these values.
    """
    made = _made(half, packages)
    if not isinstance(made, Strategy):
        raise NotSupported(f"the plan's strategy {half.get('name')!r} is no strategy")
    return made


def _made(value: Any, packages: Collection[str]) -> Any:
    if isinstance(value, list):
        return [_made(item, packages) for item in cast("list[Any]", value)]
    if not isinstance(value, Mapping):
        return value
    table = dict(cast("Mapping[str, Any]", value))
    if "name" not in table:
        return table
    name = str(table.pop("name"))
    kind = _secured(name) if name in _SUMS else _KNOWN.get(name) or _from_app(name, packages)
    try:
        return kind(**{key: _made(item, packages) for key, item in table.items()})
    except (TypeError, ValueError) as error:
        raise NotSupported(
            f"the plan's {name} cannot be made here: {error}; do both sides run the same Umbel?"
        ) from None


def _from_app(name: str, packages: Collection[str]) -> Any:
    prefix, _, path = name.partition(":")
    module, _, attribute = path.rpartition(".")
    if prefix != "app" or not module or module.split(".")[0] not in packages:
        raise NotSupported(
            f"this node does not know the strategy half {name!r}; it runs built-in ones and those of installed apps"
        )
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise NotSupported(f"the strategy half {name!r} cannot be loaded: {error}") from None
