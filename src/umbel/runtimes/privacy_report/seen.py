"""Level A2: what the server sees of one client in a round, and what can be made of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from umbel.arrays import Vector
from umbel.coordinators import Secure
from umbel.dtypes import Float64
from umbel.message import Context, Task, Update
from umbel.privacy.distinguish import COMPLEXITY_WORDS, Sign, pair_excess, signs
from umbel.privacy.leak import first_layer_input, psnr_db
from umbel.privacy.promised import Promised
from umbel.privacy.training import one_step
from umbel.runtimes.privacy_report.picture import grey
from umbel.runtimes.privacy_report.row import Control, Level, Row, attacked
from umbel.runtimes.privacy_report.specimen import SIDE, UNITS, client_with, drawing
from umbel.runtimes.privacy_report.subject import Subject
from umbel.strategies import FedSGD

if TYPE_CHECKING:
    from umbel.runtimes.privacy_report.transcript import Transcript

READ_DB, HIDDEN_DB = 30.0, 12.0
"""A picture counts as read above the first and as hidden below the second."""
_DARK, _TARGET = "0", "1"
"""The client whose picture is black, so that its gradient is almost nothing, and the one that is attacked."""
_PIECE_BYTES = 16
_MEND = "masks do not hide updates: do not run it, and report it with this page"


def server_view(subject: Subject) -> Iterator[Row]:
    """The rows of one round of specimens under the run's coordinator, and one without secure sums."""
    coordinator = subject.run.coordinator if subject.parts is None else subject.parts.coordinator
    settings = coordinator if isinstance(coordinator, Secure) else None
    if find_spec("cryptography") is None:
        text = "secure sums need the package cryptography: pip install 'umbel[identity]'"
        yield Row(level="A2", name="one client's update", verdict="not shown", text=text)
        return
    if settings is not None and settings.secure_sum is not None:
        yield skipped("A2", "one client's update")
    elif settings is None and subject.promised is not None and subject.promised.plan.noise in ("local", "dp-sgd"):
        yield from seen(settings, subject.promised)
    else:
        yield from seen(settings)


def skipped(level: Level, name: str) -> Row:
    """The row of an attack that is for masks, where updates are encrypted."""
    text = "updates are encrypted under CKKS, and this attack is for plain and for masked ones: nothing is shown here"
    return Row(level=level, name=name, verdict="skipped", text=text)


def seen(settings: Secure | None, promised: Promised | None = None) -> Iterator[Row]:
    """The same under these secure sums; None says that the run has none.

    Args:
        promised: a strategy whose clients add noise to what they send.
    """
    from umbel.runtimes.privacy_report.transcript import plain_round, secure_round

    used = settings or Secure()
    pictures = {str(number): drawing(number) for number in range(max(4, used.min_cohort))}
    clients = {name: client_with(picture, int(name) % UNITS) for name, picture in pictures.items()}
    strategy, first = FedSGD(), clients[_DARK].parameters(Context(_DARK, 0, len(clients)))
    task = strategy.task(strategy.init(first), 1)
    plain = plain_round(clients, strategy, task)
    if promised is not None:
        private = replace(one_step(promised), inner=strategy)
        noisy = plain_round(clients, private, private.task(private.init(first), 1))
        yield _noised(pictures[_TARGET], plain[_TARGET], noisy[_TARGET])
        return
    story = secure_round(clients, strategy, task, used)
    yield from judged(story, pictures[_TARGET], plain[_TARGET], task, is_secure=settings is not None)


def judged(story: Transcript, picture: Float64, update: Update, task: Task, *, is_secure: bool = True) -> Iterator[Row]:
    """What a transcript tells of the client that has this picture.

    Args:
        update: what it would have sent without masks.
        is_secure: whether the run itself has secure sums.
    """
    yield _read(picture, update, story, task, is_secure=is_secure)
    if is_secure:
        yield _noise_like(story)
        yield _searched(story, update)
        yield _summed(story)


