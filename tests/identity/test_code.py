"""Invitation codes: what goes in comes out, and no mistake of typing goes unnoticed."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.errors import CodeRefused, IdentityError
from umbel.identity.code import Code, read_code, write_code

ALPHABET = string.ascii_uppercase + "234567"
labels = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=20)
hosts = st.lists(labels, min_size=1, max_size=4).map(".".join) | st.ip_addresses(v=6).map(lambda ip: f"[{ip}]")
addresses = st.tuples(st.sampled_from(["", "grpc://", "ws://"]), hosts, st.integers(1, 65535)).map(
    lambda parts: f"{parts[0]}{parts[1]}:{parts[2]}"
)
codes = st.builds(Code, addresses, st.binary(min_size=32, max_size=32), st.binary(min_size=16, max_size=16))
EXAMPLE = write_code(Code("server.example.org:8080", bytes(range(32)), bytes(range(100, 116))))


@given(codes)
def test_a_code_comes_back_as_it_was(code):
    assert read_code(write_code(code)) == code


@given(codes, st.data())
def test_a_code_survives_line_ends_blanks_and_small_letters(code, data):
    word = write_code(code)
    place = data.draw(st.integers(0, len(word)))
    assert read_code(f"  {word[:place]}\r\n {word[place:].lower()}\n") == code


@given(codes, st.data())
def test_any_two_wrong_characters_are_told(code, data):
    word = list(write_code(code))
    places = data.draw(st.lists(st.integers(0, len(word) - 1), min_size=1, max_size=2, unique=True))
    for place in places:
        word[place] = data.draw(st.sampled_from([c for c in ALPHABET if c != word[place]]))
    with pytest.raises(CodeRefused, match="mistyped"):
        read_code("".join(word))


def test_every_wrong_character_at_every_place_is_told():
    for place, right in enumerate(EXAMPLE):
        for wrong in ALPHABET:
            if wrong != right:
                with pytest.raises(CodeRefused):
                    read_code(EXAMPLE[:place] + wrong + EXAMPLE[place + 1 :])


def test_every_swap_of_neighbours_and_every_missing_or_doubled_character_is_told():
    for place in range(len(EXAMPLE) - 1):
        first, second = EXAMPLE[place], EXAMPLE[place + 1]
        wrong = [EXAMPLE[:place] + EXAMPLE[place + 1 :], EXAMPLE[:place] + first + EXAMPLE[place:]]
        if first != second:
            wrong.append(EXAMPLE[:place] + second + first + EXAMPLE[place + 2 :])
        for word in wrong:
            with pytest.raises(CodeRefused):
                read_code(word)


@given(st.text() | st.text(ALPHABET))
def test_what_is_no_code_is_refused_in_a_sentence(text):
    with pytest.raises(CodeRefused, match=r"code .*;"):
        read_code(text)


def test_a_character_that_no_code_has_is_named_with_its_place():
    with pytest.raises(CodeRefused, match="has '0' at place 4"):
        read_code(EXAMPLE[:3] + "0" + EXAMPLE[4:])


def test_a_code_of_a_later_format_says_to_update(monkeypatch):
    monkeypatch.setattr("umbel.identity.code.VERSION", 2)
    later = write_code(Code("a:1", bytes(32), bytes(16)))
    monkeypatch.undo()
    with pytest.raises(CodeRefused, match="format 2, this version reads 1; update"):
        read_code(later)


@pytest.mark.parametrize("address", ["", "host", "host:0", "host:70000", "host:x", "a b:1", "u@h:1", "x" * 260 + ":1"])
def test_an_address_that_is_none_makes_no_code(address):
    with pytest.raises(IdentityError, match="host:port"):
        write_code(Code(address, bytes(32), bytes(16)))


def test_a_code_fits_a_line_and_shows_no_secret_when_printed():
    assert len(EXAMPLE) < 130
    assert "secret" not in repr(read_code(EXAMPLE))
