"""`Ckks`: the lattice that ciphertexts live in, refused where it is weak or where a sum would not be exact."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from umbel.errors import ConfigError
from umbel.message import require

MOST_MODULUS_BITS = {1024: 27, 2048: 54, 4096: 109, 8192: 218, 16384: 438, 32768: 881}
"""Ring dimension → bits of the whole modulus, that of key switching included, with 128 bits of security against
classical attacks and ternary secrets: table 1 of the standard."""
ERROR_SPREAD = 3.2
SUM_BITS = 31
LEAST_SPREADS = 64
"""So many standard deviations of the noise lie within half a unit at least, so that rounding is never wrong: the chance
of it in one value is below 2^-2900."""
MOST_CLIENTS = 64


@final
@dataclass(frozen=True, kw_only=True)
class Ckks:
    """Parameters of CKKS for sums; `ckks(...)` makes them.

    Attributes:
        poly_modulus_degree: N; a ciphertext has N / 2 slots.
        coeff_mod_bits: bits of the primes; the last is for key switching alone, and never of use to a sum.
        scale_bits: the integers that are summed are multiplied by 2 to this.
    """

    poly_modulus_degree: int = 8192
    coeff_mod_bits: Sequence[int] = (60, 60)
    scale_bits: int = 27

    def __post_init__(self) -> None:
        for name in ("poly_modulus_degree", "scale_bits"):
            value = getattr(self, name)
            # NaN is smaller than no bound, so that every check below would let it through.
            fine = isinstance(value, int) and not isinstance(value, bool)
            require(fine, f"{name} must be a whole number, got {value!r}")
        fine = isinstance(self.coeff_mod_bits, Sequence)  # pyright: ignore[reportUnnecessaryIsInstance]
        require(fine, f"coeff_mod_bits must be a list of whole numbers, got {self.coeff_mod_bits!r}")
        bits, degree = tuple(self.coeff_mod_bits), self.poly_modulus_degree
        object.__setattr__(self, "coeff_mod_bits", bits)
        known = ", ".join(map(str, MOST_MODULUS_BITS))
        require(degree in MOST_MODULUS_BITS, f"poly_modulus_degree must be one of {known}, got {degree!r}")
        fine = len(bits) >= 2 and all(isinstance(one, int) and 20 <= one <= 60 for one in bits)  # pyright: ignore[reportUnnecessaryIsInstance]
        require(fine, f"coeff_mod_bits must be two or more whole numbers from 20 to 60, got {list(bits)!r}")
        if sum(bits) > MOST_MODULUS_BITS[degree]:
            raise ConfigError(
                f"coeff_mod_bits add up to {sum(bits)}, which with poly_modulus_degree={degree} is less than 128 bits "
                f"of security; at most {MOST_MODULUS_BITS[degree]} are allowed, or take a larger degree"
            )
        room = sum(bits[:-1])
        if self.scale_bits + SUM_BITS + 1 > room:
            raise ConfigError(
                f"scale_bits={self.scale_bits!r} and sums of {SUM_BITS + 1} bits do not fit into a modulus of {room} "
                f"bits; at most {room - SUM_BITS - 1} are allowed"
            )
        spreads = self.spreads(MOST_CLIENTS)
        if spreads < LEAST_SPREADS:
            raise ConfigError(
                f"scale_bits={self.scale_bits!r} leaves the noise within half a unit by {spreads:.0f} standard "
                f"deviations, at least {LEAST_SPREADS} are wanted, so that sums are exact; raise it"
            )

    @property
    def slots(self) -> int:
        """How many numbers a ciphertext holds."""
        return self.poly_modulus_degree // 2

    def spreads(self, clients: int) -> float:
        """Half a unit, in standard deviations of the noise of a sum over so many clients."""
        return 2.0 ** (self.scale_bits - 1) / (ERROR_SPREAD * math.sqrt(self.poly_modulus_degree * clients))

    @property
    def most_bytes(self) -> int:
        """More than a ciphertext can have."""
        return 2 * self.poly_modulus_degree * 8 * (len(self.coeff_mod_bits) - 1) + 1024

    @property
    def most_key_bytes(self) -> int:
        """More than a secret key can have."""
        return self.poly_modulus_degree * 8 * len(self.coeff_mod_bits) + 4096


def ckks(poly_modulus_degree: int = 8192, *, coeff_mod_bits: Sequence[int] = (60, 60), scale_bits: int = 27) -> Ckks:
    """Secure sums by encryption: `Secure(secure_sum=ckks())`, with the extra `ckks`.

    Guarantee: a server that has no client on its side learns the sum over at least `min_cohort` clients of which more
    than half have signed that they are in it, and nothing else of any. It voids it that one client shares the secret
    key with the server, which then opens everybody's updates, or that the server's operator enrols a client of its own.
    A client that opens a sum is believed. Masks (`Secure()` without this) allow neither: take masks unless you cannot.
    About 32 bytes per parameter instead of 4. Parameters under 128 bits of security are refused.

    Args:
        poly_modulus_degree: the ring's dimension.
        coeff_mod_bits: bits of the moduli.
        scale_bits: precision.

    Raises:
        ConfigError: the parameters are weak, or sums would not be exact.

    Example:
        >>> ckks().slots
        4096

    References:
        J. H. Cheon, A. Kim, M. Kim, Y. Song, "Homomorphic Encryption for Arithmetic of Approximate Numbers", ASIACRYPT
        2017, https://eprint.iacr.org/2016/421
        M. Albrecht et al., "Homomorphic Encryption Standard", 2018, https://eprint.iacr.org/2019/939
        B. Li, D. Micciancio, "On the Security of Homomorphic Encryption on Approximate Numbers", EUROCRYPT 2021,
        https://eprint.iacr.org/2020/1533
    """
    return Ckks(poly_modulus_degree=poly_modulus_degree, coeff_mod_bits=coeff_mod_bits, scale_bits=scale_bits)
