"""Merkle proofs, against the definitions of RFC 6962 written down as they stand there."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.audit.tree import consistency, extends, includes, inclusion, inclusions, root_of
from umbel.errors import ConfigError
from umbel.stores.link import Frontier

MOST = 70
DIGESTS = [hashlib.sha256(bytes([i])).hexdigest() for i in range(MOST)]
EVERY = [(n, m) for n in range(1, 34) for m in range(n)] + [(MOST, m) for m in range(MOST)]


def sha(data):
    return hashlib.sha256(data).digest()


def parts(leaves):
    """The largest power of two below the number of leaves divides them (RFC 6962, section 2.1)."""
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return leaves[:k], leaves[k:]


def slow_root(leaves):
    if not leaves:
        return sha(b"")
    if len(leaves) == 1:
        return sha(b"\0" + leaves[0])
    left, right = parts(leaves)
    return sha(b"\1" + slow_root(left) + slow_root(right))


def slow_path(m, leaves):
    if len(leaves) == 1:
        return []
    left, right = parts(leaves)
    if m < len(left):
        return [*slow_path(m, left), slow_root(right)]
    return [*slow_path(m - len(left), right), slow_root(left)]


def slow_subproof(m, leaves, whole):
    if m == len(leaves):
        return [] if whole else [slow_root(leaves)]
    left, right = parts(leaves)
    if m <= len(left):
        return [*slow_subproof(m, left, whole), slow_root(right)]
    return [*slow_subproof(m - len(left), right, False), slow_root(left)]


def raw(n):
    return [bytes.fromhex(digest) for digest in DIGESTS[:n]]


def hexed(hashes):
    return [one.hex() for one in hashes]


def test_the_root_of_no_events_is_that_of_the_rfc():
    assert root_of([]) == Frontier().root == hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize("n", range(1, MOST + 1))
def test_the_root_is_the_definitions_however_it_is_made(n):
    tree = Frontier()
    for digest in DIGESTS[:n]:
        tree.add(digest)
    assert root_of(DIGESTS[:n]) == tree.root == slow_root(raw(n)).hex()
    assert tree.size == n


def test_inclusion_proofs_are_the_definitions_and_hold():
    for n, m in EVERY:
        proof = inclusion(DIGESTS[:n], m)
        assert proof == hexed(slow_path(m, raw(n))) == inclusions(DIGESTS[:n])[m]
        assert includes(root_of(DIGESTS[:n]), n, DIGESTS[m], m, proof)


def test_consistency_proofs_are_the_definitions_and_hold():
    for n, m in EVERY:
        proof = consistency(DIGESTS[:n], m + 1)
        assert proof == hexed(slow_subproof(m + 1, raw(n), True))
        assert extends(root_of(DIGESTS[:n]), n, root_of(DIGESTS[: m + 1]), m + 1, proof)


def flipped(digest, bit):
    data = bytearray.fromhex(digest)
    data[bit // 8] ^= 1 << bit % 8
    return data.hex()


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_no_bit_of_an_inclusion_proof_can_be_another(data):
    n = data.draw(st.integers(1, MOST))
    m = data.draw(st.integers(0, n - 1))
    bit, place = data.draw(st.integers(0, 255)), data.draw(st.integers(0, 8))
    root, proof = root_of(DIGESTS[:n]), inclusion(DIGESTS[:n], m)
    assert not includes(flipped(root, bit), n, DIGESTS[m], m, proof)
    assert not includes(root, n, flipped(DIGESTS[m], bit), m, proof)
    if proof:
        wrong = list(proof)
        wrong[place % len(proof)] = flipped(wrong[place % len(proof)], bit)
        assert not includes(root, n, DIGESTS[m], m, wrong)
        assert not includes(root, n, DIGESTS[m], m, proof[:-1])
    assert not includes(root, n, DIGESTS[m], m, [*proof, root])
    assert not includes(root, n, DIGESTS[m], (m + 1) % n if n > 1 else 1, proof)


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_no_history_that_was_written_anew_is_consistent(data):
    n = data.draw(st.integers(2, MOST))
    m = data.draw(st.integers(1, n - 1))
    place, bit = data.draw(st.integers(0, m - 1)), data.draw(st.integers(0, 255))
    old, proof = root_of(DIGESTS[:m]), consistency(DIGESTS[:n], m)
    anew = [*DIGESTS[:n]]
    anew[place] = flipped(anew[place], bit)
    assert not extends(root_of(anew), n, old, m, consistency(anew, m))
    assert not extends(root_of(anew), n, old, m, proof)
    assert not extends(root_of(DIGESTS[:n]), n, flipped(old, bit), m, proof)
    assert not extends(root_of(DIGESTS[:n]), n, old, m, [*proof, old])
    assert not extends(root_of(DIGESTS[:n]), n, old, n + 1, proof)


def test_what_is_not_there_has_no_proof():
    with pytest.raises(ConfigError, match="from 0 to 2"):
        inclusion(DIGESTS[:3], 3)
    with pytest.raises(ConfigError, match="from 1 to 3"):
        consistency(DIGESTS[:3], 0)
    assert not includes(root_of(DIGESTS[:3]), 3, DIGESTS[0], -1, [])
    assert not includes(root_of(DIGESTS[:1]), 2, DIGESTS[0], 0, [])
