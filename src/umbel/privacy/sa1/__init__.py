"""SA1: sums of clients' vectors of which the server sees nothing but the sum.

A pure state machine: bytes in, bytes out; no clock, no sockets, no files. It needs the extra `identity` (the package
`cryptography`). Nobody has reviewed it as a cryptographer yet.
"""

from umbel.privacy.sa1.encoding import Decoded, Encoding
from umbel.privacy.sa1.gathering import Gathered, Gathering
from umbel.privacy.sa1.joining import advertise, share
from umbel.privacy.sa1.masking import agree, mask, release
from umbel.privacy.sa1.member import Member
from umbel.privacy.sa1.offer import Advert, Header, Offer
from umbel.privacy.sa1.party import Floors, Party
from umbel.privacy.sa1.purpose import Purpose
from umbel.privacy.sa1.server import SecureServer
from umbel.privacy.sa1.sets import Sets
from umbel.privacy.sharing import default_threshold

__all__ = [
    "Advert",
    "Decoded",
    "Encoding",
    "Floors",
    "Gathered",
    "Gathering",
    "Header",
    "Member",
    "Offer",
    "Party",
    "Purpose",
    "SecureServer",
    "Sets",
    "advertise",
    "agree",
    "default_threshold",
    "mask",
    "release",
    "share",
]
