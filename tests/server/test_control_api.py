"""The control API under bad input: whatever is asked gets an answer in a sentence, and nobody else notices."""

import json
import math
import ssl
from contextlib import closing
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("starlette")

from umbel.identity import Authority
from umbel.stores import RunInfo, SQLiteStore

from .open_house import CONFIG, OpenHouse

HUGE = 10**22


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """An insecure server with a run that waits for a node."""
    with OpenHouse(tmp_path_factory.mktemp("plain")) as found:
        yield found


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    folder = tmp_path_factory.mktemp("secure")
    authority = Authority.open(folder / "identity", server_name="here", hosts=(), wait=lambda seconds: None)
    with closing(authority), OpenHouse(folder, authority=authority) as found:
        found.context = ssl.create_default_context(cadata=authority.ca_pem.decode())
        yield found


def lives(house, context=None):
    return house.ask("GET", "/v1/health", context=context)[0] == 200 and not house.faults


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ({}, "name the app"),
        ({"app": 5}, "app must be text"),
        ({"app": "\ud800"}, "has no app '\\ud800'"),
        ({"app": "toy", "name": 5}, "name must be text"),
        ({"app": "toy", "name": "\udfff"}, "a run's name is at most 200 printable characters"),
        ({"app": "toy", "name": "\x1b[2J"}, "a run's name is at most 200 printable characters"),
        ({"app": "toy", "name": "n" * 201}, "name must be text of at most 200 characters"),
        ({"app": "toy", "digest": []}, "digest must be text"),
        ({"app": "toy", "settings": []}, "settings must be an object"),
        ({"app": "toy", "settings": 0}, "settings must be an object"),
        ({"app": "toy", "settings": {"mu": 1}}, "the app has no setting 'mu'"),
        ({"app": "toy", "settings": {"lr": math.nan}}, "lr must be finite, got nan"),
        ({"app": "toy", "settings": {"lr": -math.inf}}, "lr must be finite, got -inf"),
        ({"app": "toy", "settings": {"lr": "fast"}}, "lr must be a number like its default 0.5, got 'fast'"),
        ({"app": "toy", "settings": {"lr": HUGE}}, "lr must be a number like its default"),
        ({"app": "toy", "settings": {"num_rounds": True}}, "num_rounds must be a whole number like its default 2"),
        ({"app": "toy", "settings": {"num_rounds": 2.0}}, "num_rounds must be a whole number"),
        ({"app": "toy", "settings": {"num_rounds": HUGE}}, "num_rounds must be from -9223372036854775807 to"),
        ({"app": "toy", "settings": {"num_rounds": -1}}, "num_rounds must be a whole number of at least 0, got -1"),
        ({"app": "toy", "settings": {"label": "\ud800"}}, "label must be text without halves of characters"),
        ({"app": "toy", "settings": {"label": 3}}, "label must be text like its default"),
        ({"app": "toy", "settings": {"layers": [1, math.inf]}}, "layers must be finite"),
        ({"app": "toy", "settings": {"layers": [{}]}}, "layers must be plain"),
        ({"app": "toy", "settings": {"flag": 1}}, "flag must be true or false"),
    ],
)
def test_a_run_that_is_none_is_refused_at_submission(house, order, reason):
    before = house.ask("GET", "/v1/runs")
    status, answer = house.ask("POST", "/v1/runs", order)
    assert (status, reason in answer["error"]) == (422, True), answer
    assert house.ask("GET", "/v1/runs") == before
    assert lives(house)


@pytest.mark.parametrize(
    "body", [b"[", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"a": ' + b"1" * 5000 + b"}", b"0" * 2**21]
)
@pytest.mark.parametrize("path", ["/v1/runs", "/v1/runs/last/resume"])
def test_a_body_that_is_no_json_object_is_refused(house, path, body):
    status, answer = house.ask("POST", path, body)
    assert (status, "the request" in answer["error"]) == (422, True)
    assert lives(house)


@pytest.fixture(scope="module")
def run(house):
    return house.ask("POST", "/v1/runs", {"app": "toy"})[1]["run"]


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("model", 404, "round 0 of run {run} is not kept; those that are: none yet"),
        ("model?round=7", 404, "round 7 of run {run} is not kept"),
        ("model?round=abc", 422, "a round is a whole number of at most 18 digits, got 'abc'"),
        ("model?round=-1", 422, "a round is a whole number"),
        (f"model?round={HUGE}", 422, "a round is a whole number"),
        ("model?round=²", 422, "a round is a whole number"),
        ("checkpoints/7", 404, "round 7 of run {run} is not kept"),
        ("checkpoints/abc", 422, "a round is a whole number"),
        ("checkpoints/" + "9" * 5000, 422, "a round is a whole number"),
        (f"checkpoints/{2**63}", 422, "a round is a whole number"),
        ("nothing", 404, "Not Found: GET /v1/runs/{run}/nothing; GET /v1/openapi.json lists"),
        ("stop", 405, "Method Not Allowed: GET"),
    ],
)
def test_what_is_not_kept_is_not_found_and_what_is_no_round_is_refused(house, run, path, status, reason):
    found, answer = house.ask("GET", f"/v1/runs/{run}/{quote(path, safe='/?=')}")
    assert (found, reason.replace("{run}", run) in answer["error"]) == (status, True), answer
    assert lives(house)


