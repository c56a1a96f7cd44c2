"""FedProx: a proximal term keeps local training near the global model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, final

from umbel.arrays import Arrays
from umbel.local import Correction
from umbel.message import Ask, Context, require
from umbel.strategies.averaging import Averaging


@final
@dataclass(frozen=True, kw_only=True)
class FedProx(Averaging):
    """Each local gradient becomes g + μ·(y - x), where x is the global model. With mu = 0 this is FedAvg to the bit.

    Args:
        mu: strength of the pull, at least 0.
        Others: see `Averaging`.

    References:
        T. Li, A. K. Sahu, M. Zaheer, M. Sanjabi, A. Talwalkar, V. Smith, "Federated Optimization in Heterogeneous
        Networks", MLSys 2020, https://arxiv.org/abs/1812.06127
    """

    elementwise: ClassVar[bool] = True
    plain: ClassVar[bool] = True
    takes_stale: ClassVar[bool] = True

    mu: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.mu >= 0, f"mu must be at least 0, got {self.mu}; try 0.001 to 1")

    @property
    def corrects(self) -> str | None:
        return "proximal" if self.mu else None

    def correction(self, ask: Ask, start: Arrays, ctx: Context) -> Correction | None:
        mu = self.mu

        def pull(grad: Any, param: Any, origin: Any, extra: Any) -> Any:
            return grad + mu * (param - origin)

        return Correction("proximal", pull, settings={"mu": mu}) if mu else None
