"""What a round's record says of measurements: means over clients, the user's aggregates, what the server found."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from umbel.errors import ConfigError
from umbel.message import Receipt, numbers
from umbel.runtimes.tally import Tally


def means(tally: Tally, function: Callable[..., Mapping[str, float]] | None) -> dict[str, float]:
    """Means weighted by examples, with what the user's own aggregation gives in their place."""
    plain = tally.means()
    if function is None:
        return plain
    clients = sorted(tally.clients, key=lambda entry: entry["client"])
    given = function([(entry["examples"], entry["metrics"]) for entry in clients])
    own, _ = numbers(mapping_of(function, given))
    return {**{name: value for name, value in plain.items() if name == "loss"}, **own}


def worked(receipt: Receipt) -> float:
    """The seconds that a node says it worked; what is no time is none."""
    return receipt.seconds if math.isfinite(receipt.seconds) and receipt.seconds > 0 else 0.0


def mapping_of(function: Callable[..., Any], value: Any) -> dict[str, Any]:
    """What one of the user's functions returned, which may be nothing.

    Raises:
        ConfigError: it is no mapping.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        name = getattr(function, "__name__", "the function")
        raise ConfigError(f"{name} returned a {type(value).__name__}; return a dict, or None for nothing")
    return dict(value)  # pyright: ignore[reportUnknownArgumentType]


def summary(fit: Mapping[str, float], federated: Mapping[str, float], central: Mapping[str, float]) -> dict[str, Any]:
    """The loss and the metrics of a round's record."""
    plain = dict(federated or central)
    loss = plain.pop("loss", None)
    trained = {f"train_{name}": value for name, value in fit.items()}
    named = {f"central_{name}": value for name, value in central.items()}
    return {"loss": loss, "metrics": {**plain, **trained, **named}}
