"""Level A3: whether the released model tells who was trained on, and a model that certainly does."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

from umbel.arrays import Arrays
from umbel.errors import NotSupported, UmbelError
from umbel.local_client import StepClient
from umbel.message import Ask, Task
from umbel.privacy.membership import Inference, by_loss
from umbel.runtimes.privacy_report.by_heart import Party, memorised
from umbel.runtimes.privacy_report.picture import curves
from umbel.runtimes.privacy_report.row import Control, Row, attacked
from umbel.runtimes.privacy_report.subject import Subject
from umbel.runtimes.program import Program
from umbel.runtimes.turn import sentence

TELLS_AREA, TELLS_SHARE = 0.55, 0.02
"""From these lower ends of their intervals on an attack counts as one: area under its curve, and the share of members
that it finds where one of a hundred others is taken for one."""
WORKS_AREA = 0.6
MOST_CLIENTS, FEWEST = 50, 20
_NAME = "membership by loss"


def trained_on(subject: Subject) -> Iterator[Row]:
    """The row of a loss-threshold attack on the released model."""
    try:
        yield inferred(subject)
    # Clients are the user's code: whatever goes wrong in it leaves the other levels their rows.
    except Exception as error:
        text = f"losses cannot be looked at: {error if isinstance(error, UmbelError) else sentence(error)}"
        yield Row(level="A3", name=_NAME, verdict="not shown", text=text)


def inferred(subject: Subject) -> Row:
    """The attack and its control."""
    if subject.id and subject.released is None:
        raise NotSupported(f"no model of run {subject.id} is kept; look at the app, of which a model is trained first")
    parties = list(_parties(subject))
    model = subject.released or _led(subject)
    first = parties[0].client.parameters(parties[0].ctx)
    kept = first.keys() - model.keys()
    if kept:
        raise NotSupported(f"clients keep {sorted(kept)[0]!r} to themselves, so no model of theirs is released whole")
    members = [loss for one in parties for loss in one.losses(model, held_out=False)]
    others = [loss for one in parties for loss in one.losses(model, held_out=True)]
    if min(len(members), len(others)) < FEWEST:
        return Row(
            level="A3",
            name=_NAME,
            verdict="not shown",
            text=f"there are {len(members)} examples that were trained on and {len(others)} that were held out",
            mend=f"give clients test_data that they do not train on, {FEWEST} examples or more together",
        )
    # Not from the released model: how far noise has carried that must not decide whether the control works.
    found, control = by_loss(members, others), memorised(parties, first)
    low, high = found.auc_interval
    numbers = {
        "auc": found.auc,
        "auc_low": low,
        "auc_high": high,
        "caught_at_1_percent": found.caught(0.01),
        "caught_at_0.1_percent": found.caught(0.001),
        "members": len(members),
        "others": len(others),
        "control_auc": control.auc,
    }
    return attacked(
        "A3",
        _NAME,
        holds=low <= TELLS_AREA and found.caught_at_least(0.01) <= TELLS_SHARE,
        control=_control(control),
        text=f"area {found.auc:.3f} ({low:.3f} to {high:.3f}; 0.5 is guessing); of {len(members)} members "
        f"{found.caught(0.01):.1%} are found at 1 % false alarms{_allowed(subject)} and "
        f"{found.caught(0.001):.1%} at 0.1 %",
        mend="who has the model can tell who was trained on: less training, more data, or privacy=fl.PrivacyPlan(...)",
        numbers=numbers,
        pictures=(curves("Members found", "false alarms", _lines(found, control)),),
    )


def _allowed(subject: Subject) -> str:
    """What the plan's promise leaves an attack, in the rest of a sentence."""
    from umbel.runtimes.privately import promise

    private = subject.promised
    if private is None:
        return ""
    told = promise(private, subject.config.num_rounds)
    share = min(1.0, math.exp(min(told["epsilon"], 100.0)) * 0.01 + told["delta"])
    return f" (the plan allows {share:.1%})"


def _control(control: Inference) -> Control:
    low = control.auc_interval[0]
    return Control(
        low > WORKS_AREA,
        f"a model that learnt {len(control.members)} examples by heart is told, with an area of {control.auc:.3f}",
    )


def _lines(found: Inference, control: Inference) -> dict[str, list[tuple[float, float]]]:
    return {
        "the released model": found.curve(),
        "learnt by heart": control.curve(),
        "guessing": [(0.0, 0.0), (1.0, 1.0)],
    }


def _parties(subject: Subject) -> Iterator[Party]:
    """The first clients, built as a run builds them."""
    seed = subject.config.seed or 0
    program = Program(subject.app.client_fn, subject.strategy, seed, subject.run.num_clients, dict(subject.settings))
    there = (name for name in map(str, range(subject.run.num_clients)) if name not in subject.without)
    for name in islice(there, MOST_CLIENTS):
        ctx = program.context(Ask(name, "properties", Task(0, Arrays.of({}))), None)
        client: Any = program.build(ctx)
        if not isinstance(client, StepClient):
            kind = type(getattr(client, "user", client)).__name__
            raise NotSupported(f"{kind} gives no losses of single examples; use TorchClient or GradientClient")
        yield Party(client, ctx)


def _led(subject: Subject) -> Arrays:
    """The model of a run that is led here and not kept."""
    from umbel.runtimes.simulate import simulate

    given: dict[str, Any] = {**subject.run.arguments, "evaluate_fn": None, "on_evaluate_config_fn": None}
    return simulate(
        subject.app.client_fn,
        **given,
        settings=subject.settings,
        progress=False,
        engine="serial",
    ).parameters
