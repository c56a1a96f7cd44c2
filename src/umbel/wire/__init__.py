"""Frames: a plain header and raw buffers, checked before they are believed."""

from umbel.wire.frame import Frame, decode, encode
from umbel.wire.records import pack, unpack

__all__ = ["Frame", "decode", "encode", "pack", "unpack"]
