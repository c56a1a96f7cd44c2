"""`FlowerClient`: a client at the other end of a stream, as the `LocalClient` that strategies know."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray

from umbel.arrays import Arrays
from umbel.clients.coerce import from_user
from umbel.dtypes import widen
from umbel.errors import NotSupported, UpdateRefused, WireError
from umbel.local_client import Capability, Fitted, LocalClient
from umbel.message import Context, Evaluation
from umbel.runtimes.flower.messages import Reply, write

SMALL_TALK_S = 60.0
"""How long a client may take to say what it is; training takes as long as the round allows."""
KEPT_MESSAGES = 2


class Ask(Protocol):
    """Sends a message to the client and waits for its reply.

    Raises:
        ClientError: the client is gone, or what it sent is no reply.
    """

    def __call__(self, message: bytes, *, within_s: float = math.inf) -> Reply: ...


@final
class Messages:
    """The last messages that carried a model: a cohort is sent the same one, which is written once."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Any, ...], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def carrying(self, model: Arrays, kind: str, config: Mapping[str, Any]) -> bytes:
        """`model` and `config` as the message that asks for `kind`."""
        key = (kind, model.digest, repr(sorted(config.items(), key=lambda item: item[0])))
        with self._lock:
            if key not in self._kept:
                self._kept[key] = write(kind, config, list(_plain(model).values()))
            self._kept.move_to_end(key)
            while len(self._kept) > KEPT_MESSAGES:
                self._kept.popitem(last=False)
            return self._kept[key]


def _plain(model: Arrays) -> dict[str, NDArray[Any]]:
    """The arrays as NumPy has them: bfloat16 becomes float32."""
    half = {spec.name for spec in model.schema.specs if spec.dtype == "BF16"}
    return {name: widen(view, "BF16").astype(np.float32) if name in half else view for name, view in model.items()}


@final
class FlowerClient(LocalClient):
    """Asks a Flower client to train, to evaluate and to tell of itself. Its arrays have no names: they go by order."""

    capabilities: frozenset[Capability] = frozenset({"fit", "evaluate", "properties"})

    def __init__(self, ask: Ask, messages: Messages) -> None:
        self._ask, self._messages = ask, messages

    def parameters(self, ctx: Context) -> Arrays:
        reply = self._reply(ctx, "get_parameters", write("get_parameters", _config(ctx)), SMALL_TALK_S)
        return Arrays.of(self._arrays(ctx, reply))

    def fit_arrays(self, start: Arrays, ctx: Context) -> Fitted:
        reply = self._reply(ctx, "fit", self._messages.carrying(start, "fit", _config(ctx)))
        arrays = self._arrays(ctx, reply)
        if len(arrays) != len(start):
            raise UpdateRefused(ctx.client, f"fit returned {len(arrays)} arrays, the model has {len(start)}")
        named = from_user(ctx.client, dict(zip(start, arrays, strict=True)), start.schema)
        return Fitted(named, reply.num_examples, metrics=reply.values)

    def evaluate_arrays(self, model: Arrays, ctx: Context) -> Evaluation:
        reply = self._reply(ctx, "evaluate", self._messages.carrying(model, "evaluate", _config(ctx)))
        return Evaluation(reply.loss, reply.num_examples, reply.values)

    def properties(self, ctx: Context) -> dict[str, Any]:
        reply = self._reply(ctx, "get_properties", write("get_properties", _config(ctx)), SMALL_TALK_S)
        return dict(reply.values)

    def _reply(self, ctx: Context, kind: str, message: bytes, within_s: float = math.inf) -> Reply:
        """The reply of the right kind to a message."""
        try:
            reply = self._ask(message, within_s=within_s)
        except WireError as error:
            raise UpdateRefused(ctx.client, f"what it sent cannot be read: {error}") from None
        if reply.kind != kind:
            raise UpdateRefused(ctx.client, f"it was asked for {kind} and answered {reply.kind}")
        if reply.code:
            # Codes 1 to 4 say that the client's class has no such method; others are of a newer version.
            why = f"has no {kind}" if reply.code <= 4 else f"could not {kind} (code {reply.code})"
            raise NotSupported(f"the Flower client {why}" + (f": {reply.text}" if reply.text else ""))
        return reply

    def _arrays(self, ctx: Context, reply: Reply) -> list[NDArray[Any]]:
        try:
            return reply.arrays()
        except WireError as error:
            raise UpdateRefused(ctx.client, str(error)) from None


def _config(ctx: Context) -> Mapping[str, Any]:
    return {"server_round": ctx.round, **ctx.config}


def client_of(ask: Ask, messages: Messages) -> Callable[[Context], FlowerClient]:
    """The `client_fn` of a stream."""

    def build(context: Context) -> FlowerClient:
        return FlowerClient(ask, messages)

    return build