def test_a_run_is_resumed_only_with_settings_of_its_app(tmp_path):
    with OpenHouse(tmp_path) as house:
        run = house.ask("POST", "/v1/runs", {"app": "toy"})[1]["run"]
        assert house.ask("POST", f"/v1/runs/{run}/stop", {})[0] == 200
        followed(house, run)
        assert [found["status"] for found in house.ask("GET", "/v1/runs")[1]["runs"]] == ["interrupted"]
        for given_settings, reason in (
            ({"lr": math.nan}, "lr must be finite"),
            ({"mu": 1}, "no setting 'mu'"),
            ([], "must be an object"),
        ):
            status, answer = house.ask("POST", f"/v1/runs/{run}/resume", {"settings": given_settings})
            assert (status, reason in answer["error"]) == (422, True), answer
        assert house.ask("POST", f"/v1/runs/{run}/resume", {"settings": {"num_rounds": 3}})[0] == 201


def followed(house, run):
    """The events of a run up to its end."""
    return [json.loads(line) for line in house.ask("GET", f"/v1/runs/{run}/events?follow=1")[1].splitlines()]


def test_what_an_old_database_holds_is_told_in_json_that_everybody_reads(tmp_path):
    store = SQLiteStore(tmp_path / "runs.db")
    plan = {"config": {"num_rounds": 1, "target": math.inf}, "settings": {"lr": math.nan, "s": "\ud800"}}
    store.create(RunInfo("old", "n", 0.0, "finished", plan))
    store.close()
    with OpenHouse(tmp_path) as house:
        status, text = house.ask("GET", "/v1/runs", headers={"Accept": "*/*"})
        assert status == 200
        [found] = text["runs"]
        assert (found["plan"]["settings"], found["plan"]["config"]["target"]) == ({"lr": "nan", "s": "\ud800"}, "inf")


@pytest.mark.parametrize("path", ["/v1/enroll", "/v1/renew"])
@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"[", 422, "is not JSON"),
        (b"5", 422, "no JSON object"),
        (b"{}", 403, ""),
        (json.dumps({"secret": "\ud800", "name": "\udfff", "csr": "\ud800"}).encode(), 403, ""),
        (json.dumps({"secret": "AA==", "name": "n" * 10_000, "csr": "x"}).encode(), 403, ""),
    ],
)
def test_who_enrols_with_nonsense_is_told_so(secure, path, body, status, reason):
    found, answer = secure.ask("POST", path, body, context=secure.context)
    assert (found, reason in answer["error"]) == (status, True), answer
    assert lives(secure, secure.context)


TEXT = st.text(st.characters(codec=None), max_size=8)
PLAIN = st.none() | st.booleans() | st.integers(-(10**25), 10**25) | st.floats() | TEXT
ANY = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
NAMES = ["app", "settings", "digest", "name", "secret", "csr"]
LIKELY = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(NAMES, ANY),
        "app": st.just("toy") | ANY,
        "settings": st.dictionaries(st.sampled_from([*CONFIG, "x"]), ANY, max_size=3) | ANY,
    },
)
WORD = st.sampled_from(["last", "old", "0", "1", "%00", "..", "-1"]) | st.text(min_size=1, max_size=30).map(
    lambda text: quote(text, safe="")
)
QUERY = st.just("") | st.builds("?round={}".format, WORD) | st.builds("?follow={}".format, st.sampled_from("01"))


def asked(house, context, data):
    """One request to a path of the description, and the status of its answer."""
    paths = house.ask("GET", "/v1/openapi.json", context=context)[1]["paths"]
    path = data.draw(st.sampled_from(sorted(paths)))
    verb = data.draw(st.sampled_from(sorted(paths[path])))
    for parameter in paths[path][verb]["parameters"]:
        path = path.replace("{" + parameter["name"] + "}", data.draw(WORD))
    query = "" if path.endswith("events") else data.draw(QUERY)
    body = data.draw(LIKELY | ANY) if verb == "post" else None
    return house.ask(verb.upper(), path + query, None if body is None else json.dumps(body).encode(), context=context)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_nothing_that_is_asked_makes_the_server_fail(house, data):
    status, answer = asked(house, None, data)
    assert status < 500, answer
    assert status < 400 or answer["error"]
    assert house.ask("GET", "/v1/runs")[0] == 200
    assert lives(house)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_nothing_that_a_stranger_asks_makes_a_secure_server_fail(secure, data):
    status, answer = asked(secure, secure.context, data)
    assert status < 500, answer
    assert status < 400 or answer["error"]
    assert lives(secure, secure.context)
