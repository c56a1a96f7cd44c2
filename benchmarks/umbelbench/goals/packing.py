"""What packing messages brings and costs: a float32 model, an update of it, a sparse and a quantised one."""

import time

import numpy as np

from umbel.wire import zstd
from umbelbench.goal import Row
from umbelbench.goals.fleet import one
from umbelbench.options import Options

NAME = "packing"


def models(size: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    weights = (0.05 * rng.standard_normal(size)).astype(np.float32)
    kept = rng.random(size) < 0.01
    return {
        "float32 weights": weights,
        "float32 update, 1 % kept": np.where(kept, weights, np.float32(0)),
        "int8 weights": np.clip(np.rint(weights * 400), -127, 127).astype(np.int8),
    }


def run(options: Options) -> list[Row]:
    rows = []
    for what, array in models(2_000_000 if options.quick else 25_000_000).items():
        begun = time.process_time()
        frame = zstd.packed([array.data])
        took = time.process_time() - begun
        rows.append(Row(NAME, f"share of bytes, {what}", one((len(frame) if frame else array.nbytes) / array.nbytes)))
        rows.append(Row(NAME, f"packing, {what}", one(array.nbytes / took / 1e6), "MB/s"))
        if frame is not None:
            unpacker = zstd.Unpacker(memoryview(bytearray(array.nbytes)))
            begun = time.process_time()
            for at in range(0, len(frame), 2**18):
                unpacker.feed(frame[at : at + 2**18])
            unpacker.finish()
            rows.append(
                Row(NAME, f"unpacking, {what}", one(array.nbytes / (time.process_time() - begun) / 1e6), "MB/s")
            )
    return rows
