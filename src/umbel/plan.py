"""A run written as plain data: what the log keeps, and what a resumed run must agree with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, cast

from umbel.errors import ConfigError

FORMAT = 1


def describe(value: Any) -> Any:
    """A value as plain data: frozen dataclasses by class name and fields (but those with the metadata `plan=False`),
    functions by name.

    Example:
        >>> from umbel.optimizers import sgd
        >>> describe(sgd(0.5))
        {'name': 'Sgd', 'lr': 0.5}
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kept = [f.name for f in dataclasses.fields(value) if f.metadata.get("plan", True)]
        fields = {name: describe(getattr(value, name)) for name in kept}
        return {"name": type(value).__name__, **fields}
    if isinstance(value, Mapping):
        return {str(k): describe(v) for k, v in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in cast("Sequence[Any]", value)]
    return getattr(value, "__qualname__", type(value).__name__)


def check_same(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse to resume a run under another plan; more rounds are allowed.

    What an older plan does not mention was not there yet, so it has to be off (None, False, 0 or empty) now.

    Raises:
        ConfigError: names each difference.
    """
    differences = list(_differences("", _comparable(stored), _comparable(wanted)))
    if differences:
        raise ConfigError(
            f"this is not the run that was begun: {'; '.join(differences)}. Resume it as it was, or start a new run"
        )


def _comparable(plan: Mapping[str, Any]) -> dict[str, Any]:
    kept = {
        key: plan[key]
        for key in ("strategy", "config", "num_clients", "settings", "system", "coordinator")
        if key in plan
    }
    config = dict(kept.get("config", {}))
    config.pop("num_rounds", None)
    if config.get("min_available_clients") is None:
        config["min_available_clients"] = 1  # the same thing; older plans had the number
    if config.get("selector") == {"name": "Uniform"}:
        del config["selector"]  # as if older plans, which have none, had it
    # So with who adds noise, which was always the server.
    private = kept.get("strategy", {}).get("plan")
    if isinstance(private, Mapping) and cast("Mapping[str, Any]", private).get("noise") == "server":
        rest = {name: value for name, value in cast("Mapping[str, Any]", private).items() if name != "noise"}
        kept["strategy"] = {**kept["strategy"], "plan": rest}
    settings = dict(kept.get("settings", {}))
    settings.pop("num_rounds", None)
    return {**kept, "config": config, "settings": settings}


def _differences(path: str, old: Any, new: Any) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        before, after = cast("dict[str, Any]", old), cast("dict[str, Any]", new)
        names = sorted({*before, *after})
        return [d for n in names for d in _differences(f"{path}.{n}" if path else n, before.get(n), after.get(n))]
    if old is None and not new:
        return []
    return [] if old == new else [f"{path} was {old!r} and is now {new!r}"]
