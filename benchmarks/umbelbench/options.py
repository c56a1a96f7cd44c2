"""What the command line decides, handed to every benchmark."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """`python` runs umbel and the floor, `flwr_python` the peer (None: its rows are left out)."""

    python: str
    flwr_python: str | None
    pairs: int
    quick: bool
