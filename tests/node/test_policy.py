"""The data owner's policy: every plan, moment and size that it does not allow is refused, with the key that says so."""

import re
import stat
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.errors import ConfigError
from umbel.runtimes.node import conditions as reading
from umbel.runtimes.node.policy import WORKERS, Conditions, Policy, digest_of, load_policy, read_conditions, review

OURS, THEIRS = "a" * 64, "b" * 64
DP = {"epsilon": 8.0, "delta": 1e-6, "clip": 1.0, "unit": "client", "noise_multiplier": 3.0}
GOOD = {
    "run": "r1",
    "name": "trial",
    "client_half": {
        "name": "Secured",
        "inner": {
            "name": "Private",
            "inner": {"name": "FedProx", "mu": 0.1, "reducer": {"name": "Mean", "exact": True}},
            "plan": {"clip": 1.0, "delta": 1e-6, "unit": "client"},
            "mechanism": {"noise_multiplier": 3.0, "sampling": "every"},
        },
    },
    "settings": {"lr": 0.1},
    "app": {"name": "hospital", "digest": OURS},
    "cohort": 8,
    "per_client_metrics": False,
    "privacy": {"secure_aggregation": True, "differential_privacy": DP},
    "rounds": 10,
}
STRICT = f"""
[apps]
allow = ["sha256:{OURS}"]
[strategies]
allow = ["FedAvg", "FedProx"]
[privacy]
min_cohort = 5
require_secure_aggregation = true
require_differential_privacy = true
per_client_metrics = false
[limits]
rounds_per_day = 50
max_upload_mb = 2
max_download_mb = 4
[when]
hours = ["22:00-06:00", "12:00-13:00"]
days = ["mon", "fri"]
[data]
offered = ["cardiology"]
"""


def policy_of(tmp_path, text, **more) -> Policy:
    path = tmp_path / "policy.toml"
    path.write_text(text, "utf-8")
    return load_policy(path, **more)


@pytest.fixture
def strict(tmp_path):
    return policy_of(tmp_path, STRICT)


def test_a_plan_that_keeps_all_promises_is_taken(strict):
    assert strict.why_not_plan(GOOD) is None


