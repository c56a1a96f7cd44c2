"""A server that runs longer than its certificate, and nodes whose connections do."""

import asyncio
import ssl
import time

import pytest

pytest.importorskip("cryptography")
pytest.importorskip("uvicorn")

from umbel.identity import Authority
from umbel.runtimes.server.daemon import certified


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
