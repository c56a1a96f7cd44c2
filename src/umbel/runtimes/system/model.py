"""`SystemModel`: what a client's turn takes in simulated seconds, bytes and joules, decided before it is played."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import final

from umbel.message import is_number, require
from umbel.runtimes.system.availability import Always, Availability, checked_window
from umbel.runtimes.system.distributions import Quantity, check, drawn
from umbel.runtimes.system.draws import uniform

QUANTITIES = (
    "seconds_per_unit",
    "work",
    "jitter",
    "download_bytes_per_s",
    "upload_bytes_per_s",
    "latency_s",
    "watts",
    "joules_per_byte",
)


@final
@dataclass(frozen=True)
class Turn:
    """One turn of one client on the simulated clock.

    Attributes:
        client, round, attempt: whose turn, on the task of which round.
        begins_s: when it was asked.
        seconds: until its answer is there, or until it is lost.
        lost: why no answer comes; empty if one does.
        download_s, work_s: seconds of the first two parts; uploading is the rest.
        bytes_down, bytes_up: what travels if it is finished.
        watts, joules_per_byte: what working and travelling cost.
        share: how much of the work is done; below 1 if it was cut at a deadline.
    """

    client: str
    round: int
    attempt: int
    begins_s: float
    seconds: float
    lost: str
    download_s: float
    work_s: float
    upload_s: float
    bytes_down: int
    bytes_up: int
    watts: float = 0.0
    joules_per_byte: float = 0.0
    share: float = 1.0

    def cut(self, due_s: float) -> Turn:
        """The turn with its work broken off in time for its answer to be there at `due_s`.

        It is the same turn if it ends by then, or if there is no time to work at all. One that would have been lost
        later on is not lost any more.
        """
        left_s = due_s - self.begins_s - self.download_s - self.upload_s
        if self.ends_s <= due_s or left_s <= 0:
            return self
        seconds = due_s - self.begins_s
        while self.begins_s + seconds > due_s:
            seconds = math.nextafter(seconds, 0.0)  # a rounding must not make it late
        return replace(self, seconds=seconds, lost="", work_s=left_s, share=left_s / self.work_s)

    @property
    def ends_s(self) -> float:
        return self.begins_s + self.seconds

    def joules(self, until_s: float = math.inf) -> float:
        """What it has used by `until_s`, or by its end."""
        spent = min(self.seconds, until_s - self.begins_s)
        worked = min(max(spent - self.download_s, 0.0), self.work_s)
        down = _share(spent, self.download_s)
        up = _share(spent - self.download_s - self.work_s, self.upload_s)
        return self.watts * worked + self.joules_per_byte * (down * self.bytes_down + up * self.bytes_up)


def _share(spent: float, whole: float) -> float:
    """How much of a part of length `whole` is done after `spent` seconds."""
    if spent < 0:
        return 0.0
    return 1.0 if whole <= spent else spent / whole


@final
@dataclass(frozen=True, kw_only=True)
class SystemModel:
    """How fast clients are, when they are there, and what they cost; all from (seed, client, time).

    A turn takes latency + model bytes / download + work·seconds_per_unit·jitter + latency + update bytes / upload
    seconds. It is lost if the client drops out, or if the window in which it is there ends first. Quantities are a
    number for all clients, a distribution over them (`LogNormal`, `Pareto`, `Zipf`, `HalfNormal`, `Empirical`) or a
    function of the client's id. It cannot be combined with `ServerConfig(arrivals=True)`, in which devices come by
    themselves.

    Args:
        seconds_per_unit: seconds that a client takes for one unit of work.
        work: units in a turn, such as its number of examples times epochs.
        jitter: factor on the working time, drawn anew for each turn.
        download_bytes_per_s, upload_bytes_per_s: bandwidth; infinite by default.
        latency_s: seconds until the first byte, on each way.
        availability: `Always()`, `OnOff()`, `Diurnal()`, `Trace.read(path)` or your own; who is away is not drawn.
        dropout: chance of each turn to be lost at a random moment, 0 to 1.
        watts: power of a client while it works.
        joules_per_byte: energy of a byte that it sends or receives.
        partial: whether a client that would miss its round's deadline (`ServerConfig(round_timeout=…)`) sends in time
            what it has done: floor(share of its working time · steps of a turn) steps, weighted by the examples of
            those. As on real nodes, that is for clients whose loop the strategy enters (`TorchClient`, `JaxClient`,
            `GradientClient`); others have failed at the deadline.

    Raises:
        ConfigError: an argument is not what it has to be.

    Example:
        >>> turn = SystemModel(seconds_per_unit=0.5, work=10, watts=2.0).turn("7", 1, 0.0, seed=1)
        >>> turn.seconds, turn.joules()
        (5.0, 10.0)

    References:
        F. Lai et al., "FedScale: Benchmarking Model and System Performance of Federated Learning at Scale", ICML 2022,
        https://arxiv.org/abs/2105.11367
    """

    seconds_per_unit: Quantity = 1.0
    work: Quantity = 1.0
    jitter: Quantity = 1.0
    download_bytes_per_s: Quantity = math.inf
    upload_bytes_per_s: Quantity = math.inf
    latency_s: Quantity = 0.0
    availability: Availability = field(default_factory=Always)
    dropout: float = 0.0
    watts: Quantity = 0.0
    joules_per_byte: Quantity = 0.0
    partial: bool = False

    def __post_init__(self) -> None:
        for name in QUANTITIES:
            check(name, getattr(self, name))
        require(
            isinstance(self.partial, bool),  # pyright: ignore[reportUnnecessaryIsInstance]
            f"partial must be True or False, got {self.partial!r}",
        )
        require(
            is_number(self.dropout) and 0 <= self.dropout <= 1, f"dropout must be from 0 to 1, got {self.dropout!r}"
        )
        require(
            isinstance(self.availability, Availability) and not isinstance(self.availability, type),  # pyright: ignore[reportUnnecessaryIsInstance]
            f"availability must be one such as Always(), Diurnal() or Trace.read(path), got {self.availability!r}",
        )

    def is_there(self, client: str, time_s: float, seed: int) -> bool:
        """Whether a client can be asked."""
        return self.window(client, time_s, seed)[0] <= time_s

    def window(self, client: str, time_s: float, seed: int) -> tuple[float, float]:
        """(begin, end) of the client's first window that ends after `time_s`."""
        own = self.availability
        if type(own).__module__.startswith("umbel."):
            return own.window(client, time_s, seed)
        return checked_window(own, client, time_s, seed)

    def turn(
        self,
        client: str,
        round: int,
        time_s: float,
        *,
        seed: int,
        attempt: int = 0,
        bytes_down: int = 0,
        bytes_up: int = 0,
    ) -> Turn:
        """What becomes of a client that is asked at `time_s`."""

        def of(name: str, *when: str) -> float:
            return drawn(name, getattr(self, name), client, seed, *when)

        latency_s = of("latency_s")
        download_s = latency_s + _travel(bytes_down, of("download_bytes_per_s"))
        upload_s = latency_s + _travel(bytes_up, of("upload_bytes_per_s"))
        when = float(time_s).hex()
        work_s = of("seconds_per_unit") * of("work") * of("jitter", when)
        seconds, lost = self._fate(client, time_s, download_s + work_s + upload_s, seed, when)
        return Turn(
            client=client,
            round=round,
            attempt=attempt,
            begins_s=time_s,
            seconds=seconds,
            lost=lost,
            download_s=download_s,
            work_s=work_s,
            upload_s=upload_s,
            bytes_down=bytes_down,
            bytes_up=bytes_up,
            watts=of("watts"),
            joules_per_byte=of("joules_per_byte"),
        )

    def _fate(self, client: str, time_s: float, seconds: float, seed: int, when: str) -> tuple[float, str]:
        """(seconds until a turn ends, why it is lost) of one that would take `seconds`."""
        begin, end = self.window(client, time_s, seed)
        if begin > time_s:
            return 0.0, "was not there when it was asked"
        lost = ""
        if self.dropout and uniform(seed, "system", "drops out", client, when) < self.dropout:
            seconds *= uniform(seed, "system", "drops out at", client, when)
            lost = f"dropped out after {seconds:.4g} s"
        if time_s + seconds > end:
            seconds = end - time_s
            lost = f"was away after {seconds:.4g} s"
        return seconds, lost


def _travel(size: int, bytes_per_s: float) -> float:
    if not size:
        return 0.0
    return size / bytes_per_s if bytes_per_s else math.inf