WITHOUT = object()
HALF = GOOD["client_half"]["inner"]["inner"]
PLANS = [
    # The app
    ("app", WITHOUT, 'names no app, and the policy\'s apps.allow does not have "builtin"'),
    ("app", None, 'names no app, and the policy\'s apps.allow does not have "builtin"'),
    ("app", {"name": "hospital", "digest": THEIRS}, "apps.allow does not have the app 'hospital' with digest 'bbb"),
    ("app", {"name": "hospital", "digest": OURS.upper()}, "apps.allow does not have the app"),
    ("app", {"name": "hospital", "digest": OURS[:16]}, "apps.allow does not have the app"),
    ("app", {"name": "hospital", "digest": ""}, "apps.allow does not have the app"),
    ("app", {"name": "hospital", "digest": [OURS]}, "apps.allow does not have the app"),
    ("app", {"name": f"sha256:{OURS}"}, "apps.allow does not have the app .* with digest None"),
    ("app", {"name": "builtin", "digest": "builtin"}, "apps.allow does not have the app 'builtin'"),
    ("app", OURS, "app is no table of name and digest, which the policy's apps.allow"),
    ("app", [], "app is no table of name and digest, which the policy's apps.allow"),
    # The strategy
    ("client_half", {"name": "Scaffold"}, "strategies.allow does not have 'Scaffold', only FedAvg, FedProx"),
    ("client_half", {"name": "fedprox"}, "strategies.allow does not have 'fedprox'"),
    ("client_half", {"name": "app:evil.module.FedProx"}, "strategies.allow does not have 'app:evil.module.FedProx'"),
    ("client_half", {**HALF, "reducer": {"name": "app:evil.X"}}, "strategies.allow does not have 'app:evil.X'"),
    ("client_half", {**HALF, "more": [[{"name": "app:evil.X"}]]}, "strategies.allow does not have 'app:evil.X'"),
    ("client_half", {**HALF, "a": {"b": {"name": "app:evil.X"}}}, "strategies.allow does not have 'app:evil.X'"),
    ("client_half", {"name": "Wrap", "inner": HALF}, "strategies.allow does not have 'Wrap'"),
    ("client_half", {"name": ["FedProx"]}, "does not name its strategy's client half"),
    ("client_half", {"inner": {"name": "FedProx"}}, "does not name its strategy's client half"),
    ("client_half", "FedProx", "does not name its strategy's client half"),
    ("client_half", None, "does not name its strategy's client half"),
    ("client_half", WITHOUT, "does not name its strategy's client half"),
    # The cohort
    ("cohort", 4, "privacy.min_cohort is 5, and the plan's cohort is 4"),
    ("cohort", -9, "privacy.min_cohort is 5, and the plan's cohort is -9"),
    ("cohort", True, "privacy.min_cohort is 5, and the plan does not say its cohort"),
    ("cohort", 8.5, "privacy.min_cohort is 5, and the plan does not say its cohort"),
    ("cohort", float("nan"), "privacy.min_cohort is 5, and the plan does not say its cohort"),
    ("cohort", float("inf"), "privacy.min_cohort is 5, and the plan does not say its cohort"),
    ("cohort", "8", "privacy.min_cohort is 5, and the plan does not say its cohort"),
    ("cohort", WITHOUT, "privacy.min_cohort is 5, and the plan does not say its cohort"),
    # What is promised
    ("privacy", WITHOUT, "privacy.require_secure_aggregation is set, and the plan does not promise it"),
    ("privacy", "all of it", "privacy.require_secure_aggregation is set"),
    ("privacy", {"differential_privacy": True}, "privacy.require_secure_aggregation is set"),
    ("privacy", {**GOOD["privacy"], "secure_aggregation": False}, "privacy.require_secure_aggregation is set"),
    ("privacy", {**GOOD["privacy"], "secure_aggregation": "yes"}, "privacy.require_secure_aggregation is set"),
    ("privacy", {**GOOD["privacy"], "secure_aggregation": 1}, "privacy.require_secure_aggregation is set"),
    ("privacy", {**GOOD["privacy"], "secure_aggregation": {}}, "privacy.require_secure_aggregation is set"),
    (
        "client_half",
        GOOD["client_half"]["inner"],
        "require_secure_aggregation is set, and the plan's client half masks",
    ),
    (
        "client_half",
        {**GOOD["client_half"], "name": "Ciphered"},
        "require_secure_aggregation is true, and the plan encrypts in the place of masking",
    ),
    ("client_half", {"name": "Secured", "inner": {"name": "Scaffold"}}, "strategies.allow does not have 'Scaffold'"),
    (
        "client_half",
        {"name": "Secured", "inner": {"name": "Private", "plan": {}, "mechanism": {}, "inner": {"name": "Scaffold"}}},
        "strategies.allow does not have 'Scaffold'",
    ),
    ("client_half", {"name": "Secured", "inner": "FedProx"}, "strategies.allow does not have 'Secured'"),
    ("privacy", {"secure_aggregation": True}, "privacy.require_differential_privacy is set"),
    (
        "privacy",
        {"secure_aggregation": True, "differential_privacy": {"epsilon": float("inf")}},
        "privacy.require_differential_privacy is set",
    ),
    (
        "privacy",
        {"secure_aggregation": True, "differential_privacy": {"epsilon": "8"}},
        "privacy.require_differential_privacy is set",
    ),
    (
        "privacy",
        {"secure_aggregation": True, "differential_privacy": {"epsilon": float("nan")}},
        "privacy.require_differential_privacy is set",
    ),
    ("per_client_metrics", True, "privacy.per_client_metrics is false"),
    ("per_client_metrics", 0, "privacy.per_client_metrics is false"),
    ("per_client_metrics", None, "privacy.per_client_metrics is false"),
    ("per_client_metrics", WITHOUT, "privacy.per_client_metrics is false"),
    # The data
    ("data", "oncology", "data.offered does not have 'oncology', only cardiology"),
    ("data", ["cardiology", "oncology"], "data.offered does not have 'oncology'"),
    ("data", {"name": "cardiology"}, "data.offered does not have"),
    ("data", 7, "data.offered does not have 7"),
    ("settings", {"data": "/etc/passwd"}, "data.offered does not have '/etc/passwd'"),
    ("settings", {"data": [["cardiology"]]}, "data.offered does not have"),
]


