"""What is gRPC's own: the last message of a server, and other services at the same address."""

import asyncio

import pytest

from umbel.errors import LinkError
from umbel.transports import transport_for

grpc = pytest.importorskip("grpc")
aio = pytest.importorskip("grpc.aio")


class Silent:
    def packet(self, data):
        pass

    def writable(self):
        pass

    def closed(self, reason):
        pass


def test_a_server_says_that_it_has_said_all_and_leaves_the_end_to_the_other_side():
    async def main():
        def arrived(link):
            link.start(Silent())
            link.write([b"last words"])
            link.close()

        listener = await transport_for("grpc://")[0].listen("127.0.0.1:0", arrived)
        async with aio.insecure_channel(listener.address) as channel:
            call = channel.stream_stream("/umbel.v1.Umbel/Connect")()
            assert await call.read() == b"last words"
            assert (await call.read()).hex() == "f8ffffff0f01"
            await call.write(b"who still writes breaks nothing")
            await call.done_writing()
            assert await call.read() is aio.EOF
            assert await call.code() is grpc.StatusCode.OK
        await listener.close()

    asyncio.run(main())


def test_another_service_is_told_from_ours():
    async def main():
        server = aio.server()
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        with pytest.raises(LinkError, match="no Umbel server"):
            await transport_for("grpc://")[0].connect(f"127.0.0.1:{port}")
        await server.stop(None)

    asyncio.run(main())
