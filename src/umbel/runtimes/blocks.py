"""Many turns at once: the clients of a block train together, and each one's answer is then taken as any other."""

from __future__ import annotations

import copy
import time
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import final

from umbel.arrays import Arrays
from umbel.block import BlockClient, Member
from umbel.cohort import are_whole
from umbel.errors import NotSupported
from umbel.local import Correction, TrainedApart
from umbel.local_client import Fitted, StepClient
from umbel.message import Ask, ClientState, Context, Evaluation, Update
from umbel.reducers.ladder import Allocate
from umbel.runtimes.many import play_many
from umbel.runtimes.program import Program
from umbel.runtimes.tally import Tally
from umbel.runtimes.threads import one_thread_each
from umbel.runtimes.turn import Work, in_short, play, sentence

LEAST = 5
"""A block of fewer clients is slower than they are one by one."""
ONE_BY_ONE = "some clients are trained one by one and not in blocks: "
FEW = f"fewer than {LEAST} of those in a block were built alike"


@final
class _Wanted(BaseException):
    """What a strategy wants to have trained; no `except Exception` of its own swallows it."""

    def __init__(self, start: Arrays, correction: Correction | None) -> None:
        self.start, self.correction = start, correction


@final
class _Apart(TrainedApart):
    """Stands before a strategy in a client's place: first to hear what is to be trained, then with the result."""

    def __init__(self, client: StepClient, fitted: Fitted | None = None) -> None:
        self.client, self.fitted, self._is_used = client, fitted, False
        self.capabilities, self.corrections = client.capabilities, client.corrections

    def parameters(self, ctx: Context) -> Arrays:
        return self.client.parameters(ctx)

    def fit_corrected(self, start: Arrays, ctx: Context, correction: Correction | None) -> Fitted:
        if self.fitted is None:
            raise _Wanted(start, correction)
        if self._is_used:
            raise NotSupported("its strategy trains it more than once in a turn")
        self._is_used = True
        return self.fitted

    def fit_arrays(self, start: Arrays, ctx: Context) -> Fitted:
        raise NotSupported("it asks for more of a client than to train with a correction")

    def evaluate_arrays(self, model: Arrays, ctx: Context) -> Evaluation:
        raise NotSupported("it asks for more of a client than to train with a correction")


@final
@dataclass
class _Turn:
    """One client of a block."""

    ask: Ask
    memory: bytes | None
    ctx: Context
    member: Member
    kind: Hashable
    built: ClientState
    """What the client remembers after it was built."""
    fitted: Fitted | None = None


def play_block(
    program: Program,
    asks: Sequence[Ask],
    memories: Sequence[bytes | None],
    tally: Tally,
    allocate: Allocate | None = None,
) -> None:
    """Run the turns of a block and add them to `tally`, in the block's order.

    A client that cannot train with others takes its turn alone, as in `play`; why is said once.

    Raises:
        NotSupported: the strategy cannot work with such a client at all.
    """
    started = time.perf_counter()
    turns: list[_Turn | None] = [None] * len(asks)
    fits = asks[0].kind == "fit"
    apart = fits and (any(memories) or not are_whole(asks))
    if len(asks) >= LEAST and not apart and _at_once(program, asks, tally, allocate):
        return
    if fits and len(asks) >= LEAST:
        turns = [_asked(program, ask, memory, tally) for ask, memory in zip(asks, memories, strict=True)]
        for alike in _kinds(turn for turn in turns if turn is not None):
            _train(alike, tally)
    spent_s = (time.perf_counter() - started) / len(asks)
    for ask, memory, turn in zip(asks, memories, turns, strict=True):
        if turn is None or turn.fitted is None:
            play(program, ask, memory, tally, allocate)
        else:
            try:
                play(program, ask, memory, tally, allocate, work=_answer(turn), spent_s=spent_s)
            except NotSupported as error:
                _say(tally, str(error))
                play(program, ask, memory, tally, allocate)
            # What was summed is not kept: a block of large models is in memory once as it is.
            turn.fitted = None


