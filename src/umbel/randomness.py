"""Randomness derives from (seed, purpose, round, client) and from nothing else."""

from __future__ import annotations

import hashlib
import random
import sys

import numpy as np


def derive(seed: int | bytes, *parts: object) -> int:
    """A 128-bit key for one purpose; equal parts give equal keys, on any machine.

    Example:
        >>> derive(1, "client", 3, "7") == derive(1, "client", 3, "7")
        True
    """
    root = seed if isinstance(seed, bytes) else str(seed).encode()
    text = b"\x1f".join([root, *(str(part).encode() for part in parts)])
    return int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "little")


def generator(key: int) -> np.random.Generator:
    """A NumPy generator that depends on `key` alone."""
    return np.random.Generator(np.random.Philox(key=key))


def seed_process(key: int) -> None:
    """Seed the process-wide generators of `random`, NumPy and, if it is imported, torch.

    The one place where Umbel touches ambient randomness: just before user code runs, so that a shuffling
    data loader gives the same batches whichever worker it runs in.
    """
    random.seed(key)
    np.random.seed(key & 0xFFFFFFFF)
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "default_generator"):
        torch.default_generator.manual_seed(key & (2**63 - 1))
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(key & (2**63 - 1))
