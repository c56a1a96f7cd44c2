"""`Policy`: what a data owner lets a server ask of the node. Values and judgements; nothing here touches the world.

Every judgement is None, or a sentence that names the key of the policy which stands against it. What a plan does not
say, it does not promise: where the policy needs a promise, silence is refused.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast, final

from umbel.errors import printable
from umbel.message import is_number
from umbel.privacy.psi.consent import Consent
from umbel.runtimes.halves import CIPHERED, SECURED, is_masked, is_secured
from umbel.runtimes.node.conditions import Conditions
from umbel.runtimes.node.promises import epsilon_of, why_not_backed

BUILTIN = "builtin"
MEGABYTE = 10**6
# Above this load per processor somebody else is at work.
IDLE_LOAD = 0.5
_PROMISED = {"name", "inner", "plan", "mechanism"}
_SUMMED = {"name", "inner"}
_WRAPPERS = {SECURED: _SUMMED, CIPHERED: _SUMMED, "Private": _PROMISED, "DpSgdTraining": _PROMISED}
"""Client halves that wrap another one, with all that they may say."""
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Window: TypeAlias = "tuple[int, int]"
Texts: TypeAlias = "tuple[str, ...] | None"
Plan: TypeAlias = "Mapping[str, Any]"


@final
@dataclass(frozen=True)
class Apps:
    """`allow`: "sha256:…" of apps, and "builtin" for plans without one. `reviewed`: plans that a person has read."""

    allow: Texts = None
    review: str = "none"
    reviewed: tuple[str, ...] = ()


@final
@dataclass(frozen=True)
class Strategies:
    """`allow`: names of client halves."""

    allow: Texts = None


@final
@dataclass(frozen=True)
class Privacy:
    """What a plan has to promise.

    `require_secure_aggregation`: True asks for masks, which a server does not see through with the help of one client;
    "encrypted" lets encryption do as well, which it does.
    """

    min_cohort: int | None = None
    min_threshold_share: float | None = None
    max_weight_cap: float | None = None
    require_secure_aggregation: bool | Literal["encrypted"] = False
    require_differential_privacy: bool = False
    epsilon_total: float | None = None
    delta: float | None = None
    per_client_metrics: bool = False

    @property
    def floors(self) -> dict[str, float]:
        """What a node insists on in secure rounds, by the names of `umbel.privacy.sa1.Floors`, which has the rest."""
        wanted = {name: getattr(self, name) for name in ("min_cohort", "min_threshold_share", "max_weight_cap")}
        return {name: value for name, value in wanted.items() if value is not None}

    @property
    def promises(self) -> bool:
        """Whether differential privacy is asked for."""
        return self.require_differential_privacy or self.epsilon_total is not None


@final
@dataclass(frozen=True)
class Limits:
    """How much. The last three bind the worker, which takes them from here."""

    rounds_per_day: int | None = None
    max_upload_mb: float | None = None
    max_download_mb: float | None = None
    cpu_seconds_per_round: float | None = None
    memory_gb: float | None = None
    threads: int | None = None


@final
@dataclass(frozen=True)
class When:
    """`hours`: (first minute, minute after the last); one that passes midnight belongs to the day it begins on."""

    hours: tuple[Window, ...] = ()
    days: tuple[str, ...] = DAYS
    idle: bool = False
    charging: bool = False
    unmetered: bool = False


@final
@dataclass(frozen=True)
class Data:
    """`offered`: names that a plan may ask for."""

    offered: Texts = None


@final
@dataclass(frozen=True)
class Keep:
    """`state_days`: how long a run is remembered that is not worked on; None is until it is over."""

    state_days: float | None = None


@final
@dataclass(frozen=True)
class Policy:
    """A data owner's rules, one field per table of the file; `Policy()` has those of an empty file."""

    apps: Apps = field(default_factory=Apps)
    strategies: Strategies = field(default_factory=Strategies)
    privacy: Privacy = field(default_factory=Privacy)
    limits: Limits = field(default_factory=Limits)
    when: When = field(default_factory=When)
    data: Data = field(default_factory=Data)
    keep: Keep = field(default_factory=Keep)
    intersection: Consent = field(default_factory=Consent)
    attributes: Mapping[str, bool | int | float | str] = field(default_factory=dict[str, "bool | int | float | str"])
    """What the node says of itself."""

    def why_not_plan(self, plan: Plan) -> str | None:
        """Why a run is not taken part in.

        Args:
            plan: what the server sent of it; nothing in it is trusted to be of its type.
        """
        if not isinstance(plan, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            return "the plan is no table of names and values; is the server another version?"
        reasons = (_why_not_app, _why_not_strategy, _why_not_private, _why_not_data, _why_not_unread)
        return next((reason for judge in reasons if (reason := judge(self, plan)) is not None), None)

    def why_not_kind(self, kind: str) -> str | None:
        """Why what an ask of this kind wants is not given: the answer to a query is one node's, and has no mask."""
        if kind != "query" or not self.privacy.require_secure_aggregation:
            return None
        return (
            "the policy's privacy.require_secure_aggregation is set, and a query asks for what this node has alone; if "
            "it was for the first model, give the server initial_parameters"
        )

    def why_not_now(self, facts: Conditions) -> str | None:
        """Why nothing is worked on at this moment."""
        when = self.when
        if not any(_inside(window, when.days, facts) for window in when.hours or ((0, 24 * 60),)):
            key, value = ("when.hours", _spans(when.hours)) if when.hours else ("when.days", ", ".join(when.days))
            clock = f"{DAYS[facts.weekday]} {_time(facts.minute)}"
            if when.hours and when.days != DAYS:
                key, value = "when.hours and when.days", f"{value} on {', '.join(when.days)}"
            return f"this node works at the times of its policy's {key} only ({value}); it is {clock} there"
        if when.idle and facts.load is None:
            return _unreadable("idle", "load")
        if when.idle and facts.load is not None and facts.load > IDLE_LOAD:
            return (
                f"the policy's when.idle wants a load of at most {IDLE_LOAD:g} per processor, it is {facts.load:.2f}; "
                "ask again later"
            )
        for name, value, otherwise in (
            ("charging", facts.charging, "the machine runs on its battery"),
            ("unmetered", facts.unmetered, "the network is metered"),
        ):
            if getattr(when, name) and not value:
                return _unreadable(name, name) if value is None else f"the policy's when.{name} is set, and {otherwise}"
        return None

    def why_not_spend(self, cost: float, spent: float) -> str | None:
        """Why a run that promises ε = `cost` is not worked on where others have promised `spent` together."""
        most = self.privacy.epsilon_total
        if most is None or cost + spent <= most:
            return None
        return (
            f"the policy's privacy.epsilon_total is {most:g}, other runs have promised {spent:.6g} of it, and this one "
            f"would take {cost:.6g}"
        )

    def why_not_round(self, done_today: int) -> str | None:
        """Why no further round is begun today."""
        most = self.limits.rounds_per_day
        if most is None or done_today < most:
            return None
        return (
            f"the policy's limits.rounds_per_day is {most}, and {done_today} were worked on today; ask again tomorrow"
        )

    def why_not_answer(self, size_bytes: int) -> str | None:
        """Why an answer of this size does not leave."""
        return _too_large("answer", size_bytes, "max_upload_mb", self.limits.max_upload_mb)

    def why_not_arrays(self, size_bytes: int) -> str | None:
        """Why arrays of this size are not taken in."""
        return _too_large("model", size_bytes, "max_download_mb", self.limits.max_download_mb)


def _why_not_app(policy: Policy, plan: Plan) -> str | None:
    allow, app = policy.apps.allow, plan.get("app")
    if app is None:
        if allow is not None and BUILTIN not in allow:
            return f'the plan names no app, and the policy\'s apps.allow does not have "{BUILTIN}"'
        return None
    if not isinstance(app, Mapping):
        return "the plan's app is no table of name and digest, which the policy's apps.allow has to compare"
    table = cast("Mapping[str, Any]", app)
    digest = table.get("digest")
    if allow is not None and (not isinstance(digest, str) or _prefixed(digest) not in allow):
        return (
            f"the policy's apps.allow does not have the app {_quoted(table.get('name'))} with digest {_quoted(digest)}"
        )
    return None


def _why_not_strategy(policy: Policy, plan: Plan) -> str | None:
    allow, half = policy.strategies.allow, plan.get("client_half")
    if not isinstance(half, Mapping) or not isinstance(cast("Mapping[str, Any]", half).get("name"), str):
        return "the plan does not name its strategy's client half, which the policy's strategies.allow has to compare"
    if allow is None:
        return None
    table = cast("Mapping[str, Any]", half)
    outer, *inner = _names(_unwrapped(table))
    # Built-in parts of a strategy that is allowed come with it; code from an app has to be allowed by its own name.
    for name in (outer, *(name for name in inner if name.startswith("app:"))):
        if name not in allow:
            return f"the policy's strategies.allow does not have {_quoted(name)}, only {', '.join(allow) or 'nothing'}"
    return None


def _unwrapped(half: Mapping[str, Any]) -> Mapping[str, Any]:
    """What secure rounds and clipping wrap has to be allowed by name; the wrappers show the server less."""
    while True:
        inside = half.get("inner") if set(half) == _WRAPPERS.get(str(half.get("name"))) else None
        if not isinstance(inside, Mapping) or not isinstance(cast("Mapping[str, Any]", inside).get("name"), str):
            return half
        half = cast("Mapping[str, Any]", inside)


def _why_not_private(policy: Policy, plan: Plan) -> str | None:
    wanted, cohort = policy.privacy, plan.get("cohort")
    if wanted.min_cohort is not None:
        if not isinstance(cohort, int) or isinstance(cohort, bool):
            return f"the policy's privacy.min_cohort is {wanted.min_cohort}, and the plan does not say its cohort"
        if cohort < wanted.min_cohort:
            return f"the policy's privacy.min_cohort is {wanted.min_cohort}, and the plan's cohort is {cohort}"
    promised = plan.get("privacy")
    promises = dict(cast("Mapping[str, Any]", promised)) if isinstance(promised, Mapping) else dict[str, Any]()
    if wanted.require_secure_aggregation and not _is_promise(promises.get("secure_aggregation")):
        return "the policy's privacy.require_secure_aggregation is set, and the plan does not promise it"
    if wanted.require_secure_aggregation and not is_secured(plan):
        return "the policy's privacy.require_secure_aggregation is set, and the plan's client half masks nothing"
    if wanted.require_secure_aggregation is True and not is_masked(plan):
        return (
            "the policy's privacy.require_secure_aggregation is true, and the plan encrypts in the place of masking: "
            'one client that helps the server would open every update; "encrypted" in the place of true lets it in'
        )
    if wanted.require_differential_privacy and not _is_promise(promises.get("differential_privacy")):
        return "the policy's privacy.require_differential_privacy is set, and the plan does not promise it"
    reason = _why_not_promised(wanted, plan, promises.get("differential_privacy"))
    if reason is not None:
        return reason
    if not wanted.per_client_metrics and plan.get("per_client_metrics") is not False:
        return (
            "the policy's privacy.per_client_metrics is false, and the plan does not promise to keep no client's own "
            "metrics"
        )
    return None


def _why_not_promised(wanted: Privacy, plan: Plan, promised: object) -> str | None:
    """What is wrong with a promised (ε, δ) where the policy asks for one."""
    if wanted.epsilon_total is not None and epsilon_of(plan) is None:
        return "the policy's privacy.epsilon_total is set, and the plan does not say its epsilon"
    if wanted.delta is not None:
        delta: Any = cast("Mapping[str, Any]", promised).get("delta") if isinstance(promised, Mapping) else None
        if not is_number(delta) or not 0 < delta <= wanted.delta:
            return f"the policy's privacy.delta is {wanted.delta:g}, and the plan's is {_quoted(delta)}"
    return why_not_backed(plan) if wanted.promises else None


def _why_not_data(policy: Policy, plan: Plan) -> str | None:
    offered, settings = policy.data.offered, plan.get("settings")
    if offered is None:
        return None
    tables = [plan, *([cast("Mapping[str, Any]", settings)] if isinstance(settings, Mapping) else [])]
    for wanted in (table["data"] for table in tables if table.get("data") is not None):
        for name in cast("list[Any]", wanted) if isinstance(wanted, list) else [wanted]:
            if name not in offered:
                return (
                    f"the policy's data.offered does not have {_quoted(name)}, only {', '.join(offered) or 'nothing'}"
                )
    return None


def _why_not_unread(policy: Policy, plan: Plan) -> str | None:
    digest = digest_of(plan)
    if policy.apps.review == "none" or digest in policy.apps.reviewed:
        return None
    return (
        f'the policy\'s apps.review is "manual", and nobody there has read this plan yet; its owner adds "{digest}" to '
        "apps.reviewed to let it in"
    )


def digest_of(plan: Plan) -> str:
    """What stands in `apps.reviewed`: the same for all runs of one plan, whatever they are called."""
    what = {name: value for name, value in plan.items() if name not in ("run", "name")}
    return "sha256:" + hashlib.sha256(json.dumps(what, sort_keys=True, default=repr).encode()).hexdigest()


def is_digest(text: str) -> bool:
    """Whether `text` can be what `digest_of` gives."""
    return re.fullmatch(r"sha256:[0-9a-f]{64}", text) is not None


def review(plan: Plan) -> str:
    """A plan in a form for a person to read and decide about.

    Example:
        >>> print(review({"name": "trial", "client_half": {"name": "FedAvg"}}))
        client_half.name = FedAvg
        name = trial
        to let it in: apps.reviewed = ["sha256:3b00d48461c3634e33f6c349c50f39191179442ef8ff0eb439ec9465843d39ce"]
    """
    lines = [f"{path} = {value}" for path, value in _lines("", plan)]
    return "\n".join([*sorted(lines), f'to let it in: apps.reviewed = ["{digest_of(plan)}"]'])


def _lines(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for name, inner in cast("Mapping[Any, Any]", value).items():
            yield from _lines(f"{path}.{_plain(name)}" if path else _plain(name), inner)
    elif path:
        yield path, _plain(value)


def _plain(value: Any) -> str:
    """Text that cannot move a terminal's cursor, or pass for another line."""
    text = value if isinstance(value, str) else repr(value)
    return printable(text.replace("\n", "\N{REPLACEMENT CHARACTER}"))


def _quoted(value: object) -> str:
    return repr(value)[:120]


def _prefixed(digest: str) -> str:
    return digest if digest.startswith("sha256:") else f"sha256:{digest}"


def _names(value: Any) -> Iterator[str]:
    """The names of everything that a client half is made of, the outermost first."""
    if isinstance(value, Mapping):
        table = cast("Mapping[str, Any]", value)
        if "name" in table:
            yield str(table["name"])
        for inner in table.values():
            yield from _names(inner)
    elif isinstance(value, (list, tuple)):
        for inner in cast("list[Any]", value):
            yield from _names(inner)


def _is_promise(value: object) -> bool:
    """True, or a table of parameters; an infinite epsilon promises nothing."""
    if not isinstance(value, Mapping):
        return value is True
    table = cast("Mapping[str, Any]", value)
    epsilon = table.get("epsilon", 1.0)
    is_number = isinstance(epsilon, (int, float)) and not isinstance(epsilon, bool)
    return bool(table) and is_number and math.isfinite(epsilon)


def _too_large(what: str, size_bytes: int, key: str, most_mb: float | None) -> str | None:
    if most_mb is None or size_bytes <= most_mb * MEGABYTE:
        return None
    return f"the policy's limits.{key} is {most_mb:g}, and this {what} has {size_bytes / MEGABYTE:.6g} MB"


def _inside(window: Window, days: tuple[str, ...], facts: Conditions) -> bool:
    first, end = window
    today, yesterday = DAYS[facts.weekday] in days, DAYS[facts.weekday - 1] in days
    if first < end:
        return today and first <= facts.minute < end
    return (today and facts.minute >= first) or (yesterday and facts.minute < end)


def _unreadable(key: str, what: str) -> str:
    return f"the policy's when.{key} is set, and {what} cannot be read on this machine, so it counts as not met"


def _spans(hours: tuple[Window, ...]) -> str:
    return ", ".join(f"{_time(first)}-{_time(end)}" for first, end in hours)


def _time(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