@pytest.mark.parametrize(("key", "value", "reason"), PLANS)
def test_a_hostile_or_mistaken_plan_is_refused_with_the_right_reason(strict, key, value, reason):
    plan = {name: kept for name, kept in GOOD.items() if name != key}
    if value is not WITHOUT:
        plan[key] = value
    with pytest.raises(AssertionError, match=reason):
        refused(strict.why_not_plan(plan))


def refused(reason):
    assert reason is None, reason


@pytest.mark.parametrize("half", ["Secured", "Ciphered"])
def test_who_lets_encryption_do_takes_masks_as_well_and_nothing_else(tmp_path, half):
    text = STRICT.replace("require_secure_aggregation = true", 'require_secure_aggregation = "encrypted"')
    policy = policy_of(tmp_path, text)
    assert policy.why_not_plan({**GOOD, "client_half": {**GOOD["client_half"], "name": half}}) is None
    reason = policy.why_not_plan({**GOOD, "client_half": GOOD["client_half"]["inner"]})
    assert "the plan's client half masks nothing" in reason


def test_the_table_is_long_enough_to_mean_something():
    assert len(PLANS) >= 40


@pytest.mark.parametrize("plan", [None, [], "plan", 3])
def test_what_is_no_plan_is_refused(strict, plan):
    assert "is no table" in strict.why_not_plan(plan)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(GOOD)) | st.text(max_size=5), plain))
def test_whatever_a_plan_holds_there_is_a_verdict_and_a_text_to_read(plan):
    policy = Policy(apps=replace(Policy().apps, allow=(), review="manual"), data=replace(Policy().data, offered=()))
    assert isinstance(policy.why_not_plan(plan), str)
    assert isinstance(review(plan), str)


def test_an_empty_policy_takes_any_plan_that_keeps_metrics_together(tmp_path):
    policy = policy_of(tmp_path, "")
    assert policy == Policy()
    assert policy.why_not_plan({"client_half": {"name": "FedAvg"}, "per_client_metrics": False}) is None
    assert policy.why_not_now(read_conditions()) is None
    assert policy.why_not_round(10**9) is None
    assert policy.why_not_answer(10**15) is None
    assert policy.why_not_arrays(10**15) is None


def test_builtin_lets_in_plans_without_an_app_and_no_app_by_that_name(tmp_path):
    policy = policy_of(tmp_path, '[apps]\nallow = ["builtin"]')
    plan = {name: value for name, value in GOOD.items() if name != "app"}
    assert policy.why_not_plan(plan) is None
    assert "apps.allow" in policy.why_not_plan(GOOD)


def test_a_digest_may_come_with_its_prefix(strict):
    assert strict.why_not_plan({**GOOD, "app": {"name": "x", "digest": f"sha256:{OURS}"}}) is None


def test_an_app_of_a_strategy_that_is_allowed_by_name_is_taken(tmp_path):
    policy = policy_of(tmp_path, '[strategies]\nallow = ["app:ours.Half"]')
    assert policy.why_not_plan({**GOOD, "client_half": {"name": "app:ours.Half"}}) is None


# Reading by a person


def test_a_plan_that_nobody_read_waits_and_is_taken_in_all_its_runs_once_it_is_listed(tmp_path):
    unread = policy_of(tmp_path, '[apps]\nreview = "manual"')
    reason = unread.why_not_plan(GOOD)
    assert 'apps.review is "manual"' in reason
    assert digest_of(GOOD) in reason
    read = policy_of(tmp_path, f'[apps]\nreview = "manual"\nreviewed = ["{digest_of(GOOD)}"]')
    assert read.why_not_plan(GOOD) is None
    assert read.why_not_plan({**GOOD, "run": "r2", "name": "again"}) is None
    for key in ("client_half", "settings", "app", "cohort", "privacy"):
        assert "apps.review" in read.why_not_plan({**GOOD, key: {**HALF, "mu": 0.2}})


def test_the_text_to_read_shows_everything_and_nothing_can_hide_in_it():
    plan = {**GOOD, "name": "x\n\x1b[2Jcohort = 1000", "settings": {"a\nb": "\u202edlrow"}}
    lines = review(plan).splitlines()
    assert "client_half.inner.inner.reducer.exact = True" in lines
    assert "cohort = 8" in lines
    assert "name = x\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}[2Jcohort = 1000" in lines
    assert all(line.isprintable() for line in lines)
    assert lines[-1] == f'to let it in: apps.reviewed = ["{digest_of(plan)}"]'


