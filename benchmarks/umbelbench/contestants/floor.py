"""The floor: federated averaging by hand, 2 forked workers x 1 thread, shared model, sums in place, no framework.

`--client flat` trains with `FlatLoop`, `--client user` drives the users' class, so that it is "the same loop outside".
Clients are trained one by one; for small models in blocks there is `floor_tiny`.
"""

import argparse
import mmap
import multiprocessing
import os

import numpy as np
import torch

from umbelbench.gate import Gate
from umbelbench.loops import FlatLoop, UserLoop
from umbelbench.task import Task, named

WORKERS = 2


def shared(size: int, dtype: type) -> np.ndarray:
    """An array that forked workers and their parent both see."""
    return np.frombuffer(mmap.mmap(-1, size * np.dtype(dtype).itemsize), dtype)


class Board:
    """What parent and workers share: the model, one partial sum a worker, the cohort and where it is taken from."""

    def __init__(self, size: int, cohort: int) -> None:
        self.model = shared(size, np.float32)
        self.sums = [shared(size + 1, np.float64) for _ in range(WORKERS)]  # the last element is the weight
        self.cohort = shared(cohort, np.int64)
        self.next = multiprocessing.get_context("fork").Value("q", 0)

    def take(self) -> int | None:
        with self.next:
            place = self.next.value
            self.next.value = place + 1
        return int(self.cohort[place]) if place < len(self.cohort) else None


def flat_client(board: Board, task: Task):
    loop, start = FlatLoop(task), torch.from_numpy(board.model)

    def train(client: int) -> tuple[np.ndarray, int]:
        samples = loop.train(start, client)
        return loop.flat.numpy(), samples

    return train


def user_client(board: Board, task: Task):
    model = task.net()
    shapes = [tuple(p.shape) for p in model.parameters()]
    cuts = np.cumsum([int(np.prod(s)) for s in shapes])[:-1]

    def train(client: int) -> tuple[np.ndarray, int]:
        arrays = [part.reshape(s) for part, s in zip(np.split(board.model, cuts), shapes, strict=True)]
        new, samples, _ = UserLoop(task, client, model).fit(arrays, {})
        return np.concatenate([a.ravel() for a in new]), samples

    return train


def work(board: Board, task: Task, mine: int, client_kind: str, wake: int, done: int) -> None:
    torch.set_num_threads(1)
    train = {"flat": flat_client, "user": user_client}[client_kind](board, task)
    total = board.sums[mine]
    scratch = np.empty(total.size - 1)
    while os.read(wake, 1):
        total[:] = 0
        while (client := board.take()) is not None:
            new, samples = train(client)
            np.multiply(new, samples, out=scratch, dtype=np.float64)
            total[:-1] += scratch
            total[-1] += samples
        os.write(done, b".")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", default="lenet")
    parser.add_argument("--client", choices=["flat", "user"], default="flat")
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--result", required=True)
    options = parser.parse_args()
    gate = Gate()
    torch.set_num_threads(1)
    task = named(options.task)
    task.client_data(0)  # before the fork: what all share
    start = np.concatenate([p.ravel() for p in task.initial_parameters()])
    board = Board(start.size, task.cohort)
    board.model[:] = start
    wakes, (done_read, done_write) = [os.pipe() for _ in range(WORKERS)], os.pipe()
    for mine in range(WORKERS):
        if os.fork() == 0:
            for _, write in wakes:
                os.close(write)
            work(board, task, mine, options.client, wakes[mine][0], done_write)
            os._exit(0)
    rng = np.random.default_rng(2)
    cohorts = []
    for _ in range(options.rounds):
        gate.wait()
        board.cohort[:] = rng.choice(task.population, task.cohort, replace=False)
        board.next.value = 0
        for _, write in wakes:
            os.write(write, b".")
        answers = 0
        while answers < WORKERS:
            answers += len(os.read(done_read, WORKERS))
        total = np.sum(board.sums, axis=0)
        board.model[:] = total[:-1] / total[-1]
        cohorts.append(sorted(board.cohort.tolist()))
    gate.finish(options.result, [board.model], cohorts)


if __name__ == "__main__":
    main()
