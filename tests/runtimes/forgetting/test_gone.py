"""Who was forgotten is in no later run of the same family, whoever else is forgotten then."""

import pytest

import umbel as fl
from umbel.errors import ConfigError, NotSupported
from umbel.runtimes.forgetting.branch import branched
from umbel.runtimes.forgetting.influence import FROM_NOTHING

from .test_forget import TOY, config, forgotten, newcomer, ran

ALL = {"config": config(fraction_fit=1.0)}


class Building:
    """A client function that remembers who was built."""

    def __init__(self, toy=TOY):
        self.toy, self.built = toy, set()

    def __call__(self, context):
        self.built.add(context.client)
        return self.toy.client(context)


@pytest.mark.parametrize("method", ["exact", "approximate"])
def test_a_second_client_is_forgotten_without_training_the_first(method):
    store = fl.MemoryStore()
    first = ran(store)
    late, early = newcomer(store, first.run)
    forgotten(store, first.run, late)
    building = Building()
    gone = forgotten(store, first.run, early, building, method=method)
    assert building.built
    assert late not in building.built
    assert gone.history.plan["without"] == sorted([early, late])
    assert gone.report["also_without"] == [late]
    (*_, event) = [event for event in store.log(first.run) if event["kind"] == "forgotten"]
    assert event["also_without"] == [late]


def test_the_second_model_is_that_of_a_run_that_had_neither():
    store = fl.MemoryStore()
    first = ran(store, **ALL)
    forgotten(store, first.run, "1", **ALL)
    gone = forgotten(store, first.run, "3", **ALL)
    never = ran(fl.MemoryStore(), without=["1", "3"], **ALL)
    assert gone.history.parameters.digest == never.parameters.digest


def test_a_client_that_had_no_part_and_was_forgotten_gets_none_later():
    store, given = fl.MemoryStore(), {"config": config(num_rounds=1, fraction_fit=0.25)}
    first = ran(store, **given)
    ((took, _),) = next(event["clients"] for event in store.events(first.run) if event["kind"] == "round")
    idle = [one for one in "0123" if one != took]
    for one in idle[:2]:
        assert forgotten(store, first.run, one, **given).guarantee == "nothing to forget"
    building = Building()
    gone = forgotten(store, first.run, took, building, **given)
    assert building.built == {idle[2]}
    assert gone.report["also_without"] == idle[:2]


def test_an_exact_run_does_not_begin_from_what_was_kept_of_another_that_was_forgotten():
    store = fl.MemoryStore()
    first = ran(store)
    late, early = newcomer(store, first.run)
    forgotten(store, first.run, early, keep=True)
    gone = forgotten(store, first.run, late)
    assert gone.report["from_round"] == FROM_NOTHING
    assert gone.history.parameters.digest == ran(fl.MemoryStore(), without=[early, late]).parameters.digest


def test_nor_does_an_approximation():
    store = fl.MemoryStore()
    first = ran(store)
    late, early = newcomer(store, first.run)
    forgotten(store, first.run, early, keep=True)
    runs = len(store.runs())
    with pytest.raises(NotSupported, match=f"nothing of {early}, forgotten before"):
        forgotten(store, first.run, late, method="approximate")
    assert len(store.runs()) == runs


def test_an_approximation_after_another_goes_on_from_it():
    store = fl.MemoryStore()
    first = ran(store, **ALL)
    near = forgotten(store, first.run, "1", method="approximate", **ALL)
    gone = forgotten(store, near.history.run, "3", method="approximate", **ALL)
    assert gone.report["from_round"] == near.history.rounds[-1].round
    assert gone.report["also_without"] == ["1"]


def test_a_step_is_not_taken_back_from_a_model_that_never_had_it():
    store = fl.MemoryStore()
    first = ran(store)
    late, _ = newcomer(store, first.run)
    forgotten(store, first.run, late, method="remove")
    with pytest.raises(NotSupported, match=f"holds something of client {late}, so there is no model"):
        forgotten(store, first.run, late, method="approximate")


def test_who_was_to_be_forgotten_when_it_broke_off_counts_as_well():
    store = fl.MemoryStore()
    first = ran(store, **ALL)
    (info,) = store.runs()
    branched(store, info, "1", FROM_NOTHING, ["0", "1", "2", "3"])
    building = Building()
    assert forgotten(store, first.run, "3", building, **ALL).report["also_without"] == ["1"]
    assert "1" not in building.built


def test_who_was_forgotten_in_the_run_before_is_left_out_of_the_one_that_came_from_it():
    store = fl.MemoryStore()
    first = ran(store, **ALL)
    second = forgotten(store, first.run, "1", **ALL).history.run
    forgotten(store, first.run, "3", **ALL)
    building = Building()
    assert forgotten(store, second, "0", building, **ALL).history.plan["without"] == ["0", "1", "3"]
    assert building.built == {"2"}


def test_the_same_command_gives_the_same_run_also_where_names_have_two_digits():
    store, toy = fl.MemoryStore(), fl.testing.Quadratics(clients=12)
    first = ran(store, toy.client, 12, **ALL)
    second = forgotten(store, first.run, "10", toy.client, 12, **ALL).history.run
    once, again = (forgotten(store, second, "2", toy.client, 12, **ALL).history for _ in range(2))
    assert once.plan["without"] == ["2", "10"]
    assert once.run == again.run


def test_a_run_that_shares_its_beginning_does_not_go_on_with_who_was_forgotten_in_the_other():
    store = fl.MemoryStore()
    first = ran(store, **ALL)
    second = forgotten(store, first.run, "1", **ALL).history.run
    more = {"config": config(fraction_fit=1.0, num_rounds=ALL["config"].num_rounds + 1)}
    forgotten(store, first.run, "3", **ALL)
    with pytest.raises(ConfigError, match=f"client 3 was forgotten in run {first.run}, with which run {second} shares"):
        ran(store, resume=second, **more)
    assert store.find(second).status == "finished"
    building = Building()
    third = forgotten(store, second, "3", building, **ALL).history
    assert building.built == {"0", "2"}
    assert ran(store, resume=third.run, **more).plan["without"] == ["1", "3"]


def test_a_run_of_another_beginning_goes_on_though_its_client_was_forgotten_elsewhere():
    store = fl.MemoryStore()
    first, other = ran(store, **ALL), ran(store, **ALL)
    forgotten(store, first.run, "1", **ALL)
    more = {"config": config(fraction_fit=1.0, num_rounds=ALL["config"].num_rounds + 1)}
    assert len(ran(store, resume=other.run, **more).rounds) == more["config"].num_rounds
