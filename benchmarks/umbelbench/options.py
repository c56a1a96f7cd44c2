"""What the command line decides, handed to every benchmark."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """`python` runs umbel and the floor, the others the peers (None: a peer's rows are left out)."""

    python: str
    flwr_python: str | None
    pairs: int
    quick: bool
    pfl_python: str | None = None
    nvflare_python: str | None = None
