"""`KeyedWorker`: a worker whose client takes part in secure sums, with a vault beside it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, final

from umbel.arrays import Arrays
from umbel.errors import ClientError, UmbelError
from umbel.message import Update
from umbel.runtimes.halves import is_secured
from umbel.runtimes.mail import Answer, Letter, seal_answer
from umbel.runtimes.node.opened_sums import OpenedSums
from umbel.runtimes.node.promises import hides_clients
from umbel.runtimes.node.signed_sums import SignedSums
from umbel.runtimes.node.vault import Vault, floors_in, is_light_step, is_step, vault_for
from umbel.runtimes.node.worker import Finished, Worker, without

KEPT_ANSWERS = 8


@final
@dataclass
class _Sums:
    """The answers to the last asks of a run: a step is taken once, and may be asked again if a link broke.

    Attributes:
        keeper: of keys; where the client's process encrypts, of what it signs alone.
        evaluates: whether the client can: the sum of an evaluation by one among clients that cannot is that one's.
    """

    keeper: Vault | SignedSums
    evaluates: bool
    answers: dict[tuple[int, int, str, int], Finished] = field(
        default_factory=dict[tuple[int, int, str, int], Finished]
    )


@final
class KeyedWorker:
    """Answers the steps of secure sums for which no client works, and lets the client mask its vector in the others.

    Args:
        name: the client's id.
        worker: where the client works.
        opened: the sums that this node has helped to open; None remembers them here.
    """

    def __init__(self, worker: Worker, name: str, opened: OpenedSums | None = None) -> None:
        self._worker, self._name, self._opened = worker, name, opened or OpenedSums()
        self._sums: dict[str, _Sums] = {}

    def room(self, nbytes: int) -> memoryview:
        return self._worker.room(nbytes)

    async def start(self, run: str, plan: Mapping[str, Any]) -> dict[str, Any]:
        keeper: Vault | SignedSums | None = vault_for(run, self._name, plan, self._opened)
        if keeper is not None:
            plan = {key: value for key, value in plan.items() if key not in ("enrolled", "floors")}
        elif is_secured(plan):
            least = floors_in(plan).min_cohort
            keeper = SignedSums(self._opened.for_run(least=least, is_hidden=hides_clients(plan)))
        facts = await self._worker.start(run, plan)
        if keeper is not None:
            # A plan comes again after each reconnection, and the sum under way goes on.
            self._sums.setdefault(run, _Sums(keeper, "evaluate" in facts.get("capabilities", ())))
        return facts

    def answered(self, letter: Letter) -> Finished | None:
        """What this ask was answered with before, if that is still here."""
        sums = self._sums.get(letter.run)
        return None if sums is None or not is_step(letter) else sums.answers.get(_place(letter))

    async def play(self, run: str, letter: Letter, blobs: Mapping[str, Arrays], memory: bytes | None) -> Finished:
        sums = self._sums.get(run)
        if sums is None or not is_step(letter):
            return await self._worker.play(run, letter, blobs, memory)
        if letter.kind == "evaluate" and not sums.evaluates:
            return without(letter, "refused", "this client has no evaluate, and takes no part in sums of it")
        place = _place(letter)
        if place in sums.answers:
            return sums.answers[place]
        done = await self._done(sums.keeper, letter, blobs, memory)
        if letter.kind != "fit" or is_light_step(letter):
            # An answer to `fit` itself is kept by the node, durably.
            sums.answers[place] = done
            while len(sums.answers) > KEPT_ANSWERS:
                del sums.answers[next(iter(sums.answers))]
        return done

    async def _done(
        self, keeper: Vault | SignedSums, letter: Letter, blobs: Mapping[str, Arrays], memory: bytes | None
    ) -> Finished:
        if isinstance(keeper, SignedSums):
            reason = keeper.why_not(letter)
            if reason is not None:
                return without(letter, "refused", reason)
            done = await self._worker.play(letter.run, letter, blobs, memory)
            if done.verdict == "done":
                keeper.worked(letter)
            return done
        if is_light_step(letter):
            return _stepped(keeper, letter)
        try:
            mine = keeper.masks(letter)
        except UmbelError as error:
            return without(letter, "refused", _reason(error))
        return await self._worker.play(letter.run, replace(letter, mine=mine), blobs, memory)

    def hurry(self, run: str, left_s: float) -> None:
        self._worker.hurry(run, left_s)

    def stop(self, run: str) -> None:
        self._sums.pop(run, None)
        self._worker.stop(run)


def _place(letter: Letter) -> tuple[int, int, str, int]:
    return letter.round, letter.attempt, letter.kind, letter.key


def _stepped(vault: Vault, letter: Letter) -> Finished:
    started = time.perf_counter()
    try:
        told = vault.answer(letter)
    except UmbelError as error:
        return without(letter, "refused", _reason(error))
    place = (letter.run, letter.round, letter.attempt, letter.kind, letter.client)
    update = Update({}, 0.0, own=told)
    answer = Answer(*place, update=update, seconds=time.perf_counter() - started)
    return Finished(*seal_answer(answer), answer.verdict)


def _reason(error: UmbelError) -> str:
    return error.reason if isinstance(error, ClientError) else str(error)
