"""What an owner may say of a client's share of data and machine, checked before anything is joined or connected."""

from __future__ import annotations

from umbel.errors import ConfigError


def check_numbers(*, partition: int | None, threads: int | None) -> None:
    """Refuse what no client can be given. A partition below 0 would count from the end, and be another's data.

    Args:
        partition: which part of the data, at least 0; None lets the name say.
        threads: for NumPy and torch, at least 1; None leaves them as they are.

    Raises:
        ConfigError: one is out of range.
    """
    if partition is not None and not partition >= 0:
        raise ConfigError(f"partition must be at least 0, got {partition}; the first part of the data is 0")
    if threads is not None and not threads >= 1:
        raise ConfigError(f"threads must be at least 1, got {threads}; leave it out to take as many as the client does")
