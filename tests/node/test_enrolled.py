"""In secure rounds a node is who its certificate says, and lends its process a key that is good for one run."""

from __future__ import annotations

import time

import pytest

from umbel.identity import certificates as x
from umbel.privacy.sa1.keys import identity_of
from umbel.runtimes.node.enrolled import enrolled, trusts_of

NOW = time.time()


@pytest.fixture(scope="module")
def site():
    """A CA, another one of the same name, and a member of each."""
    return {which: x.new_ca(x.new_key(), "server", NOW) for which in ("ours", "another")}


def member(ca, name, now_s=NOW):
    key = x.new_key()
    certificate = x.sign_member(ca, key.public_key(), name, "node", now_s)
    return x.pem(ca.certificate), x.pem(certificate), x.write_key(key)


def of(ca, name, run="run", now_s=NOW):
    found = enrolled(run, name, *member(ca, name, now_s))
    return identity_of(found["secret"]), found["credential"]


def test_a_name_belongs_to_the_key_that_its_certificate_vouches_for(site):
    trusts = trusts_of("run", x.pem(site["ours"].certificate))
    identity, credential = of(site["ours"], "north")
    assert trusts("north", identity, credential)


def test_no_other_name_run_key_or_ca_will_do(site):
    trusts = trusts_of("run", x.pem(site["ours"].certificate))
    identity, credential = of(site["ours"], "north")
    other, _ = of(site["ours"], "north")
    assert not trusts("south", identity, credential)
    assert not trusts("north", other, credential)
    assert not trusts("north", identity, b"")
    assert not trusts("north", identity, credential[:-1] + bytes([credential[-1] ^ 1]))
    assert not trusts_of("another run", x.pem(site["ours"].certificate))("north", identity, credential)
    assert not trusts("north", *of(site["another"], "north"))


def test_a_certificate_that_has_ended_vouches_for_nobody(site):
    identity, credential = of(site["ours"], "north")
    late = trusts_of("run", x.pem(site["ours"].certificate), lambda: NOW + 100 * 365 * 86400)
    assert not late("north", identity, credential)
