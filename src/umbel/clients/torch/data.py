"""What a `TorchClient` may be given as data, and how it becomes batches."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset
from torch.utils.data import default_collate as _collate  # pyright: ignore[reportUnknownVariableType]

from umbel.clients.order import Numbers, Shuffler
from umbel.errors import ConfigError, NotSupported

Columns: TypeAlias = "tuple[Tensor, ...] | dict[str, Tensor]"


def prepared(name: str, data: Any, batch_size: int) -> Any:
    """`data` with its arrays as tensors; everything else as it is.

    Raises:
        ConfigError: the arrays differ in length, or `data` can be gone through only once.
    """
    if _is_columns(data):
        columns = _columns(data)
        lengths = [len(column) for column in _parts(columns)]
        if len(set(lengths)) > 1:
            raise ConfigError(f"the arrays of {name} differ in length: {lengths}; they must be equal")
        return columns
    if isinstance(data, IterableDataset):
        return DataLoader(cast("IterableDataset[Any]", data), batch_size=batch_size)
    if hasattr(data, "__next__"):
        raise ConfigError(
            f"{name} is a {type(data).__name__}, which can be gone through only once; give a tuple of arrays, a "
            "Dataset, a DataLoader or a list of batches"
        )
    return data


def one_pass(data: Any, batch_size: int, *, shuffle: bool) -> Iterator[Any]:
    """One pass over prepared `data`, in batches."""
    if _is_columns(data):
        yield from _slices(data, batch_size, shuffle=shuffle)
    elif _is_dataset(data):
        # A loader refuses to shuffle a data set without rows.
        source = cast("Dataset[Any]", data)
        yield from DataLoader(source, batch_size=batch_size, shuffle=shuffle and len(data) > 0)
    else:
        yield from data


def rows_of(data: Any) -> range:
    """The rows of prepared `data`; a loader's are those of its data set, if it goes through all of them.

    Raises:
        NotSupported: they come in batches, of which nobody can tell what one example adds.
    """
    if _is_columns(data) or _is_dataset(data):
        return range(length(data) or 0)
    source: Any = getattr(data, "dataset", None)
    if _is_loader(data) and _is_dataset(source) and length(data) == len(source):
        return range(len(source))
    raise NotSupported(
        f"its data are a {type(data).__name__}, whose examples come in batches; for gradients of single examples give "
        "arrays or a Dataset"
    )


def one_example(data: Any, row: int) -> Any:
    """The example of that row in a batch of its own."""
    if isinstance(data, dict):
        return {name: column[row : row + 1] for name, column in cast("dict[str, Tensor]", data).items()}
    if isinstance(data, tuple):
        return tuple(column[row : row + 1] for column in cast("tuple[Tensor, ...]", data))
    if isinstance(data, DataLoader):
        return cast("Any", data).collate_fn([cast("Any", data).dataset[row]])
    return _collate([data[row]])


def _slices(columns: Columns, size: int, *, shuffle: bool) -> Iterator[Any]:
    count = len(next(iter(_parts(columns))))
    order = torch.randperm(count) if shuffle else None
    for start in range(0, count, size):
        rows = slice(start, start + size) if order is None else order[start : start + size]
        if isinstance(columns, dict):
            yield {name: column[rows] for name, column in columns.items()}
        else:
            yield tuple(column[rows] for column in columns)


def shuffler() -> Shuffler:
    """How the loop shuffles: by torch's default generator, seeded for each turn."""
    chance = torch.Generator()

    def permuted(count: int) -> Numbers:
        return torch.randperm(count, generator=chance).numpy()

    def seeded(key: int) -> Callable[[int], Numbers]:
        chance.manual_seed(key & (2**63 - 1))
        return permuted

    return seeded


def joined(parts: Sequence[tuple[Tensor, ...]]) -> tuple[list[NDArray[np.int64]], list[Tensor]]:
    """Which rows of all clients' columns together are each client's, and those columns."""
    ends = itertools.accumulate((len(part[0]) for part in parts), initial=0)
    lots = [np.arange(begin, end, dtype=np.int64) for begin, end in itertools.pairwise(ends)]
    return lots, [torch.cat(column) for column in zip(*parts, strict=True)]