# Moments

MON, TUE, FRI, SAT = 0, 1, 4, 5
NOW = Conditions("2027-01-15", FRI, 23 * 60, load=0.1, charging=True, unmetered=True)


@pytest.mark.parametrize(
    ("weekday", "minute", "is_in"),
    [
        (FRI, 22 * 60, True),
        (FRI, 22 * 60 - 1, False),
        (FRI, 24 * 60 - 1, True),
        (SAT, 0, True),
        (SAT, 6 * 60 - 1, True),
        (SAT, 6 * 60, False),
        (SAT, 23 * 60, False),
        (FRI, 3 * 60, False),
        (MON, 3 * 60, False),
        (TUE, 3 * 60, True),
        (FRI, 12 * 60, True),
        (FRI, 13 * 60, False),
        (SAT, 12 * 60, False),
    ],
)
def test_hours_that_pass_midnight_belong_to_the_day_they_begin_on(strict, weekday, minute, is_in):
    reason = strict.why_not_now(replace(NOW, weekday=weekday, minute=minute))
    assert (reason is None) == is_in
    if reason:
        assert "when.hours and when.days only (22:00-06:00, 12:00-13:00 on mon, fri); it is" in reason


def test_hours_alone_and_days_alone_name_themselves(tmp_path):
    hours = policy_of(tmp_path, '[when]\nhours = ["08:30-24:00"]')
    assert hours.why_not_now(NOW) is None
    assert "when.hours only (08:30-24:00); it is fri 08:29" in hours.why_not_now(replace(NOW, minute=8 * 60 + 29))
    days = policy_of(tmp_path, '[when]\ndays = ["sat", "sun"]')
    assert "when.days only (sat, sun); it is fri 23:00" in days.why_not_now(NOW)
    assert days.why_not_now(replace(NOW, weekday=SAT, minute=0)) is None


@pytest.mark.parametrize(
    ("key", "changed", "reason"),
    [
        ("idle", {"load": 0.7}, "when.idle wants a load of at most 0.5 per processor, it is 0.70"),
        ("idle", {"load": None}, "when.idle is set, and load cannot be read on this machine, so it counts as not met"),
        ("charging", {"charging": False}, "when.charging is set, and the machine runs on its battery"),
        ("charging", {"charging": None}, "when.charging is set, and charging cannot be read on this machine"),
        ("unmetered", {"unmetered": False}, "when.unmetered is set, and the network is metered"),
        ("unmetered", {"unmetered": None}, "when.unmetered is set, and unmetered cannot be read on this machine"),
    ],
)
def test_a_condition_that_is_not_met_or_cannot_be_read_is_told(tmp_path, key, changed, reason):
    policy = policy_of(tmp_path, f"[when]\n{key} = true")
    assert policy.why_not_now(NOW) is None
    assert reason in policy.why_not_now(replace(NOW, **changed))
    assert policy_of(tmp_path, f"[when]\n{key} = false").why_not_now(replace(NOW, **changed)) is None


def test_rounds_and_sizes_are_refused_just_past_their_limit(strict, tmp_path):
    assert strict.why_not_round(49) is None
    assert "limits.rounds_per_day is 50, and 50 were worked on today" in strict.why_not_round(50)
    assert strict.why_not_answer(2_000_000) is None
    assert "limits.max_upload_mb is 2, and this answer has 2.00001 MB" in strict.why_not_answer(2_000_010)
    assert strict.why_not_arrays(4_000_000) is None
    assert "limits.max_download_mb is 4, and this model has 4.00001 MB" in strict.why_not_arrays(4_000_010)
    assert policy_of(tmp_path, "[limits]\nrounds_per_day = 0").why_not_round(0)


# The file

