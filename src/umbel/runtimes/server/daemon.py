"""The life of `umbel server`: open the folder, listen, resume what was under way, drain at SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from umbel.errors import StoreError, UmbelError
from umbel.identity import Authority, Credentials, make_request, read_code
from umbel.runtimes.app import App
from umbel.runtimes.server import front
from umbel.runtimes.server.also import Also, scheme_of
from umbel.runtimes.server.api import api
from umbel.runtimes.server.desk import Limits
from umbel.runtimes.server.house import House
from umbel.runtimes.server.memory import Memory
from umbel.runtimes.server.strangers import Strangers
from umbel.stores import store_for
from umbel.transports.tls import server_tls

OPERATOR = "operator"
LOOK_S, CONFIRM_S = 0.3, 2.0
RENEWAL_LOOK_S = 3600.0


@final
@dataclass(frozen=True, kw_only=True)
class Daemon:
    """What a server process needs.

    Attributes:
        folder: where it keeps its runs, its CA and the operator's credentials.
        listen: "host:port".
        also: more doors: "grpc://host:port", "ws://host:port", "flower://host:port".
        hosts: names and addresses at which nodes reach it, for its certificate.
        memory: what a round may take.
        standby: wait, if another server leads on the same store, until that one has ended.
        store: "postgresql://…"; None is a file in the folder.
        compress: "zstd" packs models and updates for nodes that can unpack them; None packs nothing.
        away_s: the longest that devices which check in are told to stay away.
        secure: TLS and certificates; False lets everybody do everything, in plaintext.
    """

    folder: Path
    listen: str
    apps: Sequence[App]
    hosts: Sequence[str] = ()
    also: Sequence[str] = ()
    secure: bool = True
    standby: bool = False
    store: str | None = None
    memory: Memory | None = None
    compress: str | None = None
    away_s: float = Limits().most_away_s

    async def serve(self, say: Callable[[str], None]) -> None:
        """Serve until SIGTERM or SIGINT; runs finish their step, and go on after the next start.

        Raises:
            ConfigError: an address is none.
            LinkError: an address cannot be listened at.
            StoreError: the folder cannot be used, or another server leads there and this one is not to stand by.
        """
        for address in self.also:
            scheme_of(address)
        authority = self._authority() if self.secure else None
        try:
            await self._serve(authority, say)
        finally:
            if authority is not None:
                authority.close()

    def _authority(self) -> Authority:
        return Authority.open(self.folder / "identity", server_name=socket.gethostname(), hosts=self.hosts)

    async def _serve(self, authority: Authority | None, say: Callable[[str], None]) -> None:
        name = socket.gethostname()
        store = store_for(self.store or self.folder / "runs.db", patience_s=0.0)
        house = House(
            store,
            self.apps,
            name=name,
            say=say,
            authority=authority,
            limits=Limits(most_away_s=self.away_s),
            memory=self.memory,
            compress=self.compress,
        )
        house.desk.stands_by = not store.lead()
        if house.desk.stands_by and not self.standby:
            store.close()
            raise StoreError(
                f"another server leads the runs in {self.store or self.folder}; stop it, choose another "
                "place, or let this one take over when it ends: --standby"
            )
        tls = None if authority is None else certified(authority)
        strangers = Strangers(api(house, authority))
        server, address = await front.listen(self.listen, house.desk.arrived, strangers, tls=tls)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        self._introduce(authority, address, say)
        also = Also(house, authority, say)
        await also.open(self.also)
        renewing = asyncio.ensure_future(_renew(authority, tls, also, say)) if authority and tls else None
        if await self._leads(house, stop, say):
            self._begin(authority, address, say)
            await self._until_end(house, stop)
            say("stopping: runs finish the step under way and go on after the next start")
        if renewing is not None:
            renewing.cancel()
        server.close()
        await also.close()
        await house.close()
        await strangers.farewell()
        await also.let_go()

    async def _leads(self, house: House, stop: asyncio.Event, say: Callable[[str], None]) -> bool:
        """Wait until this server leads; False if it is to end before."""
        if house.desk.stands_by:
            say("standing by: another server leads, and this one takes over when it ends")
        loop = asyncio.get_running_loop()
        while house.desk.stands_by and not stop.is_set():
            try:
                # The end of another process rings no bell here; to look is one call of the system.
                async with asyncio.timeout(LOOK_S):
                    await stop.wait()
            except TimeoutError:
                house.desk.stands_by = not await loop.run_in_executor(None, house.store.lead)
                if not house.desk.stands_by:
                    say("the other server has ended; this one leads now")
        return not stop.is_set()

    async def _until_end(self, house: House, stop: asyncio.Event) -> None:
        """Go on with the runs that were under way, and wait until this server is to end.

        Raises:
            StoreError: another server leads now, so this one must not.
        """
        loop, resumed = asyncio.get_running_loop(), house.resume_all()
        while not stop.is_set():
            try:
                async with asyncio.timeout(CONFIRM_S):
                    await stop.wait()
            except TimeoutError:
                if not await loop.run_in_executor(None, house.store.lead):
                    await house.desk.close("another server leads now", finished=False)
                    raise StoreError(
                        "another server has taken over, as this one had lost the database; start it with --standby"
                    ) from None
                resumed = resumed or house.resume_all()

    def _introduce(self, authority: Authority | None, address: str, say: Callable[[str], None]) -> None:
        say(f"listening at {address} with {', '.join(app.name for app in self.apps) or 'no app'}")
        if authority is None:
            say(
                "warning: this server is insecure: everybody who reaches it can join, start runs, and read or change "
                "models on the way"
            )

    def _begin(self, authority: Authority | None, address: str, say: Callable[[str], None]) -> None:
        if authority is None:
            return
        folder = self.folder / OPERATOR
        if not (folder / "identity.json").exists():
            _enroll_operator(authority, folder, address)
            say(f"invite a node with: umbel invite --folder {self.folder} --address HOST:{address.rpartition(':')[2]}")


def certified(authority: Authority, context: ssl.SSLContext | None = None) -> ssl.SSLContext:
    """A context that shows the server's certificate, a fresh one if it ends soon; a given one shows it from now on."""
    tls = server_tls(authority.server_certificates(), clients=False)
    if context is None:
        return tls.server_context()
    tls.load_into(context)
    return context


async def _renew(authority: Authority, context: ssl.SSLContext, also: Also, say: Callable[[str], None]) -> None:
    """See to it that a server that runs for years never shows a certificate that has ended."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(RENEWAL_LOOK_S)
        try:
            await loop.run_in_executor(None, certified, authority, context)
            await loop.run_in_executor(None, also.renew)
        except UmbelError as error:
            say(f"the server's certificate cannot be renewed: {error}")


def _enroll_operator(authority: Authority, folder: Path, address: str) -> None:
    """The operator's own credentials, without a detour over the network."""
    port = address.rpartition(":")[2]
    local = f"127.0.0.1:{port}"
    code = authority.invite(local, name=OPERATOR, role="admin", expires_s=600)
    key_pem, csr_pem = make_request(OPERATOR)
    certificate = authority.enroll(read_code(code).secret, csr_pem, OPERATOR)
    Credentials(authority.ca_pem, certificate, key_pem, OPERATOR, local).save(folder)


def make_folder(folder: Path) -> None:
    """Make the server's folder, for this user only.

    Raises:
        StoreError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreError(
            f"the folder {folder} cannot be made: {error.strerror}; choose another with --folder"
        ) from None
