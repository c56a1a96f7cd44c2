"""The engine for a cluster: on each node of a Ray cluster the engine that a machine of its own would have."""

from umbel.runtimes.ray.engine import RayEngine

__all__ = ["RayEngine"]
