"""`PowerOfChoice`: of some candidates, those with the highest loss that is known."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import final

from umbel.coordinators.population import Population
from umbel.coordinators.selection.experience import Experience
from umbel.coordinators.selection.selector import Selector, check_learner
from umbel.coordinators.selection.uniform import Uniform
from umbel.message import Receipt, require


@final
@dataclass(frozen=True, kw_only=True)
class PowerOfChoice(Selector):
    """Draw `candidates`, ask those with the highest loss: the paper's π_rpow-d.

    The loss is the last one that a client reported from `fit`, which is that of its training. One that was never asked
    counts as +∞, so it goes first; one that was asked and never reported a loss counts as the mean of the candidates'
    known ones. Nothing is sent that would not be sent anyway. The paper's π_pow-d and π_cpow-d ask all candidates for
    their loss on the present model first, which receipts of the rounds before cannot tell; they are not this.

    The paper draws candidates with chances in proportion to their number of examples, and averages updates with equal
    weights: `among=Weighted(examples)` and `FedAvg(weighting="uniform")` are that. The more candidates, the more the
    model is pulled towards the clients that it fits least; `candidates` as many as are asked is `among` alone.

    It cannot be combined with `Buffered` and `FedAsync`, which ask one client at a time.

    Args:
        candidates: how many are drawn, at least 1; never fewer than are asked.
        among: how candidates are drawn.
        metric: the metric of `fit` that is the loss.
        remembers: of how many clients the last loss is kept, at least 1; those asked longest ago are forgotten first.

    Raises:
        ConfigError: an argument is not what it has to be.

    Example:
        >>> from umbel.coordinators import Everyone, Experience, Seen
        >>> known = Experience(2, {"0": Seen(0.3), "1": Seen(2.0), "2": Seen(0.7)})
        >>> PowerOfChoice(candidates=3).draw(Everyone(3), key=1, count=2, experience=known)
        ['1', '2']

    References:
        Y. J. Cho, J. Wang, G. Joshi, "Client Selection in Federated Learning: Convergence Analysis and Power-of-Choice
        Selection Strategies", 2020, https://arxiv.org/abs/2010.01243
    """

    candidates: int
    among: Selector = field(default_factory=Uniform)
    metric: str = "loss"
    remembers: int = 10_000

    def __post_init__(self) -> None:
        whole = isinstance(self.candidates, int) and not isinstance(self.candidates, bool)  # pyright: ignore[reportUnnecessaryIsInstance]
        require(whole and self.candidates >= 1, f"candidates must be at least 1, got {self.candidates!r}")
        check_learner("among", self.among, self.metric, self.remembers)

    @property
    def hears(self) -> str:
        return self.metric

    def check(self, population: Population) -> None:
        self.among.check(population)

    def draw(
        self, population: Population, key: int, count: int, experience: Experience, excluded: Container[str] = ()
    ) -> list[str]:
        candidates = self.among.draw(population, key, max(self.candidates, count), experience, excluded)
        seen = experience.clients
        known = [loss for client in candidates if client in seen and (loss := seen[client].loss) is not None]
        middle = math.fsum(known) / len(known) if known else 0.0

        def loss_of(client: str) -> float:
            if client not in seen:
                return math.inf
            loss = seen[client].loss
            return middle if loss is None else loss

        # Of equal losses, who was drawn first comes first.
        return sorted(candidates, key=loss_of, reverse=True)[:count]

    def learn(self, experience: Experience, round: int, receipts: Sequence[Receipt]) -> Experience:
        return experience.after(round, receipts, self.remembers)
