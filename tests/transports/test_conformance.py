"""The conformance kit over every transport of ours, in plaintext and under TLS."""

import functools

import pytest

from umbel.testing import check_transport
from umbel.testing.transports import Trust
from umbel.transports import transport_for
from umbel.transports.memory import MemoryTransport
from umbel.transports.tls import client_tls, server_tls

trustme = pytest.importorskip("trustme")


@functools.cache
def trust() -> Trust:
    ca, other = trustme.CA(), trustme.CA()

    def issued(by, name: str) -> tuple[bytes, bytes, bytes]:
        made = by.issue_cert("127.0.0.1", common_name=name)
        return by.cert_pem.bytes(), made.cert_chain_pems[0].bytes(), made.private_key_pem.bytes()

    return Trust(
        server=server_tls(issued(ca, "the server")),
        node=client_tls(*issued(ca, "ward seven")),
        name="ward seven",
        stranger=client_tls(*issued(other, "ward seven")),
    )


def test_memory_keeps_the_laws():
    check_transport(MemoryTransport, sockets=False)


@pytest.mark.parametrize("scheme", ["tcp", "grpc", "ws"])
def test_transports_over_sockets_keep_the_laws(scheme):
    if scheme != "tcp":
        pytest.importorskip({"grpc": "grpc", "ws": "websockets"}[scheme])
    check_transport(lambda: transport_for(f"{scheme}://host:1")[0], trust=trust())
