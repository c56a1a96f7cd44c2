"""Diffie-Hellman blinding by the package `openmined-psi` (extra `psi`).

References:
    C. Meadows, "A More Efficient Cryptographic Matchmaking Protocol for Use in the Absence of a Continuously Available
    Third Party", IEEE S&P 1986, https://doi.org/10.1109/SP.1986.10022
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, final

from umbel.errors import ConfigError, ProtocolError
from umbel.privacy.psi.engine import Blinding

# A Bloom filter or a Golomb set would be smaller, and find ids now and then that nobody has.
EXACT_FPR = 1e-9


@final
class OpenMined(Blinding):
    """ECDH over P-256: H(id)^a, and H(id)^ab of what both have is equal. Fresh keys for each intersection."""

    def __init__(self) -> None:
        try:
            self._psi: Any = importlib.import_module("private_set_intersection.python")
        except ImportError:
            raise ConfigError("intersections need openmined-psi; install it with: pip install 'umbel[psi]'") from None
        self._client: Any = None

    def request(self, ids: Sequence[bytes]) -> bytes:
        self._client = self._psi.client.CreateWithNewKey(True)
        return self._client.CreateRequest(list(ids)).SerializeToString()

    def count(self, request: bytes) -> int:
        return len(self._read("Request", request).encrypted_elements)

    def reply(self, request: bytes, ids: Sequence[bytes]) -> tuple[bytes, bytes]:
        read = self._read("Request", request)
        if not read.reveal_intersection:
            raise ProtocolError("the request is for the size of an intersection, which is not what was agreed to")
        server = self._psi.server.CreateWithNewKey(True)
        count = max(1, len(read.encrypted_elements))
        setup = server.CreateSetupMessage(EXACT_FPR, count, list(ids), self._psi.DataStructure.RAW)
        response = _checked(lambda: server.ProcessRequest(read))
        return setup.SerializeToString(), response.SerializeToString()

    def common(self, setup: bytes, response: bytes, asked: int) -> list[int]:
        if self._client is None:
            raise ProtocolError("there is a reply and nothing was asked: call request() first")
        theirs, mine = self._read("ServerSetup", setup), self._read("Response", response)
        if theirs.WhichOneof("data_structure") != "raw" or len(mine.encrypted_elements) != asked:
            raise ProtocolError(f"the reply is not to a request of {asked} ids")
        found: list[int] = _checked(lambda: self._client.GetIntersection(theirs, mine))
        return sorted(found)

    def _read(self, kind: str, data: bytes) -> Any:
        message: Any = getattr(self._psi, kind)()
        _checked(lambda: message.ParseFromString(data))
        return message


def _checked(work: Callable[[], Any]) -> Any:
    """What `work` gives; whatever the package says of a peer's bytes is a peer that does not speak as agreed."""
    try:
        return work()
    except Exception as error:
        raise ProtocolError(
            f"these bytes are no message of an intersection: {str(error).splitlines()[0][:200]}"
        ) from error
