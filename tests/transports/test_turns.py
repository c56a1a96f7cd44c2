"""Several addresses for one server: tried in turn, beginning after the one before."""

import asyncio

import pytest

from umbel.errors import ConfigError, LinkError
from umbel.transports import InTurn
from umbel.transports.tcp import TcpTransport


async def listening(arrived):
    return await TcpTransport().listen("127.0.0.1:0", arrived.append)


async def free_address():
    listener = await listening([])
    await listener.close()
    return listener.address


def test_an_address_that_does_not_answer_is_passed_over():
    async def play():
        links = []
        listener, dead = await listening(links), await free_address()
        turns = InTurn(f"{dead}, {listener.address}")
        for _ in range(3):
            (await turns.connect(None)).abort()
        assert len(links) == 3
        for link in links:
            link.abort()
        await listener.close()

    asyncio.run(play())


def test_the_next_connection_begins_at_the_next_address():
    async def play():
        links = [], []
        listeners = [await listening(there) for there in links]
        turns = InTurn(",".join(listener.address for listener in listeners))
        for expected in [(1, 0), (1, 1), (2, 1)]:
            (await turns.connect(None)).abort()
            assert tuple(map(len, links)) == expected
        for link in [*links[0], *links[1]]:
            link.abort()
        for listener in listeners:
            await listener.close()

    asyncio.run(play())


def test_if_none_answers_each_is_named():
    async def play():
        first, second = await free_address(), await free_address()
        with pytest.raises(LinkError) as told:
            await InTurn(f"{first},{second}").connect(None)
        assert first in str(told.value)
        assert second in str(told.value)

    asyncio.run(play())


def test_an_empty_address_is_refused():
    with pytest.raises(ConfigError, match="with commas between several"):
        InTurn("127.0.0.1:1,,127.0.0.1:2")
