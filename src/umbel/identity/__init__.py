"""Who a node is: a server's own certificate authority, invitation codes, and what a node keeps to show its name.

It needs the extra `identity`, and imports nothing of ours but errors.
"""

from umbel.identity.authority import Authority
from umbel.identity.code import Code, read_code
from umbel.identity.credentials import Credentials, make_request
from umbel.identity.federation import Federation
from umbel.identity.join import join, joined, renew
from umbel.identity.ledger import Invitation, Member
from umbel.identity.post import Post, post_https
from umbel.identity.respond import respond

__all__ = [
    "Authority",
    "Code",
    "Credentials",
    "Federation",
    "Invitation",
    "Member",
    "Post",
    "join",
    "joined",
    "make_request",
    "post_https",
    "read_code",
    "renew",
    "respond",
]
