"""What a node says about itself is looked at once, at the door: nothing that it says trips what is behind."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("starlette")

from umbel.errors import ProtocolError
from umbel.runtimes.server.about import About, about_in
from umbel.wire.packets import Goodbye, Welcome

from .open_house import OpenHouse, node

KEYS = st.sampled_from(["attributes", "apps", "versions", "conditions", "willing", "since_s", "other"])
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec=None), max_size=5), inner),
    max_leaves=6,
)


@given(st.dictionaries(KEYS, ODD))
def test_whatever_a_node_says_is_refused_in_a_sentence_or_can_be_told_on_in_json_and_utf_8(told):
    try:
        about = about_in(json.dumps(told))
    except ProtocolError:
        return
    again = json.dumps(about.plain(), ensure_ascii=False, allow_nan=False).encode()
    assert about_in(again.decode()) == about
    assert set(about.plain()) <= set(told)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("[", "it is not JSON"),
        ("[]", "it is no JSON object"),
        ("[" * 50_000, "it is not JSON"),
        ('{"apps": 5}', "apps has to be an object"),
        ('{"apps": ["hospital"]}', "apps has to be an object"),
        ('{"apps": {"hospital": 1}}', "each value text"),
        ('{"apps": {"\\ud800": ""}}', "printable"),
        ('{"versions": {"umbel": "\\u001b[2J"}}', "printable"),
        (json.dumps({"apps": {str(n): "" for n in range(257)}}), "at most 256 names"),
        (json.dumps({"apps": {"a" * 201: ""}}), "at most 200 printable characters"),
        ('{"attributes": {"gpu": NaN}}', "a finite number"),
        ('{"attributes": {"gpu": 1e999}}', "a finite number"),
        ('{"attributes": {"gpu": "\\udfff"}}', "printable"),
        ('{"conditions": {"idle": "yes"}}', "true, false or null"),
        ('{"willing": "no"}', "willing has to be true or false"),
        ('{"since_s": -1}', "since_s has to be a number of seconds from 0"),
        ('{"since_s": true}', "since_s has to be a number"),
        ('{"since_s": NaN}', "since_s has to be a number"),
        ('{"since_s": 1' + "0" * 400 + "}", "since_s has to be a number"),
    ],
)
def test_a_field_of_another_kind_or_size_is_refused_by_name(told, reason):
    with pytest.raises(ProtocolError) as refused:
        about_in(told)
    assert reason in str(refused.value)
    assert len(str(refused.value)) < 600


def test_what_a_node_may_say_is_kept_and_what_is_not_known_is_dropped():
    told = {
        "attributes": {"gpu": True},
        "apps": {"hospital": "ab"},
        "versions": {"umbel": "0.1.0"},
        "conditions": {"idle": True, "charging": None},
        "willing": False,
        "since_s": 3.0,
    }
    assert about_in(json.dumps({**told, "later": {"deep": [float("nan")]}})).plain() == told
    assert about_in("") == about_in("{}") == About()


def test_a_node_that_says_nonsense_is_told_so_and_harms_no_run(tmp_path):
    with OpenHouse(tmp_path) as house:
        with node(house, name="odd", boot=b"1", about='{"apps": 5}') as odd:
            assert "apps has to be an object" in odd.hears(Goodbye).reason
        with node(house, name="late", boot=b"1", about='{"apps": {"toy": ""}, "later": [NaN, "\\ud800"]}') as late:
            late.hears(Welcome)
            status, told = house.ask("GET", "/v1/nodes")
            assert (status, [(n["name"], n["about"]) for n in told["nodes"]]) == (
                200,
                [("late", {"apps": {"toy": ""}})],
            )
            status, told = house.ask("POST", "/v1/runs", {"app": "toy"})
            assert status == 201
            [run] = house.ask("GET", "/v1/runs")[1]["runs"]
            assert (run["status"], run["waits_for"]) == ("running", "waiting for nodes: 0 of 1 are ready")
    assert not house.faults