FILES = [
    ("[privacy]\nmin_cohorts = 5", r"unknown key privacy.min_cohorts, .*; did you mean privacy.min_cohort\?"),
    ("[apps]\nrequire_signatures = 2", "unknown key apps.require_signatures, which nobody would enforce"),
    ("[privacy]\nepsilon = 8.0", "unknown key privacy.epsilon, which nobody would enforce"),
    ('[limits]\nnetwork = "none"', "unknown key limits.network, which nobody would enforce"),
    ("[limit]\nrounds_per_day = 1", r"unknown key limit, .*; did you mean limits\?"),
    ("rounds_per_day = 1", "unknown key rounds_per_day"),
    ("privacy = 5", r"privacy is a table, write \[privacy\]"),
    ("[[privacy]]\nmin_cohort = 1", r"privacy is a table, write \[privacy\]"),
    ("[limits]\ncpu_seconds_per_round = 10", "sets limits.cpu_seconds_per_round, which this node does not enforce"),
    ("[limits]\nmemory_gb = 10", "sets limits.memory_gb, which this node does not enforce"),
    ("[limits]\nthreads = 2", "sets limits.threads, which this node does not enforce"),
    ("[privacy]\nmin_cohort = 0", "privacy.min_cohort is a whole number of at least 1, got 0"),
    ("[privacy]\nmin_cohort = true", "privacy.min_cohort is a whole number of at least 1, got True"),
    ("[privacy]\nmin_cohort = 5.0", "privacy.min_cohort is a whole number"),
    (
        '[privacy]\nrequire_secure_aggregation = "yes"',
        "privacy.require_secure_aggregation is true, false or \"encrypted\", got 'yes'",
    ),
    ("[privacy]\nrequire_differential_privacy = 1", "privacy.require_differential_privacy is true or false, got 1"),
    ("[limits]\nrounds_per_day = -1", "limits.rounds_per_day is a whole number of at least 0, got -1"),
    ("[limits]\nmax_upload_mb = 0", "limits.max_upload_mb is a number above 0, got 0"),
    ("[limits]\nmax_upload_mb = inf", "limits.max_upload_mb is a number above 0, got inf"),
    ("[limits]\nmax_download_mb = nan", "limits.max_download_mb is a number above 0, got nan"),
    ("[limits]\nmax_download_mb = false", "limits.max_download_mb is a number above 0, got False"),
    ('[apps]\nallow = "builtin"', "apps.allow is a list of digests"),
    ('[apps]\nallow = ["hospital"]', "apps.allow is a list of digests"),
    ('[apps]\nallow = ["sha256:abc"]', "apps.allow is a list of digests"),
    ('[apps]\nallow = ["publisher:hospital-consortium"]', "apps.allow is a list of digests"),
    ('[apps]\nreview = "later"', 'apps.review is "none" or "manual", got \'later\''),
    ("[strategies]\nallow = [1]", "strategies.allow is a list of names"),
    ('[strategies]\nallow = [" "]', "strategies.allow is a list of names"),
    ("[data]\noffered = {}", "data.offered is a list of names"),
    ("[privacy]\nmin_threshold_share = 1", "privacy.min_threshold_share is a number from 0.5 to below 1, got 1"),
    ("[keep]\nstate_days = 0", "keep.state_days is a number above 0, got 0"),
    ("[intersection]\nmax_ids = 0", "intersection.max_ids is a whole number of at least 1, got 0"),
    ('[intersection]\nallow = "lab"', "intersection.allow is a list of names"),
    ("[intersection]\nsalted_hashes = true", "unknown key intersection.salted_hashes"),
    ('[when]\nhours = ["22-06"]', "when.hours is a list of spans"),
    ('[when]\nhours = ["25:00-06:00"]', "when.hours is a list of spans"),
    ('[when]\nhours = ["22:00-24:30"]', 'when.hours is a list of spans that end by "24:00"'),
    ('[when]\nhours = ["06:00-06:00"]', "when.hours is a list of spans .* do not end when they begin"),
    ("[when]\nhours = []", "when.hours needs at least one entry"),
    ("[when]\ndays = []", "when.days needs at least one entry"),
    ('[when]\ndays = ["Monday"]', "when.days is a list of days out of mon, tue"),
    ("[when]\nidle = 0.5", "when.idle is true or false"),
    ("[privacy\n", "is not valid TOML"),
    ("[privacy]\nmin_cohort = 1\nmin_cohort = 2", "is not valid TOML"),
]


