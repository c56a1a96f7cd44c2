"""What a plan promises of differential privacy, held against what its client half really does. Judgements only."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, TypeAlias, cast

from umbel.errors import ConfigError
from umbel.message import is_number, require
from umbel.privacy.accounting import MOST_RELEASES, renyi_epsilon
from umbel.privacy.accounting import epsilon as spent
from umbel.privacy.mechanism import DpSgd, Mechanism
from umbel.privacy.plan import LEAST_SAMPLED_NOISE
from umbel.runtimes.halves import CIPHERED, SECURED

Plan: TypeAlias = "Mapping[str, Any]"
MOST_EPSILON = 200.0
LEAST_HIDING_NOISE = 0.5
"""Of a sum, in clips: the difference of two has more of it, and is about one client's update."""
MOST_RECKONED_STEPS, LEAST_RECKONED_NOISE = 2**20, 0.25
"""Beyond these a privacy loss distribution takes minutes; Rényi divergences, which tell no less, are quick."""
SLACK = 1.001
"""What rounding may make of a δ."""


def epsilon_of(plan: Plan) -> float | None:
    """The ε that a plan promises, if it names a finite one."""
    return _positive(_table(_table(plan, "privacy"), "differential_privacy"), "epsilon")


def is_own_noise(plan: Plan) -> bool:
    """Whether what leaves the node is a release, as its own noise is in it: each answer costs, not each round."""
    return _table(_table(plan, "privacy"), "differential_privacy").get("noise", "server") != "server"


def hides_clients(plan: Plan) -> bool:
    """Whether each answer of a client half has so much new noise that no two of them tell of each other.

    It is the half that counts, which is what the node really does, and not what the plan says about it.
    """
    half = _table(plan, "client_half")
    outer = half.get("name")
    half = _table(half, "inner") if outer in (SECURED, CIPHERED) else half
    private, mechanism = _table(half, "plan"), _table(half, "mechanism")
    noise, who = _positive(mechanism, "noise_multiplier"), private.get("noise", "server")
    is_shared = outer == SECURED and _table(mechanism, "sharing").get("name") == "Sharing"
    is_own = half.get("name") == "Private" and (who == "local" or (who == "distributed" and is_shared))
    return is_own and private.get("unit") == "client" and noise is not None and noise >= LEAST_HIDING_NOISE


def separation_of(plan: Plan) -> int | None:
    """How many rounds lie between two turns of one node, if the plan promises any."""
    value: Any = _table(_table(plan, "privacy"), "differential_privacy").get("separation")
    return value if type(value) is int and value >= 1 else None


def key_of(run: str, plan: Plan) -> str:
    """Under what a promise is kept: more rounds of one plan widen it, another plan is another promise."""
    what = {name: value for name, value in plan.items() if name not in ("run", "name", "rounds", "privacy", "cohort")}
    digest = hashlib.sha256(json.dumps(what, sort_keys=True, default=repr).encode()).hexdigest()
    return f"{run} {digest[:16]}"


def why_not_backed(plan: Plan) -> str | None:
    """Why a promise is not what the plan's client half and noise give.

    Noise of the server's nobody at a node can see. What can be seen: that clients clip, to what, that noise of that
    size in so many rounds would be enough, and noise that the nodes add themselves.
    """
    promised = _table(_table(plan, "privacy"), "differential_privacy")
    half = _table(plan, "client_half")
    is_masked = half.get("name") == SECURED
    half = _table(half, "inner") if half.get("name") in (SECURED, CIPHERED) else half
    by_step = promised.get("noise") == "dp-sgd"
    if half.get("name") != ("DpSgdTraining" if by_step else "Private"):
        lacks = "adds no noise to its steps" if by_step else "clips nothing"
        return f"the plan promises differential privacy, and its client half {lacks}"
    private, mechanism = _table(half, "plan"), _table(half, "mechanism")
    named = private.get("name", "PrivacyPlan") == "PrivacyPlan" and mechanism.get("name", "Mechanism") == "Mechanism"
    if not named or not set(half) <= {"name", "inner", "plan", "mechanism"}:
        return "the plan promises differential privacy, and its client half has other parts than what keeps it"
    for name, told in (("clip", private), ("delta", private), ("unit", private), ("noise_multiplier", mechanism)):
        if promised.get(name) != told.get(name):
            return f"the plan promises {name}={promised.get(name)!r}, and its client half has {told.get(name)!r}"
    if promised.get("clip_each", False) != private.get("clip_each", False):
        return "the plan and its client half do not agree on clip_each"
    reason = _why_not_noised(promised, private, mechanism, is_masked=is_masked)
    if reason is not None:
        return reason
    rounds, epsilon, delta = plan.get("rounds"), _positive(promised, "epsilon"), _positive(promised, "delta")
    noise = _positive(mechanism, "noise_multiplier")
    if type(rounds) is not int or epsilon is None or delta is None or noise is None:
        return "the plan promises differential privacy, and does not say its rounds, epsilon, delta and noise"
    if not 0 <= rounds <= MOST_RELEASES:
        return f"a plan that promises differential privacy is for 0 to {MOST_RELEASES} rounds"
    correlation = _table(mechanism, "correlation")
    if promised.get("separation") != correlation.get("separation"):
        return "the plan promises another separation of turns than its client half has"
    if mechanism.get("sampling") == "turns":
        made = correlation.get("rounds")
        if not isinstance(made, int) or rounds > made:
            return f"the plan is for {rounds} rounds, and its noise is made for {made!r}"
    elif mechanism.get("sampling") != "every":
        return "the plan promises differential privacy by drawing clients, which a server of real nodes cannot keep"
    if by_step:
        return _why_not_trained(rounds, epsilon, delta, noise, private)
    # A run with a target stops there, whatever the rounds are: the word of the server, which adds the noise then.
    # Noise that is correlated is that of all rounds together.
    stops = private.get("target_epsilon") is not None and not is_own_noise(plan)
    releases = 1 if stops or correlation else rounds
    if releases and gaussian_delta(math.sqrt(releases) / noise, epsilon) > SLACK * delta:
        return f"the plan promises epsilon={epsilon:g}, which its noise does not give over {rounds} rounds"
    return None


