"""`flwr.common`: arrays as parameters and back, and the messages of clients that are written with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray as _NDArray

from umbel.message import Scalar
from umbel.runtimes.flower import npy

NDArray: TypeAlias = _NDArray[Any]
NDArrays: TypeAlias = list[NDArray]
Metrics: TypeAlias = dict[str, Scalar]
Config: TypeAlias = dict[str, Scalar]
Properties: TypeAlias = dict[str, Scalar]
MetricsAggregationFn: TypeAlias = Callable[[list[tuple[int, Metrics]]], Metrics]

__all__ = [
    "Code",
    "Config",
    "Context",
    "EvaluateIns",
    "EvaluateRes",
    "FitIns",
    "FitRes",
    "GetParametersIns",
    "GetParametersRes",
    "GetPropertiesIns",
    "GetPropertiesRes",
    "Metrics",
    "MetricsAggregationFn",
    "NDArray",
    "NDArrays",
    "Parameters",
    "Properties",
    "Scalar",
    "Status",
    "bytes_to_ndarray",
    "ndarray_to_bytes",
    "ndarrays_to_parameters",
    "parameters_to_ndarrays",
]


@final
class Code(Enum):
    OK = 0
    GET_PROPERTIES_NOT_IMPLEMENTED = 1
    GET_PARAMETERS_NOT_IMPLEMENTED = 2
    FIT_NOT_IMPLEMENTED = 3
    EVALUATE_NOT_IMPLEMENTED = 4


@final
@dataclass
class Status:
    code: Code
    message: str


@final
@dataclass
class Parameters:
    """Arrays as bytes, each as `numpy.save` writes it."""

    tensors: list[bytes]
    tensor_type: str


@final
@dataclass
class GetPropertiesIns:
    config: Config


@final
@dataclass
class GetPropertiesRes:
    status: Status
    properties: Properties


@final
@dataclass
class GetParametersIns:
    config: Config


@final
@dataclass
class GetParametersRes:
    status: Status
    parameters: Parameters


@final
@dataclass
class FitIns:
    parameters: Parameters
    config: Config


@final
@dataclass
class FitRes:
    status: Status
    parameters: Parameters
    num_examples: int
    metrics: Metrics


@final
@dataclass
class EvaluateIns:
    parameters: Parameters
    config: Config


@final
@dataclass
class EvaluateRes:
    status: Status
    loss: float
    num_examples: int
    metrics: Metrics


@final
@dataclass
class Context:
    """What `client_fn` is handed: `node_config` has "partition-id" and "num-partitions", `state` is a lasting dict."""

    run_id: int
    node_id: int
    node_config: Mapping[str, Any]
    state: dict[str, Any]
    run_config: Mapping[str, Any] = field(default_factory=dict[str, Any])


def ndarray_to_bytes(ndarray: NDArray) -> bytes:
    return b"".join(npy.write(np.asarray(ndarray)))


def bytes_to_ndarray(tensor: bytes) -> NDArray:
    return npy.read(memoryview(tensor)).copy()


def ndarrays_to_parameters(ndarrays: Sequence[NDArray]) -> Parameters:
    return Parameters([ndarray_to_bytes(array) for array in ndarrays], "numpy.ndarray")


def parameters_to_ndarrays(parameters: Parameters) -> NDArrays:
    return [bytes_to_ndarray(tensor) for tensor in parameters.tensors]