def reseed(data: Any) -> None:
    """Let a loader's own generators go on from torch's default one, which the runtime has seeded for this turn.

    They would carry their state from one client's turn to the next one's, and the batches would depend on which
    worker plays whom.
    """
    if isinstance(data, DataLoader):
        loader = cast("Any", data)
        sampler = getattr(loader.batch_sampler, "sampler", loader.sampler)
        for generator in {loader.generator, getattr(sampler, "generator", None)}:
            if isinstance(generator, torch.Generator):
                generator.manual_seed(int(torch.empty((), dtype=torch.int64).random_().item()))


def length(data: Any) -> int | None:
    """How many examples a pass over `data` gives; None if only the pass can tell."""
    if _is_columns(data):
        return len(next(iter(_parts(data))))
    if isinstance(data, DataLoader):
        batch_sampler = cast("Any", data).batch_sampler
        # A sampler may take a part of the data set only; a batch sampler of the user's own has its own idea.
        sampler: Any = batch_sampler.sampler if type(batch_sampler) is BatchSampler else None
        return len(sampler) if isinstance(sampler, Sized) else None
    return len(data) if _is_dataset(data) else None


def batches_of(data: Any, batch_size: int) -> int | None:
    """How many batches a pass over `data` gives; None if only the pass can tell."""
    if _is_columns(data) or _is_dataset(data):
        count = length(data)
        return None if count is None else -(-count // batch_size)
    try:
        return len(data)
    except TypeError:
        return None


def examples(batch: Any) -> int:
    """How many examples a batch has: the length of its first array."""
    if hasattr(batch, "shape"):
        return len(batch) if len(batch.shape) else 1
    if not isinstance(batch, Iterable):
        return 1
    batch = cast("Iterable[Any]", batch)
    parts = cast("Mapping[str, Any]", batch).values() if isinstance(batch, Mapping) else batch
    return next((len(part) for part in parts if hasattr(part, "shape") and len(part.shape)), 1)


def on_device(batch: Any, device: torch.device) -> Any:
    """The batch with its arrays as tensors on `device`; lists become tuples."""
    if isinstance(batch, np.ndarray):
        return tensor_of(batch).to(device)
    if isinstance(batch, Mapping):
        return {key: on_device(value, device) for key, value in cast("Mapping[str, Any]", batch).items()}
    if isinstance(batch, (list, tuple)):
        return tuple(on_device(item, device) for item in cast("list[Any]", batch))
    return batch.to(device) if hasattr(batch, "to") else batch


def tensor_of(value: Any) -> Tensor:
    """A tensor of any array or table column, on the same memory if that can be written to."""
    if isinstance(value, Tensor):
        return value
    # torch warns of read-only memory and refuses negative strides.
    return torch.from_numpy(np.require(np.asarray(value), requirements=["C", "W"]))


def _is_columns(data: Any) -> bool:
    """Whether data is a tuple or mapping of whole arrays, to be cut into batches."""
    if not isinstance(data, (tuple, Mapping)) or not data:
        return False
    parts = cast("Mapping[str, Any]", data).values() if isinstance(data, Mapping) else cast("tuple[Any, ...]", data)
    return all(hasattr(part, "shape") for part in parts)


def _columns(data: Any) -> Columns:
    if isinstance(data, Mapping):
        return {name: tensor_of(part) for name, part in cast("Mapping[str, Any]", data).items()}
    return tuple(tensor_of(part) for part in data)


def _parts(columns: Any) -> Iterable[Tensor]:
    return cast("dict[str, Tensor]", columns).values() if isinstance(columns, dict) else columns


def _is_loader(data: Any) -> bool:
    return isinstance(data, DataLoader)


def _is_dataset(data: Any) -> bool:
    """Whether data has single examples by index; lists and tuples hold batches."""
    return hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, (list, tuple))