@pytest.mark.parametrize(("text", "reason"), FILES)
def test_a_policy_that_would_not_be_kept_is_refused_by_the_name_of_its_key(tmp_path, text, reason):
    with pytest.raises(ConfigError, match=reason) as caught:
        policy_of(tmp_path, text)
    assert "policy.toml" in str(caught.value)


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"absent.toml cannot be read"):
        load_policy(tmp_path / "absent.toml")
    (tmp_path / "policy.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        load_policy(tmp_path / "policy.toml")


def test_ids_are_intersected_with_nobody_who_is_not_named(tmp_path):
    assert policy_of(tmp_path, "").intersection.why_not_peer("lab") is not None
    named = policy_of(tmp_path, '[intersection]\nallow = ["lab"]\nmax_ids = 5').intersection
    assert named.why_not("lab", 5, [], 0.0) is None
    assert "intersection.max_ids" in (named.why_not("lab", 6, [], 0.0) or "")


def test_what_the_worker_enforces_may_be_set(tmp_path):
    text = "[limits]\ncpu_seconds_per_round = 10\nmemory_gb = 0.5\nthreads = 2"
    limits = policy_of(tmp_path, text, worker_enforces=WORKERS).limits
    assert (limits.cpu_seconds_per_round, limits.memory_gb, limits.threads) == (10, 0.5, 2)


PAGE = Path(__file__).parents[2] / "docs" / "reference" / "policy.md"


def test_the_page_tells_of_every_key_and_its_example_is_a_policy(tmp_path):
    text = PAGE.read_text("utf-8")
    tables = [(table.name, getattr(Policy(), table.name)) for table in fields(Policy)]
    known = {f"{name}.{key.name}" for name, table in tables if is_dataclass(table) for key in fields(table)}
    told = set(
        re.findall(r"`(\w+\.\w+)`", "\n".join(line.split(" | ")[0] for line in text.splitlines() if "|" in line))
    )
    assert told == known
    example = re.search(r"^```toml\n(.*?)^```$", text, re.M | re.S)
    assert example
    assert policy_of(tmp_path, example[1]).privacy.min_cohort == 5


# The machine


def supply(folder, name, **values):
    (folder / name).mkdir(parents=True)
    for key, value in values.items():
        (folder / name / key).write_text(f"{value}\n")


@pytest.mark.parametrize(
    ("supplies", "is_charging"),
    [
        ({}, True),
        ({"AC": {"type": "Mains", "online": 1}, "BAT0": {"type": "Battery", "status": "Discharging"}}, True),
        ({"AC": {"type": "Mains", "online": 0}, "BAT0": {"type": "Battery", "status": "Discharging"}}, False),
        ({"BAT0": {"type": "Battery", "status": "Charging"}}, True),
        ({"BAT0": {"type": "Battery", "status": "Full"}}, True),
        ({"BAT0": {"type": "Battery", "status": "Unknown"}}, False),
        ({"BAT0": {"type": "Battery"}}, False),
        ({"mouse": {"type": "Battery", "status": "Discharging", "scope": "Device"}}, True),
        ({"BAT0": {"type": "Battery", "status": "Full"}, "BAT1": {"type": "Battery", "status": "Discharging"}}, False),
    ],
)
def test_power_supplies_are_read_as_linux_shows_them(tmp_path, supplies, is_charging):
    folder = tmp_path / "power_supply"
    folder.mkdir()
    for name, values in supplies.items():
        supply(folder, name, **values)
    assert reading.read_charging(folder) is is_charging


def test_power_supplies_that_cannot_be_read_are_not_known(tmp_path):
    assert reading.read_charging(tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("told", "is_unmetered"), [("u 4", True), ("u 2", True), ("u 1", False), ("u 3", False), ("u 0", None), ("", None)]
)
def test_the_network_is_metered_as_a_program_of_the_system_says(tmp_path, monkeypatch, told, is_unmetered):
    program = tmp_path / "busctl"
    program.write_text(f"#!/bin/sh\necho '{told}'\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_conditions().unmetered is is_unmetered


def test_without_such_a_program_nothing_is_known_of_the_network(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_conditions().unmetered is None


def test_the_conditions_are_of_this_very_moment():
    facts = read_conditions()
    assert 0 <= facts.minute < 24 * 60
    assert 0 <= facts.weekday < 7
    assert len(facts.date) == 10
