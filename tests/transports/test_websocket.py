"""What is WebSocket's own: the path, and that packets are binary messages."""

import asyncio

import pytest

from umbel.transports import transport_for

client = pytest.importorskip("websockets.asyncio.client")
exceptions = pytest.importorskip("websockets.exceptions")


async def listening(arrived):
    transport, _ = transport_for("ws://")
    return await transport.listen("127.0.0.1:0", arrived)


class Ends:
    def __init__(self):
        self.reason = asyncio.get_running_loop().create_future()

    def packet(self, data):
        raise AssertionError("text is no packet")

    def writable(self):
        pass

    def closed(self, reason):
        self.reason.set_result(reason)


def test_other_paths_are_not_found():
    async def main():
        listener = await listening(lambda link: pytest.fail("a link arrived"))
        with pytest.raises(exceptions.InvalidStatus, match="404"):
            await client.connect(f"ws://{listener.address}/", proxy=None)
        await listener.close()

    asyncio.run(main())


def test_text_ends_the_link():
    async def main():
        ends = Ends()
        listener = await listening(lambda link: link.start(ends))
        async with client.connect(f"ws://{listener.address}/umbel/v1", proxy=None) as stranger:
            await stranger.send("hello")
            assert "binary" in await asyncio.wait_for(ends.reason, 20)
            with pytest.raises(exceptions.ConnectionClosed, match="1003"):
                await stranger.recv()
        await listener.close()

    asyncio.run(main())
