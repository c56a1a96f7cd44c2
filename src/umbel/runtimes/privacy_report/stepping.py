"""Level A1 where noise is in the steps of clients: what one is made of, and what faults would have shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from umbel.arrays import Arrays
from umbel.clients.gradient import GradientClient
from umbel.message import Ask, Context
from umbel.optimizers import sgd
from umbel.privacy.noise import Draw
from umbel.privacy.training import DpSgdTraining
from umbel.runtimes.privacy_report.row import Row, counted_on, faults
from umbel.strategies import FedAvg

EXAMPLES, SIZE, TURNS = 1000, 40_000, 30
NOISE_OFF, DRAWS_OFF = 0.02, 5.0
"""How far noise may be from what is promised, and draws, in standard deviations."""


@final
@dataclass(frozen=True)
class Stepped:
    """What steps were made of.

    Attributes:
        noise: standard deviation over the clip.
        influence: how far the loudest example moved a step, over the clip.
        drawn: how many examples were in steps, of how many.
    """

    noise: float
    influence: float
    drawn: int
    of: int

    def problems(self, training: DpSgdTraining) -> list[str]:
        """What is not as the accountant counts on."""
        found, rate = list[str](), training.mechanism.dp_sgd.sample_rate if training.mechanism.dp_sgd else 1.0
        if abs(self.noise / training.mechanism.noise_multiplier - 1) > NOISE_OFF:
            found.append(f"noise of {self.noise:.4g} clips, {training.mechanism.noise_multiplier:.4g} is promised")
        if self.influence > 1 + 1e-6:
            found.append(f"one example moved a step by {self.influence:.4g} clips")
        if abs(self.drawn - rate * self.of) > DRAWS_OFF * (rate * (1 - rate) * self.of) ** 0.5:
            found.append(f"{self.drawn / self.of:.3g} of the examples are in a step, {rate:.3g} is promised")
        return found


def stepping(training: DpSgdTraining) -> Row:
    """The row of one step of `training`."""
    found = stepped(training, training)
    problems = found.problems(training)
    wrong = {
        "half the noise": replace(training, draw=_halved(training.draw)),
        "not clipped": replace(training, plan=replace(training.plan, clip=10 * training.plan.bound)),
        "all examples in each step": replace(training, chance=np.zeros),
    }
    if training.plan.sample_rate == 1:
        del wrong["all examples in each step"]
    missed = [name for name, fault in wrong.items() if not stepped(fault, training).problems(training)]
    text = (
        f"noise of {found.noise:.4g} clips in a step, {training.mechanism.noise_multiplier:.4g} is promised; the "
        f"loudest example moves it by {found.influence:.4g} clips; {found.drawn / found.of:.3g} of the examples are in "
        "it"
    )
    control = faults(len(wrong), missed)
    numbers = {"noise": found.noise, "influence": found.influence, "drawn": found.drawn / found.of}
    return counted_on("noise of a step", text, problems, control=control, numbers=numbers)


def stepped(training: DpSgdTraining, right: DpSgdTraining) -> Stepped:
    """What steps of `training` are made of, in the units of a `right` one."""
    unit = right.plan.bound / right.expected
    silent = replace(training, draw=np.zeros)
    quiet = _turn(training, SIZE, _nothing)

    def own(row: int) -> NDArray[np.float64]:
        gradient = np.zeros(EXAMPLES)
        gradient[row] = 1e3 * right.plan.bound
        return gradient

    turns = [_turn(silent, EXAMPLES, own) for _ in range(TURNS)]
    return Stepped(
        noise=float(np.std(quiet)) / unit,
        influence=max(float(np.abs(turn).max()) for turn in turns) / unit,
        drawn=sum(int(np.count_nonzero(turn)) for turn in turns),
        of=TURNS * EXAMPLES,
    )


def _halved(draw: Draw) -> Draw:
    return lambda count: 0.5 * draw(count)


def _nothing(row: int) -> NDArray[np.float64]:
    return np.zeros(SIZE)


def _turn(training: DpSgdTraining, size: int, own: Any) -> NDArray[np.float64]:
    """How far one step moves a client whose examples have these gradients."""

    def gradient(params: Mapping[str, Any], rows: NDArray[np.integer]) -> tuple[float, Mapping[str, Any]]:
        return 0.0, {"w": own(int(rows[0]))}

    assert training.mechanism.dp_sgd is not None
    once = replace(training.mechanism.dp_sgd, local_steps=1)
    training = replace(
        training,
        inner=FedAvg(server=sgd(1.0)),
        plan=replace(training.plan, local_steps=1, clip=training.plan.bound, clip_each=False),
        mechanism=replace(training.mechanism, dp_sgd=once),
    )
    client = GradientClient(gradient, {"w": np.zeros(size)}, np.arange(EXAMPLES), lr=1.0)
    task = training.task(training.init(Arrays.of({"w": np.zeros(size)})), 1)
    ctx = Context(client="0", partition_id=0, num_partitions=1, round=1)
    update, _ = training.local(Ask("0", "fit", task), client, ctx)
    return update.groups["delta"].arrays["w"]
