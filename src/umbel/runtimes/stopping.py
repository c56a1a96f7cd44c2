"""Whether `target` and `patience` can ever end a run, and what to say where what they look at is not measured."""

from __future__ import annotations

from collections.abc import Mapping

from umbel.coordinators import ServerConfig
from umbel.errors import NotSupported

TRAINED, CENTRAL = "train_", "central_"


def why_never(config: ServerConfig, *, central: bool, clients: bool = True) -> str | None:
    """Why a rule of `config` can never stop the run; None if it can, or if there is none.

    Args:
        central: whether there is an `evaluate_fn`.
        clients: whether clients can evaluate.
    """
    rule = _rule(config)
    if rule is None or config.num_rounds == 0 or central or config.monitor.startswith(TRAINED):
        return None
    asked = config.fraction_evaluate > 0 and clients
    if asked and not config.monitor.startswith(CENTRAL):
        return None
    if asked:
        return f"{rule} is set but monitor={config.monitor!r} is what evaluate_fn measures, and there is none; give one"
    nobody, instead = "fraction_evaluate is 0", "raise fraction_evaluate"
    if not clients:
        nobody, instead = "clients have no evaluate (or no test data)", "let clients evaluate"
    return (
        f"{rule} is set but nothing is evaluated, so it never stops a run: {nobody} and there is no evaluate_fn; "
        f"{instead}, give evaluate_fn, or monitor='train_…', for a metric that fit returns"
    )


def check_stopping(config: ServerConfig, *, central: bool, clients: bool = True) -> None:
    """Refuse a rule that can never stop the run.

    Raises:
        NotSupported: says why.
    """
    why = why_never(config, central=central, clients=clients)
    if why is not None:
        raise NotSupported(why)


def unmonitored(config: ServerConfig, round: int, measured: Mapping[str, float]) -> str | None:
    """What to say after a round that was to measure `monitor` and did not."""
    due = round % config.evaluate_every == 0 or round >= config.num_rounds
    rule = _rule(config)
    if not due or config.monitor in measured or (rule is None and config.monitor == "loss"):
        return None
    known = ", ".join(map(repr, sorted(measured))) or "none"
    does = f"{rule} does not stop the run" if rule else "no checkpoint is the best one"
    return (
        f"monitor={config.monitor!r} is not among the measured metrics ({known}), so {does}; name one of these, or "
        "return it from evaluate or evaluate_fn"
    )


def _rule(config: ServerConfig) -> str | None:
    return next((name for name in ("patience", "target") if getattr(config, name) is not None), None)
