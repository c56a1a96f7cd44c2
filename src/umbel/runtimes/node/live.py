"""The life of `umbel node`: one app, one folder, one server, for as long as the process lives."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

from umbel.coordinators.where import checked_attributes
from umbel.errors import ConfigError, LinkError
from umbel.identity import Credentials, renew
from umbel.runtimes.app import AppFolder
from umbel.runtimes.matching import versions
from umbel.runtimes.node.agent import Agent, Identity
from umbel.runtimes.node.card import DataCard
from umbel.runtimes.node.disk import DiskKeeper
from umbel.runtimes.node.enrolled import enrolled
from umbel.runtimes.node.gate import reporter
from umbel.runtimes.node.policy import Policy
from umbel.runtimes.node.process import ProcessWorker
from umbel.runtimes.node.receipts import FILE, ReceiptBook, check_of
from umbel.runtimes.node.reviewer import Reviewer, agreed
from umbel.transports import InTurn, Link
from umbel.transports.tls import Tls, client_tls

RENEWAL_LOOK_S = 3600.0


@final
@dataclass(kw_only=True)
class NodeLife:
    """What a node process needs.

    Attributes:
        folder: where it keeps its credentials and its client's state.
        address: the server's, or several with commas between them; None takes that of the credentials.
        policy: what the data owner allows.
        name: the node's name where there are no credentials (an insecure server).
        attributes: what the node says of itself, as far as the policy does not say otherwise.
        card: what the owner says of the data; None says nothing.
        review: whether the data's owner has to agree to each plan.
        ask: how they are asked, as in `Reviewer`.
        check_in: connect for a moment, take a task or come back when the server says.
    """

    app: AppFolder
    folder: Path
    address: str | None = None
    name: str | None = None
    partition: int | None = None
    threads: int | None = None
    secure: bool = True
    policy: Policy | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    card: DataCard | None = None
    review: bool = False
    ask: Callable[[str], bool] | None = None
    check_in: bool = False
    _cancel: Callable[[], Any] | None = field(default=None, init=False)
    _asked: bool = field(default=False, init=False)

    def end(self) -> bool:
        """Make `live` return, from a signal's handler; False if nothing waits in it.

        An exception that a handler raises in the midst of the event loop can cost any task its turn, and then the
        loop's end would wait for that task for ever.
        """
        if self._cancel is None:
            return False
        self._asked = True
        self._cancel()
        return True

    def live(self, say: Callable[[str], None]) -> None:
        """Take part until it is ended.

        Raises:
            LinkError: the server will not have this node.
            AppError: the app cannot be loaded.
            IdentityError: there are no credentials.
        """
        credentials = Credentials.load(self.folder) if self.secure else None
        name = credentials.name if credentials is not None else self.name or "node"
        about = {
            "apps": {self.app.name: self.app.digest},
            "versions": versions(),
            "attributes": self._attributes(),
            **({} if self.card is None else {"card": self.card.told}),
        }
        keeper = DiskKeeper(self.folder / "node.db", state_days=self.policy.keep.state_days if self.policy else None)
        try:
            asyncio.run(self._live(Identity(name, secrets.token_bytes(16), about), keeper, say))
        except asyncio.CancelledError:
            if not self._asked:
                raise
        finally:
            self._cancel = None
            keeper.close()

    def _attributes(self) -> Mapping[str, Any]:
        """What is said of the node: the owner's word is the last, and the card's the one on the region.

        Raises:
            ConfigError: it says two things of the region.
        """
        said = checked_attributes({**self.attributes, **(self.policy.attributes if self.policy else {})})
        if self.card is None:
            return said
        if said.get("region", self.card.region) != self.card.region:
            raise ConfigError(
                f"the data card says region {self.card.region!r}, the attributes say {said['region']!r}; "
                "leave the attribute out, or make it the card's"
            )
        return {**said, "region": self.card.region}

    async def _live(self, identity: Identity, keeper: DiskKeeper, say: Callable[[str], None]) -> None:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)
        given = Credentials.load(self.folder).address if self.secure else "127.0.0.1:8080"
        server = InTurn(self.address or given)
        worker = ProcessWorker(
            self.app.path,
            identity.name,
            partition=self.partition,
            threads=self.threads,
            limits=self.policy and self.policy.limits,
        )
        try:
            await worker.warm()
            agent = Agent(
                lambda: self._connect(server),
                identity,
                worker,
                keeper,
                say=say,
                policy=self._policy(),
                done_today=keeper.done_today,
                purse=keeper,
                sums=keeper,
                review=self._reviewer(),
                receipts=self._receipts(),
                enrolled=self._enrolled if self.secure else lambda run: None,
                check_in=reporter(self.policy) if self.check_in else None,
            )
            renewing = asyncio.ensure_future(self._renew(agent)) if self.secure else None
            try:
                await agent.run()
            finally:
                if renewing is not None:
                    renewing.cancel()
        finally:
            worker.close()

    def _receipts(self) -> ReceiptBook:
        ca_pem = Credentials.load(self.folder).ca_pem if self.secure else None
        return ReceiptBook(self.folder / FILE, check_of(ca_pem))

    def _enrolled(self, run: str) -> Mapping[str, bytes]:
        mine = Credentials.load(self.folder)
        return enrolled(run, mine.name, mine.ca_pem, mine.certificate_pem, mine.key_pem)

    async def _renew(self, agent: Agent) -> None:
        """A connection may last longer than the certificate that it began with: a new one begins with a new one."""
        while True:
            await asyncio.sleep(RENEWAL_LOOK_S)
            if Credentials.load(self.folder).wants_renewal(time.time()):
                agent.reconnect("the certificate is to be renewed")

    def _policy(self) -> Policy | None:
        """The owner's policy. What was agreed to was read; with `review` the rest is asked about."""
        if self.policy is None:
            return None
        apps = self.policy.apps
        read = (*apps.reviewed, *agreed(self.folder))
        return replace(self.policy, apps=replace(apps, reviewed=read, review="none" if self.review else apps.review))

    def _reviewer(self) -> Callable[[Any], Awaitable[str | None]] | None:
        if not self.review:
            return None
        sender = self.address or (Credentials.load(self.folder).address if self.secure else "127.0.0.1:8080")
        return Reviewer(self.folder, f"The server at {sender}", self.ask).why_not

    async def _connect(self, server: InTurn) -> Link:
        tls: Tls | None = None
        if self.secure:
            credentials = Credentials.load(self.folder)
            if credentials.wants_renewal(time.time()):
                loop = asyncio.get_running_loop()
                credentials = await loop.run_in_executor(None, _renewed, self.folder, server.addresses)
                ended = credentials.why_ended(time.time())
                if ended is not None:
                    # Tried again: the clock may be set, or a new code be used from another terminal.
                    raise LinkError(ended)
            tls = client_tls(credentials.ca_pem, credentials.certificate_pem, credentials.key_pem)
        return await server.connect(tls)


def _renewed(folder: Path, addresses: Sequence[str]) -> Credentials:
    """Fresh credentials from the first server that answers; if none does, the old ones, which are good for a while."""
    # Certificates are renewed where one joins: at the server's port, which the other doors are beside.
    ports = [address.removeprefix("tcp://") for address in addresses]
    own = Credentials.load(folder).address
    for address in [port for port in ports if "://" not in port] or [own]:
        try:
            return renew(folder, address=address)
        except LinkError:
            continue
    return Credentials.load(folder)
