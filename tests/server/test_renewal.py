"""A server that runs longer than its certificate, and nodes whose connections do."""

import asyncio
import socket
import ssl
import time

import pytest

pytest.importorskip("cryptography")
pytest.importorskip("uvicorn")

from umbel.identity import Authority
from umbel.runtimes.server.daemon import certified
from umbel.transports import transport_for
from umbel.transports.choose import host_and_port
from umbel.transports.tls import server_tls


def shown(context, ca_pem) -> bytes:
    """The certificate that a handshake with this context shows."""

    async def whole():
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.load_verify_locations(cadata=ca_pem.decode())
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
        found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        server.close()
        return found

    return asyncio.run(whole())


def shown_at(address, ca_pem) -> bytes:
    """The certificate that whoever listens there shows."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.load_verify_locations(cadata=ca_pem.decode())
    trusting.set_alpn_protocols(["h2"])
    host, port = host_and_port(address)
    with socket.create_connection((host, port), 10) as plain, trusting.wrap_socket(plain, server_hostname=host) as link:
        return link.getpeercert(binary_form=True)


@pytest.mark.parametrize("scheme", ["tcp", "grpc", "ws"])
def test_a_door_shows_a_fresh_certificate_without_a_restart(scheme, tmp_path):
    hours_ahead = [-24.0 * 80]
    authority = Authority.open(
        tmp_path, server_name="s", hosts=["127.0.0.1"], clock=lambda: time.time() + 3600 * hours_ahead[0]
    )

    async def whole():
        def tls():
            return server_tls(authority.server_certificates(), clients=False)

        async def seen():
            return await asyncio.to_thread(shown_at, listener.address, authority.ca_pem)

        transport, _ = transport_for(f"{scheme}://127.0.0.1:0")
        listener = await transport.listen("127.0.0.1:0", lambda link: None, tls=tls())
        first = await seen()
        listener.renew(tls())
        assert await seen() == first
        hours_ahead[0] = 0.0
        listener.renew(tls())
        second = await seen()
        assert second != first
        assert await seen() == second
        await listener.close()

    try:
        asyncio.run(whole())
    finally:
        authority.close()


def test_a_server_shows_a_fresh_certificate_before_the_old_one_ends_without_a_restart(tmp_path):
    hours_ahead = [-24.0 * 80]
    authority = Authority.open(
        tmp_path, server_name="s", hosts=["127.0.0.1"], clock=lambda: time.time() + 3600 * hours_ahead[0]
    )
    try:
        context = certified(authority)
        first = shown(context, authority.ca_pem)
        assert shown(certified(authority, context), authority.ca_pem) == first
        hours_ahead[0] = 0.0
        second = shown(certified(authority, context), authority.ca_pem)
        assert second != first
    finally:
        authority.close()