def _why_not_noised(promised: Plan, private: Plan, mechanism: Plan, *, is_masked: bool) -> str | None:
    """Why the noise would not be added by whom the plan says: what nodes add themselves, they need not believe."""
    who, told = promised.get("noise", "server"), private.get("noise", "server")
    if who != told:
        return f"the plan promises noise={who!r}, and its client half has {told!r}"
    sharing = _table(mechanism, "sharing")
    if who == "dp-sgd":
        return _why_not_stepping(promised, private, mechanism)
    if who != "server":
        for name in ("weight_cap", "adaptive"):
            if private.get(name) is not None:
                # The one scales a client's own noise down, the other lets the server say how far updates are clipped.
                return f"the plan promises noise={who!r}, which {name} of its client half would lessen"
        if mechanism.get("sampling") != "every":
            return f"the plan promises noise={who!r}, which each release has by itself only with sampling='every'"
    if who == "local":
        alone = private.get("unit") == "client"
        if mechanism.get("alone") is not alone or sharing or is_masked:
            return "the plan promises noise='local', and its client half does not add that of a whole release"
        return None
    if who == "server":
        return "the plan promises noise of the server, and its client half adds some" if sharing else None
    if not is_masked or sharing.get("name") != "Sharing":
        return f"the plan promises noise={who!r}, and its client half masks nothing or adds none"
    believed = private.get("honest_share")
    if promised.get("honest_share") != believed or (believed or 1.0) != sharing.get("honest_share"):
        return "the plan promises another honest_share than its client half counts on"
    return None


def _why_not_stepping(promised: Plan, private: Plan, mechanism: Plan) -> str | None:
    """Why the steps would not be what the plan says: they are the node's own, so are their draws and their noise."""
    stepping = _table(mechanism, "dp_sgd")
    for name in ("sample_rate", "local_steps"):
        if not promised.get(name) == private.get(name) == stepping.get(name):
            return f"the plan and its client half do not agree on {name}"
    if mechanism.get("sampling") != "every" or _table(mechanism, "sharing") or _table(mechanism, "correlation"):
        return "the plan promises noise='dp-sgd', and its client half counts on other noise, too"
    return None


def _why_not_trained(rounds: int, epsilon: float, delta: float, noise: float, private: Plan) -> str | None:
    """Why so many rounds of steps with noise cost more than the plan says."""
    try:
        steps = DpSgd(sample_rate=private.get("sample_rate"), local_steps=private.get("local_steps"))  # pyright: ignore
        require(noise >= LEAST_SAMPLED_NOISE, f"its noise is below {LEAST_SAMPLED_NOISE}")
        mechanism = Mechanism(noise_multiplier=noise, sampling="every", cohort=1, clients=1, dp_sgd=steps)
        # What is worth nothing takes long to tell exactly, and a server may have meant it to.
        rough = renyi_epsilon(mechanism, rounds, delta)
        require(
            rough <= MOST_EPSILON, f"it is about epsilon={rough:.3g}, and nothing above {MOST_EPSILON:g} is reckoned"
        )
        if rough <= epsilon:
            return None
        is_quick = rounds * mechanism.steps <= MOST_RECKONED_STEPS and noise >= LEAST_RECKONED_NOISE
        cost = spent(mechanism, rounds, delta) if is_quick or mechanism.probability == 1 else rough
    except ConfigError as error:
        return f"what the plan's steps cost cannot be told: {error}"
    if cost <= epsilon * SLACK:
        return None
    reason = f"the plan promises epsilon={epsilon:g}, which its noise does not give over {rounds} rounds"
    if is_quick:
        return reason
    return (
        f"{reason} by a rough account, of {rough:.4g}; a node has a finer one for at most {MOST_RECKONED_STEPS} steps "
        f"with noise of at least {LEAST_RECKONED_NOISE}"
    )


def gaussian_delta(mu: float, epsilon: float) -> float:
    """δ = Φ(μ/2 - ε/μ) - exp(ε)·Φ(-μ/2 - ε/μ): what Gaussian noise gives, μ being sensitivity over deviation.

    Example:
        >>> f"{gaussian_delta(1.0, 4.3772):.1e}"
        '1.0e-05'

    References:
        B. Balle, Y.-X. Wang, "Improving the Gaussian Mechanism for Differential Privacy", ICML 2018.
    """
    if epsilon > 700:
        return 0.0 if epsilon > mu * (mu / 2 + 40) else 1.0
    return _normal(mu / 2 - epsilon / mu) - math.exp(epsilon) * _normal(-mu / 2 - epsilon / mu)


def _normal(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2


def _table(table: Plan, key: str) -> Plan:
    value = table.get(key)
    return cast("Plan", value) if isinstance(value, Mapping) else {}


def _positive(table: Plan, key: str) -> float | None:
    value: Any = table.get(key)
    return float(value) if is_number(value) and 0 < value < math.inf else None
