"""Checks of arguments, one sentence each: what is wrong, what is allowed, what to try."""

from __future__ import annotations

import math
import operator

from umbel.errors import ConfigError


def whole_number(name: str, value: object, *, minimum: int, hint: str) -> int:
    """`value` as an int of at least `minimum`; True and 2.0 are not whole numbers of clients."""
    problem = f"{name} must be a whole number of at least {minimum}, got {value!r}; {hint}"
    if isinstance(value, bool):
        raise ConfigError(problem)
    try:
        number = operator.index(value)  # pyright: ignore[reportArgumentType]
    except TypeError:
        raise ConfigError(problem) from None
    if number < minimum:
        raise ConfigError(problem)
    return number


def finite_number(name: str, value: object, *, hint: str) -> float:
    """`value` as a float that is neither infinite nor NaN."""
    problem = f"{name} must be a finite number, got {value!r}; {hint}"
    if isinstance(value, (bool, str, bytes)):
        raise ConfigError(problem)
    try:
        number = float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(problem) from None
    if not math.isfinite(number):
        raise ConfigError(problem)
    return number


def positive_number(name: str, value: object, *, hint: str) -> float:
    """`value` as a float above 0."""
    number = finite_number(name, value, hint=hint)
    if number <= 0:
        raise ConfigError(f"{name} must be above 0, got {value!r}; {hint}")
    return number


def enough_samples(size: int, num_clients: int, *, min_size: int = 1) -> None:
    """Refuse a split that cannot give every client `min_size` samples."""
    if num_clients * min_size <= size:
        return
    if min_size <= 1:
        raise ConfigError(
            f"num_clients={num_clients} is more than the {size} samples; every client needs at least one: "
            f"try num_clients={size} or less"
        )
    raise ConfigError(
        f"min_size={min_size} for num_clients={num_clients} needs {num_clients * min_size} samples, "
        f"the data has {size}; at most min_size={size // num_clients} is possible: lower min_size or num_clients"
    )


def check_seed(seed: object) -> int:
    """A seed is any whole number from 0."""
    return whole_number("seed", seed, minimum=0, hint="try seed=0")


def check_num_clients(num_clients: object) -> int:
    """At least one client."""
    return whole_number("num_clients", num_clients, minimum=1, hint="try num_clients=10")