def together(program: Program, asks: Iterable[Ask]) -> tuple[list[Member], str]:
    """The largest group of these clients that one call can train, and why others cannot train so.

    The reason is "" where there is none, or where a client failed, which is told in its turn.
    """
    tally = Tally()
    turns = [_asked(program, ask, None, tally) for ask in asks]
    groups = _kinds(turn for turn in turns if turn is not None)
    members = [turn.member for turn in max(groups, key=len)] if groups else []
    if 0 < len(members) < LEAST <= len(turns):
        _say(tally, FEW)
    return members, next((text.removeprefix(ONE_BY_ONE) for text in tally.warnings), "")


def _kinds(turns: Iterable[_Turn]) -> list[list[_Turn]]:
    kinds: dict[Hashable, list[_Turn]] = {}
    for turn in turns:
        kinds.setdefault(turn.kind, []).append(turn)
    return list(kinds.values())


def _at_once(program: Program, asks: Sequence[Ask], tally: Tally, allocate: Allocate | None) -> bool:
    try:
        return play_many(program, asks, tally, allocate)
    except NotSupported:
        return False  # of a fit it is told when the clients are built


def _asked(program: Program, ask: Ask, memory: bytes | None, tally: Tally) -> _Turn | None:
    """A client that was built, with what the strategy wants to have trained; None if it is to be played alone."""
    if ask.share < 1:
        return None
    one_thread_each(program.threads)
    try:
        ctx = program.context(ask, memory)
        client = program.build(ctx)
        one_thread_each(program.threads)
        if not isinstance(client, BlockClient):
            raise NotSupported(f"{type(getattr(client, 'user', client)).__name__} is no client for blocks")
        kind = client.block_kind(ctx)
        built = copy.deepcopy(ctx.memory)
        found = wanted(program, ask, client, ctx)
        if found is None:
            return None
        start, correction = found
        return _Turn(ask, memory, ctx, Member(client, start, ctx, correction), (kind, _rule(correction)), built)
    except NotSupported as error:
        _say(tally, str(error))
        return None
    except (Exception, SystemExit, GeneratorExit):
        # Alone it fails again, and is told of then.
        return None


def wanted(program: Program, ask: Ask, client: StepClient, ctx: Context) -> tuple[Arrays, Correction | None] | None:
    """The model and the correction that the strategy would have this client trained with; None if it is not to train.

    Raises:
        NotSupported: it wants more of the client.
    """
    try:
        program.strategy.local(ask, _Apart(client), ctx)
    except _Wanted as found:
        return found.start, found.correction
    except NotSupported:
        raise NotSupported("its strategy does more with a client than to train it once") from None
    return None


def _rule(correction: Correction | None) -> Hashable:
    """What is equal for corrections that one call can make: by one rule, with arrays of their own or without."""
    if correction is None:
        return None
    rule = correction.rule
    cells = getattr(rule, "__closure__", None) or ()
    held = tuple(cell.cell_contents for cell in cells)
    same = held if all(isinstance(value, (int, float, str, bool, type(None))) for value in held) else id(rule)
    return getattr(rule, "__code__", id(rule)), same, correction.extra is None


def _train(turns: Sequence[_Turn], tally: Tally) -> None:
    if len(turns) < LEAST:
        _say(tally, FEW)
        return
    try:
        fitted = type(turns[0].member.client).train_block([turn.member for turn in turns])
    except Exception as error:
        # One client's data can be the cause. Alone it fails, and the others do not.
        _say(tally, in_short(sentence(error)))
        return
    for turn, result in zip(turns, fitted, strict=True):
        turn.fitted = result


def _answer(turn: _Turn) -> Work:
    def work(program: Program, ask: Ask, ctx: Context) -> Update:
        ctx.memory = turn.built
        update, ctx.memory = program.strategy.local(ask, _Apart(turn.member.client, turn.fitted), ctx)
        return update

    return work


def _say(tally: Tally, reason: str) -> None:
    sentence = ONE_BY_ONE + reason
    if sentence not in tally.warnings:
        tally.warnings.append(sentence)
