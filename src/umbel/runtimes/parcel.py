"""A task as a tree of plain data and arrays, for engines that hand it to other processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from umbel.message import Task


def task_tree(task: Task) -> dict[str, Any]:
    """A tree for `umbel.wire.pack_parts`."""
    return {
        "round": task.round,
        "arrays": task.arrays,
        "extra": dict(task.extra),
        # Wrapped, so that a map among the values stays plain data and is no branch of the tree.
        "config": {key: ["value", value] for key, value in task.config.items()},
        "shared": list(task.shared),
    }


def task_in(tree: Mapping[str, Any]) -> Task:
    """The task of which `task_tree` made this tree."""
    config = {key: pair[1] for key, pair in tree["config"].items()}
    return Task(tree["round"], tree["arrays"], tree["extra"], config, tuple(tree["shared"]))
