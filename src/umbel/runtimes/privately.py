"""A private run before it starts: the strategy, the draw and the secure sums that keep its plan's promise."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, final

from umbel.coordinators import Overlap, Secure, Selector, ServerConfig, Uniform
from umbel.coordinators.abstract import count_of
from umbel.coordinators.selection.poisson import Poisson
from umbel.coordinators.selection.turns import Turns
from umbel.errors import ConfigError, NotSupported
from umbel.privacy.accounting import epsilon, noise_for
from umbel.privacy.clip import EXAMPLE_BITS, GRID_BITS, grid_of
from umbel.privacy.correlation import Correlation
from umbel.privacy.mechanism import Mechanism
from umbel.privacy.plan import PrivacyPlan
from umbel.privacy.private import Private
from umbel.privacy.promised import Promised
from umbel.privacy.sharing import Sharing, default_threshold
from umbel.privacy.training import DpSgdTraining
from umbel.runtimes.unsound import unsound
from umbel.strategy import Strategy

EXACT_BITS = 31


@final
@dataclass(frozen=True)
class Parts:
    """The parts of a run: what its plan makes of them, or what they were."""

    strategy: Strategy
    config: ServerConfig
    coordinator: Overlap | Secure | None = None

    def under(
        self, plan: PrivacyPlan, clients: int, *, has_model: bool, system: object = None, per_client: bool = False
    ) -> Parts:
        """These parts under a plan.

        Cohorts are drawn with a secret that is made here and kept nowhere: who knows the run's seed does not know them.

        Args:
            clients: how many there are to draw from.
            has_model: whether the run's first model is given.
            system, per_client: as in `unsound`.

        Raises:
            ConfigError, NotSupported: the parts would not give what the plan promises.
        """
        if not isinstance(plan, PrivacyPlan):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(f"privacy must be a PrivacyPlan(...) or None, got {plan!r}")
        if not has_model:
            raise NotSupported(
                "privacy= needs initial_parameters: a first model that a client is asked for is outside of the budget"
            )
        for problem in unsound(
            self.strategy,
            plan,
            self.config,
            coordinator=self.coordinator,
            system=system,
            per_client=per_client,
        ):
            raise NotSupported(problem)
        mechanism = _mechanism(plan, self.config, clients, self.coordinator)
        secret = secrets.token_bytes(32)
        selector: Selector = Poisson(secret=secret) if plan.sampling == "poisson" else Uniform(secret=secret)
        if plan.separation is not None:
            selector = Turns(plan.separation)
        config = replace(self.config, selector=selector)
        if plan.noise == "dp-sgd":
            training = DpSgdTraining(inner=self.strategy, plan=plan, mechanism=mechanism)
            return Parts(training, config, _summed_noise(self.coordinator))
        private = Private(inner=self.strategy, plan=plan, mechanism=mechanism)
        return Parts(private, config, _summed(self.coordinator, private, clients))

    def under_on_nodes(self, plan: PrivacyPlan, *, per_client: bool, has_model: bool) -> Parts:
        """The same on real nodes, which come and go: that all who are there are asked can be promised, or turns."""
        draws = isinstance(plan, PrivacyPlan) and plan.sampling not in ("every", "turns")  # pyright: ignore[reportUnnecessaryIsInstance]
        if draws:
            raise NotSupported(
                f'sampling="{plan.sampling}" counts on a draw from all clients, but of real nodes some are not there; '
                'use sampling="every" or "turns", with fraction_fit=1.0'
            )
        clients = self.config.min_available_clients or 1
        return self.under(plan, clients, has_model=has_model, per_client=per_client)


def promise(private: Promised, rounds: int) -> dict[str, Any]:
    """What nodes are told that the run keeps: ε after all its rounds, or its budget if that is less."""
    plan = private.plan
    whole = epsilon(private.mechanism, rounds, plan.delta)
    return {
        "unit": plan.unit,
        "epsilon": whole if plan.target_epsilon is None else min(whole, plan.target_epsilon),
        "delta": plan.delta,
        "clip": plan.clip,
        **({"clip_each": True} if plan.clip_each else {}),
        "noise_multiplier": private.mechanism.noise_multiplier,
        "noise": plan.noise,
        **({} if plan.separation is None else {"separation": plan.separation}),
        **({} if plan.honest_share is None else {"honest_share": plan.honest_share}),
        **({} if plan.dp_sgd is None else {"sample_rate": plan.sample_rate, "local_steps": plan.local_steps}),
    }


def _mechanism(
    plan: PrivacyPlan, config: ServerConfig, clients: int, coordinator: Overlap | Secure | None
) -> Mechanism:
    """What one release is for the accountant, with as much noise as the plan says or its target needs."""
    poisson = plan.sampling == "poisson"
    share, least = config.fraction_fit, config.min_fit_clients
    cohort = share * clients if poisson else float(count_of(share, least, clients)) / (plan.separation or 1)
    if cohort < plan.min_cohort:
        raise NotSupported(
            f"cohorts of {cohort:g} clients are expected, min_cohort is {plan.min_cohort}; raise fraction_fit or "
            "have more clients"
        )
    hidden = plan.expected_examples or clients
    if plan.delta * hidden >= 1:
        raise NotSupported(
            f"delta={plan.delta} is no promise to {hidden} {plan.unit}s: one of them may be told in full; it must be "
            f"below 1 / {hidden}"
        )
    share = _sharing(plan, clients, coordinator)
    noise, rounds = plan.noise_multiplier, max(1, config.num_rounds)
    correlation = None
    if plan.separation is not None:
        correlation = Correlation.fitting(rounds, plan.separation, plan.buffers or 4)
    if noise is None:
        assert plan.target_epsilon is not None
        noise = noise_for(
            plan.target_epsilon,
            plan.delta,
            rounds,
            sampling=plan.sampling,
            cohort=cohort,
            clients=clients,
            shared=share,
            correlation=correlation,
            dp_sgd=plan.dp_sgd,
        )
    if plan.adaptive is not None and plan.adaptive.count_noise is not None and plan.adaptive.count_noise <= noise / 2:
        raise NotSupported(
            f"count_noise={plan.adaptive.count_noise} takes the whole budget of noise_multiplier={noise:g}; it must be "
            "above half of that"
        )
    made = Mechanism(
        noise_multiplier=noise,
        sampling=plan.sampling,
        cohort=cohort,
        clients=clients,
        sharing=None if share is None else share(noise),
        alone=plan.noise == "local" and plan.unit == "client",
        correlation=correlation,
        dp_sgd=plan.dp_sgd,
    )
    if config.num_rounds and plan.noise_multiplier is not None and plan.target_epsilon is not None:
        _check_target(plan.target_epsilon, made, plan.delta)
    return made


def _check_target(target: float, mechanism: Mechanism, delta: float) -> None:
    """Refuse a budget that would be spent before the first round.

    Raises:
        NotSupported: says how much one round takes.
    """
    least = epsilon(mechanism, 1, delta)
    if least <= target:
        return
    digits = 3 - math.floor(math.log10(least))
    told = f"{least + 10.0**-digits / 2:.4g}"  # rounded up
    raise NotSupported(
        f"target_epsilon={target:g} does not pay for one round, which costs epsilon={told} at delta={delta:g} with "
        f"noise_multiplier={mechanism.noise_multiplier:g}; allow that much, or leave noise_multiplier out to have as "
        "much noise as the target needs"
    )


def _sharing(
    plan: PrivacyPlan, clients: int, coordinator: Overlap | Secure | None
) -> Callable[[float], Sharing] | None:
    """How clients make the noise of a multiplier together: with as many as an opened sum has at least."""
    if plan.noise != "distributed" or not isinstance(coordinator, Secure):
        return None
    least = max(2, coordinator.min_cohort, default_threshold(clients, coordinator.threshold_share))
    return lambda noise_multiplier: Sharing.among(
        clients,
        threshold=least,
        honest_share=1.0 if plan.honest_share is None else plan.honest_share,
        noise_multiplier=noise_multiplier,
        most_bits=GRID_BITS if plan.unit == "client" else EXAMPLE_BITS,
    )


def _summed(coordinator: Overlap | Secure | None, private: Private, clients: int) -> Overlap | Secure | None:
    """Secure rounds with values up to the plan's clip and a client's noise, every client with weight 1, and no metrics.

    Clipped updates are multiples of a power of two; one that the encoding's step divides, so their sum is exact and one
    client moves it by no more than the clip.
    """
    if not isinstance(coordinator, Secure):
        return coordinator
    check_exact(private, clients)
    return replace(coordinator, clip=private.reach, weight_cap=1.0, metrics=())


def _summed_noise(coordinator: Overlap | Secure | None) -> Overlap | Secure | None:
    """Secure rounds of what has noise already: their rounding costs nothing, and metrics are in no budget."""
    return replace(coordinator, weight_cap=1.0, metrics=()) if isinstance(coordinator, Secure) else coordinator


def check_exact(private: Private, clients: int) -> None:
    """Refuse a secure sum over so many clients that it would round, and one of them be more than its clip.

    Raises:
        NotSupported: says how many are exact.
    """
    # The encoding's step is the next power of two above reach · clients / 2^31.
    most = int(2**EXACT_BITS * grid_of(private.plan.bound, private.bits) / private.reach / 2)
    if clients > most:
        raise NotSupported(
            f"privacy= with Secure() sums up to {most} clients exactly, here may be {clients}; have fewer, or leave "
            "Secure() out"
        )
