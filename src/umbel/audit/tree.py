"""Proofs in a Merkle tree: that an event is in it, and that a later tree only adds to an earlier one.

The leaves are the digests of a run's events, in their order; leaves and nodes are hashed as RFC 6962 says. A tree is
given by its leaves; nothing else is kept, as a log has it all.

References:
    B. Laurie, A. Langley, E. Kasper. Certificate Transparency. RFC 6962, 2013. https://www.rfc-editor.org/rfc/rfc6962
    B. Laurie, E. Messeri, R. Stradling. Certificate Transparency Version 2.0. RFC 9162, 2021.
        https://www.rfc-editor.org/rfc/rfc9162 (whose sections 2.1.3.2 and 2.1.4.2 say how proofs are verified)
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from umbel.errors import ConfigError
from umbel.stores.link import leaf, node


def root_of(digests: Sequence[str]) -> str:
    """The root over all digests."""
    return _levels(digests)[-1][0].hex() if digests else hashlib.sha256(b"").hexdigest()


def inclusion(digests: Sequence[str], index: int) -> list[str]:
    """The hashes that lead from the leaf at `index`, from 0, to the root.

    Raises:
        ConfigError: there is no such leaf.

    Example:
        >>> digests = ["00" * 32, "11" * 32, "22" * 32]
        >>> proof = inclusion(digests, 2)
        >>> includes(root_of(digests), 3, digests[2], 2, proof), includes(root_of(digests), 3, digests[1], 2, proof)
        (True, False)
    """
    if not 0 <= index < len(digests):
        raise ConfigError(f"the index of a leaf is from 0 to {len(digests) - 1}, got {index}")
    return [sibling.hex() for sibling in _siblings(_levels(digests), index)]


def inclusions(digests: Sequence[str]) -> list[list[str]]:
    """As `inclusion`, for each leaf."""
    levels = _levels(digests)
    return [[sibling.hex() for sibling in _siblings(levels, index)] for index in range(len(digests))]


def consistency(digests: Sequence[str], size: int) -> list[str]:
    """The hashes that show that the tree over all digests begins with the one over the first `size` of them.

    Raises:
        ConfigError: there are not so many.
    """
    if not 1 <= size <= len(digests):
        raise ConfigError(f"the size of an earlier tree is from 1 to {len(digests)}, got {size}")
    if size == len(digests):
        return []
    levels, index = _levels(digests), size - 1
    # The largest full subtree that ends where the earlier tree ends.
    while index & 1:
        levels, index = levels[1:], index >> 1
    # At 0 it is the earlier tree itself, whose root is known.
    begins = [levels[0][index]] if index else []
    return [one.hex() for one in [*begins, *_siblings(levels, index)]]


def includes(root: str, size: int, digest: str, index: int, proof: Sequence[str]) -> bool:
    """Whether `proof` shows that the tree of this root and size has `digest` at `index`."""
    if not 0 <= index < size:
        return False
    place, last, found = index, size - 1, leaf(digest)
    for other in map(bytes.fromhex, proof):
        if last == 0:
            return False
        if place & 1 or place == last:
            found = node(other, found)
            place, last = _risen(place, last)
        else:
            found = node(found, other)
        place, last = place >> 1, last >> 1
    return last == 0 and found.hex() == root


def extends(root: str, size: int, earlier_root: str, earlier_size: int, proof: Sequence[str]) -> bool:
    """Whether `proof` shows that the tree of this root and size begins with the earlier one."""
    if not 1 <= earlier_size <= size:
        return False
    if earlier_size == size:
        return root == earlier_root and not proof
    place, last = earlier_size - 1, size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    hashes = [bytes.fromhex(one) for one in ([] if place else [earlier_root])] + list(map(bytes.fromhex, proof))
    if not hashes:
        return False
    before = now = hashes[0]
    for other in hashes[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            before, now = node(other, before), node(other, now)
            place, last = _risen(place, last)
        else:
            now = node(now, other)
        place, last = place >> 1, last >> 1
    return last == 0 and before.hex() == earlier_root and now.hex() == root


def _risen(place: int, last: int) -> tuple[int, int]:
    """A node without a sibling to its right is the same one level up, until it is a right child."""
    while place and not place & 1:
        place, last = place >> 1, last >> 1
    return place, last


def _levels(digests: Sequence[str]) -> list[list[bytes]]:
    """All hashes, leaves first, the root last. A node without a sibling goes up as it is."""
    levels = [[leaf(digest) for digest in digests]]
    while len(levels[-1]) > 1:
        below = levels[-1]
        pairs = [node(below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)]
        levels.append([*pairs, *(below[len(below) - 1 :] if len(below) % 2 else [])])
    return levels


def _siblings(levels: Sequence[Sequence[bytes]], index: int) -> list[bytes]:
    found: list[bytes] = []
    for level in levels[:-1]:
        if index ^ 1 < len(level):
            found.append(level[index ^ 1])
        index >>= 1
    return found
