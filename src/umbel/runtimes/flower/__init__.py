"""Clients written for Flower take part: each stream of theirs becomes a node of this process. Needs gRPC."""

from umbel.runtimes.flower.service import FlowerNodes

__all__ = ["FlowerNodes"]
