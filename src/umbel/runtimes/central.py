"""The server's own evaluation of a round's model, and what waits for it before the round can be written down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from umbel.arrays import Arrays
from umbel.clients.coerce import to_user
from umbel.clients.initial import call
from umbel.errors import ConfigError
from umbel.message import numbers

if TYPE_CHECKING:
    from umbel.coordinators import ServerConfig
    from umbel.runtimes.session import Hooks
    from umbel.runtimes.tally import Tally


@final
@dataclass
class Central:
    """One model's evaluation by the user's `evaluate_fn`: done once, at some time, and looked at later.

    Args:
        function: `(round, parameters, config) → (loss, metrics)` or None; None measures nothing.
    """

    function: Callable[..., Any] | None
    round: int
    params: Arrays
    _found: tuple[dict[str, float], list[str]] | None = None
    _error: Exception | None = None

    def run(self) -> None:
        """Evaluate, unless it was done. What goes wrong is kept for `result`."""
        if self._found is not None or self._error is not None:
            return
        try:
            self._found = ({}, []) if self.function is None else self._measured(self.function)
        except Exception as error:
            self._error = error

    def result(self) -> tuple[dict[str, float], list[str]]:
        """The numbers, and sentences on what was none.

        Raises:
            ConfigError: `evaluate_fn` returned something else.
            Exception: whatever it raised.
        """
        self.run()
        if self._error is not None:
            raise self._error
        assert self._found is not None
        return self._found

    def _measured(self, function: Callable[..., Any]) -> tuple[dict[str, float], list[str]]:
        result = call(function, self.round, to_user(self.params), {})
        if result is None:
            return {}, []
        if not isinstance(result, tuple) or len(result) != 2:  # pyright: ignore[reportUnknownArgumentType]
            raise ConfigError(f"evaluate_fn returned a {type(result).__name__}; it must return (loss, metrics) or None")  # pyright: ignore[reportUnknownArgumentType]
        kept, sentences = numbers({"loss": result[0], **(result[1] or {})})
        return dict(kept), [f"evaluate_fn: {sentence}" for sentence in sentences]


@final
@dataclass
class Closing:
    """A round that has taken its step and is written down as soon as its model is evaluated at the server.

    Attributes:
        event: its record, without what was measured.
        tally, evaluation: what its clients reported.
    """

    round: int
    central: Central
    event: dict[str, Any]
    tally: Tally
    evaluation: Tally | None


def is_in_order(hooks: Hooks, config: ServerConfig) -> bool:
    """Whether the server's evaluation of a model has to end before the next round begins.

    Whatever could look at its numbers before then, or at what else `evaluate_fn` did, makes it so. It is a rule of the
    run and not of the moment, so that a run does the same each time.
    """
    ends_it = config.target is not None or config.patience is not None
    others = (
        hooks.on_fit_config_fn,
        hooks.on_evaluate_config_fn,
        hooks.fit_metrics,
        hooks.evaluate_metrics,
        hooks.stop_when,
    )
    # A client's time-out is watched by the process that evaluates, which would look too late.
    return ends_it or config.client_timeout is not None or any(function is not None for function in others)
