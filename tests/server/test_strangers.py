"""Strangers at the server's port keep to its pace, or are cut off; streams that are read live on."""

import asyncio
import socket
import ssl
from contextlib import closing

import pytest

pytest.importorskip("starlette")

from umbel.identity import Authority
from umbel.runtimes.server.desk import Desk, Limits
from umbel.runtimes.server.strangers import Patience
from umbel.transports.memory import MemoryTransport
from umbel.wire.packets import Welcome

from .open_house import OpenHouse, node

LONG_S = 1000.0
HEAD = b"POST /v1/runs HTTP/1.1\r\nHost: x\r\n"


def patience(**short):
    """All that is not `short` is longer than any test."""
    return Patience(**{"first_s": LONG_S, "head_s": LONG_S, "body_s": LONG_S, "unread_s": LONG_S, **short})


def until_closed(connection):
    """What comes until the other side closes, which it has to do before the socket's timeout."""
    data = b""
    try:
        while piece := connection.recv(65536):
            data += piece
    except ConnectionResetError:
        pass
    return data


def until_empty(house, count=0):
    """Wait until only so many strangers are left."""

    async def wait():
        async with asyncio.timeout(30):
            while house.strangers.count > count:
                await asyncio.sleep(0.01)

    house.on_loop(wait())


