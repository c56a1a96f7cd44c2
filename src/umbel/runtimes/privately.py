"""A private run before it starts: the strategy that it takes, and what cannot be combined with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from umbel.coordinators import ServerConfig, Uniform
from umbel.coordinators.abstract import count_of
from umbel.coordinators.selection.poisson import Poisson
from umbel.errors import ConfigError, NotSupported
from umbel.privacy.accounting import noise_for
from umbel.privacy.mechanism import Mechanism
from umbel.privacy.plan import PrivacyPlan
from umbel.privacy.private import Private
from umbel.strategy import Strategy


def private(
    strategy: Strategy,
    plan: PrivacyPlan,
    config: ServerConfig,
    clients: int,
    *,
    elsewhere: Mapping[str, Any],
) -> tuple[Private, ServerConfig]:
    """The strategy under the plan, and the config with the draw that the accountant counts on.

    Args:
        clients: how many there are to draw from.
        elsewhere: the run's other arguments, by name; None is not given.

    Raises:
        ConfigError, NotSupported: the parts would not give what the plan promises.
    """
    if not isinstance(plan, PrivacyPlan):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(f"privacy must be a PrivacyPlan(...) or None, got {plan!r}")
    for problem in _unsound(strategy, plan, config, elsewhere):
        raise NotSupported(problem)
    cohort = _cohort(plan, config, clients)
    if cohort < plan.min_cohort:
        raise NotSupported(
            f"cohorts of {cohort:g} clients are expected, min_cohort is {plan.min_cohort}; raise fraction_fit or "
            "have more clients"
        )
    if plan.delta * clients >= 1:
        raise NotSupported(
            f"delta={plan.delta} is no promise to {clients} clients: one of them may be told in full; it must be below "
            f"1 / {clients}"
        )
    noise = plan.noise_multiplier
    if noise is None:
        assert plan.target_epsilon is not None
        noise = noise_for(
            plan.target_epsilon,
            plan.delta,
            max(1, config.num_rounds),
            sampling=plan.sampling,
            cohort=cohort,
            clients=clients,
        )
    if plan.adaptive is not None and plan.adaptive.count_noise is not None and plan.adaptive.count_noise <= noise / 2:
        raise NotSupported(
            f"count_noise={plan.adaptive.count_noise} takes the whole budget of noise_multiplier={noise:g}; it must be "
            "above half of that"
        )
    mechanism = Mechanism(noise_multiplier=noise, sampling=plan.sampling, cohort=cohort, clients=clients)
    drawn = replace(config, selector=Poisson()) if plan.sampling == "poisson" else config
    return Private(inner=strategy, plan=plan, mechanism=mechanism), drawn


def _cohort(plan: PrivacyPlan, config: ServerConfig, clients: int) -> float:
    if plan.sampling == "poisson":
        return config.fraction_fit * clients
    return float(count_of(config.fraction_fit, config.min_fit_clients, clients))


def _unsound(
    strategy: Strategy, plan: PrivacyPlan, config: ServerConfig, elsewhere: Mapping[str, Any]
) -> Iterator[str]:
    """Why these parts do not give what the plan promises, one sentence for each reason."""
    name = type(strategy).__name__
    if not strategy.reducer.linear:
        yield (
            f"privacy= needs a linear reducer, got {type(strategy.reducer).__name__}: nothing bounds what one client "
            "does to it; use Mean(), which clips under privacy"
        )
    if strategy.counts_clients:
        yield f"privacy= cannot be combined with {name}, whose step uses how many clients there are; use FedAvg"
    if plan.weight_cap is None and getattr(strategy, "weighting", "uniform") != "uniform":
        yield (
            f'privacy= without a weight_cap weighs all clients alike, {name} has weighting="examples"; give '
            f'PrivacyPlan(weight_cap=...) or {name}(weighting="uniform")'
        )
    yield from _unsound_draw(plan, config)
    if config.fraction_evaluate > 0:
        yield (
            f"fraction_evaluate={config.fraction_evaluate} publishes clients' losses outside of the budget; set "
            "fraction_evaluate=0.0 and evaluate on public data with evaluate_fn"
        )
    if config.per_client_metrics:
        yield "per_client_metrics=True publishes each client's numbers outside of the budget; leave it out"
    for argument, why in _APART.items():
        if elsewhere.get(argument) is not None:
            yield f"privacy= cannot be combined with {argument}=: {why}; leave it out"


_APART = {
    "coordinator": "the guarantee is for rounds with a cohort each, which asynchronous runs and tiers do not have",
    "system": "who is there when changes with time, and the accountant counts on a draw from all",
    "fit_metrics_aggregation_fn": "what it returns is published outside of the budget",
    "evaluate_metrics_aggregation_fn": "what it returns is published outside of the budget",
}


def _unsound_draw(plan: PrivacyPlan, config: ServerConfig) -> Iterator[str]:
    sampling = f'sampling="{plan.sampling}"'
    if not isinstance(config.selector, (Uniform, Poisson)):
        yield f"privacy= draws clients with equal chances, got selector={config.selector!r}; leave it out"
    if isinstance(config.selector, Poisson) and plan.sampling != "poisson":
        yield f'{sampling} is not what selector=Poisson() draws; leave the selector out, or sampling="poisson"'
    if config.over_selection > 0:
        yield f"over_selection={config.over_selection} changes who is in a cohort after the draw; set it to 0"
    if config.arrivals:
        yield "arrivals=True draws nobody, so nothing amplifies privacy; leave it out"
    if config.round_retries > 0:
        yield f"round_retries={config.round_retries} draws again depending on who answers; set it to 0"
    if config.quorum > 0:
        yield f"quorum={config.quorum} makes it show how many answered; set it to 0"
    if not config.accept_failures:
        yield "accept_failures=False makes one client's failure show; set it to True"
    if plan.sampling == "every" and config.fraction_fit < 1:
        yield f'{sampling} asks all clients, got fraction_fit={config.fraction_fit}; set 1.0 or sampling="poisson"'
    if plan.sampling == "poisson" and (config.fraction_fit == 0 or config.min_fit_clients > 1):
        yield (
            f"{sampling} takes each client with probability fraction_fit, got fraction_fit={config.fraction_fit} and "
            f"min_fit_clients={config.min_fit_clients}; set the first above 0 and leave the second out"
        )
