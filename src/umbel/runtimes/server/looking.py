"""An answer to a fit ask, looked at before anything is made of it: whatever is wrong with it becomes a refusal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from umbel.errors import ClientError, StoreError, UmbelError
from umbel.message import Ask, Receipt, checked_examples, validate
from umbel.runtimes.mail import SEAL_BYTES, Answer, read_answer, seal_of
from umbel.runtimes.server.events import Came
from umbel.runtimes.server.opened import Opened
from umbel.runtimes.server.spool import Sheet, read_sheet, validate_sheet
from umbel.runtimes.turn import sentence
from umbel.strategy import Strategy


def looked_at(
    came: Came, ask: Ask, phase: Opened, strategy: Strategy, spool: Path | None = None
) -> tuple[Answer | None, Receipt, Any]:
    """(the answer, its receipt, the groups to fold).

    Args:
        phase: the one that the ask is of.
        spool: where updates lie, if they are not in memory; their groups are sheets' then.

    Raises:
        StoreError: there is no room for the update, which is no fault of the client's.
    """
    blank = Receipt(came.client, ask.task.round, ask.attempt, "refused")
    answer: Answer | None = None
    try:
        groups: Any = None
        if spool is not None:
            sheet = came.data if isinstance(came.data, Sheet) else Sheet.of(spool, came.data)
            answer, groups = read_sheet(sheet)
        else:
            assert isinstance(came.data, memoryview)
            answer = read_answer(came.data)
        if answer.verdict != "done" or answer.update is None:
            verdict: Any = "failed" if answer.verdict in ("failed", "unwilling") else "refused"
            return answer, replace(blank, verdict=verdict, reason=answer.reason or "sent no update"), None
        update = answer.update
        if spool is not None:
            validate_sheet(came.client, groups, phase.schema)
        else:
            validate(came.client, update.groups, phase.schema)
            groups = strategy.open(update, ask.task, ask.own)
        examples = checked_examples(came.client, update.examples)
    except ClientError as error:
        return answer, replace(blank, reason=error.reason), None
    except StoreError:
        raise
    except UmbelError as error:
        return answer, replace(blank, reason=str(error)), None
    except Exception as error:
        return answer, replace(blank, reason=f"its update cannot be opened: {sentence(error)}"), None
    done = replace(blank, verdict="done", examples=examples, steps=update.steps, seconds=answer.seconds)
    return answer, replace(done, update=sealed(came)), groups


def sealed(came: Came) -> str:
    """The seal of the frame that came."""
    data = came.data
    return seal_of([data.read(len(data) - SEAL_BYTES, len(data)) if isinstance(data, Sheet) else data])
