"""`Secure`: rounds of which the server learns sums over clients and nothing of any one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from umbel.coordinators.config import ServerConfig
from umbel.errors import NotSupported
from umbel.message import is_number, require
from umbel.privacy.ckks.parameters import Ckks
from umbel.privacy.tries import TRIES


@final
@dataclass(frozen=True, kw_only=True)
class Secure:
    """Secure aggregation: clients send w·x and w as masked integers, whose masks cancel in the sum Σ w·x, Σ w alone.

    Guarantee: a server that sees all messages, and any coalition of it with fewer clients than the threshold of a
    neighbourhood less those that are missing, learns the sums and who took part, and no other function of one client's
    update, examples or metrics. It voids the guarantee when the cohort is made up of clients that the server plays
    itself, and the sums themselves may say something of one client: differential privacy is for that. Nobody has
    reviewed the protocol as a cryptographer yet. Cannot be combined with reducers that are not linear, with
    over-selection, per-client metrics, selectors that learn, asynchronous runs or a system model.

    Args:
        clip: values beyond ± this are cut before they are summed; above 0. The sum's resolution is about
            clip · n · 2^-31 of n clients with full weight.
        weight_cap: weights (numbers of examples) beyond this count as this; above 0. A client of weight w has
            weight_cap / w times coarser values.
        threshold_share: more than this share of a neighbourhood, or of all where vectors are encrypted, has to stay
            until the end, or the round is thrown away; from 0.5 to below 1.
        neighbours: with how many others each client masks, even; 0 is all, which up to 60 clients is what is done
            anyhow.
        metrics: names of metrics that are summed under the masks; others are not sent. "loss" is that of fit, and in
            an evaluation the evaluation's.
        metric_clip: metrics beyond ± this are cut.
        min_cohort: clients refuse to be part of a smaller sum, at least 2.
        suite: "SA1", or "SA1-C" for processors without AES instructions.
        secure_sum: None masks; `ckks()` encrypts, for up to 64 clients: one client that shares its key with the server
            then opens all, so take it only where masks cannot be.

    Example:
        >>> Secure(clip=0.5, weight_cap=500).threshold_share
        0.6666666666666666

    References:
        K. Bonawitz, V. Ivanov, B. Kreuter, A. Marcedone, H. B. McMahan, S. Patel, D. Ramage, A. Segal, K. Seth,
        "Practical Secure Aggregation for Privacy-Preserving Machine Learning", CCS 2017,
        https://eprint.iacr.org/2017/281
        J. Bell, K. Bonawitz, A. Gascón, T. Lepoint, M. Raykova, "Secure Single-Server Aggregation with
        (Poly)Logarithmic Overhead", CCS 2020, https://eprint.iacr.org/2020/704
    """

    clip: float = 1.0
    weight_cap: float = 1000.0
    threshold_share: float = 2 / 3
    neighbours: int = 0
    metrics: Sequence[str] = ("loss",)
    metric_clip: float = 64.0
    min_cohort: int = 3
    suite: str = "SA1"
    secure_sum: Ckks | None = None

    def __post_init__(self) -> None:
        for name in ("clip", "weight_cap", "metric_clip"):
            value = getattr(self, name)
            require(is_number(value) and 1e-30 <= value <= 1e30, f"{name} must be from 1e-30 to 1e30, got {value!r}")
        share = self.threshold_share
        require(
            is_number(share) and 0.5 <= share < 1,
            f"threshold_share must be from 0.5 to below 1, got {share!r}: with less, two sums could be opened; try 2/3",
        )
        for name, least in (("neighbours", 0), ("min_cohort", 2)):
            value = getattr(self, name)
            require(
                isinstance(value, int) and not isinstance(value, bool) and value >= least,
                f"{name} must be a whole number of at least {least}, got {value!r}",
            )
        require(self.neighbours % 2 == 0, f"neighbours must be even, got {self.neighbours}; try {self.neighbours + 1}")
        require(self.suite in ("SA1", "SA1-C"), f'suite must be "SA1" or "SA1-C", got {self.suite!r}')
        require(
            self.secure_sum is None or isinstance(self.secure_sum, Ckks),  # pyright: ignore[reportUnnecessaryIsInstance]
            f"secure_sum must be ckks(...) or None for masks, got {self.secure_sum!r}",
        )
        require(
            not isinstance(self.metrics, str)
            and isinstance(self.metrics, Sequence)  # pyright: ignore[reportUnnecessaryIsInstance]
            and all(map(_is_name, self.metrics)),
            f"metrics must be a list of names such as ['loss'], got {self.metrics!r}",
        )
        object.__setattr__(self, "metrics", tuple(self.metrics))

    def check(self, config: ServerConfig) -> None:
        """Refuse what would tell more than sums, or what a secure round cannot do.

        Raises:
            NotSupported: names the first such setting.
        """
        if config.per_client_metrics:
            raise NotSupported(
                "per_client_metrics=True tells the server what a secure sum hides; leave one of them out"
            )
        if config.selector.hears is not None:
            raise NotSupported(
                f"selector={config.selector!r} learns from each client's {config.selector.hears!r}, which a secure sum "
                "hides; use Uniform()"
            )
        if config.over_selection:
            raise NotSupported(
                f"over_selection={config.over_selection!r} drops answers that came, but all that came are in a secure "
                "sum; leave it out: a secure round goes on without those that drop out"
            )
        if config.round_retries >= TRIES:
            raise NotSupported(
                f"round_retries={config.round_retries} is more than a secure round can count; use at most {TRIES - 1}"
            )
        if config.arrivals:
            raise NotSupported(
                "arrivals=True takes clients in one after the other, a secure round needs its cohort first"
            )


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value != ""
