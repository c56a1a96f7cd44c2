"""What cannot be combined with a promise of differential privacy, with the reasons. The table is in docs/privacy.md."""

from __future__ import annotations

from collections.abc import Iterator

from umbel.coordinators import Secure, ServerConfig, Uniform
from umbel.coordinators.selection.poisson import Poisson
from umbel.privacy.plan import PrivacyPlan
from umbel.strategy import Strategy


def unsound(
    strategy: Strategy,
    plan: PrivacyPlan,
    config: ServerConfig,
    *,
    coordinator: object,
    system: object,
    per_client: bool,
) -> Iterator[str]:
    """Why these parts do not give what the plan promises, a sentence for each reason.

    Args:
        coordinator, system: as the run names them, None where it does not.
        per_client: whether a function of the user's sees each client's metrics.
    """
    yield from _unsound_strategy(strategy, plan)
    yield from _unsound_draw(plan, config)
    yield from _unsound_course(plan, coordinator, system)
    if config.fraction_evaluate > 0:
        yield (
            f"fraction_evaluate={config.fraction_evaluate} publishes clients' losses outside of the budget; set "
            "fraction_evaluate=0.0 and evaluate on public data with evaluate_fn"
        )
    if config.per_client_metrics:
        yield "per_client_metrics=True publishes each client's numbers outside of the budget; leave it out"
    if per_client:
        yield (
            "privacy= cannot be combined with fit_metrics_aggregation_fn= or evaluate_metrics_aggregation_fn=: what "
            "they return is published outside of the budget; leave them out"
        )


def _unsound_strategy(strategy: Strategy, plan: PrivacyPlan) -> Iterator[str]:
    name = type(strategy).__name__
    if not strategy.reducer.linear:
        yield (
            f"privacy= needs a linear reducer, got {type(strategy.reducer).__name__}: nothing bounds what one client "
            "does to it; use Mean(), which clips under privacy"
        )
    if strategy.counts_clients:
        yield f"privacy= cannot be combined with {name}, whose step uses how many clients there are; use FedAvg"
    if plan.noise == "dp-sgd":
        if not getattr(strategy, "plain", False):
            yield f'noise="dp-sgd" is in the steps of local training, and {name} asks for more; use FedAvg or FedProx'
        if getattr(strategy, "patterns", ()):
            yield 'noise="dp-sgd" is on all that is trained, shared= keeps arrays at home without noise; leave it out'
        return
    if plan.unit == "example":
        if not getattr(strategy, "one_gradient", False):
            yield f'unit="example" needs a strategy that asks for gradients, got {name}; use FedSGD'
        return
    if plan.weight_cap is None and getattr(strategy, "weighting", "uniform") != "uniform":
        yield (
            f'privacy= without a weight_cap weighs all clients alike, {name} has weighting="examples"; give '
            f'PrivacyPlan(weight_cap=...) or {name}(weighting="uniform")'
        )


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
    if plan.noise != "server" and plan.sampling != "every":
        yield (
            f'noise="{plan.noise}" is against the server, which draws the clients and knows them: {sampling} hides '
            'nothing from it; use sampling="every"'
        )
    if plan.sampling in ("every", "turns") and config.fraction_fit < 1:
        whom = "all clients" if plan.sampling == "every" else "all whose turn it is"
        yield f'{sampling} asks {whom}, got fraction_fit={config.fraction_fit}; set 1.0 or sampling="poisson"'
    if plan.sampling == "poisson" and (config.fraction_fit == 0 or config.min_fit_clients > 1):
        yield (
            f"{sampling} takes each client with probability fraction_fit, got fraction_fit={config.fraction_fit} and "
            f"min_fit_clients={config.min_fit_clients}; set the first above 0 and leave the second out"
        )


def _unsound_course(plan: PrivacyPlan, coordinator: object, system: object) -> Iterator[str]:
    if system is not None:
        yield (
            "privacy= cannot be combined with system=: who is there when changes with time, and the accountant counts "
            "on a draw from all; leave it out"
        )
    if plan.noise == "distributed" and not isinstance(coordinator, Secure):
        yield (
            'noise="distributed" is a part of the noise at each client, which single updates are not hidden by; use '
            "coordinator=Secure()"
        )
    if plan.noise == "distributed" and isinstance(coordinator, Secure) and coordinator.secure_sum is not None:
        yield (
            'noise="distributed" is added beneath masks, got Secure(secure_sum=ckks()), whose clients add none; leave '
            "secure_sum out"
        )
    if plan.noise == "local":
        if coordinator is not None:
            yield (
                'noise="local" hides each update without a secure sum, over which the same promise takes √n times less '
                'noise: use noise="distributed" with Secure(), or leave the coordinator out'
            )
        for name in ("weight_cap", "adaptive"):
            if getattr(plan, name) is not None:
                yield (
                    f"{name}={getattr(plan, name)!r} tells the server more of each client than its update, which "
                    'noise="local" does not hide; leave it out'
                )
    if coordinator is None:
        return
    if not isinstance(coordinator, Secure):
        yield (
            f"privacy= cannot be combined with coordinator={type(coordinator).__name__}(...): the guarantee is for "
            "rounds with a cohort each, which asynchronous runs and tiers do not have; leave it out"
        )
        return
    if plan.weight_cap is not None:
        yield f"weight_cap={plan.weight_cap} under Secure(): products would be rounded; leave it out: all weigh 1 then"
    if plan.adaptive is not None:
        yield "adaptive= moves the clip, and Secure() fixes the range of values before; leave one of them out"
    if plan.sampling in ("poisson", "turns"):
        yield (
            f'sampling="{plan.sampling}" may draw nobody, and Secure() needs a cohort; use sampling="fixed" or "every"'
        )
