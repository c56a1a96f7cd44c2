"""Frames: a plain header and raw buffers, checked before they are believed."""

from umbel.wire.frame import Frame, decode, encode, encode_parts
from umbel.wire.records import pack, pack_parts, pack_sealed, unpack

__all__ = ["Frame", "decode", "encode", "encode_parts", "pack", "pack_parts", "pack_sealed", "unpack"]
