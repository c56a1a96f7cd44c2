"""One client's turn: build it, let it work, check its answer, fold it. Nothing of the update is kept."""

from __future__ import annotations

import re
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias, final

from umbel.errors import ClientError, NotSupported, printable, said
from umbel.local import assemble
from umbel.message import Ask, Context, Evaluation, Receipt, Update, checked_examples, numbers, validate
from umbel.randomness import seed_process
from umbel.reducers.ladder import Allocate
from umbel.runtimes.memory import write_memory
from umbel.runtimes.program import Program
from umbel.runtimes.staleness import counted
from umbel.runtimes.tally import Tally
from umbel.runtimes.threads import one_thread_each

LONGEST_REASON = 500
FURTHER = re.compile(
    r"(?:(?<=[.!?])\s+(?=[A-Z])|,?\s+[Pp]lease (?:file|open|report)\b).*?(?=$|\s+\(in [^()]+ line \d+\)$)"
)
"""What a library says after its first sentence."""
Work: TypeAlias = "Callable[[Program, Ask, Context], Update | Evaluation | str]"


@final
class ClientTimeout(BaseException):
    """Raised inside a client's turn when its time is up; no `except Exception` of the user's swallows it."""


def play(
    program: Program,
    ask: Ask,
    memory: bytes | None,
    tally: Tally,
    allocate: Allocate | None = None,
    limit: AbstractContextManager[None] | None = None,
    *,
    work: Work | None = None,
    spent_s: float = 0.0,
) -> None:
    """Run one turn and add it to `tally`. A client that fails leaves a receipt that says why.

    Args:
        allocate: where sums are kept.
        limit: entered around user code only, so that a time-out cannot tear a sum.
        work: what gives the answer; None builds the client and lets it work.
        spent_s: what the turn took before.

    Raises:
        NotSupported: the strategy cannot work with such a client at all.
    """
    started = time.perf_counter() - spent_s
    try:
        ctx = program.context(ask, memory)
        with limit or nullcontext():
            answer = (work or _work)(program, ask, ctx)
        loss: float | None = None
        if isinstance(answer, Update):
            loss = _take(program, ask, answer, ctx, memory, tally, allocate)
            examples, steps = answer.examples, answer.steps
        else:
            examples, steps = _note(program, ask, answer, tally), 0
    except NotSupported:
        raise
    except (Exception, ClientTimeout, SystemExit, GeneratorExit) as error:
        # A client that calls sys.exit() ends its own turn, not the run.
        receipt = _failed(ask, error, time.perf_counter() - started)
    else:
        seconds = time.perf_counter() - started
        receipt = Receipt(ask.client, ask.task.round, ask.attempt, "done", examples, steps, seconds=seconds, loss=loss)
    tally.receipts.append(receipt)


def _work(program: Program, ask: Ask, ctx: Context) -> Update | Evaluation | str:
    """The user's part of a turn: an update, an evaluation, or a sentence on why there is none."""
    one_thread_each(program.threads)
    if (reply := program.strategy.reply(ask, ctx)) is not None:
        return reply
    client = program.build(ctx)
    one_thread_each(program.threads)
    # Again, so that it makes no difference whether the model was built just now or is one that is reused.
    seed_process(ctx.key)
    if ask.kind == "fit" or program.strategy.evaluates:
        update, ctx.memory = program.strategy.local(ask, client, ctx)
        if ctx.share < 1:
            raise ClientError(
                ask.client,
                "was not done at the deadline, and what it had done is not known: partial work needs a client and a "
                "strategy that train step by step, such as TorchClient or GradientClient and FedAvg",
            )
        return update
    if "evaluate" not in client.capabilities:
        return f"{type(getattr(client, 'user', client)).__name__} has no evaluate; evaluation is skipped"
    return client.evaluate_arrays(assemble(ask.task, client, ctx), ctx)


def _take(
    program: Program,
    ask: Ask,
    update: Update,
    ctx: Context,
    before: bytes | None,
    tally: Tally,
    allocate: Allocate | None,
) -> float | None:
    """Fold an update; returns what the run's selector is told of it."""
    strategy = program.strategy
    schema = strategy.schema(ask.task, ask.own)
    validate(ask.client, update.groups, schema)
    examples = checked_examples(ask.client, update.examples)
    state = write_memory(ask.client, ctx.memory)
    groups = counted(strategy.open(update, ask.task, ask.own), ask)
    if schema:
        tally.fold(strategy.reducer, schema, groups, allocate)
    if update.own:
        tally.own[ask.client] = dict(update.own)
    # From here on nothing may fail: the update is in the sum.
    if state is not None and state != before:
        tally.states[ask.client] = state
    return measured(program, ask, update.metrics, examples, tally)


def measured(program: Program, ask: Ask, metrics: Mapping[str, Any], examples: float, tally: Tally) -> float | None:
    """Add one client's numbers to `tally`; what is no number is told and left out. Returns what selectors are told."""
    kept, sentences = numbers(metrics)
    tally.warnings += [f"client {ask.client}: {sentence}" for sentence in sentences]
    tally.measure(examples, kept)
    if program.per_client_metrics:
        tally.clients.append({"client": ask.client, "examples": examples, "metrics": kept})
    return None if program.hears is None else kept.get(program.hears)


def _note(program: Program, ask: Ask, answer: Evaluation | str, tally: Tally) -> float:
    if isinstance(answer, str):
        tally.warnings.append(answer)
        return 0.0
    measured(program, ask, {"loss": answer.loss, **answer.metrics}, answer.examples, tally)
    return answer.examples


def _failed(ask: Ask, error: BaseException, seconds: float) -> Receipt:
    verdict = "refused" if isinstance(error, ClientError) else "failed"
    return Receipt(ask.client, ask.task.round, ask.attempt, verdict, reason=sentence(error), seconds=seconds)


def short(text: str) -> str:
    """A text that fits a line of a log."""
    return printable(text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 1] + "…")


def in_short(text: str) -> str:
    """The first sentence of what `sentence` gave, and where it was raised: libraries go on with advice of their own."""
    return FURTHER.sub("", text)


def sentence(error: BaseException) -> str:
    """An exception in one line: what it says and where in the user's code it was raised."""
    if isinstance(error, ClientError):
        return short(error.reason)
    if isinstance(error, ClientTimeout):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    mine = __file__.rsplit("runtimes", 1)[0]
    users = [frame for frame in frames if not frame.filename.startswith(mine)]
    first_line = short(said(error).strip().split("\n")[0])
    what = f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__
    if not users:
        return what
    inner = users[-1]
    # The last frame of the user's own file says more than the depths of a library it called.
    own = [frame for frame in users if "site-packages" not in frame.filename and "/lib/python" not in frame.filename]
    inner = own[-1] if own else inner
    return f"{what} (in {inner.name}, {inner.filename.rsplit('/', 1)[-1]} line {inner.lineno})"
