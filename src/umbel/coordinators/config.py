"""`ServerConfig`: how a run goes, one owner for each fact."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, field
from typing import Literal, final

from umbel.coordinators.selection import Selector, Uniform
from umbel.coordinators.where import read_where
from umbel.message import is_number, require

LARGEST = 2**63 - 1
LONGEST_S = 1e9


@final
@dataclass(frozen=True)
class ServerConfig:
    """How a run goes.

    Args:
        num_rounds: rounds to run, at least 0.
        fraction_fit, fraction_evaluate: share of the available clients asked per round, 0 to 1; 0 evaluates nobody.
        min_fit_clients, min_evaluate_clients: ask at least so many (where they exist).
        min_available_clients: do not start with fewer clients; None is 1 in a simulation and 2 on a server, which waits
            for them; for secure sums it waits for their `min_cohort`.
        where: only clients for which this condition holds are there to be asked, such as "gpu and region == 'eu'"; None
            or "" is all.
        seed: root of all randomness; None draws one and writes it down.
        over_selection: ask this share more than wanted and keep the first to answer, at least 0.
        quorum: share of the wanted clients that must answer for the round to count, 0 to 1. One is always needed.
        round_timeout: seconds after which a round closes with what it has; in a simulation it needs a system model.
            Also after which another node is asked for a first model, too (None is a minute in which nothing comes), and
            a run on nodes that refuse it ends.
        client_timeout: seconds after which a simulated client is given up.
        accept_failures: False ends the round as failed on the first client that fails.
        round_retries: how often a round with too few answers is tried again with a new cohort, before the run ends
            with `TooFewClients`.
        evaluate_every: evaluate after every so many rounds, at least 1; the last is always evaluated.
        monitor: the metric for `target`, `patience` and the best checkpoint: "loss" or the name of a metric.
        mode: whether less or more of it is better; "auto" takes "min" for names with loss or error in them.
        target: stop as soon as the monitored metric is this good.
        patience: stop after so many evaluations without improvement.
        per_client_metrics: keep each client's metrics in the log; off by default, for privacy.
        arrivals: the cohort is not drawn: a round takes in devices that check in, as they come, until it has
            `min_fit_clients` and `over_selection`. Needs a `round_timeout`, which says how soon they are wanted, and
            `fraction_evaluate=0.0`. In a simulation without time it draws `min_fit_clients`.
        checkpoint_every: write a checkpoint after every so many rounds, at least 1.
        selector: how cohorts that train are drawn: `Uniform()`, `Weighted(...)` or one of your own. Those that
            evaluate are always drawn uniformly.
    """

    num_rounds: int = 1
    _: KW_ONLY
    fraction_fit: float = 1.0
    fraction_evaluate: float = 1.0
    min_fit_clients: int = 1
    min_evaluate_clients: int = 1
    min_available_clients: int | None = None
    seed: int | None = None
    over_selection: float = 0.0
    quorum: float = 0.0
    round_timeout: float | None = None
    client_timeout: float | None = None
    accept_failures: bool = True
    round_retries: int = 0
    evaluate_every: int = 1
    monitor: str = "loss"
    mode: Literal["auto", "min", "max"] = "auto"
    target: float | None = None
    patience: int | None = None
    per_client_metrics: bool = False
    checkpoint_every: int = 1
    where: str | None = None
    arrivals: bool = False
    selector: Selector = field(default_factory=Uniform)

    def __post_init__(self) -> None:
        for name in ("fraction_fit", "fraction_evaluate", "quorum"):
            value = getattr(self, name)
            require(is_number(value) and 0 <= value <= 1, f"{name} must be from 0 to 1, got {value!r}")
        for name, least in (
            ("num_rounds", 0),
            ("min_fit_clients", 0),
            ("min_evaluate_clients", 0),
            ("min_available_clients", 0),
            ("round_retries", 0),
            ("evaluate_every", 1),
            ("checkpoint_every", 1),
        ):
            value = getattr(self, name)
            if value is None and name == "min_available_clients":
                continue
            require(
                isinstance(value, int) and not isinstance(value, bool) and value >= least,
                f"{name} must be a whole number of at least {least}, got {value!r}",
            )
            require(
                isinstance(value, int) and value <= LARGEST,
                f"{name} must be at most {LARGEST}, which every store can keep; got more",
            )
        require(
            is_number(self.over_selection) and 0 <= self.over_selection < math.inf,
            f"over_selection must be at least 0, got {self.over_selection!r}; try 0.3",
        )
        for name in ("round_timeout", "client_timeout", "patience"):
            value = getattr(self, name)
            fine = value is None or (is_number(value) and value > 0)
            require(fine, f"{name} must be above 0 or None, got {value!r}")
        require(
            self.client_timeout is None or self.client_timeout <= LONGEST_S,
            f"client_timeout must be at most {LONGEST_S:.0f} seconds, which every clock can wait for, got "
            f"{self.client_timeout!r}; None waits as long as it takes",
        )
        target: object = self.target
        fine = target is None or (is_number(target) and math.isfinite(float(str(target))))
        require(fine, f"target must be a finite number or None, got {target!r}")
        require(_is_name(self.monitor), f"monitor must be the name of a metric, got {self.monitor!r}")
        require(_is_flag(self.accept_failures), f"accept_failures is True or False, got {self.accept_failures!r}")
        require(
            _is_flag(self.per_client_metrics), f"per_client_metrics is True or False, got {self.per_client_metrics!r}"
        )
        require(_is_flag(self.arrivals), f"arrivals is True or False, got {self.arrivals!r}")
        if self.arrivals:
            self._check_arrivals()
        require(
            isinstance(self.selector, Selector),  # pyright: ignore[reportUnnecessaryIsInstance]
            f"selector must be one such as Uniform() or Weighted(...), got {self.selector!r}",
        )
        require(self.mode in ("auto", "min", "max"), f'mode must be "auto", "min" or "max", got {self.mode!r}')
        require(
            self.seed is None or isinstance(self.seed, int),  # pyright: ignore[reportUnnecessaryIsInstance]
            f"seed must be a whole number or None, got {self.seed!r}",
        )

        if self.where is not None and self.where != "":
            read_where(self.where)

    def _check_arrivals(self) -> None:
        """What makes no sense where nobody knows who will come."""
        require(
            self.round_timeout is not None,
            "arrivals=True needs a round_timeout, got None: a device that was asked may never come back; try 600, "
            "or leave arrivals out with Buffered, FedAsync or Tiered, which have no such rounds",
        )
        require(
            self.fraction_fit == 1.0,
            f"arrivals=True takes min_fit_clients devices as they come, got fraction_fit={self.fraction_fit!r}; "
            "leave it out and set min_fit_clients",
        )
        require(
            self.fraction_evaluate == 0,
            f"arrivals=True asks no devices to evaluate, got fraction_evaluate={self.fraction_evaluate!r}; set it to "
            "0.0 and evaluate at the server with evaluate_fn",
        )
        require(
            isinstance(self.selector, Uniform),
            f"arrivals=True draws nobody, got selector={self.selector!r}; leave it out",
        )
        require(
            not self.min_available_clients,
            f"arrivals=True waits for nobody, got min_available_clients={self.min_available_clients!r}; leave it out",
        )

    @property
    def less_is_better(self) -> bool:
        if self.mode != "auto":
            return self.mode == "min"
        return any(word in self.monitor.lower() for word in ("loss", "error", "mse", "mae", "perplexity"))


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)
