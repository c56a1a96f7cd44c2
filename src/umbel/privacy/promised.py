"""`Promised`: a strategy under a plan, whatever makes the noise."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

from umbel.arrays import Arrays
from umbel.errors import NotSupported
from umbel.local_client import LocalClient
from umbel.message import ClientState, Context, Update, require
from umbel.privacy.layers import Layers, layers_of
from umbel.privacy.mechanism import Mechanism
from umbel.privacy.noise import Draw, fresh
from umbel.privacy.plan import PrivacyPlan
from umbel.schema import Schema
from umbel.strategy import State, Strategy


@dataclass(frozen=True, kw_only=True)
class Promised(Strategy):
    """A strategy that keeps what a plan promises.

    Args:
        inner: the strategy underneath; one group, linear reducer.
        plan: what is promised.
        mechanism: what one release is for the accountant.
        draw: where noise comes from; only tests give another.
    """

    inner: Strategy
    plan: PrivacyPlan
    mechanism: Mechanism
    draw: Draw = field(default=fresh, repr=False, compare=False, metadata={"plan": False})

    def __post_init__(self) -> None:
        # A plan comes from a server, and says what its parts are called.
        for name, kind in (("inner", Strategy), ("plan", PrivacyPlan), ("mechanism", Mechanism)):
            value = getattr(self, name)
            require(isinstance(value, kind), f"{name} must be a {kind.__name__}, got {value!r:.100}")
        object.__setattr__(self, "reducer", self.inner.reducer)
        object.__setattr__(self, "needs", self.inner.needs)

    @property
    @final
    def corrects(self) -> str | None:
        return self.inner.corrects

    @property
    @final
    def patterns(self) -> tuple[str, ...]:
        return getattr(self.inner, "patterns", ())

    @abstractmethod
    def local(self, ask: Any, client: LocalClient, ctx: Context) -> tuple[Update, ClientState]:
        """One client's turn, of which nothing may leave that is outside of the plan."""

    @final
    def layers(self, arrays: Arrays) -> Layers | None:
        """What is clipped by itself; None if the whole is clipped to one bound."""
        if not self.plan.clip_each and not isinstance(self.plan.clip, Mapping):
            return None
        return layers_of(self.plan.clip, [spec.name for spec in arrays.schema.specs], each=self.plan.clip_each)


def check_model(strategy: Promised, state: State) -> None:
    """Refuse models and strategies whose releases would not be what the plan promises.

    Raises:
        NotSupported: says which array or group, and what to do about it.
    """
    name = type(strategy.inner).__name__
    groups = strategy.inner.schema(strategy.inner.task(state, 1), {})
    if len(groups) != 1:
        raise NotSupported(
            f"privacy= needs a strategy whose update is one group, {name} sends {', '.join(groups)}; use FedAvg"
        )
    [schema] = groups.values()
    strategy.layers(Arrays.zeros(schema))
    for spec in schema.specs:
        if spec.role != "trained":
            raise NotSupported(
                f"privacy= cannot average {spec.name!r}, which is no trained array: nothing bounds it; freeze it or "
                "use a layer without running statistics, such as group normalisation"
            )
    check_dtypes(schema)


def check_dtypes(schema: Schema) -> None:
    """Refuse numbers so coarse that what was clipped and is rounded to them may be longer than the clip again.

    Raises:
        NotSupported: names the array.
    """
    for spec in schema.specs:
        if spec.dtype not in ("F32", "F64"):
            raise NotSupported(
                f"privacy= needs float32 or float64, array {spec.name!r} is {spec.dtype}; convert it or freeze it"
            )
