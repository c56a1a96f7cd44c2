"""What is TCP's own: how a link ends that is broken already."""

import asyncio
import socket
import struct

from umbel.transports.tcp import MAGIC, TcpTransport


def test_a_link_that_the_other_side_has_just_reset_is_closed_without_a_fault():
    class Ear:
        def __init__(self):
            self.over = asyncio.get_running_loop().create_future()

        def packet(self, data):
            pass

        def writable(self):
            pass

        def closed(self, reason):
            self.over.set_result(reason)

    async def main():
        arrived = asyncio.get_running_loop().create_future()
        listener = await TcpTransport().listen("127.0.0.1:0", arrived.set_result)
        host, port = listener.address.split(":")
        with socket.create_connection((host, int(port))) as other:
            other.sendall(MAGIC)
            link, ear = await arrived, Ear()
            link.start(ear)
            other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        link.close("goodbye")
        async with asyncio.timeout(5):
            await ear.over
        await listener.close()

    asyncio.run(main())
