"""Fixed seeds give fixed bytes, and a second implementation in plain integers gives the same.

`python -m tests.privacy.sa1.test_known_answers` writes the vectors anew, for a new version of the protocol.
"""

from __future__ import annotations

import json
import struct
from hashlib import sha256
from pathlib import Path

import numpy as np
from tests.privacy.sa1 import reference
from tests.privacy.sa1.transcript import MODEL, entropy_of, offer_of, parties_of, play, purpose_of

from umbel.privacy.sa1 import Advert
from umbel.privacy.sa1.conversation import Conversation
from umbel.privacy.sa1.fields import parted

FILE = Path(__file__).with_name("vectors.json")
THRESHOLD = 2
SIZE = 7


def story_of():
    """Three clients, of which the last drops out before its vector arrives; keys for the next sum are made ahead."""
    parties, purpose = parties_of(3, seed="known answers"), purpose_of(3, SIZE)
    length = purpose.encoding.length
    vectors = {name: np.arange(length, dtype=np.uint32) * (index + 1) for index, name in enumerate(parties)}
    ahead = offer_of(3, threshold=THRESHOLD, number=1)
    talk = Conversation(offer_of(3, threshold=THRESHOLD), purpose, list(parties), ahead=ahead)
    return play(parties, talk, vectors, [set(), set(), {"002"}])


def found() -> dict[str, object]:
    story = story_of()
    server = story.talk.server
    return {
        "offer": server.header.offer.data.hex(),
        "header": server.header.data.hex(),
        "digest": server.header.digest.hex(),
        "purpose": server.purpose.data.hex(),
        "bound": server.bound.hex(),
        "uploads": {name: upload.tobytes().hex() for name, upload in sorted(story.uploads.items())},
        "sets": server._sets.data.hex(),
        "signatures": {str(index): mark.hex() for index, mark in sorted(server._signatures.items())},
        "opened": {str(index): [part.hex() for part in parts] for index, parts in sorted(server._opened.items())},
        "total": story.total.tobytes().hex(),
        "ahead": {name: kept.ahead.advert.hex() for name, kept in sorted(story.kept.items())},
    }


def secrets_of(index: int) -> dict[str, bytes]:
    """What client `index` draws, in its order: channel key, mask key, seed."""
    draw = entropy_of(f"known answers{index:03}")
    return {"channel": draw(32), "mask": draw(32), "seed": draw(32), "coefficients": draw(4 * (THRESHOLD - 1) * 18)}


def test_fixed_seeds_give_the_known_bytes():
    assert found() == json.loads(FILE.read_text())


def test_the_known_bytes_are_those_of_a_second_implementation():
    known = json.loads(FILE.read_text())
    digest = bytes.fromhex(known["digest"])
    assert digest == sha256(b"umbel SA1 header 2" + bytes.fromhex(known["header"])).digest()
    encoding = reference.joined(struct.pack("<dddIII", 1.0, 8.0, 64.0, 3, SIZE, 1))
    numbers = struct.pack("<IIIII", 1, 0, 3, THRESHOLD, 0)
    offer = reference.joined(b"umbel SA1 offer 2", b"SA1", b"run", numbers, bytes(32))
    assert known["offer"] == offer.hex()
    purpose = reference.joined(b"umbel SA1 purpose 1", b"fit", struct.pack("<II", 1, 0), MODEL, encoding)
    assert known["purpose"] == purpose.hex()
    bound = sha256(b"umbel SA1 sum 1" + digest + purpose).digest()
    assert known["bound"] == bound.hex()
    secrets = [secrets_of(index) for index in range(3)]
    masks = [reference.x25519(secret["mask"], reference.BASE) for secret in secrets]
    adverts = [Advert.read(part) for part in parted(bytes.fromhex(known["header"]))[1:]]
    assert [advert.mask for advert in adverts] == masks
    assert [advert.channel for advert in adverts] == [reference.x25519(s["channel"], reference.BASE) for s in secrets]
    length = SIZE + 3
    total = [0] * length
    for index, secret in enumerate(secrets):
        vector = [word * (index + 1) for word in range(length)]
        words = reference.masked(index, vector, secret["mask"], secret["seed"], masks, bound)
        assert known["uploads"][f"{index:03}"] == struct.pack(f"<{length}I", *words).hex()
        if index < 2:
            total = [(a + b) % 2**32 for a, b in zip(total, vector, strict=True)]
    assert known["total"] == struct.pack(f"<{length}I", *total).hex()
    assert known["sets"] == reference.joined(struct.pack("<I", 3), b"\x07", b"\x03").hex()


def test_the_released_shares_are_those_of_a_second_implementation():
    known = json.loads(FILE.read_text())
    opened = {int(index): [bytes.fromhex(part) for part in parts] for index, parts in known["opened"].items()}
    for owner, secret in enumerate(map(secrets_of, range(3))):
        shares = {holder: parts[owner] for holder, parts in opened.items()}
        wanted = secret["seed"] if owner < 2 else secret["mask"]
        assert reference.recovered(shares) == wanted
        drawn = [word & reference.FIELD for word in struct.unpack("<18I", secret["coefficients"])]
        half = drawn[:9] if owner < 2 else drawn[9:]
        for holder, share in shares.items():
            assert list(struct.unpack("<9I", share)) == reference.share_at([half], reference.limbs(wanted), holder + 1)


if __name__ == "__main__":
    FILE.write_text(json.dumps(found(), indent=1) + "\n")
