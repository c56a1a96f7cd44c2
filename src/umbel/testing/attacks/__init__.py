"""Bad clients for tests and research: what they train on, what they send, and a strategy that has some of them."""

from umbel.testing.attacks.attack import Attack
from umbel.testing.attacks.attacked import Attacked
from umbel.testing.attacks.data import PixelBackdoor, flip_labels
from umbel.testing.attacks.omniscient import ALIE, IPM, MinMax
from umbel.testing.attacks.single import FreeRider, GaussianNoise, NaNBomb, Scaling, SignFlip

__all__ = [
    "ALIE",
    "IPM",
    "Attack",
    "Attacked",
    "FreeRider",
    "GaussianNoise",
    "MinMax",
    "NaNBomb",
    "PixelBackdoor",
    "Scaling",
    "SignFlip",
    "flip_labels",
]
