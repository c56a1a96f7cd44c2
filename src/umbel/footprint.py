"""`Footprint`: the memory that a client takes on its device, part by part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class Footprint:
    """Bytes on the device while one client trains.

    Attributes:
        model: all its arrays, buffers too.
        gradients: one for each parameter that is trained.
        optimizer: what the optimiser remembers after a step.
        activations: what one step keeps for its backward pass.
        batch: one batch of examples.
    """

    model: int
    gradients: int
    optimizer: int
    activations: int
    batch: int

    def of(self, block: int = 1) -> int:
        """Bytes for `block` clients that train together: model + block · (everything).

        The model is there once more, with its own values, which are put back after a turn. What a step allocates and
        frees at once, an allocator's gaps and a strategy's own arrays (SCAFFOLD's controls) are not counted.
        """
        each = self.model + self.gradients + self.optimizer + self.activations + self.batch
        return self.model + block * each
