"""How a model is called with a batch, and where its loss is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn

from umbel.errors import ConfigError


def called(model: nn.Module, batch: Any) -> Any:
    """What the model gives for a batch: a mapping is given by name, a tuple in order."""
    if isinstance(batch, Mapping):
        return model(**cast("Mapping[str, Any]", batch))
    return model(*cast("tuple[Any, ...]", batch)) if isinstance(batch, tuple) else model(batch)


def loss_of(output: Any) -> Tensor:
    """The loss that a model returns with its output.

    Raises:
        ConfigError: it returns none.
    """
    is_mapping = isinstance(output, Mapping)
    loss = cast("Mapping[str, Any]", output).get("loss") if is_mapping else getattr(output, "loss", None)
    if loss is None:
        kind = type(cast("object", output)).__name__
        raise ConfigError(
            f"the model returned a {kind} without a loss; give TorchClient loss=, or step=, or batches with labels"
        )
    return loss
