"""Memory of a process tree: the sum of PSS, which counts a page shared by n processes as 1/n in each."""

import threading
from pathlib import Path


def tree(root: int) -> list[int]:
    """`root` and all its descendants that live now."""
    found, open_ = [], [root]
    while open_:
        pid = open_.pop()
        found.append(pid)
        try:
            for task in Path(f"/proc/{pid}/task").iterdir():
                open_ += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue  # ended meanwhile
    return found


def pss_bytes(root: int) -> int:
    """Proportional set size of the whole tree."""
    total = 0
    for pid in tree(root):
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total * 1024


class Peak:
    """Samples a tree's memory from a thread while the block runs; `bytes` is the largest seen."""

    def __init__(self, root: int, period_s: float = 0.02) -> None:
        self.bytes, self._root, self._period_s = 0, root, period_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while not self._stop.wait(self._period_s):
            self.bytes = max(self.bytes, pss_bytes(self._root))

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.bytes = max(self.bytes, pss_bytes(self._root))  # also of a block that is shorter than a period
