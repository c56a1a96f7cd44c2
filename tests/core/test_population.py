"""Populations: some left out of very many, and those of very many that match, without a list of any."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import umbel as fl
from umbel.coordinators import AllBut, Everyone, Matching, Some
from umbel.errors import ConfigError
from umbel.runtimes.matching import population

MANY = 10**12


@given(st.integers(1, 60), st.sets(st.integers(0, 60)), st.integers(0, 2**64), st.integers(1, 60))
def test_all_but_some_are_drawn_from_as_from_a_list_of_the_others(size, absent, key, count):
    others = [number for number in range(size) if number not in absent]
    lazy, listed = Some(AllBut(size, absent)), Some(others)
    assert list(lazy.numbers) == others
    assert lazy.sample(key, count) == listed.sample(key, count)
    assert lazy.first(count) == listed.first(count)
    assert lazy.listed() == listed.listed()
    assert [str(number) in lazy for number in range(62)] == [str(number) in listed for number in range(62)]


def test_leaving_somebody_out_of_very_many_lists_nobody():
    there = population(fl.ServerConfig(seed=1), MANY, None, ["5", str(MANY - 1)])
    assert there.size == MANY - 2
    assert ("5" in there, "6" in there, str(MANY - 1) in there) == (False, True, False)
    assert len(set(there.sample(1, 1000))) == 1000


def test_nobody_left_out_draws_as_ever():
    assert isinstance(population(fl.ServerConfig(seed=1), MANY, None), Everyone)


def every_hundredth(client):
    return {"gpu": int(client) % 100 == 7}


def config(where="gpu", **more):
    return fl.ServerConfig(**{"seed": 1, "fraction_fit": 0.1, "fraction_evaluate": 0.1, "where": where, **more})


def test_of_very_many_those_that_match_are_found_by_drawing():
    there = population(config(), MANY, every_hundredth)
    assert isinstance(there, Matching)
    assert there.size == pytest.approx(MANY / 100, rel=0.15)
    found = there.sample(3, 50)
    assert len(set(found)) == 50
    assert all(int(client) % 100 == 7 for client in found)
    assert there.sample(3, 20) == found[:20]
    assert found[0] in there
    assert "8" not in there
    assert len(there.first(3)) == 3


def test_an_estimated_number_is_said_and_few_are_looked_at():
    looked = []

    class Ones(fl.NumPyClient):
        def fit(self, parameters, config):
            return [parameters[0] + 1.0], 1, {}

    def attributes(client):
        looked.append(client)
        return every_hundredth(client)

    history = fl.simulate(
        lambda context: Ones(),
        10**8,
        config=config(fraction_fit=1e-5, fraction_evaluate=0.0, num_rounds=2),
        attributes=attributes,
        initial_parameters=[np.zeros(2)],
        engine="serial",
        progress=False,
    )
    assert [record.participants for record in history.rounds] == [9, 9]
    assert len(looked) < 200_000
    (note,) = history.warnings
    assert note.startswith("about ")
    assert "clients match where='gpu', as 1,000 of" in note


@pytest.mark.parametrize(
    ("where", "more", "sentence"),
    [
        (
            "name == '7'",
            {},
            r"0 of 200,000 clients .* match where=\"name == '7'\", too few to find .* at most 1,000,000",
        ),
        ("gpu", {"fraction_evaluate": 1.0}, r"fraction_evaluate=1 asks for nearly all .* set fraction_evaluate to 0.5"),
        ("gpu", {"fraction_fit": 0.6}, r"fraction_fit=0.6 asks for nearly all"),
    ],
)
def test_what_drawing_cannot_find_is_refused_in_a_sentence(where, more, sentence):
    with pytest.raises(ConfigError, match=sentence):
        population(config(where, **more), MANY, every_hundredth)


def test_a_private_run_wants_to_know_how_many_there_are():
    pytest.importorskip("dp_accounting")
    with pytest.raises(ConfigError, match=r"privacy= counts on how many clients there are"):
        fl.simulate(
            lambda context: fl.NumPyClient(),
            10**8,
            config=config(),
            attributes=every_hundredth,
            privacy=fl.PrivacyPlan(clip=1.0, noise_multiplier=1.0, delta=1e-9),
            engine="serial",
            progress=False,
        )
