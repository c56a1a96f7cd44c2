"""The tiny task by hand: 2 forked workers x 1 thread, blocks of stacked models, sums in place, no framework."""

import argparse
import mmap
import multiprocessing
import os

import numpy as np
import torch
from torch.func import grad, vmap

from umbelbench import tiny
from umbelbench.gate import Gate

WORKERS, BLOCK = 2, 2_500
SIZE = tiny.CLASSES * tiny.FEATURES + tiny.CLASSES


def shared(size: int, dtype: type) -> np.ndarray:
    """An array that forked workers and their parent both see."""
    return np.frombuffer(mmap.mmap(-1, size * np.dtype(dtype).itemsize), dtype)


def loss(weight: torch.Tensor, bias: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(x @ weight.T + bias, y)


class Worker:
    """Trains blocks of clients and adds up their models."""

    def __init__(self) -> None:
        x, y = tiny.table()
        self.x, self.y = torch.from_numpy(x), torch.from_numpy(y)
        self.gradients = vmap(grad(loss, argnums=(0, 1)))

    def train(self, model: np.ndarray, clients: np.ndarray) -> np.ndarray:
        """The sum of the clients' models."""
        cut = tiny.CLASSES * tiny.FEATURES
        start = torch.from_numpy(model)
        weight = start[:cut].view(tiny.CLASSES, tiny.FEATURES).repeat(len(clients), 1, 1)
        bias = start[cut:].repeat(len(clients), 1)
        rows = torch.from_numpy(np.stack([tiny.rows(int(client)) for client in clients]))
        for first in range(0, tiny.SAMPLES, tiny.BATCH):
            mine = rows[:, first : first + tiny.BATCH]
            x = self.x.index_select(0, mine.reshape(-1)).view(*mine.shape, tiny.FEATURES)
            y = self.y.index_select(0, mine.reshape(-1)).view(mine.shape)
            by_weight, by_bias = self.gradients(weight, bias, x, y)
            weight.add_(by_weight, alpha=-tiny.LEARNING_RATE)
            bias.add_(by_bias, alpha=-tiny.LEARNING_RATE)
        return np.concatenate([weight.double().sum(0).numpy().ravel(), bias.double().sum(0).numpy()])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cohort", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--result", required=True)
    options = parser.parse_args()
    gate = Gate()
    torch.set_num_threads(1)
    worker, block = Worker(), min(BLOCK, -(-options.cohort // WORKERS))
    worker.train(np.zeros(SIZE, np.float32), np.arange(8))  # before the fork: what is made once
    model, sums = shared(SIZE, np.float32), [shared(SIZE, np.float64) for _ in range(WORKERS)]
    cohort = shared(options.cohort, np.int64)
    cursor = multiprocessing.get_context("fork").Value("q", 0)
    wakes, (done_read, done_write) = [os.pipe() for _ in range(WORKERS)], os.pipe()
    for mine in range(WORKERS):
        if os.fork() == 0:
            for _, write in wakes:
                os.close(write)
            while os.read(wakes[mine][0], 1):
                sums[mine][:] = 0
                while True:
                    with cursor:
                        first = cursor.value
                        cursor.value += block
                    if first >= options.cohort:
                        break
                    sums[mine][:] += worker.train(model, cohort[first : first + block])
                os.write(done_write, b".")
            os._exit(0)
    rng = np.random.default_rng(2)
    cohorts = []
    for _ in range(options.rounds):
        gate.wait()
        cohort[:] = rng.choice(tiny.POPULATION, options.cohort, replace=False)
        cursor.value = 0
        for _, write in wakes:
            os.write(write, b".")
        answers = 0
        while answers < WORKERS:
            answers += len(os.read(done_read, WORKERS))
        model[:] = np.sum(sums, axis=0) / options.cohort
        cohorts.append(cohort.tolist())
    gate.finish(options.result, [model], cohorts)


if __name__ == "__main__":
    main()
