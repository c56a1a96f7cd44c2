"""Level A1: canaries in the run's own aggregation, and what faults in it would have shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from umbel.coordinators import Secure
from umbel.optimizers import sgd
from umbel.privacy.accounting import epsilon
from umbel.privacy.calibration import Calibration, Canaries, Release, calibrate, server_half
from umbel.privacy.mechanism import Mechanism
from umbel.privacy.mutants import MUTANTS, anew, silent
from umbel.privacy.one_run import lower_bound
from umbel.privacy.private import Private
from umbel.privacy.training import DpSgdTraining
from umbel.runtimes.privacy_report.canaries import Path
from umbel.runtimes.privacy_report.own_noise import noise_of_a_client
from umbel.runtimes.privacy_report.picture import Picture, curves, histogram
from umbel.runtimes.privacy_report.row import MEND, Control, Row, attacked, counted_on, faults
from umbel.runtimes.privacy_report.stepping import stepping
from umbel.runtimes.privacy_report.subject import Subject
from umbel.strategy import Strategy

MANY, IN_SECURE_SUMS, OF_MUTANTS = 2000, 500, 400


def calibration(subject: Subject) -> Iterator[Row]:
    """The rows of canaries in the aggregation of `subject`."""
    strategy = subject.promised
    if strategy is None:
        yield Row(
            level="A1",
            name="noise",
            verdict="not shown",
            text="there is no plan under which the run would start, so no noise either"
            if subject.run.privacy is not None
            else "no differential privacy is promised, so there is no noise to be measured",
            mend="see what A0 says of the plan",
        )
        return
    if isinstance(strategy, DpSgdTraining):
        yield stepping(strategy)
    elif isinstance(strategy, Private):
        yield from calibrated(strategy, subject.parts and subject.parts.coordinator)


def calibrated(private: Private, coordinator: object) -> Iterator[Row]:
    """The same for a strategy.

    Args:
        coordinator: the run's, as its plan makes it.
    """
    secure = coordinator if isinstance(coordinator, Secure) else None
    if private.plan.noise in ("local", "distributed"):
        yield noise_of_a_client(private, secure)
        return
    private = _plainly_stepping(private)
    # What a secure sum encodes is bounded element by element, so a canary there moves several.
    canaries = Canaries(MANY) if secure is None else Canaries(IN_SECURE_SUMS, spread=4)
    canaries = Canaries(MANY, spread=4) if private.plan.unit == "example" else canaries
    found = measured(private, private, secure, canaries)
    missed = [name for name, problems in _mutants(private).items() if not problems]
    yield _noise(private, found, secure, missed)
    yield _bound(private, found, secure, canaries)


def _plainly_stepping(private: Private) -> Private:
    """With a server optimiser that takes the mean as it is: what is done to a noisy mean afterwards costs nothing."""
    inner: Any = private.inner
    return replace(private, inner=replace(inner, server=sgd(1.0))) if hasattr(inner, "server") else private


def measured(
    strategy: Strategy, private: Private, secure: Secure | None, canaries: Canaries, *, exactly: bool = True
) -> Calibration:
    """What releases of `strategy` show.

    Args:
        private: what is right about it.
        exactly: whether influences are measured without noise, too.
    """

    def release(one: Strategy, canaries: Canaries = canaries) -> Release:
        return lambda answering: path(anew(one), canaries)(answering)

    def path(one: Strategy, canaries: Canaries) -> Release:
        if private.plan.unit == "client" and secure is None:
            # Whatever clients do, the server keeps the bound: they send what they like.
            return server_half(one, canaries)
        return Path(one, private, secure).release(canaries)

    below = release(silent(strategy), replace(canaries, quiet=1)) if exactly else None
    return calibrate(release(strategy), canaries, silent=below)


def problems_of(private: Private, found: Calibration) -> list[str]:
    """What the releases do not keep of what the accountant was told."""
    return list(found.problems(private.update_noise, private.mechanism.sensitivity))


def _mutants(private: Private) -> dict[str, list[str]]:
    """What the five faults show. They are in plain sums: a secure one undoes some of them."""
    canaries = Canaries(OF_MUTANTS, spread=4, quiet=4000)
    return {
        name: problems_of(private, measured(fault(private), private, None, canaries)) for name, fault in MUTANTS.items()
    }


def _noise(private: Private, found: Calibration, secure: Secure | None, missed: list[str]) -> Row:
    problems = problems_of(private, found)
    sums = "secure sums" if secure else "plain sums"
    wanted = private.update_noise * private.mechanism.sensitivity
    text = (
        f"noise of {found.noise_multiplier:.4g} times one {private.plan.unit}'s influence in {sums}, "
        f"{wanted:.4g} is promised"
    )
    control = faults(len(MUTANTS), missed)
    numbers = {
        "found": found.noise_multiplier,
        "promised": wanted,
        "influence": found.influence,
        "influence_of_half": found.thinned,
        "correlation": found.correlation,
    }
    return counted_on("noise", text, problems, control=control, numbers=numbers, pictures=(_scores(found),))


def _scores(found: Calibration) -> Picture:
    low, high = float(found.scores.min()), float(found.scores.max())
    lines = {
        "canary was in the sum": histogram(found.scores[found.answered], low, high),
        "canary was not": histogram(found.scores[~found.answered], low, high),
    }
    return curves("What one release shows of canaries", "how far the model moved towards it", lines)


def _bound(private: Private, found: Calibration, secure: Secure | None, canaries: Canaries) -> Row:
    """One release against the ε that one release costs if nobody draws cohorts."""
    delta = private.plan.delta
    noise = private.update_noise * private.mechanism.sensitivity
    one = Mechanism(noise_multiplier=noise, sampling="every", cohort=1, clients=1)
    claimed = epsilon(one, 1, delta)
    bound = lower_bound(found.scores, found.answered, delta)
    weak = measured(MUTANTS["noise divided twice"](private), private, secure, canaries, exactly=False)
    control = lower_bound(weak.scores, weak.answered, delta)
    numbers = {"bound": bound, "claimed": claimed, "control": control}
    text = f"one release shows ε of at least {bound:.3g}; it may cost {claimed:.3g}"
    if bound <= claimed and control <= claimed:
        return Row(
            level="A1",
            name="epsilon of one release",
            verdict="skipped",
            text=f"{canaries.count} canaries cannot show an ε above {control:.3g}, and {claimed:.3g} is allowed: noise "
            "so small is for the row above",
            numbers=numbers,
        )
    return attacked(
        "A1",
        "epsilon of one release",
        holds=bound <= claimed,
        control=Control(control > claimed, f"with a twentieth of the noise it shows {control:.3g}"),
        text=text,
        mend=MEND,
        numbers=numbers,
    )
