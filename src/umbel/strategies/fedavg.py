"""FedAvg: average what the clients learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from umbel.arrays import Arrays
from umbel.message import Ask, Context
from umbel.strategies.averaging import Averaging


@final
@dataclass(frozen=True, kw_only=True)
class FedAvg(Averaging):
    """x ← x + Σ nᵢ·(xᵢ - x) / Σ nᵢ: local training, then the mean weighted by examples.

    Args: see `Averaging`. `FedAvg(server=adam())` is FedAdam.

    Example:
        >>> FedAvg(shared="backbone.*").patterns
        ('backbone.*',)

    References:
        B. McMahan, E. Moore, D. Ramage, S. Hampson, B. Agüera y Arcas, "Communication-Efficient Learning of Deep
        Networks from Decentralized Data", AISTATS 2017, https://arxiv.org/abs/1602.05629
    """

    elementwise: ClassVar[bool] = True
    plain: ClassVar[bool] = True
    takes_stale: ClassVar[bool] = True

    def correction(self, ask: Ask, start: Arrays, ctx: Context) -> None:
        return None
