"""`umbel tune --server`: each point is a run that a server leads over its nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from umbel.cli.follow import UNDER_WAY, outcome
from umbel.cli.place import RemoteRuns
from umbel.cli.remote import Remote
from umbel.errors import ConfigError, UmbelError
from umbel.runtimes.app import App
from umbel.runtimes.history import History
from umbel.runtimes.sweep.space import Point


@final
@dataclass(frozen=True)
class Led:
    """How one point of an app is run at a server: it is begun there, or found under way, and waited for."""

    app: App
    place: Remote

    def __call__(self, point: Point, seed: int, kept: Mapping[str, Any]) -> History:
        settings = {**self.app.config, **point, **({"seed": seed} if "seed" in self.app.config else {})}
        run = self._begun(kept["resume"], settings, kept["name"])
        history = outcome(self.place, run)
        if history.ended.startswith("failed"):
            raise UmbelError(history.ended.removeprefix("failed: "))
        return history

    def _begun(self, before: str | None, settings: Mapping[str, Any], name: str) -> str:
        """The run's id; one that a command before this began goes on."""
        if before is None:
            order = {"app": self.app.name, "digest": self.app.digest, "settings": dict(settings), "name": name}
            return self.place.post("/v1/runs", order)["run"]
        info = RemoteRuns(self.place).find(before)
        if info is not None and info.status in UNDER_WAY:
            return before
        return self.place.post(f"/v1/runs/{before}/resume", {"settings": dict(settings)})["run"]


def check_at_server(app: App, seeds: int, pruner: str | None) -> None:
    """Refuse what a sweep at a server cannot have.

    Raises:
        ConfigError: says what.
    """
    if pruner is not None:
        raise ConfigError(f"--pruner breaks simulations off, got {pruner} with --server; leave one of the two out")
    if seeds != 1 and "seed" not in app.config:
        raise ConfigError(
            f"at a server a run's seed is a setting of the app, and {app.name} has no setting seed, got --seeds "
            f'{seeds}; add "seed = 0" to the app\'s config and hand it to ServerConfig(seed=...), or leave --seeds out'
        )
