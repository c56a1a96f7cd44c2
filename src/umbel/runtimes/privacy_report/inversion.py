"""Level A4: pictures from gradients, as somebody sees them who sees the run's sums or its models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import final

from umbel.arrays import Vector
from umbel.coordinators import Secure
from umbel.dtypes import Float64
from umbel.local_client import LocalClient
from umbel.message import Ask, Context, Task
from umbel.optimizers import sgd
from umbel.privacy.leak import psnr_db
from umbel.privacy.mutants import silent
from umbel.privacy.private import Private
from umbel.privacy.training import one_step
from umbel.reducers import Reduction
from umbel.runtimes.privacy_report.picture import Picture, grey
from umbel.runtimes.privacy_report.row import Control, Row, attacked
from umbel.runtimes.privacy_report.seen import HIDDEN_DB, READ_DB, skipped
from umbel.runtimes.privacy_report.subject import Subject
from umbel.strategies import FedSGD
from umbel.strategy import Strategy

CLIENTS, TARGET = 4, 3
_NEEDS = {"torch": "torch", "sklearn": "sklearn"}


def inversion(subject: Subject) -> Iterator[Row]:
    """The rows of a search for pictures under the run's protection, and without it."""
    missing = [extra for package, extra in _NEEDS.items() if find_spec(package) is None]
    if missing:
        text = f"pictures need more packages: pip install 'umbel[{','.join(missing)}]'"
        yield Row(level="A4", name="pictures", verdict="not shown", text=text)
        return
    coordinator = None if subject.parts is None else subject.parts.coordinator
    coordinator = coordinator or subject.run.coordinator
    secure = coordinator if isinstance(coordinator, Secure) else None
    if secure is not None and secure.secure_sum is not None:
        yield skipped("A4", "pictures from encrypted updates")
        return
    yield from inversions(None if subject.promised is None else one_step(subject.promised), secure)


def inversions(private: Private | None, secure: Secure | None) -> Iterator[Row]:
    """The same under this strategy and these secure sums, or without."""
    album = Album.of_digits()
    plain = album.found(album.update(FedSGD()))
    control = Control(
        plain.db > READ_DB, f"from the plain gradient of one client the search finds its picture, to {plain.db:.0f} dB"
    )
    if secure is not None:
        yield _row("pictures from masked updates", album, album.found(album.upload(secure)), plain, control)
    if private is not None:
        private = replace(private, inner=FedSGD(server=sgd(1.0)))
        bare = album.found(album.release(silent(private)))
        works = Control(
            bare.db > READ_DB,
            f"from the same release without its noise the search finds the picture, to {bare.db:.0f} dB",
        )
        yield _row("pictures from noisy releases", album, album.found(album.release(private)), bare, works)
    if secure is None and private is None:
        yield Row(
            level="A4",
            name="pictures from plain gradients",
            verdict="failed" if control.works else "not shown",
            text=control.text,
            mend="this run has neither secure sums nor noise: coordinator=fl.Secure(), privacy=fl.PrivacyPlan(...)",
            numbers={"psnr_db": plain.db},
            pictures=(album.original, plain.grey("found in its gradient")),
        )


@final
@dataclass(frozen=True)
class Find:
    """What a search found.

    Attributes:
        db: how near it is to the picture that was looked for.
    """

    picture: Float64
    db: float

    def grey(self, title: str) -> Picture:
        return grey(title, self.picture)


@final
@dataclass(frozen=True)
class Album:
    """Clients that have one picture each, of which one is looked for."""

    picture: Float64
    label: int
    clients: Mapping[str, LocalClient]

    @classmethod
    def of_digits(cls) -> Album:
        from umbel.runtimes.privacy_report.sklearn import digits
        from umbel.runtimes.privacy_report.torch import client_with

        found = digits(CLIENTS)
        clients = {str(number): client_with(*one) for number, one in enumerate(found)}
        return cls(*found[TARGET], clients)

    @property
    def original(self) -> Picture:
        return grey("a picture that one client has", self.picture)

    def found(self, downhill: Vector) -> Find:
        """What is found in a gradient, or in what should be one."""
        from umbel.runtimes.privacy_report.torch import inverted

        picture = inverted(downhill, self.label)
        return Find(picture, psnr_db(self.picture, picture))

    def task(self, strategy: Strategy) -> Task:
        return strategy.task(strategy.init(self.clients[str(TARGET)].parameters(_context())), 1)

    def update(self, strategy: Strategy) -> Vector:
        """What the client sends without protection."""
        ask = Ask(str(TARGET), "fit", self.task(strategy))
        return Vector.of(strategy.local(ask, self.clients[str(TARGET)], _context())[0].groups["delta"].arrays)

    def upload(self, settings: Secure) -> Vector:
        """What the client sends under secure sums, read as if it had no masks."""
        from umbel.runtimes.privacy_report.transcript import secure_round

        strategy = FedSGD()
        task = self.task(strategy)
        fewer = replace(settings, min_cohort=min(settings.min_cohort, CLIENTS))
        story = secure_round(self.clients, strategy, task, fewer)
        return Vector(task.arrays.schema.delta, story.decoded(str(TARGET)).values)

    def release(self, strategy: Strategy) -> Vector:
        """How a model moves in a round with this client alone: what somebody sees who knows what all others sent."""
        state = strategy.init(self.clients[str(TARGET)].parameters(_context()))
        task = strategy.task(state, 1)
        update = strategy.local(Ask(str(TARGET), "fit", task), self.clients[str(TARGET)], _context())[0]
        total = strategy.reducer.start(strategy.schema(task, {}))
        total.fold(strategy.open(update, task, {}))
        after = strategy.step(state, Reduction(total.result(), CLIENTS))
        moved = Vector.of(after.params).values - Vector.of(state.params).values
        return Vector(task.arrays.schema.delta, moved)


def _row(name: str, album: Album, found: Find, bare: Find, control: Control) -> Row:
    holds = found.db < HIDDEN_DB
    return attacked(
        "A4",
        name,
        holds=holds,
        control=control,
        text=f"the search finds {'no' if holds else 'the'} picture ({found.db:.1f} dB)",
        mend="pictures can be read: more noise or smaller clips, and secure sums",
        numbers={"psnr_db": found.db, "control_psnr_db": bare.db},
        pictures=(album.original, bare.grey("found without protection"), found.grey("found with it")),
    )


def _context() -> Context:
    return Context(client=str(TARGET), partition_id=TARGET, num_partitions=CLIENTS, round=1)
