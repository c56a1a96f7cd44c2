"""`Host`: a client and the client half of a strategy, ready to answer asks. It knows no network."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, final

from umbel.arrays import Arrays
from umbel.errors import ClientError, NotSupported, UmbelError
from umbel.local import assemble
from umbel.local_client import LocalClient, StepClient
from umbel.message import Ask, Context, Evaluation, Group, Task, Update, checked_examples, numbers, validate
from umbel.randomness import seed_process
from umbel.runtimes.halves import CIPHERED, SECURED, restored
from umbel.runtimes.mail import Answer, Letter
from umbel.runtimes.memory import write_memory
from umbel.runtimes.node.vault import is_step
from umbel.runtimes.probe import check_capable
from umbel.runtimes.program import Program
from umbel.runtimes.threads import one_thread_each
from umbel.runtimes.turn import sentence
from umbel.strategy import Strategy

if TYPE_CHECKING:
    from umbel.runtimes.node.ciphers import Ciphers

PARAMETERS = "umbel.parameters"


class Clock(Protocol):
    """When the turn that is being played has to end; the network side moves it while user code runs."""

    @property
    def ends_at_s(self) -> float: ...


@final
@dataclass
class PlainClock:
    """A clock that threads of one process share."""

    ends_at_s: float = float("inf")


@final
class Host:
    """Plays one client of one run.

    Args:
        client_fn: builds the client; as in `simulate`.
        plan: what the server said of the run.
        name: the client's id.
        partition: which part of the data; None lets the name say.
        threads: how many threads the client may use; None leaves that as it is.
        packages: top-level packages of installed apps.
        clock: says when a turn has to end; None gives turns all the time there is.

    Raises:
        NotSupported: the plan's strategy is not known here, or cannot work with such a client.
    """

    def __init__(
        self,
        client_fn: Callable[..., Any],
        plan: Mapping[str, Any],
        name: str,
        *,
        partition: int | None = None,
        threads: int | None = None,
        device: str = "cpu",
        packages: Collection[str] = (),
        clock: Clock | None = None,
    ) -> None:
        strategy = restored(plan["client_half"], packages)
        self.name = name
        self.clock = clock or PlainClock()
        self.program = Program(
            client_fn,
            strategy,
            0,
            int(plan.get("num_clients") or 1),
            dict(plan.get("settings") or {}),
            device,
            threads,
            partition=partition,
        )
        self.ciphers = _ciphers_for(strategy, name, plan)
        self.facts = self._probe()

    def _probe(self) -> dict[str, Any]:
        """Build the client once; what it can, and the names of an open client's model."""
        ctx = self.program.context(Ask(self.name, "properties", Task(0, Arrays.of({})), key=0), None)
        client = self.program.build(ctx)
        check_capable(self.program.strategy, client)
        schema = None
        if isinstance(client, StepClient):
            specs = client.parameters(ctx).schema.specs
            schema = [[s.name, s.dtype, list(s.shape), s.role] for s in specs]
        return {
            "capabilities": sorted(client.capabilities),
            "kind": type(getattr(client, "user", client)).__name__,
            "schema": schema,
        }

    def play(self, letter: Letter, blobs: Mapping[str, Arrays], memory: bytes | None) -> tuple[Answer, bytes | None]:
        """Answer one ask; returns the answer and the client's state afterwards (None if it is unchanged)."""
        started = time.perf_counter()
        base = Answer(letter.run, letter.round, letter.attempt, letter.kind, letter.client)
        try:
            answer, state = self._work(base, letter.ask(blobs), memory)
        except NotSupported as error:
            answer, state = replace(base, verdict="unwilling", reason=str(error)), None
        except ClientError as error:
            answer, state = replace(base, verdict="refused", reason=error.reason), None
        except UmbelError as error:
            answer, state = replace(base, verdict="refused", reason=str(error)), None
        except KeyboardInterrupt:
            raise  # in a script it is its user's
        except BaseException as error:
            answer, state = replace(base, verdict="failed", reason=sentence(error)), None
        kept = state if state != memory else None
        return replace(answer, seconds=time.perf_counter() - started, has_state=kept is not None), kept

    def _work(self, base: Answer, ask: Ask, memory: bytes | None) -> tuple[Answer, bytes | None]:
        ctx = self.program.context(ask, memory)
        ctx.clock, ctx.ends_at_s = self._time_is(ctx), self.clock.ends_at_s
        turns = ask.kind in ("fit", "evaluate")
        if self.ciphers is not None and turns:
            ask = self.ciphers.filled(base.run, ask)
            if (reply := self.program.strategy.reply(ask, ctx)) is not None:
                return replace(base, update=self.ciphers.emptied(base.run, ask, reply)), None
        elif is_step(ask) and not self._masks(ask):
            raise NotSupported("the ask is a step of a secure round, and this run has none")
        elif self._is_secured and turns and not self._masks(ask):
            raise NotSupported("this run has secure rounds, and the ask is no step of one")
        one_thread_each(self.program.threads)
        client = self.program.build(ctx)
        one_thread_each(self.program.threads)
        seed_process(ctx.key)
        if ask.kind == "fit" or (ask.kind == "evaluate" and self.program.strategy.evaluates):
            return self._fit(base, ask, client, ctx)
        if ask.kind == "evaluate":
            return self._evaluate(base, ask, client, ctx), None
        if ask.kind == "properties":
            return replace(base, facts=dict(client.properties(ctx))), None
        return replace(base, update=self._query(ask.task, client, ctx)), None

    @property
    def _is_secured(self) -> bool:
        return type(self.program.strategy).__name__ == SECURED

    def _masks(self, ask: Ask) -> bool:
        """Whether the node made masks for the client's vector."""
        return self._is_secured and "masks" in ask.own

    def _time_is(self, ctx: Context) -> Callable[[], float]:
        """A clock that also looks whether the deadline was moved."""

        def now() -> float:
            ctx.ends_at_s = self.clock.ends_at_s
            return time.monotonic()

        return now

    def _fit(self, base: Answer, ask: Ask, client: LocalClient, ctx: Context) -> tuple[Answer, bytes | None]:
        strategy = self.program.strategy
        update, memory = strategy.local(ask, client, ctx)
        # The server looks again; here it is so that the owner reads of it, and nothing wrong travels.
        validate(ask.client, update.groups, strategy.schema(ask.task, ask.own))
        checked_examples(ask.client, update.examples)
        state = write_memory(ask.client, memory)
        kept, sentences = numbers(update.metrics)
        update = replace(update, metrics=kept)
        if self.ciphers is not None:
            update = self.ciphers.emptied(base.run, ask, update)
        return replace(base, update=update, warnings=tuple(sentences)), state if ask.kind == "fit" else None

    def _evaluate(self, base: Answer, ask: Ask, client: LocalClient, ctx: Context) -> Answer:
        if "evaluate" not in client.capabilities:
            raise ClientError(ask.client, "has no evaluate")
        judged = client.evaluate_arrays(assemble(ask.task, client, ctx), ctx)
        kept, sentences = numbers(judged.metrics)
        return replace(base, evaluation=Evaluation(judged.loss, judged.examples, kept), warnings=tuple(sentences))

    def _query(self, task: Task, client: LocalClient, ctx: Context) -> Update:
        if task.config.get("query") == PARAMETERS:
            return Update({"answer": Group(client.parameters(ctx), 1.0)}, 1.0)
        return client.answer(task, ctx)


def _ciphers_for(strategy: Strategy, name: str, plan: Mapping[str, Any]) -> Ciphers | None:
    if type(strategy).__name__ != CIPHERED:
        return None
    from umbel.runtimes.node.ciphers import ciphers_for

    return ciphers_for(str(plan["run"]), name, plan)
