"""Ray itself, imported here and nowhere else. Its own types say little, so it is taken as untyped."""

from __future__ import annotations

from importlib import import_module
from typing import Any

ray: Any = import_module("ray")
pinned: Any = import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
RayError: type[Exception] = import_module("ray.exceptions").RayError
ActorDied: type[Exception] = import_module("ray.exceptions").ActorDiedError
TaskError: type[Exception] = import_module("ray.exceptions").RayTaskError
OutOfMemory: type[Exception] = import_module("ray.exceptions").OutOfMemoryError
