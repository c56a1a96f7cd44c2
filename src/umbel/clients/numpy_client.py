"""`NumPyClient`: a class of the user's with `fit` and `evaluate` on NumPy arrays, and any training loop inside."""

from __future__ import annotations

from typing import Any, ClassVar


class NumPyClient:
    """Subclass this and write `fit`, `evaluate`, or both; everything else is optional.

    ```
    def fit(self, parameters, config):        # → (new_parameters, num_examples, metrics)
    def evaluate(self, parameters, config):   # → (loss, num_examples, metrics)
    def get_parameters(self, config):         # → the initial parameters
    def get_properties(self, config):         # → plain data about this client
    ```

    `parameters` are private writable arrays: a list if the model was given as a list, else a dict by name. `config`
    holds the round's settings and `server_round`. Metrics may be left out of the returned tuple.
    """

    corrections: ClassVar[tuple[str, ...]] = ()
    """Corrections that `fit` applies itself, such as ("proximal",); their numbers arrive in `config`."""

    def to_client(self) -> Any:
        """This object; kept for scripts that convert their clients."""
        return self
