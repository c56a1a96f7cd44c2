"""What `tenseal` does for a sum: keys, ciphertexts, additions. Everything goes in and comes out as bytes and integers.

Integers go in, and what is decrypted is rounded to the integer that it is, here and nowhere else: the noise of a raw
decryption is a linear equation in the secret key, and no caller ever sees it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from umbel.errors import ConfigError, ProtocolError
from umbel.privacy.ckks.parameters import Ckks

I64 = NDArray[np.int64]
LIMIT = 2**31


def library() -> Any:
    """The package.

    Raises:
        ConfigError: it is not installed, or cannot work in this process.
    """
    if "torch" in sys.modules and "grpc_tools._protoc_compiler" in sys.modules:
        # Its first error would end the process: the libraries' C++ parts get into each other's way.
        raise ConfigError(
            "secure_sum=ckks() cannot work in a process that has loaded torch and gRPC's compiler (grpc_tools); keep "
            "the compiler out of it, which gRPC itself does without"
        )
    try:
        return importlib.import_module("tenseal")
    except ImportError:
        raise ConfigError("secure_sum=ckks() needs tenseal; install it with: pip install 'umbel[ckks]'") from None


@final
class Key:
    """A secret key, which encrypts and decrypts."""

    def __init__(self, settings: Ckks, context: Any) -> None:
        self._settings, self._context, self._library = settings, context, library()

    @classmethod
    def fresh(cls, settings: Ckks) -> Key:
        return cls(settings, _context(settings))

    @classmethod
    def read(cls, settings: Ckks, data: bytes) -> Key:
        """The key in bytes that another client wrote.

        Raises:
            ProtocolError: they are none.
        """
        context: Any = _checked(lambda: library().context_from(data))
        if not context.has_secret_key():
            raise ProtocolError("the key that was dealt is none")
        return cls(settings, context)

    @property
    def data(self) -> bytes:
        """The key as bytes, for other clients."""
        saved = {"save_public_key": False, "save_galois_keys": False, "save_relin_keys": False}
        return self._context.serialize(save_secret_key=True, **saved)

    def encrypt(self, values: I64) -> bytes:
        """The ciphertext of up to `slots` integers below 2^31."""
        return self._library.ckks_vector(self._context, values.astype(np.float64).tolist()).serialize()

    def decrypt(self, data: bytes, count: int) -> I64:
        """The integers in a sum; what is no number below 2^31 comes out as 2^31.

        Raises:
            ProtocolError: it is no ciphertext of so many.
        """
        vector = _vector(self._settings, self._context, data, count)
        numbers = np.rint(np.array(_checked(vector.decrypt)))
        return np.where(np.abs(numbers) < LIMIT, numbers, LIMIT).astype(np.int64)


@final
class Adder:
    """Adds ciphertexts, for which no key is needed: the library wants one, so this has one of its own."""

    def __init__(self, settings: Ckks) -> None:
        self._settings, self._context = settings, _context(settings)

    def load(self, data: bytes, count: int) -> Any:
        """The ciphertext of `count` integers in these bytes.

        Raises:
            ProtocolError: there is none.
        """
        return _vector(self._settings, self._context, data, count)

    def add(self, left: Any, right: Any) -> Any:
        """The sum of two ciphertexts.

        Raises:
            ProtocolError: they do not go together.
        """
        return _checked(lambda: left + right)


def _context(settings: Ckks) -> Any:
    tenseal = library()
    context = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS,
        poly_modulus_degree=settings.poly_modulus_degree,
        coeff_mod_bit_sizes=list(settings.coeff_mod_bits),
        encryption_type=tenseal.ENCRYPTION_TYPE.SYMMETRIC,
    )
    context.global_scale = 2.0**settings.scale_bits
    return context


def _vector(settings: Ckks, context: Any, data: bytes, count: int) -> Any:
    if len(data) > settings.most_bytes:
        raise ProtocolError(f"a ciphertext has {len(data)} bytes, at most {settings.most_bytes} are possible")
    vector = _checked(lambda: library().ckks_vector_from(context, data))
    if vector.size() != count or len(vector.ciphertext()) != 1:
        raise ProtocolError(f"a ciphertext holds {vector.size()} numbers, {count} are expected")
    return vector


def _checked(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as error:
        told = (str(error).splitlines() or [type(error).__name__])[0]
        raise ProtocolError(f"these bytes are no part of an encrypted sum: {told[:200]}") from error
