"""Level A1 where clients add the noise: what one answer is made of, and what faults in it would have shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from umbel.arrays import Arrays
from umbel.clients.gradient import GradientClient
from umbel.coordinators import Secure
from umbel.message import Ask, Context
from umbel.optimizers import sgd
from umbel.privacy.mutants import divided_twice, the_same_again
from umbel.privacy.private import Private
from umbel.runtimes.privacy_report.row import Row, counted_on, faults
from umbel.strategies import FedAvg, FedSGD

SIZE, NOISE_OFF, CORRELATED = 40_000, 0.02, 0.1


@final
@dataclass(frozen=True)
class Answer:
    """What one client's answer was made of.

    Attributes:
        noise: standard deviation over the clip.
        influence: the length of what the client itself has in it, over the clip.
        correlation: between the noise of two answers.
    """

    noise: float
    influence: float
    correlation: float

    def problems(self, promised: float) -> list[str]:
        """What is not as the accountant counts on."""
        found = list[str]()
        if self.noise < (1 - NOISE_OFF) * promised:
            found.append(f"the noise is {self.noise:.4g} clips, {promised:.4g} is promised")
        if self.influence > 1 + 1e-6:
            found.append(f"a client moves the sum by {self.influence:.4g} clips")
        if abs(self.correlation) > CORRELATED:
            found.append(f"the noise of two answers is correlated ({self.correlation:.2f})")
        return found


def noise_of_a_client(private: Private, secure: Secure | None) -> Row:
    """The row of one client's answers, plain ones with noise of their own or its part of a secure sum."""
    promised, found = promised_noise(private), answered(private, private, secure)
    problems = found.problems(promised)
    wrong = dict[str, Private]()
    if private.mechanism.sharing is None:
        wrong["noise divided twice"] = divided_twice(private)
        wrong["noise with a seed"] = the_same_again(private)
    else:
        # As if four times as many added theirs as do.
        noises = 4 * private.mechanism.sharing.noises
        sharing = replace(private.mechanism.sharing, noises=noises)
        wrong["noise for more clients"] = replace(private, mechanism=replace(private.mechanism, sharing=sharing))
    wrong["not clipped"] = replace(private, plan=replace(private.plan, clip=_wider(private.plan.clip)))
    missed = [name for name, fault in wrong.items() if not answered(fault, private, secure).problems(promised)]
    text = (
        f"noise of {found.noise:.4g} clips in one answer, {promised:.4g} is promised; the client itself moves it by "
        f"{found.influence:.4g} clips"
    )
    numbers = {"found": found.noise, "promised": promised, "influence": found.influence}
    return counted_on("noise of a client", text, problems, control=faults(len(wrong), missed), numbers=numbers)


def promised_noise(private: Private) -> float:
    """Of one client's answer, in clips: all of a release's, or its part of that."""
    sharing, z = private.mechanism.sharing, private.mechanism.noise_multiplier
    return z * private.mechanism.sensitivity if sharing is None else z / sharing.noises**0.5


def answered(private: Private, right: Private, secure: Secure | None) -> Answer:
    """What answers of `private` are made of, in the units of a `right` one."""
    bound = right.plan.bound
    one, other = (_sent(private, right, secure, quiet=True) for _ in range(2))
    loud = _sent(replace(private, draw=np.zeros), right, secure, quiet=False)
    noise = (float(one.std()) + float(other.std())) / 2
    return Answer(
        noise=noise / bound,
        influence=float(np.linalg.norm(loud)) / bound,
        correlation=float(np.corrcoef(one, other)[0, 1]) if noise else 0.0,
    )


def _sent(private: Private, right: Private, secure: Secure | None, *, quiet: bool) -> NDArray[np.float64]:
    """The values of one answer: of a client that has nothing to say, or of one that says far too much."""
    said = np.zeros(SIZE) if quiet else np.full(SIZE, 1e6 * right.plan.bound)

    def gradient(params: Mapping[str, Any], rows: NDArray[np.integer]) -> tuple[float, Mapping[str, Any]]:
        return 0.0, {"w": said}

    inner = FedSGD(server=sgd(1.0)) if private.plan.unit == "example" else FedAvg(weighting="uniform")
    plan = replace(private.plan, clip=private.plan.bound, clip_each=False)
    private = replace(private, inner=inner, plan=plan)
    client = GradientClient(gradient, {"w": np.zeros(SIZE)}, np.zeros(1), lr=1.0)
    task = private.task(private.init(Arrays.of({"w": np.zeros(SIZE)})), 1)
    ctx = Context(client="0", partition_id=0, num_partitions=1, round=1)
    update, _ = private.local(Ask("0", "fit", task), client, ctx)
    if secure is None or private.mechanism.sharing is None:
        return update.groups["delta"].arrays["w"]
    from umbel.privacy.sa1.encoding import Encoding
    from umbel.privacy.sa1.secured import add_noise, encoded

    clients = right.mechanism.clients
    encoding = Encoding(clip=secure.clip, weight_cap=1.0, clients=clients, size=SIZE, groups=1)
    vector = encoded(encoding, update)
    if quiet:
        add_noise("0", replace(private, plan=right.plan), encoding, vector)
    return encoding.decode(vector).values


def _wider(clip: Any) -> Any:
    return {name: 10 * bound for name, bound in clip.items()} if isinstance(clip, Mapping) else 10 * clip  # pyright: ignore
