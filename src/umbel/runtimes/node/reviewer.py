"""`Reviewer`: the data's owner is shown each plan before its first run here, and says yes or no, once per plan."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast, final

from umbel.errors import ConfigError, StoreError
from umbel.identity.files import write_private
from umbel.runtimes.node.rules import digest_of, is_digest, review

FILE = "agreed.json"
LEAVES = (
    "What leaves this machine: after each round an update of the model's arrays, its weight (mostly the number of\n"
    "examples), losses and metrics; never the data. client_half says how the update is made, and per_client_metrics\n"
    "whether the server keeps this node's metrics apart."
)


@final
class Reviewer:
    """Asks a person about plans, and remembers who was let in.

    Args:
        folder: the node's; yeses are kept there over restarts, by the plan's digest.
        sender: who sends the plans, for the person.
        ask: shows a text and returns whether the answer was yes; called in a thread, as it may take hours. None is a
            node without a terminal, which refuses what was not agreed to before.
    """

    def __init__(self, folder: Path, sender: str, ask: Callable[[str], bool] | None) -> None:
        self._folder, self._sender, self._ask = folder, sender, ask
        self._asked: dict[str, asyncio.Future[bool]] = {}
        self._one = asyncio.Lock()

    async def why_not(self, plan: Any) -> str | None:
        """Why a run of `plan` is not taken part in; waits for the person if nobody was asked before.

        Args:
            plan: what the server sent of it, and the policy allowed.
        """
        if not isinstance(plan, Mapping):
            return "the plan is no table of names and values; is the server another version?"
        plan = cast("Mapping[str, Any]", plan)
        digest = digest_of(plan)
        if digest in agreed(self._folder):
            return None
        if self._ask is None:
            return (
                f"nobody at this node has agreed to the plan {digest}; its owner starts umbel node --review in a "
                f"terminal, or says umbel agree {digest} and starts the node again"
            )
        if digest not in self._asked:
            # The same plan comes again after a reconnection: one question, and a no lasts as long as the process.
            self._asked[digest] = asyncio.ensure_future(self._decide(plan, digest))
        # Shielded, as others may wait for the same answer.
        if await asyncio.shield(self._asked[digest]):
            return None
        return f"the owner of this node's data was shown the plan {digest} and said no"

    async def _decide(self, plan: Mapping[str, Any], digest: str) -> bool:
        async with self._one:
            yes = await _in_thread(self._ask, self._text(plan))
        if yes:
            agree(self._folder, digest)
        return yes

    def _text(self, plan: Mapping[str, Any]) -> str:
        lines = "\n".join(f"  {line}" for line in review(plan).splitlines()[:-1])
        return (
            f"\n{self._sender} asks this node to take part in a run:\n\n{lines}\n  digest = {digest_of(plan)}\n\n"
            f"{LEAVES}\nThe policy of this node allows it. Take part? [y/N] "
        )


def agreed(folder: Path) -> frozenset[str]:
    """The digests of the plans that the owner of `folder` agreed to.

    Raises:
        StoreError: the file of them cannot be read.
    """
    path = folder / FILE
    try:
        return frozenset(map(str, json.loads(path.read_text("utf-8"))["plans"]))
    except FileNotFoundError:
        return frozenset()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} cannot be read: {error}; remove it, and agree to the plans anew") from None


def agree(folder: Path, digest: str) -> None:
    """Remember that the owner of `folder` agreed to a plan.

    Raises:
        ConfigError: `digest` is not one of a plan.
        StoreError: it cannot be written.
    """
    if not is_digest(digest):
        raise ConfigError(
            f'a plan\'s digest is "sha256:" and 64 digits, got {digest!r}; umbel nodes shows what is asked'
        )
    plans = sorted(agreed(folder) | {digest})
    try:
        write_private(folder / FILE, json.dumps({"format": 1, "plans": plans}, indent=1).encode())
    except OSError as error:
        raise StoreError(f"{folder / FILE} cannot be written: {error.strerror or error}; name the folder") from None


async def _in_thread(ask: Callable[[str], bool] | None, text: str) -> bool:
    """The answer, from a thread that does not hold up the end of the process, as those of a pool would."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bool] = loop.create_future()

    def work() -> None:
        yes = ask is not None and ask(text)

        def tell() -> None:
            if not answer.done():
                answer.set_result(yes)

        if not loop.is_closed():
            loop.call_soon_threadsafe(tell)

    threading.Thread(target=work, daemon=True, name="umbel-review").start()
    return await answer
