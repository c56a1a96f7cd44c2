"""Partitioners that look at labels: Dirichlet, shards, a few classes each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import final

import numpy as np

from umbel.data.apportion import apportion, transfers
from umbel.data.checks import check_num_clients, check_seed, enough_samples, positive_number, whole_number
from umbel.data.dirichlet import dirichlet
from umbel.data.partitioner import Partitioner, numbered
from umbel.data.randomness import generator
from umbel.data.samples import Classes, IntArray, Samples
from umbel.errors import ConfigError


@final
@dataclass(frozen=True)
class DirichletLabels(Partitioner):
    """Each class is shared out by its own draw of Dirichlet(alpha, …, alpha) over the clients.

    Args:
        num_clients: at least 1.
        alpha: above 0; 0.1 gives most clients one or two classes, 100 is nearly IID.
        min_size: every client gets at least so many samples (from 0). The largest clients give random samples of theirs
            for those that lack some; nothing is drawn again, so any possible min_size is met.
        seed: whole number from 0.

    Raises:
        ConfigError: an argument is out of range, or (in `split`) there are no labels, or num_clients * min_size is more
            than the samples.

    Example:
        >>> import numpy as np
        >>> y = np.arange(1000) % 10
        >>> skewed = DirichletLabels(10, alpha=0.1).split(y).heterogeneity()
        >>> even = DirichletLabels(10, alpha=1000).split(y).heterogeneity()
        >>> skewed.pairwise_label_distance > 0.6, even.pairwise_label_distance < 0.1
        (True, True)

    References:
        T. Hsu, H. Qi, M. Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
        Classification", 2019, https://arxiv.org/abs/1909.06335. M. Yurochkin et al., "Bayesian Nonparametric Federated
        Learning of Neural Networks", 2019, https://arxiv.org/abs/1905.12022 (the draw per class).
    """

    num_clients: int
    _: KW_ONLY
    alpha: float
    min_size: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        check_num_clients(self.num_clients)
        positive_number("alpha", self.alpha, hint="try 0.1 (strong skew), 1 (mild) or 100 (nearly IID)")
        whole_number("min_size", self.min_size, minimum=0, hint="try min_size=1")
        check_seed(self.seed)

    def assign(self, samples: Samples) -> Mapping[str, IntArray]:
        """Share out class by class, then bring small clients up to min_size."""
        classes = samples.classes("DirichletLabels")
        enough_samples(samples.size, self.num_clients, min_size=self.min_size)
        pieces: list[list[IntArray]] = [[] for _ in range(self.num_clients)]
        for number, rows in enumerate(_rows_of_classes(classes)):
            rng = generator(self.seed, "dirichlet-labels", number)
            shares = apportion(len(rows), dirichlet(rng, self.alpha, self.num_clients))
            for piece, own in zip(pieces, np.split(rng.permutation(rows), np.cumsum(shares)[:-1]), strict=True):
                piece.append(own)
        return numbered(self._filled_up([np.concatenate(piece) for piece in pieces]))

    def _filled_up(self, parts: list[IntArray]) -> list[IntArray]:
        moves = transfers(np.array([len(part) for part in parts], dtype=np.int64), self.min_size)
        if not moves:
            return parts
        rng = generator(self.seed, "dirichlet-labels-min-size")
        givers = {giver for _, giver in moves}
        lists = [(rng.permutation(part) if i in givers else part).tolist() for i, part in enumerate(parts)]
        for taker, giver in moves:
            lists[taker].append(lists[giver].pop())
        return [np.array(part, dtype=np.int64) for part in lists]


@final
@dataclass(frozen=True)
class Shards(Partitioner):
    """Samples sorted by label, cut into equal shards, dealt at random: the pathological split of the FedAvg paper.

    Args:
        num_clients: at least 1.
        shards_per_client: at least 1; a client has at most about so many classes (a shard may span two).
        seed: whole number from 0.

    Raises:
        ConfigError: an argument is out of range, or (in `split`) there are no labels or fewer samples than shards.

    Example:
        >>> import numpy as np
        >>> partition = Shards(5, shards_per_client=2).split(np.arange(100) % 10)
        >>> (partition.class_counts() > 0).sum(axis=1).tolist()
        [2, 2, 2, 2, 2]

    References:
        B. McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", 2017,
        https://arxiv.org/abs/1602.05629 (section 3).
    """

    num_clients: int
    _: KW_ONLY
    shards_per_client: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        check_num_clients(self.num_clients)
        whole_number("shards_per_client", self.shards_per_client, minimum=1, hint="try shards_per_client=2")
        check_seed(self.seed)

    def assign(self, samples: Samples) -> Mapping[str, IntArray]:
        """Sort by class with ties in random order, cut, deal."""
        classes = samples.classes("Shards")
        shards = self.num_clients * self.shards_per_client
        if shards > samples.size:
            raise ConfigError(
                f"num_clients={self.num_clients} times shards_per_client={self.shards_per_client} is {shards} shards, "
                f"more than the {samples.size} samples; at most one shard per sample: lower one of the two"
            )
        order = generator(self.seed, "shards-order").permutation(samples.size)
        by_class: IntArray = order[np.argsort(classes.codes[order], kind="stable")]
        pieces: list[IntArray] = np.array_split(by_class, shards)
        deal = generator(self.seed, "shards-deal").permutation(shards).reshape(self.num_clients, self.shards_per_client)
        return numbered([np.concatenate([pieces[shard] for shard in hand]) for hand in deal.tolist()])


@final
@dataclass(frozen=True)
class PathologicalClasses(Partitioner):
    """Every client holds samples of exactly `classes_per_client` classes.

    Classes are dealt so that each has the same number of holders (give or take one); the holders of a class share its
    samples equally.

    Args:
        num_clients: at least 1.
        classes_per_client: at least 1, at most the number of classes.
        seed: whole number from 0.

    Raises:
        ConfigError: an argument is out of range, or (in `split`) there are no labels, fewer classes than
            classes_per_client, too few clients to hold all classes, or a class with fewer samples than holders.

    Example:
        >>> import numpy as np
        >>> partition = PathologicalClasses(10, classes_per_client=3).split(np.arange(1000) % 10)
        >>> sorted(set((partition.class_counts() > 0).sum(axis=1).tolist()))
        [3]

    References:
        Q. Li, Y. Diao, Q. Chen, B. He, "Federated Learning on Non-IID Data Silos: An Experimental Study", 2022,
        https://arxiv.org/abs/2102.02079 (quantity-based label imbalance).
    """

    num_clients: int
    _: KW_ONLY
    classes_per_client: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        check_num_clients(self.num_clients)
        whole_number("classes_per_client", self.classes_per_client, minimum=1, hint="try classes_per_client=2")
        check_seed(self.seed)

    def assign(self, samples: Samples) -> Mapping[str, IntArray]:
        """Deal classes, then share each class among its holders."""
        classes = samples.classes("PathologicalClasses")
        holds = self._deal(len(classes.values))
        parts: list[list[IntArray]] = [[] for _ in range(self.num_clients)]
        for number, rows in enumerate(_rows_of_classes(classes)):
            holders = np.flatnonzero(holds[:, number])
            if len(holders) > len(rows):
                raise ConfigError(
                    f"class {classes.values[number]!r} has {len(rows)} samples for the {len(holders)} clients with it; "
                    f"each needs one at least: try fewer clients or classes_per_client below {self.classes_per_client}"
                )
            rng = generator(self.seed, "pathological-samples", number)
            shares: list[IntArray] = np.array_split(rng.permutation(rows), len(holders))
            for place, own in zip(rng.permutation(len(holders)), shares, strict=True):
                parts[int(holders[place])].append(own)
        return numbered([np.concatenate(part) for part in parts])

    def _deal(self, num_classes: int) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
        """Client by client the classes with the fewest holders so far, ties at random."""
        if self.classes_per_client > num_classes:
            raise ConfigError(
                f"classes_per_client={self.classes_per_client} is more than the {num_classes} classes in the labels; "
                f"try {num_classes} or less"
            )
        if self.num_clients * self.classes_per_client < num_classes:
            needed = -(-num_classes // self.num_clients)
            raise ConfigError(
                f"num_clients={self.num_clients} with classes_per_client={self.classes_per_client} leave some of the "
                f"{num_classes} classes without a client; every sample must have one: try classes_per_client={needed}"
            )
        rng = generator(self.seed, "pathological-classes")
        holds = np.zeros((self.num_clients, num_classes), dtype=np.bool_)
        holders = np.zeros(num_classes, dtype=np.int64)
        for client in range(self.num_clients):
            chosen = np.lexsort((rng.random(num_classes), holders))[: self.classes_per_client]
            holds[client, chosen] = True
            holders[chosen] += 1
        return holds


def _rows_of_classes(classes: Classes) -> list[IntArray]:
    """The sample numbers of each class, in ascending order."""
    order = np.argsort(classes.codes, kind="stable")
    counts = np.bincount(classes.codes, minlength=len(classes.values))
    return np.split(order, np.cumsum(counts)[:-1])
