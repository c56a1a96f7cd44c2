"""FLTrust: the server's own update, from a few clean data, says whom to believe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, final

import numpy as np

from umbel.arrays import Vector, difference, named
from umbel.errors import ConfigError
from umbel.reducers.robust import Robust
from umbel.reducers.rows import Rows

RootFn: TypeAlias = Callable[[Mapping[str, Any]], "Mapping[str, Any] | Sequence[Any]"]


@final
@dataclass(frozen=True)
class FLTrust(Robust):
    """Σ tᵢ·xᵢ·‖g‖/‖xᵢ‖ / Σ tᵢ, where g is the server's own update and tᵢ = max(0, cos(xᵢ, g)); 0 if nobody is trusted.

    Args:
        root: trains on data that the server knows to be clean, as a client would: is given the round's model as a
            mapping of arrays and returns the trained one, as such a mapping or as a list.

    Any number of bad clients is borne, as far as a hundred or so clean examples from the same distribution are a guide.
    Only for strategies whose updates are changes to the model and nothing else: `FedNova` and others that send more are
    refused. Functions have no name on the wire: the run is not portable, but nodes need not know them.

    Example:
        >>> FLTrust(lambda model: {name: value - 0.1 for name, value in model.items()}).least_updates
        1

    References:
        X. Cao, M. Fang, J. Liu, N. Z. Gong, "FLTrust: Byzantine-Robust Federated Learning via Trust Bootstrapping",
        NDSS 2021, https://arxiv.org/abs/2012.13995
    """

    root: RootFn = field(repr=False)

    def __post_init__(self) -> None:
        if not callable(self.root):
            raise ConfigError(
                f"root must be a function from a model to the model trained on clean data, got {self.root!r}"
            )

    def reduced(self, rows: Rows) -> Vector:
        guide = self._guide(rows)
        length = float(np.linalg.norm(guide.values))
        products = np.zeros(len(rows))
        for start, block in rows.blocks():
            products += block @ guide.values[start : start + block.shape[1]].astype(block.dtype)
        norms = rows.norms
        inverse = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
        trust = np.maximum(products * inverse, 0.0)
        total = float(trust.sum())
        return rows.combined(trust * inverse * (length / total)) if total > 0 else Vector.zeros(rows.schema)

    def _guide(self, rows: Rows) -> Vector:
        if rows.model is None or rows.model.schema.delta != rows.schema:
            raise ConfigError(
                f"FLTrust compares changes to the model, and {rows.schema!r} is none; take a strategy that sends "
                "nothing else, such as FedAvg() or FedProx(), or another reducer"
            )
        trained = named(self.root(dict(rows.model)))
        missing = [spec.name for spec in rows.schema.specs if spec.name not in trained]
        if missing:
            raise ConfigError(
                f"FLTrust's root returned no {missing[0]!r}; return all arrays of the model that it is given"
            )
        guide = Vector.of(difference({name: np.asarray(value) for name, value in trained.items()}, rows.model))
        if not np.isfinite(guide.values).all():
            raise ConfigError(
                "FLTrust's root returned values that are not finite; train it with a smaller learning rate"
            )
        return guide
