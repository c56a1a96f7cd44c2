"""`Client`: for needs that `NumPyClient` does not meet — the context, partial work, queries, other answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

from umbel.arrays import Arrays


class Client:
    """Subclass this and write the methods you need; each is handed the context.

    ```
    def get_parameters(self, context): ...        # → arrays
    def fit(self, parameters, context): ...       # → (arrays | Delta | Gradients, num_examples, metrics)
    def evaluate(self, parameters, context): ...  # → (loss, num_examples, metrics)
    def get_properties(self, context): ...        # → plain data
    def query(self, context): ...                 # → (arrays, weight); context.config["query"] names the question
    ```

    `parameters` is a read-only `Arrays` (name → array). Partial work: look at `context.should_stop()` in the training
    loop and return what there is with the number of examples used.
    """

    corrections: ClassVar[tuple[str, ...]] = ()

    def to_client(self) -> Any:
        """This object; kept for scripts that convert their clients."""
        return self


@final
@dataclass(frozen=True)
class Delta:
    """An answer of `fit` that is already the change `new - start`, by name or in order."""

    arrays: Arrays | Mapping[str, Any] | Sequence[Any]


@final
@dataclass(frozen=True)
class Gradients:
    """An answer of `fit` that is an accumulated gradient: the change is -lr times it."""

    arrays: Arrays | Mapping[str, Any] | Sequence[Any]
    lr: float = field(default=1.0, kw_only=True)