def _read(picture: Float64, update: Update, story: Transcript, task: Task, *, is_secure: bool) -> Row:
    plainly = _leaked(Vector.of(update.groups["delta"].arrays))
    masked = _leaked(Vector(task.arrays.schema.delta, story.decoded(_TARGET).values))
    control, found = psnr_db(picture, plainly), psnr_db(picture, masked)
    seen_there = Control(
        control > READ_DB, f"without secure sums the same division reads its picture, to {control:.0f} dB"
    )
    pictures = (
        grey("a picture that one client has", picture),
        grey("read from its plain update", plainly),
        grey("read from its masked update", masked),
    )
    numbers = {"psnr_db": found, "control_psnr_db": control}
    if is_secure:
        return attacked(
            "A2",
            "one client's update",
            holds=found < HIDDEN_DB,
            control=seen_there,
            text="weights over bias of a masked update are "
            f"{'no' if found < HIDDEN_DB else 'the'} picture of its client ({found:.1f} dB)",
            mend="masks do not hide updates: do not run it, and report it with this page",
            numbers=numbers,
            pictures=pictures,
        )
    return Row(
        level="A2",
        name="one client's update",
        verdict="weak",
        text=f"the server can read examples from an update of this run; with secure sums it reads nothing ({found:.1f} "
        "dB)",
        mend="coordinator=fl.Secure() hides updates from the server; without it the server has to be trusted",
        control=seen_there,
        numbers=numbers,
        pictures=pictures,
    )


def _noised(picture: Float64, plain: Update, noisy: Update) -> Row:
    """What the server reads from an update with noise of its own."""
    bare, found = (_leaked(Vector.of(update.groups["delta"].arrays)) for update in (plain, noisy))
    control, db = psnr_db(picture, bare), psnr_db(picture, found)
    return attacked(
        "A2",
        "one client's update",
        holds=db < HIDDEN_DB,
        control=Control(
            control > READ_DB, f"without its noise the same division reads its picture, to {control:.0f} dB"
        ),
        text=f"weights over bias of an update with noise are {'no' if db < HIDDEN_DB else 'the'} picture of its client "
        f"({db:.1f} dB)",
        mend="the noise does not hide what clients send: more of it, or coordinator=fl.Secure()",
        numbers={"psnr_db": db, "control_psnr_db": control},
        pictures=(
            grey("a picture that one client has", picture),
            grey("read from its plain update", bare),
            grey("read from its update with noise", found),
        ),
    )


def _leaked(gradient: Vector) -> Float64:
    return first_layer_input(gradient["weights"], gradient["bias"]).reshape(SIDE, SIDE)


def _noise_like(story: Transcript) -> Row:
    """Statistics of the uploads of the dark client, whose vector is almost zero, and of another."""
    dark, other = story.uploads[_DARK], story.uploads[_TARGET]
    found = {**signs(dark), "two clients": Sign(pair_excess(dark, other), 6.0)}
    bare = signs(story.bare[_DARK])
    weak = signs(np.random.Generator(np.random.MT19937(1)).integers(0, 2**32, COMPLEXITY_WORDS, np.uint32))
    missed = [name for name, sign in bare.items() if not sign.is_there]
    missed += [] if weak["linear complexity"].is_there else ["masks of a Mersenne Twister"]
    works = "each sees a vector without masks, and linear complexity the masks of a Mersenne Twister"
    return attacked(
        "A2",
        "bytes of masked updates",
        holds=not any(sign.is_there for sign in found.values()),
        control=Control(not missed, f"not seen without masks: {', '.join(missed)}" if missed else works),
        text="; ".join(
            f"{name}: {sign.found:+.1f} (noise stays within {sign.limit:g})" for name, sign in found.items()
        ),
        mend=_MEND,
        numbers={name: sign.found for name, sign in found.items()},
    )


def _searched(story: Transcript, update: Update) -> Row:
    """Whether a piece of an update, as floats or as words, is anywhere in what the server was sent."""
    floats = update.groups["delta"].arrays.buffer.tobytes()
    words = story.bare[_TARGET].tobytes()
    pieces = [*_pieces(floats), *_pieces(words)]
    sent = b"".join(story.messages)
    hits, control = (sum(piece in text for piece in pieces) for text in (sent, floats + words))
    return attacked(
        "A2",
        "search for the update",
        holds=not hits,
        control=Control(
            len(pieces) > 0 and control == len(pieces), f"all {len(pieces)} are in the update before it is masked"
        ),
        text=f"of {len(pieces)} pieces of an update {hits} are in the {len(sent)} bytes that the server was sent",
        mend=_MEND,
        numbers={"pieces": len(pieces), "found": hits, "bytes": len(sent)},
    )


def _pieces(data: bytes) -> list[bytes]:
    """Pieces that chance does not make: those with many different bytes."""
    found = (data[place : place + _PIECE_BYTES] for place in range(0, len(data) - _PIECE_BYTES, 997))
    return [piece for piece in found if len(set(piece)) > _PIECE_BYTES // 2][:64]


def _summed(story: Transcript) -> Row:
    fine = story.is_exact
    return Row(
        level="A2",
        name="sum of masked updates",
        verdict="passed" if fine else "failed",
        text=f"what the server opened is {'' if fine else 'not '}the exact sum of {len(story.uploads)} updates",
        mend="" if fine else _MEND,
    )