@pytest.mark.parametrize(
    ("short", "said"),
    [
        ("first_s", b""),
        ("first_s", b"UMB"),
        ("head_s", b"GET /v1/he"),
        ("head_s", HEAD),
        ("body_s", HEAD + b"Content-Length: 10\r\n\r\n{"),
        ("body_s", HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"),
    ],
)
def test_who_does_not_come_to_the_end_of_a_request_is_cut_off(tmp_path, short, said):
    with OpenHouse(tmp_path, patience=patience(**{short: 0.2})) as house, closing(house.socket()) as slow:
        slow.sendall(said)
        assert until_closed(slow) == b""
        until_empty(house)
        assert house.ask("GET", "/v1/health")[0] == 200
    assert not house.faults


def test_a_second_request_on_the_same_connection_has_to_come_to_its_end_too(tmp_path):
    with OpenHouse(tmp_path, patience=patience(unread_s=0.2)) as house, closing(house.socket()) as slow:
        slow.sendall(b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/he")
        assert until_closed(slow).startswith(b"HTTP/1.1 200 OK")


@pytest.fixture
def authority(tmp_path):
    with closing(Authority.open(tmp_path / "identity", server_name="here", hosts=())) as found:
        yield found


@pytest.mark.parametrize("handshake", [False, True])
def test_before_and_after_the_handshake_of_tls_as_well(tmp_path, authority, handshake):
    with OpenHouse(tmp_path, authority=authority, patience=patience(first_s=0.3)) as house:
        plain = house.socket()
        if handshake:
            context = ssl.create_default_context(cadata=authority.ca_pem.decode())
            slow = context.wrap_socket(plain, server_hostname="127.0.0.1", suppress_ragged_eofs=True)
        else:
            slow = plain
        with closing(slow):
            assert until_closed(slow) == b""
            until_empty(house)
    assert not house.faults


def test_what_is_no_tls_leaves_at_once(tmp_path, authority):
    with OpenHouse(tmp_path, authority=authority, patience=patience()) as house, closing(house.socket()) as stranger:
        stranger.sendall(b"GET /v1/health HTTP/1.1\r\n\r\n")
        until_closed(stranger)
        until_empty(house)
    assert not house.faults


def test_more_strangers_than_allowed_are_closed_as_they_come(tmp_path):
    with OpenHouse(tmp_path, patience=patience(most=3)) as house:
        there = [house.socket() for _ in range(3)]
        for connection in there:
            connection.sendall(b"GET /v1/he")

        async def all_there():
            while house.strangers.count < 3:
                await asyncio.sleep(0.01)

        house.on_loop(all_there())
        with closing(house.socket()) as one_more:
            assert until_closed(one_more) == b""
        there[0].close()
        until_empty(house, 2)
        assert house.ask("GET", "/v1/health")[0] == 200
        for connection in there[1:]:
            connection.close()


def test_a_node_is_no_stranger_and_takes_nobody_s_place(tmp_path):
    with (
        OpenHouse(tmp_path, patience=patience(most=1)) as house,
        node(house, name="a", boot=b"1") as first,
        node(house, name="b", boot=b"2") as second,
    ):
        assert first.hears(Welcome)
        assert second.hears(Welcome)
        assert len(house.ask("GET", "/v1/nodes")[1]["nodes"]) == 2


def test_links_that_say_no_hello_are_bounded_too():
    async def main():
        desk, transport = Desk("server", say=lambda text: None, limits=Limits(strangers=2)), MemoryTransport()
        await transport.listen("server", desk.arrived)
        closed = asyncio.Event()

        class Ear:
            def packet(self, data):
                pass

            def writable(self):
                pass

            def closed(self, reason):
                closed.set()

        links = [await transport.connect("server") for _ in range(3)]
        for link in links:
            link.start(Ear())
        async with asyncio.timeout(30):
            await closed.wait()
        assert desk.strangers == 2
        for link in links:
            link.abort()
        async with asyncio.timeout(30):
            while desk.strangers:
                await asyncio.sleep(0.01)
        await desk.close("the test is over", finished=True)

    asyncio.run(main())


@pytest.fixture
def talkative(tmp_path):
    """A house with a run whose log and checkpoint have 20 MB each; the pace is that of the test."""
    from umbel.stores import RunInfo, SQLiteStore

    store = SQLiteStore(tmp_path / "runs.db")
    store.create(RunInfo("long", "long", 0.0, "finished", {"config": {"num_rounds": 1}}))
    for _ in range(20):
        store.append("long", {"kind": "warning", "round": 0, "text": "x" * 10**6})
    event = {"kind": "round", "round": 1}
    store.commit("long", event, round=1, checkpoint=[bytes(20 * 10**6)], states={}, keep=[])
    store.close()

    def opened(**short):
        return OpenHouse(tmp_path, patience=patience(**short))

    return opened


def test_an_answer_that_nobody_reads_is_let_go_of(talkative):
    with talkative(unread_s=0.3) as house, closing(socket.socket()) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, port = house.address.split(":")
        deaf.connect((host, int(port)))
        deaf.sendall(b"GET /v1/runs/long/events HTTP/1.1\r\nHost: x\r\n\r\n")
        assert deaf.recv(1) == b"H"
        until_empty(house)
    assert not house.faults


def test_a_large_answer_goes_out_in_pieces_that_wait_for_the_reader(talkative):
    with talkative() as house, closing(house.socket()) as slow:
        slow.sendall(b"GET /v1/runs/long/checkpoints/1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        heard = b""
        while len(heard) < 10**6:
            heard += slow.recv(65536)

        async def unread():
            # Asked on the house's loop, which is then in the middle of no write.
            return [caller.unread_bytes for caller in house.strangers.callers]

        [waiting] = house.on_loop(unread())
        assert waiting < 2 * 10**6
        assert len(heard + until_closed(slow)) > 20 * 10**6


def test_a_stream_that_is_read_lives_longer_than_any_patience(tmp_path):
    with OpenHouse(tmp_path, patience=Patience(first_s=0.2, head_s=0.2, body_s=0.2, unread_s=0.2)) as house:
        run = house.ask("POST", "/v1/runs", {"app": "toy"})[1]["run"]
        with closing(house.socket()) as stream:
            stream.sendall(f"GET /v1/runs/{run}/events?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            heard = stream.recv(65536)
            for _ in range(3):
                with closing(house.socket()) as slow:
                    slow.sendall(b"GET /v1/he")
                    until_closed(slow)  # which takes all the patience there is
            assert house.ask("POST", f"/v1/runs/{run}/stop")[0] == 200
            heard += until_closed(stream)
        assert b'"kind": "waiting"' in heard
        assert heard.endswith(b"0\r\n\r\n")
    assert not house.faults
