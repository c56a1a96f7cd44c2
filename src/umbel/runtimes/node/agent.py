"""`Agent`: a node's side of the stream. It connects, takes plans, arrays and asks, and sends answers until settled."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, TypeAlias, final

from umbel.arrays import Arrays
from umbel.errors import ArraysError, LinkError, NotSupported, ProtocolError, StoreError, UmbelError, printable, said
from umbel.runtimes.halves import is_secured
from umbel.runtimes.mail import RESUMABLE, Answer, Letter, read_letter, seal_of, write_answer
from umbel.runtimes.node.conditions import Conditions, read_conditions
from umbel.runtimes.node.enrolled import Identities
from umbel.runtimes.node.gate import Gate, why_not_addressed
from umbel.runtimes.node.keep import Keeper, KeptTurn
from umbel.runtimes.node.keyed import KeyedWorker
from umbel.runtimes.node.opened_sums import OpenedSums, SumBook
from umbel.runtimes.node.receipts import ReceiptBook
from umbel.runtimes.node.rules import Policy
from umbel.runtimes.node.spending import Purse, Spending
from umbel.runtimes.node.vault import is_light_step
from umbel.runtimes.node.worker import Finished, NotBegun, Worker, digest_of, forgetful, without
from umbel.runtimes.stream import Stream
from umbel.runtimes.turn import sentence
from umbel.transports import Link
from umbel.wire import unpack, zstd
from umbel.wire.channel import Announced, Arrived, Event, Incoming, Withdrawn
from umbel.wire.packets import (
    INLINE_BYTES,
    OLDEST,
    VERSION,
    Cancel,
    Goodbye,
    Hello,
    Hurry,
    Ping,
    Settled,
    Want,
    Welcome,
)

Outcome: TypeAlias = Literal["finished", "refused", "lost"]
Turn: TypeAlias = tuple[str, int, int, str]
KEPT_BLOBS, KEPT_BYTES = 8, 256 * 2**20
KEPT_SEALS = 100
MAX_LETTER_BYTES = 256 * 2**20
LARGE_BYTES = 2**20
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 30.0
# A server that stands by takes over within a second or so, or sends to another address.
STANDBY_WAIT_S = 2.0
# A device that checks in keeps its connection while it works, if that is soon done.
STAYS_S = 10.0
HEARTBEAT_S = 15.0


@final
@dataclass(frozen=True)
class Identity:
    """Who a node says it is. `boot` is new at each start of the process."""

    name: str
    boot: bytes
    about: Mapping[str, Any] = field(default_factory=dict[str, Any])


@final
class Agent:
    """A node's conversation with its server, over as many connections as it takes.

    Args:
        connect: makes a fresh link.
        worker: where the client works.
        keeper: what must not be lost between asks.
        say: told what goes on, in sentences.
        max_bytes: the largest array message that is taken.
        kept_blobs: how many array messages are kept for later asks.
        policy: what the data's owner lets a server ask; None asks nobody.
        done_today: how many rounds were worked on today, for the policy.
        purse: what runs have promised, for the policy, or for one that comes later.
        sums: which secure sums this node has helped to open; None keeps them in this process.
        conditions: what the machine is doing, for the policy.
        check_in: tells how the machine is; the node then connects for a moment, takes a task or comes back when the
            server says. None stays connected.
        receipts: keeps what the server gives for answers that are in a model; None drops it.
        enrolled: makes an identity for the secure rounds of a run; None where nobody is enrolled.
        review: why a plan that the policy allows is not taken, after asking its data's owner; None asks nobody.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Link]],
        identity: Identity,
        worker: Worker,
        keeper: Keeper,
        *,
        say: Callable[[str], None],
        max_bytes: int = 2**40,
        policy: Policy | None = None,
        done_today: Callable[[], int] = lambda: 0,
        purse: Purse | None = None,
        sums: SumBook | None = None,
        conditions: Callable[[], Conditions] = read_conditions,
        review: Callable[[Any], Awaitable[str | None]] | None = None,
        check_in: Callable[[], Awaitable[Mapping[str, Any]]] | None = None,
        enrolled: Callable[[str], Mapping[str, bytes] | None] = lambda run: None,
        receipts: ReceiptBook | None = None,
        kept_blobs: int = KEPT_BLOBS,
        rng: random.Random | None = None,
    ) -> None:
        self._connect, self._identity, self._keeper = connect, identity, keeper
        self._worker = KeyedWorker(worker, identity.name, OpenedSums(sums))
        self._say, self._max_bytes = say, max_bytes
        self._gate = policy and Gate(policy, done_today=done_today, purse=purse, conditions=conditions)
        self._spending = Spending(purse)
        self._review = review
        self._check_in, self._checked_in_s = check_in, math.nan
        self._away, self._back = False, asyncio.Event()
        self._begun: dict[str, bytes] = {}
        self._identities = Identities(enrolled)
        self._receipts, self._seals = receipts, OrderedDict[tuple[str, int, int], set[str]]()
        """The seals of answers that were sent, of training and of evaluation."""
        self._unsent: tuple[Turn, str, Finished] | None = None
        """An answer that was ready while there was no connection, and to which ask."""
        self._declined: OrderedDict[str, str] = OrderedDict()
        self._rng = rng or random.Random()
        self._blobs: OrderedDict[str, Arrays] = OrderedDict()
        self._kept_blobs, self._needed_blobs = kept_blobs, 0
        self._partial: dict[bytes, tuple[memoryview, Incoming]] = {}
        self._turns: asyncio.Queue[Letter] = asyncio.Queue()
        self._known: set[Turn] = set()
        self._cancelled: set[Turn] = set()
        self._now: Turn | None = None
        self._came = asyncio.Event()
        self._stream: Stream | None = None
        self._end: asyncio.Future[Goodbye | str] | None = None
        self._heartbeat_s = HEARTBEAT_S
        self._heard = self._packs = False
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, *, give_up_s: float | None = None) -> str:
        """Stay connected until the server has finished; returns its reason.

        Args:
            give_up_s: how long to try before the first contact; None tries for ever.

        Raises:
            LinkError: the server will not have this node, or was not found in time.
        """
        player = asyncio.ensure_future(self._play())
        loop = asyncio.get_running_loop()
        wait_s, met, began = FIRST_WAIT_S, False, loop.time()
        try:
            while True:
                self._heard = False
                try:
                    about = await self._about()
                    ended = await self._converse(await self._connect(), about)
                except LinkError as error:
                    if give_up_s is not None and not met and loop.time() - began >= give_up_s:
                        raise
                    ended = str(error)
                if isinstance(ended, Goodbye):
                    if ended.finished:
                        return ended.reason
                    if ended.refused:
                        raise LinkError(f"the server refuses this node: {ended.reason}")
                    if self._check_in is not None and ended.retry_ms:
                        met, wait_s = True, FIRST_WAIT_S
                        self._rest()
                        self._say(f"{ended.reason}; coming back in {ended.retry_ms / 1000:.0f} s")
                        # The server has spread its devices already.
                        await asyncio.sleep(ended.retry_ms / 1000)
                        continue
                    wait_s = max(wait_s, ended.retry_ms / 1000)
                    if ended.standby:
                        wait_s = min(wait_s, STANDBY_WAIT_S)
                if self._heard:
                    met, wait_s = True, FIRST_WAIT_S
                if self._away:
                    await self._back.wait()
                    self._away = False
                    continue
                text = ended.reason if isinstance(ended, Goodbye) else ended
                pause = wait_s * self._rng.uniform(0.5, 1.5)
                self._say(f"{text}; trying again in {pause:.1f} s")
                await asyncio.sleep(pause)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
        finally:
            player.cancel()
            for task in self._tasks:
                task.cancel()

    async def _converse(self, link: Link, about: Mapping[str, Any]) -> Goodbye | str:
        """One connection, from hello to its end."""
        loop = asyncio.get_running_loop()
        self._checked_in_s = loop.time()
        self._end = loop.create_future()
        stream = self._stream = Stream(link, self._happened, self._ended)
        who, unpacks = self._identity, zstd.NAME if zstd.available() else ""
        self._packs = False
        stream.say(Hello(VERSION, OLDEST, who.name, who.boot, json.dumps(about), self._check_in is not None, unpacks))
        stream.start()
        beat = asyncio.ensure_future(self._beat(stream))
        try:
            return await self._end
        finally:
            beat.cancel()
            self._stream = None
            link.abort()
            await asyncio.wait([stream.gone], timeout=1.0)

    async def _about(self) -> dict[str, Any]:
        """What is told in hello; of a device that checks in also how it is, and for how long it was away."""
        about = dict(self._identity.about)
        if self._check_in is not None:
            about |= await self._check_in()
            if not math.isnan(self._checked_in_s):
                about["since_s"] = round(asyncio.get_running_loop().time() - self._checked_in_s, 3)
        return about

    def _rest(self) -> None:
        """Hold nothing while away: the run may be over when this device comes back."""
        for run in self._begun:
            self._worker.stop(run)
        self._begun.clear()

    def _leave(self) -> None:
        """Work on without a connection, and come back with the answer."""
        if self._stream is not None:
            self._away = True
            self._back.clear()
            self._stream.end("working; the answer comes later")

    def reconnect(self, reason: str) -> None:
        """End the connection, if there is one; the next begins at once, and what was under way goes on in it."""
        if self._stream is not None:
            self._stream.end(reason)

    async def _beat(self, stream: Stream) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._heartbeat_s / 2)
            silent = loop.time() - stream.heard_at_s
            if silent > 3 * self._heartbeat_s:
                stream.abort(f"the server was silent for {silent:.0f} s")
            elif loop.time() - stream.said_at_s >= self._heartbeat_s / 2 or silent >= self._heartbeat_s / 2:
                stream.say(Ping(1))

    def _ended(self, reason: str) -> None:
        if self._end is not None and not self._end.done():
            self._end.set_result(reason)

    def _happened(self, event: Event) -> None:
        if isinstance(event, Announced):
            self._announced(event.message)
        elif isinstance(event, Arrived):
            self._arrived(event.message)
        elif isinstance(event, Withdrawn):
            self._partial.pop(event.message.digest, None)
        elif isinstance(event, Welcome):
            self._welcomed(event)
        elif isinstance(event, Goodbye):
            if self._end is not None and not self._end.done():
                self._end.set_result(replace(event, reason=printable(event.reason)))
        elif isinstance(event, Settled):
            self._settle(event)
        elif isinstance(event, Hurry):
            if self._now is not None and self._now[:3] == (event.run, event.round, event.attempt):
                self._worker.hurry(event.run, event.left_ms / 1000)
        elif isinstance(event, Cancel):
            self._cancel((event.run, event.round, event.attempt, event.kind))

    def _welcomed(self, event: Welcome) -> None:
        if not OLDEST <= event.version <= VERSION:
            raise ProtocolError(f"the server speaks version {event.version}, this node {OLDEST} to {VERSION}")
        self._heard, self._packs = True, event.packing == zstd.NAME and zstd.available()
        if event.heartbeat_ms:
            self._heartbeat_s = event.heartbeat_ms / 1000
        self._say(f"connected to {event.server or 'the server'} as {self._identity.name}")

    def _announced(self, message: Incoming) -> None:
        assert self._stream is not None
        channel = self._stream.channel
        if message.kind == "blob":
            if message.digest.hex() in self._blobs:
                channel.have(message)
                return
            if self._declines(message):
                channel.refuse(message, self._declined[message.digest.hex()])
                return
            limit = self._max_bytes
        else:
            limit = MAX_LETTER_BYTES
        if message.size > limit:
            channel.refuse(message, f"{message.size} bytes are more than the {limit} that this node takes")
            return
        got = 0
        buffer, before = self._partial.pop(message.digest, (None, None))
        if before is not None and before.size == message.size:
            got = message.got_of(before)
        if buffer is None or len(buffer) != message.size:
            buffer = self._worker.room(message.size)
        if message.kind == "blob":
            self._partial[message.digest] = (buffer, message)
        channel.accept(message, buffer, got=got)

    def _arrived(self, message: Incoming) -> None:
        assert message.buffer is not None
        data = message.buffer
        if message.kind == "blob":
            self._partial.pop(message.digest, None)
            # What is small comes without being announced.
            if not self._declines(message):
                self._spawn(self._store(message))
        elif message.kind == "plan":
            plan = hashlib.sha256(data).digest()
            if self._begun.get(message.run, plan) != plan:
                self._worker.stop(message.run)  # what is played has to be what is counted
            self._begun[message.run] = plan
            self._spawn(self._begin(message.run, data, plan))
        elif message.kind == "ask":
            self._asked(read_letter(data))
        elif message.kind == "retire":
            if bytes(data) != RESUMABLE:
                self._keeper.forget(message.run)
            self._begun.pop(message.run, None)
            self._identities.forget(message.run)
            self._cancelled |= {turn for turn in self._known if turn[0] == message.run}
            self._worker.stop(message.run)
            self._came.set()

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _store(self, message: Incoming) -> None:
        """Check a blob's digest and keep it."""
        assert message.buffer is not None
        data = message.buffer
        if len(data) > LARGE_BYTES:
            digest = await asyncio.get_running_loop().run_in_executor(None, digest_of, data)
        else:
            digest = digest_of(data)
        try:
            if digest != message.digest:
                raise ArraysError("its digest does not match: bytes were changed on the way")
            self._blobs[digest.hex()] = Arrays.from_buffer(data)
        except ArraysError as error:
            if self._stream is not None:
                self._stream.end(f"arrays from the server cannot be used: {error}")
            return
        self._trim()
        self._came.set()

    def _trim(self) -> None:
        while len(self._blobs) > max(self._kept_blobs, self._needed_blobs):
            self._blobs.popitem(last=False)

    def _let_go_of_large(self) -> None:
        """Keep what the ask under way needs, and of the others what is little: large models are sent again."""
        spare = list(self._blobs)[: -self._needed_blobs]
        for digest in spare:
            if sum(self._blobs[name].nbytes for name in self._blobs) > KEPT_BYTES:
                del self._blobs[digest]

    def _declines(self, message: Incoming) -> bool:
        """Whether the policy is against these arrays; remembered, so that asks which need them get an answer."""
        reason = self._gate and self._gate.policy.why_not_arrays(message.size)
        if not reason:
            return False
        self._declined[message.digest.hex()] = reason
        while len(self._declined) > KEPT_BLOBS:
            self._declined.popitem(last=False)
        self._came.set()
        return True

    async def _begin(self, run: str, data: memoryview, digest: bytes) -> None:
        """Make ready for a run and say what its client can, or why it cannot take part.

        Between two steps of this another plan of the run may come: that one is counted then, and has to be played.
        """
        base = Answer(run, 0, 0, "properties", self._identity.name)
        try:
            plan: Any = unpack("plan", data).get("plan")
            reason = await self._gate.why_not_begin(run, plan) if self._gate else self._spending.note(run, plan)
            if not reason and self._review is not None:
                reason = await self._review(plan)
            if self._begun.get(run) != digest:
                return  # it is over, or another, before it was begun
            if reason:
                raise NotSupported(reason)
            if is_secured(plan):
                # The node's word on who it is and what its owner insists on, never the server's.
                floors = self._gate.policy.privacy.floors if self._gate else {}
                plan = {**plan, "run": run, "enrolled": self._identities.of(run, digest), "floors": floors}
            facts = await self._worker.start(run, plan)
            if self._begun.get(run) != digest:
                self._worker.stop(run)
                return
            answer = Answer(run, 0, 0, "properties", self._identity.name, facts=facts)
        except UmbelError as error:
            self._say(f"run {run} is not taken: {error}")
            answer = Answer(run, 0, 0, "properties", base.client, verdict="unwilling", reason=str(error))
        except NotBegun as error:
            if self._begun.get(run) != digest:
                return
            self._say(f"run {run} cannot begin here: {error}")
            answer = Answer(run, 0, 0, "properties", base.client, verdict="failed", reason=str(error))
        if self._stream is not None:
            self._stream.send("ready", write_answer(answer), run=run)

    def _asked(self, letter: Letter) -> None:
        turn = _turn(letter)
        self._cancelled.discard(turn)
        if turn in self._known:
            return  # it is being worked on; the server asks again after a reconnection
        # A server waits for one answer of a run at a time. That it gave up the one before may have been said while
        # there was no connection; that one's arrays would never come, and the others would wait behind it.
        for other in [other for other in self._known if other[0] == letter.run]:
            self._cancel(other)
        self._known.add(turn)
        self._turns.put_nowait(letter)

    def _settle(self, event: Settled) -> None:
        try:
            self._keeper.settle(event.run, event.round, event.attempt, included=event.included)
        except StoreError as error:
            # What stays behind is an answer nobody asks for again, and an older state.
            self._say(str(error))
        if self._receipts is not None and event.receipt:
            self._receive(event, self._receipts)

    def _receive(self, event: Settled, book: ReceiptBook) -> None:
        """Keep a receipt; what is wrong with it is for the data's owner to know."""
        card = self._identity.about.get("card", {}).get("digest")
        # After a restart of the node it is not known what was sent before.
        sent = self._seals.pop((event.run, event.round, event.attempt), None)
        problem = book.settled(event, self._identity.name, card, sent)
        if problem is not None:
            self._say(f"the receipt for round {event.round} of run {event.run} is not in order: {problem}")

    def _cancel(self, turn: Turn) -> None:
        if turn in self._known:
            self._cancelled.add(turn)
        if turn == self._now:
            self._worker.hurry(turn[0], 0.0)
            self._came.set()

    async def _play(self) -> None:
        """Answer asks, one after the other."""
        while True:
            letter = await self._turns.get()
            turn = self._now = _turn(letter)
            try:
                if turn not in self._cancelled:
                    await self._answer(letter, turn)
            except Exception as error:
                self._say(f"round {letter.round} of run {letter.run} is not answered: {sentence(error)}")
            finally:
                self._now = None
                self._back.set()
                self._known.discard(turn)
                self._cancelled.discard(turn)

    async def _answer(self, letter: Letter, turn: Turn) -> None:
        try:
            finished = await self._finished(letter)
        except StoreError as error:
            # Without its state kept, a client's answer must not count: the next turn would go on from an older one.
            self._say(str(error))
            finished = without(letter, "failed", str(error))
        if turn in self._cancelled:
            return
        reason = self._gate and self._gate.policy.why_not_answer(finished.nbytes)
        if reason:
            self._say(f"an answer of round {letter.round} of run {letter.run} does not leave: {reason}")
            finished = without(letter, "unwilling", reason)
        packed = None
        if self._packs and finished.nbytes > INLINE_BYTES:
            packed = await asyncio.get_running_loop().run_in_executor(None, zstd.packed, finished.parts)
        if self._stream is not None:
            place = {"run": letter.run, "round": letter.round, "attempt": letter.attempt}
            packed = packed if self._packs else None
            seals = self._seals.setdefault((letter.run, letter.round, letter.attempt), set())
            seals.add(seal_of(finished.parts))
            while len(self._seals) > KEPT_SEALS:
                self._seals.popitem(last=False)
            self._stream.send("answer", finished.parts, digest=finished.digest, packed=packed, **place)
            self._unsent = None
        else:
            self._unsent = turn, _about(letter), finished

    async def _finished(self, letter: Letter) -> Finished:
        """The answer to an ask: the one that is kept, or a new one, which is kept until it is settled."""
        about, place = _about(letter), (letter.run, letter.round, letter.attempt)
        if self._unsent is not None and self._unsent[:2] == (_turn(letter), about):
            return self._unsent[2]
        lasts = letter.kind == "fit" and not is_light_step(letter)
        kept = self._keeper.answer(*place, about) if lasts else None
        if kept is not None:
            return Finished(kept, digest_of(*kept), "done")
        again = self._worker.answered(letter) if not why_not_addressed(letter, self._identity.name) else None
        done = again or await self._worked(letter)
        called_off = _turn(letter) in self._cancelled
        if done.verdict in ("failed", "refused") and not called_off:
            # Whose client it is reads of it here, and not only who runs the server.
            self._say(f"{letter.kind} in round {letter.round} of run {letter.run} failed: {done.reason}")
        wanted = lasts and done.verdict == "done" and not called_off
        if wanted and not (self._gate and self._gate.policy.why_not_answer(done.nbytes)):
            keep = partial(self._keeper.keep, KeptTurn(*place, done.state, done.parts, about))
            if done.nbytes > LARGE_BYTES:
                await asyncio.get_running_loop().run_in_executor(None, keep)
            else:
                keep()
        return done

    async def _worked(self, letter: Letter) -> Finished:
        """The outcome of an ask; what cannot be worked on gets an answer, too."""
        try:
            reason = why_not_addressed(letter, self._identity.name)
            if not reason:
                reason = await self._gate.why_not_ask(letter) if self._gate else self._spending.count(letter)
            if reason:
                self._say(f"round {letter.round} of run {letter.run} is not worked on: {reason}")
                return without(letter, "unwilling", reason)
            is_light = is_light_step(letter)
            memory = None if is_light else self._keeper.state(letter.run, letter.basis)
            if letter.basis is not None and memory is None and not is_light:
                return forgetful(letter)
            arrays = await self._arrays(letter)
            leaves = None
            if self._check_in is not None:
                leaves = asyncio.get_running_loop().call_later(STAYS_S, self._leave)
            try:
                return await self._worker.play(letter.run, letter, arrays, memory)
            finally:
                if leaves is not None:
                    leaves.cancel()
        except NotSupported as error:
            return without(letter, "unwilling", str(error))
        except UmbelError as error:
            return without(letter, "failed", str(error))
        except Exception as error:
            # A fault of ours costs this turn; a node that falls silent would cost the round.
            return without(letter, "failed", f"the node failed: {type(error).__name__}: {said(error)}")

    async def _arrays(self, letter: Letter) -> dict[str, Arrays]:
        """The arrays that an ask speaks of; what is not here is asked for, again after each reconnection.

        Raises:
            NotSupported: the ask was called off, or the policy is against the arrays.
        """
        asked_on: Stream | None = None
        self._needed_blobs = len(letter.digests)
        while True:
            missing = [digest for digest in letter.digests if digest not in self._blobs]
            for digest in self._blobs.keys() & letter.digests:
                self._blobs.move_to_end(digest)  # what comes now takes the place of what has been here longest
            if _turn(letter) in self._cancelled:
                raise NotSupported("no answer is wanted any more")
            if not missing:
                break
            for digest in missing:
                if digest in self._declined:
                    raise NotSupported(self._declined[digest])
            stream = self._stream
            if stream is not None and stream is not asked_on:
                asked_on = stream
                for digest in missing:
                    if bytes.fromhex(digest) not in self._partial:
                        stream.say(Want(bytes.fromhex(digest), letter.run))
            self._came.clear()
            try:
                async with asyncio.timeout(1.0):
                    await self._came.wait()
            except TimeoutError:
                continue
        self._let_go_of_large()
        return {digest: self._blobs[digest] for digest in letter.digests}


def _turn(letter: Letter) -> Turn:
    return letter.run, letter.round, letter.attempt, letter.kind


def _about(letter: Letter) -> str:
    """What makes an answer the answer to this ask and no other."""
    return json.dumps([letter.kind, letter.client, letter.digests, letter.basis, letter.key])
