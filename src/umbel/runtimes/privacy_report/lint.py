"""Level A0: what a plan says, and what of it is worth little. Nothing is run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from umbel.coordinators import Secure
from umbel.privacy.accounting import epsilon
from umbel.privacy.promised import Promised
from umbel.runtimes.privacy_report.row import Row, Verdict
from umbel.runtimes.privacy_report.subject import Subject

MUCH = 8.0
"""An ε beyond which a promise is hardly one: whoever took part may be e^8 ≈ 3,000 times more likely in the eyes of
somebody who sees the models."""
SAME = 1e-3
"""By how much two computations of one ε may differ: the accountant's library may be another version than the run's."""
LEDGER_MEND = "umbel audit verify and umbel audit replay show more; what the run promised does not hold as it is told"
FEW_CLIENTS, FEW_EXAMPLES = 10, 100


def lint(subject: Subject) -> Iterator[Row]:
    """The rows of a plan that nobody ran."""
    yield from _promise(subject)
    yield from _numbers(subject)
    yield _sums(subject)


def _promise(subject: Subject) -> Iterator[Row]:
    if subject.run.privacy is None:
        yield _row(
            "promise",
            "failed",
            "no differential privacy is promised: what the models tell of a client has no bound",
            "give fl.Run(privacy=fl.PrivacyPlan(...))",
        )
        return
    for sentence in subject.refusals:
        yield _row("refused", "failed", sentence, "a run with this plan would be refused before it starts")
    private = subject.promised
    if private is not None:
        yield from _cost(subject, private)
        yield _hidden(private)
        yield _draw(private)


def _cost(subject: Subject, private: Promised) -> Iterator[Row]:
    plan, rounds = private.plan, subject.config.num_rounds
    whole = epsilon(private.mechanism, rounds, plan.delta)
    least = whole if plan.target_epsilon is None else min(whole, plan.target_epsilon)
    numbers = {"epsilon": least, "delta": plan.delta, "noise_multiplier": private.mechanism.noise_multiplier}
    text = f"ε = {least:.3g} at δ = {plan.delta:g} for each {plan.unit}, all {rounds} models together"
    much = least > MUCH
    mend = f"more noise, fewer rounds or smaller cohorts bring ε to {MUCH:g} or below"
    yield _row("epsilon", "weak" if much else "passed", text, mend if much else "", **numbers)
    if subject.spent:
        last = subject.spent[-1]
        text = f"the run's ledger has {len(subject.spent)} releases that cost ε = {last.epsilon:.3g} together"
        wrong, mend = _why_no_ledger(subject, private), LEDGER_MEND
        if wrong is None and last.epsilon > least * (1 + 1e-9):
            wrong, mend = (
                text,
                "rounds that were begun again were released again; a target_epsilon ends the run in time",
            )
        verdict: Verdict = "passed" if wrong is None else "failed"
        yield _row("ledger", verdict, wrong or text, mend if wrong else "", spent=last.epsilon)
    elif subject.id:
        yield _row("ledger", "failed", "the run's ledger has no release", "the run was led without this plan")


def _why_no_ledger(subject: Subject, private: Promised) -> str | None:
    """Why what the ledger says is not what the run released."""
    spent, mechanism = subject.spent, private.mechanism
    if subject.log_problem:
        return f"the ledger is in a log that is not whole: {subject.log_problem}"
    if len(spent) < subject.finished:
        return f"the run finished {subject.finished} rounds, and its ledger has {len(spent)} releases"
    for entry in spent:
        if entry.noise_multiplier != mechanism.noise_multiplier:
            return (
                f"a release of round {entry.round} had noise_multiplier={entry.noise_multiplier}, and the plan has "
                f"{mechanism.noise_multiplier}"
            )
    last = spent[-1]
    # Noise that is correlated is that of one process; those before it are paid for by themselves.
    *before, now = Counter(entry.part for entry in spent).values()
    again = epsilon(mechanism, now, last.delta, tuple(before))
    if last.delta != private.plan.delta or not math.isclose(last.epsilon, again, rel_tol=SAME):
        told = f"ε = {last.epsilon:.6g} at δ = {last.delta:g}"
        return f"the ledger says that its {len(spent)} releases cost {told}, and they cost ε = {again:.6g}"
    return None


def _hidden(private: Promised) -> Row:
    """Among how many somebody hides."""
    plan = private.plan
    found = float(plan.expected_examples or private.mechanism.cohort)
    if plan.noise == "dp-sgd":
        # Each step is of one client's own examples.
        found /= private.mechanism.clients
    few = found < (FEW_EXAMPLES if plan.unit == "example" else FEW_CLIENTS)
    text = f"one {plan.unit} hides among {found:g} that a sum is made of"
    mend = 'noise for so few leaves little to learn; ask more at once, or hide examples: unit="example"'
    return _row("cohort", "weak" if few else "passed", text, mend if few else "", cohort=found)


def _draw(private: Promised) -> Row:
    if private.plan.sampling == "every":
        return _row("sampling", "passed", "all are asked: nothing counts on a draw that nobody may know")
    if private.plan.sampling == "turns":
        return _row("sampling", "passed", "clients have turns by name: nothing counts on a draw that nobody may know")
    return _row(
        "sampling",
        "weak",
        f'sampling="{private.plan.sampling}" counts on nobody knowing who was asked; the log and the clients know',
        'keep the log at the server, or use sampling="every", which real nodes need anyhow',
    )


def _numbers(subject: Subject) -> Iterator[Row]:
    """What is published beside the models."""
    config = subject.config
    # Under a plan these are refused, and told there.
    clients = config.fraction_evaluate > 0 or config.per_client_metrics or subject.per_client
    if subject.run.privacy is None and clients:
        yield _row(
            "metrics",
            "weak",
            "clients' losses and metrics are published beside the models",
            "set fraction_evaluate=0.0 and evaluate on public data with evaluate_fn",
        )
    if subject.run.evaluate_fn is not None:
        yield _row(
            "metrics",
            "weak" if subject.run.privacy is not None else "passed",
            "evaluate_fn's numbers are published beside the models, outside of every budget",
            "let it use public data alone; this cannot be seen from here",
        )
    elif not clients:
        yield _row("metrics", "passed", "no numbers on data are published beside the models")


def _sums(subject: Subject) -> Row:
    if isinstance(subject.run.coordinator, Secure):
        return _row("secure sum", "passed", "the server sees sums over clients, and no update of one")
    private = subject.promised
    if private is not None and private.plan.noise in ("local", "dp-sgd"):
        return _row("secure sum", "passed", "the server sees each client's update, which has noise of its own")
    return _row(
        "secure sum",
        "weak",
        "the server sees each client's update, and is trusted to forget it",
        "coordinator=fl.Secure() shows it their sum alone",
    )


def _row(name: str, verdict: Verdict, text: str, mend: str = "", **numbers: float) -> Row:
    return Row(level="A0", name=name, verdict=verdict, text=text, mend=mend, numbers=numbers)
