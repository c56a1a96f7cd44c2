"""Conditions on clients: what they mean, what is refused, and where; they are read and never run."""

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

import umbel as fl
from umbel.coordinators.where import DEEPEST, checked_attributes, read_attributes, read_where
from umbel.errors import ConfigError

FACTS = {"gpu": True, "old": False, "region": "eu", "memory_gb": 16, "load": 0.5, "none": 0, "note": ""}


@pytest.mark.parametrize(
    "text",
    [
        "gpu and region == 'eu'",
        "gpu",
        "region",
        "memory_gb",
        "not old",
        "not none and not note",
        "true and not false",
        "gpu == true and old == False and old != true",
        "region in ('eu', 'us')",
        "region not in ['us']",
        "region < 'us' and region >= 'eu'",
        "8 < memory_gb <= 16",
        "memory_gb == 16.0 and load < 1",
        "load > -1",
        "memory_gb != '16'",
        "absent or gpu",
        "not (absent == 1)",
        "  gpu  ",
    ],
)
def test_what_holds(text):
    assert read_where(text).matches(FACTS)


@pytest.mark.parametrize(
    "text",
    [
        "absent",
        "absent == 1",
        "absent != 1",
        "absent < 1",
        "absent in (1,)",
        "absent not in (1,)",
        "region == 'us'",
        "region == 1",
        "region < 1",
        "gpu == 1",
        "gpu > 0",
        "gpu < true",
        "memory_gb == '16'",
        "memory_gb in (true,)",
        "old",
        "none",
        "note",
        "gpu and absent",
        "16 < memory_gb <= 32",
        "8 < memory_gb < 16",
    ],
)
def test_what_does_not_hold(text):
    assert not read_where(text).matches(FACTS)


def test_versions_are_compared_number_by_number():
    facts = {"python_version": "3.11.4", "firmware": "3.11"}
    assert read_where("python_version > '3.9' and python_version < '3.11.10'").matches(facts)
    assert read_where("firmware < '3.9'").matches(facts), "other texts are compared as texts"


NEEDS = "a name, a comparison, and, or, not or (…) has to stand here"
BAD = [
    ("gpu and", 8, "invalid syntax"),
    ("(gpu", 1, "never closed"),
    ("region == eu", 11, "two names are compared; is one a text, which needs quotes?"),
    ("gpu and 'x' == 'y'", 16, "two values are compared"),
    ("region in 'eu'", 11, "after `in` a list of values"),
    ("'eu' in region", 9, "after `in` a list of values"),
    ("region in ('eu', us)", 11, "after `in` a list of values"),
    ("gpu and 1", 9, "a value alone says nothing"),
    ("gpu is true", 8, "write =="),
    ("a == 1e999", 6, "has to be compared with"),
    ("a == None", 6, "has to be compared with"),
    ("a == 1j", 6, "has to be compared with"),
    ("a == b'x'", 6, "has to be compared with"),
    ("a == f'{b}'", 6, "has to be compared with"),
    ("a + 1 == 2", 1, "has to be compared with"),
    ("a.b", 1, NEEDS),
    ("a[0]", 1, NEEDS),
    ("'ä' == a and f(x)", 14, NEEDS),
    ("__import__('os').system('true')", 1, NEEDS),
    ("[a for a in b]", 1, NEEDS),
    ("lambda: a", 1, NEEDS),
    ("a if b else c", 1, NEEDS),
    ("(a := true)", 2, NEEDS),
    ("None", 1, NEEDS),
    ("grün", 1, "cannot be a name"),
    ("a\n", 2, "one line without backslashes"),
    ("a == '\\x41'", 7, "one line without backslashes"),
    ("1and a", 1, "invalid decimal literal"),
    ("a " * 501, 1001, "1002 characters, 1000 are the most"),
    ("(" * 300 + "a" + ")" * 300, 200, "nested parentheses"),
    ("not " * DEEPEST + "a", 4 * DEEPEST + 1, "nested more than 32 deep"),
    ("   ", 4, "invalid syntax"),
]


@pytest.mark.parametrize(("text", "place", "why"), BAD, ids=[text[:20] for text, _, _ in BAD])
def test_a_bad_condition_is_refused_with_the_place_before_anything_runs(text, place, why):
    with pytest.raises(ConfigError) as refused:
        fl.ServerConfig(where=text)
    told = str(refused.value)
    assert why in told
    assert abs(int(told.split("at character ")[1].split(":")[0]) - place) <= (2 if "parentheses" in why else 0)
    assert "write one such as where=" in told


@given(st.text(max_size=60) | st.text("ab'\"()=<>!in ot.[]{},:1\\#@", max_size=40))
def test_any_text_is_a_condition_or_refused_in_a_sentence(text):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found = read_where(text)
        except ConfigError:
            return
        assert found.matches({"a": 1, "b": "x"}) in (True, False)


@pytest.mark.parametrize("where", [7, True, ["gpu"]])
def test_a_condition_is_text(where):
    with pytest.raises(ConfigError, match=r"where is a condition such as .* or None, got"):
        fl.ServerConfig(where=where)


def test_attributes_on_a_command_line_have_the_types_that_they_look_like():
    words = ["gpu=true", "old=false", "memory_gb=16", "load=.5", "region=eu", "site=a=b", "zip=", "big=1e999x", "at=-3"]
    assert read_attributes(words) == {
        "gpu": True,
        "old": False,
        "memory_gb": 16,
        "load": 0.5,
        "region": "eu",
        "site": "a=b",
        "zip": "",
        "big": "1e999x",
        "at": -3,
    }


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["gpu"], "NAME=VALUE"),
        (["a b=1"], "cannot name an attribute"),
        (["and=1"], "cannot name an attribute"),
        (["true=1"], "cannot name an attribute"),
        (["grün=1"], "cannot name an attribute"),
        (["name=x"], "is the server's to know"),
        (["python_version=9"], "is the server's to know"),
        (["a=1", "a=2"], "given twice"),
        (["a=1e999"], "a finite number"),
        (["a=nan"], "a finite number"),
        (["a=-Infinity"], "a finite number"),
        (["a=Inf"], "a finite number"),
        (["a=" + 201 * "x"], "at most 200 printable"),
        (["a=\x1b[2J"], "at most 200 printable"),
        ([f"a{n}=1" for n in range(65)], "65 attributes are too many"),
    ],
)
def test_what_is_no_attribute_is_refused(words, why):
    with pytest.raises(ConfigError, match=why.replace("(", r"\(")):
        read_attributes(words)


@pytest.mark.parametrize("given", [None, [], "gpu", {"a": None}, {"a": []}, {"a": float("nan")}, {1: 2}])
def test_what_a_stranger_sends_as_attributes_is_checked(given):
    with pytest.raises(ConfigError):
        checked_attributes(given)
