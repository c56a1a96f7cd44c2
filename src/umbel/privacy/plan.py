"""`PrivacyPlan`: what a run promises, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

from umbel.message import is_number, require
from umbel.privacy.adaptive import AdaptiveClip
from umbel.privacy.amounts import check_positive, short
from umbel.privacy.layers import Clip, whole_bound
from umbel.privacy.mechanism import DpSgd, Sampling

Noise: TypeAlias = Literal["server", "distributed", "local", "dp-sgd"]

MOST_TURNS = {"separation": 2**20, "buffers": 64}
MOST = 2**53
LEAST_SAMPLED_NOISE = 2**-6
"""Less noise has a privacy loss that accountants cannot hold, and protects nobody."""


@final
@dataclass(frozen=True, kw_only=True)
class PrivacyPlan:
    """Differential privacy: `fl.simulate(..., privacy=fl.PrivacyPlan(...))`.

    After the run, all models it gave together are (ε, δ)-differentially private: nobody who sees them can tell well
    whether one client took part ("poisson" and "every") or which of two clients did ("fixed"). The server itself is
    trusted to add the noise, unless clients do. Nothing of this has been reviewed by a cryptographer.

    It works with strategies whose update is one group, over a linear reducer, and with models of trained arrays in
    single or double precision. What else cannot be combined with it is in docs/privacy.md, and refused before the run.

    Args:
        clip: C, the largest norm of one client's update, above 0; where a bound that adapts begins. By layer, a mapping
            of array names or patterns such as "body.*" to the bound of all that match: C is √(Σ Cₗ²) then.
        clip_each: whether each array is clipped by itself, to C over the root of how many there are.
        noise_multiplier: z, the noise's standard deviation over the sum's sensitivity, above 0. With cohorts of a fixed
            size the sensitivity is twice the clip. None takes the least that keeps `target_epsilon` for all rounds.
        target_epsilon: the budget. The run stops before the round that would exceed it. None has none.
        delta: δ, above 0 and below 1; less than one over the number of clients.
        sampling: "poisson" takes each client by itself with probability `fraction_fit`; "fixed" takes so many of them;
            "every" asks all; "turns" asks each every `separation` rounds, by its name, and draws nobody: for who cannot
            promise a draw. Noise is correlated over rounds then (DP-FTRL), and `noise_multiplier` is that of the whole
            run.
        weight_cap: the largest weight of one client; None weighs all clients alike, with 1.
        expected_weight: the weight that the mean is divided by, for each client expected in the cohort; public,
            None is `weight_cap`.
        min_cohort: refuse runs whose cohorts are expected to be smaller, at least 1.
        adaptive: how the clip follows the norms of the updates; None leaves it as it is.
        unit: whom it hides: a whole "client", or each "example" of one. Examples are for FedSGD: clients clip the
            gradient of each example to `clip`, and the server adds noise to the sum of all of them; or for "dp-sgd".
        expected_examples: for unit "example", about how many all clients have together, at least 1; public. The sum is
            divided by it. What a client has beyond it (in a model of float32, beyond 512) may be cut off.
        noise: who adds it. "server", to the sum; "distributed", the clients of a secure sum, each a part of it, so that
            the server never sees a sum without noise, and need not be trusted; "local", each client enough of it to
            be private alone, which needs nobody's trust, and makes the noise of n clients √n times larger; "dp-sgd",
            each client in every step of its own training, which hides its examples from everybody (unit "example",
            strategies that train locally such as FedAvg and FedProx).
        sample_rate: for DP-SGD, with what probability each of a client's examples is in a step, above 0 and at most 1.
        local_steps: for DP-SGD, how many steps a client takes in a round, in place of its own epochs.
        honest_share: for distributed noise, the share of clients of whom it is believed that they add theirs and tell
            nobody, above 0 and at most 1; None is all. The others make up for those that are not.
        separation: for turns, how many rounds lie between two of one client at least.
        buffers: for turns, how many vectors of the model's size the server keeps to correlate noise with.

    Raises:
        ConfigError: an argument is wrong.

    Example:
        >>> PrivacyPlan(clip=1.0, noise_multiplier=1.0, delta=1e-5).sampling
        'poisson'

    References:
        H. B. McMahan, D. Ramage, K. Talwar, L. Zhang, "Learning Differentially Private Recurrent Language Models", ICLR
        2018, https://arxiv.org/abs/1710.06963
        M. Abadi et al., "Deep Learning with Differential Privacy", CCS 2016, https://arxiv.org/abs/1607.00133
    """

    clip: Clip
    delta: float
    noise_multiplier: float | None = None
    target_epsilon: float | None = None
    sampling: Sampling = "poisson"
    weight_cap: float | None = None
    expected_weight: float | None = None
    min_cohort: int = 1
    adaptive: AdaptiveClip | None = None
    unit: Literal["client", "example"] = "client"
    expected_examples: int | None = None
    noise: Noise = "server"
    honest_share: float | None = None
    clip_each: bool = False
    separation: int | None = None
    buffers: int | None = None
    sample_rate: float | None = None
    local_steps: int | None = None

    def __post_init__(self) -> None:
        self._check_clip()
        require(
            is_number(self.delta) and 0 < self.delta < 1,
            f"delta must be above 0 and below 1, got {self.delta!r}; try less than 1 / number of clients",
        )
        for name in ("noise_multiplier", "target_epsilon", "weight_cap", "expected_weight"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name), 1.0)
        require(
            self.noise_multiplier is not None or self.target_epsilon is not None,
            "noise_multiplier and target_epsilon are both None; give one, or both: how much noise, and when to stop",
        )
        require(
            self.sampling in ("poisson", "fixed", "every", "turns"),
            f'sampling must be "poisson", "fixed", "every" or "turns", got {self.sampling!r}',
        )
        self._check_turns()
        require(
            self.noise_multiplier is None
            or self.sampling in ("every", "turns")
            or self.noise_multiplier >= LEAST_SAMPLED_NOISE,
            f'noise_multiplier must be at least {LEAST_SAMPLED_NOISE} with sampling="{self.sampling}", got '
            f"{self.noise_multiplier!r}",
        )
        require(
            self.expected_weight is None or self.weight_cap is not None,
            f"expected_weight={self.expected_weight!r} needs a weight_cap; without one all clients weigh 1",
        )
        require(
            type(self.min_cohort) is int and self.min_cohort >= 1,
            f"min_cohort must be a whole number of at least 1, got {self.min_cohort!r}",
        )
        require(
            self.adaptive is None or isinstance(self.adaptive, AdaptiveClip),  # pyright: ignore[reportUnnecessaryIsInstance]
            f"adaptive must be AdaptiveClip(...) or None, got {self.adaptive!r}",
        )
        require(self.unit in ("client", "example"), f'unit must be "client" or "example", got {self.unit!r}')
        self._check_noise()
        self._check_examples()
        self._check_dp_sgd()

    @property
    def dp_sgd(self) -> DpSgd | None:
        """What a client's training is made of, if the noise is in its steps."""
        if self.sample_rate is None or self.local_steps is None:
            return None
        return DpSgd(sample_rate=self.sample_rate, local_steps=self.local_steps)

    @property
    def bound(self) -> float:
        """C, of the whole update."""
        return whole_bound(self.clip)

    def _check_clip(self) -> None:
        require(
            not self.clip_each or self.adaptive is None,
            "adaptive moves one clip of the whole update, and clip_each=True splits it; leave one of them out",
        )
        if not isinstance(self.clip, Mapping):
            check_positive("clip", self.clip, 1.0)
            return
        require(bool(self.clip), "clip by layer needs a bound for each layer, got none; try {'*': 1.0}")
        require("name" not in self.clip, "clip by layer cannot name an array 'name'; write it as the pattern 'nam[e]'")
        odd = [name for name in self.clip if not isinstance(name, str)]  # pyright: ignore[reportUnnecessaryIsInstance]
        require(not odd, f"clip by layer is by names of arrays or patterns, got {odd[:1]!r}; try {{'*': 1.0}}")
        for name, bound in self.clip.items():
            check_positive(f"clip[{name!r}]", bound, 1.0)
        for other, given in (("adaptive", self.adaptive), ("clip_each", self.clip_each)):
            require(not given, f"{other} is for one clip of the whole update, got one for each layer; leave it out")
        object.__setattr__(self, "clip", dict(self.clip))

    def _check_turns(self) -> None:
        takes = self.sampling == "turns"
        for name, least in (("separation", 1), ("buffers", 1)):
            value = getattr(self, name)
            if not takes or (name == "buffers" and value is None):
                require(value is None, f'{name}={value!r} is for sampling="turns"; leave it out')
                continue
            require(
                type(value) is int and least <= value <= MOST_TURNS[name],
                f'sampling="turns" needs {name} from {least} to {MOST_TURNS[name]}, got {value!r}',
            )
        require(
            not takes or self.adaptive is None,
            'adaptive moves the clip, and noise that is correlated over rounds is for one; leave it out with "turns"',
        )

    def _check_noise(self) -> None:
        require(
            self.noise in ("server", "distributed", "local", "dp-sgd"),
            f'noise must be "server", "distributed", "local" or "dp-sgd", got {self.noise!r}',
        )
        share = self.honest_share
        require(
            share is None or (is_number(share) and 0 < share <= 1),
            f"honest_share must be above 0 and at most 1, or None, got {short(share)}; try 0.9",
        )
        require(
            share is None or self.noise == "distributed",
            f'honest_share={share} is for noise="distributed"; leave it out: others add no noise',
        )

    def _check_examples(self) -> None:
        few = self.expected_examples
        if self.unit == "client":
            require(few is None, f'expected_examples={few!r} is for unit="example"; leave it out')
            return
        require(
            type(few) is int and 1 <= few <= MOST,
            f'unit="example" needs expected_examples, about how many examples all clients have together, got {few!r}',
        )
        require(self.sampling == "every", f'unit="example" needs sampling="every", got {self.sampling!r}')
        for name in ("weight_cap", "adaptive"):
            value = getattr(self, name)
            require(value is None, f'{name} is for unit="client", got {value!r}; leave it out')

    def _check_dp_sgd(self) -> None:
        if self.noise != "dp-sgd":
            for name in ("sample_rate", "local_steps"):
                value = getattr(self, name)
                require(value is None, f'{name}={short(value)} is for noise="dp-sgd"; leave it out')
            return
        require(self.unit == "example", f'noise="dp-sgd" hides examples, got unit="{self.unit}"; set unit="example"')
        for name, try_this in (("sample_rate", 0.05), ("local_steps", 20)):
            value = getattr(self, name)
            require(value is not None, f'noise="dp-sgd" needs {name}; try {name}={try_this}')
        assert self.dp_sgd is not None  # DpSgd checks both
        require(
            self.noise_multiplier is None or self.sample_rate == 1 or self.noise_multiplier >= LEAST_SAMPLED_NOISE,
            f"noise_multiplier must be at least {LEAST_SAMPLED_NOISE} with a sample_rate below 1, got "
            f"{self.noise_multiplier!r}",
        )
