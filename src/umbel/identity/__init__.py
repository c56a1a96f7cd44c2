"""Who a node is: a server's own certificate authority, invitation codes, and what a node keeps to show its name.

It needs the extra `identity`, and imports nothing of ours but errors.
"""

from umbel.identity.authority import Authority as Authority
from umbel.identity.code import Code as Code
from umbel.identity.code import read_code as read_code
from umbel.identity.credentials import Credentials as Credentials
from umbel.identity.credentials import make_request as make_request
from umbel.identity.join import join as join
from umbel.identity.join import renew as renew
from umbel.identity.ledger import Invitation as Invitation
from umbel.identity.ledger import Member as Member
from umbel.identity.post import Post as Post
from umbel.identity.post import post_https as post_https
from umbel.identity.respond import respond as respond
