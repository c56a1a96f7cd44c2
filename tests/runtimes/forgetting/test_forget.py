"""A client that was forgotten is in no bit of the new model, and in no checkpoint of the old run."""

import sqlite3

import numpy as np
import pytest

import umbel as fl
from umbel.audit.key import key_beside
from umbel.audit.unlearning import report_bytes, why_no_report
from umbel.errors import ConfigError, NotSupported, StoreError
from umbel.runtimes import checkpoint
from umbel.runtimes.forgetting.branch import branched
from umbel.runtimes.forgetting.influence import FROM_NOTHING, influence
from umbel.stores import SQLiteStore, link
from umbel.testing import Quadratics

TOY = Quadratics(clients=4)
START = {"w": np.zeros(4)}


def config(**changes):
    return fl.ServerConfig(**{"num_rounds": 6, "seed": 1, "fraction_fit": 0.5, **changes})


def ran(store, client=TOY.client, count=4, **given):
    given = {"config": config(), "initial_parameters": START, **given}
    return fl.simulate(client, count, store=store, engine="serial", progress=False, **given)


def forgotten(store, run, client, client_fn=TOY.client, count=4, **given):
    given = {"config": config(), "initial_parameters": START, "engine": "serial", **given}
    return fl.forget(client_fn, count, run=run, client=client, store=store, **given)


def who(store, run):
    """Round → who took part."""
    return {e["round"]: [one for one, _ in e["clients"]] for e in store.events(run) if e.get("clients")}


def newcomer(store, run):
    """A client whose first round is the last, and one of the first round."""
    rounds = who(store, run)
    late = next(one for one in rounds[6] if not any(one in rounds[n] for n in range(1, 6)))
    return late, rounds[1][0]


@pytest.mark.parametrize(
    "strategy", [fl.FedAvg(), fl.Scaffold(), fl.FedAdam(), fl.FedDyn()], ids=lambda one: type(one).__name__
)
def test_exact_is_to_the_bit_a_run_that_never_had_the_client_from_the_checkpoint_on(strategy):
    store, other = fl.MemoryStore(), fl.MemoryStore()
    first, again = (ran(one, strategy=strategy) for one in (store, other))
    late, _ = newcomer(store, first.run)
    # The reference is led by hand: five rounds are kept, and the sixth is played where the client cannot be built.
    five = fl.MemoryStore()
    before = ran(five, strategy=strategy, config=config(num_rounds=5))
    assert again.parameters.digest == first.parameters.digest

    def absent(context):
        assert context.client != late
        return TOY.client(context)

    reference = fl.simulate(
        absent,
        4,
        strategy=strategy,
        config=config(),
        store=five,
        resume=before.run,
        without=[late],
        engine="serial",
        progress=False,
    )
    gone = forgotten(store, first.run, late, strategy=strategy)
    assert gone.guarantee == "exact"
    assert gone.report["from_round"] == 5
    assert gone.history.parameters.digest == reference.parameters.digest != first.parameters.digest


def test_without_a_checkpoint_of_before_all_is_done_again_as_if_the_client_had_never_been():
    store = fl.MemoryStore()
    first = ran(store)
    _, early = newcomer(store, first.run)
    gone = forgotten(store, first.run, early)
    never = ran(fl.MemoryStore(), without=[early])
    assert gone.report["from_round"] == FROM_NOTHING
    assert gone.history.parameters.digest == never.parameters.digest
    assert not any(early in clients for clients in who(store, gone.history.run).values())


def test_who_leads_a_new_run_from_a_checkpoint_never_builds_the_client():
    store = fl.MemoryStore()
    first = ran(store)
    late, _ = newcomer(store, first.run)
    built = []

    def client(context):
        built.append(context.client)
        return TOY.client(context)

    forgotten(store, first.run, late, client)
    assert built
    assert late not in built


def test_a_client_that_never_took_part_costs_nothing():
    store = fl.MemoryStore()
    given = config(num_rounds=1, fraction_fit=0.25)
    first = ran(store, config=given)
    idle = next(one for one in "0123" if one not in who(store, first.run)[1])
    runs, kept = len(store.runs()), store.checkpoints(first.run)
    for method in ("exact", "approximate", "remove"):
        gone = forgotten(store, first.run, idle, config=given, method=method)
        assert (gone.guarantee, gone.history, gone.report["out_of_reach"]) == ("nothing to forget", None, [])
    assert (len(store.runs()), store.checkpoints(first.run)) == (runs, kept)


def test_the_first_model_of_a_client_is_a_part_that_it_had():
    store = fl.MemoryStore()
    given = {"config": config(num_rounds=1, fraction_fit=0.25, seed=3), "initial_parameters": None}
    first = ran(store, **given)
    assert who(store, first.run)[1] != ["0"]
    gone = forgotten(store, first.run, "0", **given)
    assert (gone.guarantee, gone.report["first_round"], gone.report["from_round"]) == ("exact", 0, FROM_NOTHING)
    assert gone.report["removed_checkpoints"] == [0, 1]


def test_a_run_that_ended_by_what_clients_measured_is_done_again():
    store, given = fl.MemoryStore(), {"config": config(target=-1.0)}
    first = ran(store, **given)
    late, _ = newcomer(store, first.run)
    assert forgotten(store, first.run, late, **given).report["from_round"] == FROM_NOTHING


def test_checkpoints_with_the_client_are_gone_and_listed():
    store = fl.MemoryStore()
    first = ran(store)
    late, _ = newcomer(store, first.run)
    kept = store.checkpoints(first.run)
    gone = forgotten(store, first.run, late)
    assert store.checkpoints(first.run) == [number for number in kept if number < 6]
    assert gone.report["removed_checkpoints"] == [6]


def test_checkpoints_can_be_kept_and_are_listed_then():
    store = fl.MemoryStore()
    first = ran(store)
    late, _ = newcomer(store, first.run)
    kept = store.checkpoints(first.run)
    gone = forgotten(store, first.run, late, keep=True)
    assert store.checkpoints(first.run) == kept
    assert (gone.report["removed_checkpoints"], gone.report["kept_checkpoints"]) == ([], [6])


MARK = np.frombuffer(b"this is a secret of client 2 ...", np.float64)


class Marked(fl.NumPyClient):
    """Its update, and its state, are bytes that can be looked for."""

    def __init__(self, context):
        self.context = context

    def fit(self, parameters, config):
        if self.context.client == "2":
            self.context.state["mine"] = MARK
            return [MARK.copy()], 1, {}
        return [parameters[0] * 0.5], 1, {}


def test_no_byte_of_the_forgotten_model_or_state_is_left_in_the_stores_files(tmp_path):
    given = {"initial_parameters": [np.zeros(4)], "config": config(fraction_fit=1.0, num_rounds=2)}
    store = SQLiteStore(tmp_path / "runs.db")
    first = ran(store, Marked, **given)
    secrets = [MARK.tobytes(), first.parameters["0"].tobytes()]

    def found():
        return [one for one in secrets for path in tmp_path.iterdir() if one in path.read_bytes()]

    assert set(found()) == set(secrets)
    forgotten(store, first.run, "2", Marked, **given)
    assert not found()
    store.close()


def test_the_old_log_says_so_and_stays_whole(tmp_path):
    pytest.importorskip("cryptography")
    store = SQLiteStore(tmp_path / "runs.db")
    first = ran(store)
    late, _ = newcomer(store, first.run)
    before = store.log(first.run)
    gone = forgotten(store, first.run, late)
    log = store.log(first.run)
    assert log[: len(before)] == before
    (event,) = [event for event in log if event["kind"] == "forgotten"]
    assert (event["client"], event["new_run"]) == (late, gone.history.run)
    check = link.signatures(key=key_beside(tmp_path).public)
    verdict = link.verify(first.run, log, check=check, seen=gone.report)
    assert verdict.problem is None
    assert verdict.covered == len(log) - 1
    assert link.verify(gone.history.run, store.log(gone.history.run), check=check).problem is None
    store.close()


def test_a_report_that_was_changed_is_found(tmp_path):
    pytest.importorskip("cryptography")
    store = SQLiteStore(tmp_path / "runs.db")
    first = ran(store)
    late, _ = newcomer(store, first.run)
    report = dict(forgotten(store, first.run, late, method="remove").report)
    check = link.signatures(key=key_beside(tmp_path).public, message=report_bytes)
    assert why_no_report(report, check) is None
    assert why_no_report({**report, "guarantee": "exact"}, check) is not None
    assert why_no_report({**report, "out_of_reach": []}, check) is not None
    assert why_no_report({"kind": "unlearning"}, check) == "cannot be read"
    store.close()


def test_the_old_run_does_not_go_on():
    store = fl.MemoryStore()
    first = ran(store)
    late, early = newcomer(store, first.run)
    gone = forgotten(store, first.run, late)
    with pytest.raises(ConfigError, match=f"was forgotten, so it does not go on; go on with run {gone.history.run}"):
        ran(store, resume=first.run, config=config(num_rounds=8))
    forgotten(store, gone.history.run, early)
    with pytest.raises(StoreError, match="a client that was in all of them was forgotten"):
        checkpoint.latest(store, gone.history.run)


def test_the_new_run_goes_on_without_the_client():
    store = fl.MemoryStore()
    first = ran(store)
    late, _ = newcomer(store, first.run)
    new = forgotten(store, first.run, late).history.run
    longer = ran(store, resume=new, config=config(num_rounds=9))
    assert longer.plan["without"] == [late]
    assert longer.plan["origin"]["run"] == first.run
    assert not any(late in clients for clients in who(store, new).values())


def test_two_clients_are_forgotten_one_after_the_other():
    store = fl.MemoryStore()
    first = ran(store)
    new = forgotten(store, first.run, "0").history.run
    newest = forgotten(store, new, "3").history
    assert newest.plan["without"] == ["0", "3"]
    assert newest.parameters.digest == ran(fl.MemoryStore(), without=["0", "3"]).parameters.digest
    with pytest.raises(ConfigError, match="is without client 0 already"):
        forgotten(store, newest.run, "0")


def test_what_broke_off_is_taken_up_again():
    store = fl.MemoryStore()
    first = ran(store)
    late, _ = newcomer(store, first.run)
    (info,) = store.runs()
    begun = branched(store, info, late, 5, ["0", "1", "2", "3"])
    gone = forgotten(store, first.run, late)
    assert gone.history.run == begun
    assert [run.id for run in store.runs()] == [first.run, begun]


def test_other_runs_with_the_client_are_named():
    store = fl.MemoryStore()
    first, other = ran(store, config=config(fraction_fit=1.0)), ran(store, config=config(fraction_fit=1.0, seed=2))
    ran(store, config=config(fraction_fit=1.0), name="of something else")
    gone = forgotten(store, first.run, "1", config=config(fraction_fit=1.0))
    assert gone.report["other_runs"] == [other.run]


def test_approximate_takes_the_step_back_and_says_how_far_that_went():
    """One client is unlike the three others, whose model comes back nearer to what it was without it."""

    class Pull(fl.NumPyClient):
        def __init__(self, target):
            self.target = target

        def fit(self, parameters, config):
            return [w + 0.5 * (self.target - w) for w in parameters], 1, {}

        def evaluate(self, parameters, config):
            return float(np.square(parameters[0] - self.target).mean()), 1, {}

    def client(context):
        return Pull(9.0 if context.client == "2" else 1.0)

    given = {"initial_parameters": [np.zeros(2)], "config": config(fraction_fit=1.0)}
    store = fl.MemoryStore()
    first = ran(store, client, **given)
    gone = forgotten(store, first.run, "2", client, method="approximate", rounds=1, **given)
    w = first.parameters["0"]
    # w - ½(9 - w)/3, and then one round in which three clients go half of the way to 1.
    expected = 0.5 * (w - 0.5 * (9.0 - w) / 3) + 0.5
    assert gone.history.parameters["0"] == pytest.approx(expected, abs=1e-12)
    losses = gone.report["losses"]
    assert losses["client"]["after"] > losses["client"]["before"]
    assert losses["others"]["after"] < losses["others"]["before"]
    assert gone.report["means"].startswith("none that is proven")


@pytest.mark.parametrize("method", ["exact", "approximate"])
def test_runs_that_hide_single_clients_only_remove(method):
    pytest.importorskip("cryptography")
    store, given = fl.MemoryStore(), {"coordinator": fl.Secure(), "config": config(fraction_fit=1.0, num_rounds=1)}
    first = ran(store, **given)
    with pytest.raises(NotSupported, match="their difference, which is that client's update"):
        forgotten(store, first.run, "1", method=method, **given)
    gone = forgotten(store, first.run, "1", method="remove", **given)
    assert (gone.guarantee, store.checkpoints(first.run)) == ("removed", [0])


def test_a_private_run_names_its_bound():
    pytest.importorskip("dp_accounting")
    plan = fl.PrivacyPlan(clip=1.0, noise_multiplier=1.0, delta=1e-5, sampling="every")
    given = {
        "privacy": plan,
        "strategy": fl.FedAvg(weighting="uniform"),
        "config": config(fraction_fit=1.0, fraction_evaluate=0.0, num_rounds=2),
    }
    store = fl.MemoryStore()
    first = ran(store, **given)
    with pytest.raises(NotSupported, match="a release more of all the others' data"):
        forgotten(store, first.run, "1", **given)
    told = forgotten(store, first.run, "1", method="remove", **given).report
    assert told["privacy"] == {"epsilon": first.privacy[-1].epsilon, "delta": 1e-5, "unit": "client"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"client": "7"}, "there is no client '7'; the ids are '0' to '3'"),
        ({"client": "1", "method": "magic"}, "method must be one of exact, approximate, remove"),
        ({"client": "1", "rounds": 2}, 'is for method="approximate"'),
        ({"client": "1", "rounds": 0, "method": "approximate"}, "rounds must be a whole number of at least 1"),
        ({"client": "1", "strategy": fl.Scaffold(), "method": "approximate"}, "does not add up plain changes"),
    ],
)
def test_what_cannot_be_is_refused(arguments, words):
    store = fl.MemoryStore()
    first = ran(store, config=config(fraction_fit=1.0, num_rounds=2), strategy=arguments.get("strategy"))
    runs, kept = len(store.runs()), store.checkpoints(first.run)
    with pytest.raises(ConfigError, match=words):
        forgotten(store, first.run, **{"config": config(fraction_fit=1.0, num_rounds=2), **arguments})
    assert (len(store.runs()), store.checkpoints(first.run)) == (runs, kept)


def test_a_run_that_is_under_way_is_left_alone(tmp_path):
    store = SQLiteStore(tmp_path / "runs.db")
    first = ran(store)
    store.claim(first.run)
    with pytest.raises(StoreError, match="is under way; stop it first"):
        forgotten(store, first.run, "1")
    store.close()


def test_a_round_that_was_too_large_to_be_listed_counts_as_one_with_the_client():
    events = [
        {"kind": "round", "round": 1, "clients": [["0", 1]]},
        {"kind": "round", "round": 2},
        {"kind": "round", "round": 3, "clients": [["1", 1]]},
    ]
    part = influence(events, "1")
    assert (part.first, part.rounds, part.unlisted) == (2, (3,), (2,))
    assert part.newest_free([0, 2, 3]) == 0
    assert part.newest_free([2, 3]) == FROM_NOTHING


def test_a_round_that_was_done_again_counts_as_it_was_the_last_time():
    events = [
        {"kind": "round", "round": 1, "clients": [["1", 1]]},
        {"kind": "rewound", "round": 0},
        {"kind": "round", "round": 1, "clients": [["0", 1]]},
    ]
    assert influence(events, "1").first is None


@pytest.mark.parametrize("without", [["4"], ["-1"], ["x"], "12"])
def test_only_clients_that_there_are_can_be_left_out(without):
    with pytest.raises(ConfigError, match=r"without|there is no client"):
        ran(fl.MemoryStore(), without=without)


def test_nobody_left_out_is_nothing_left_out():
    plain, empty = ran(fl.MemoryStore()), ran(fl.MemoryStore(), without=[])
    assert plain.parameters.digest == empty.parameters.digest
    assert "without" not in plain.plan


def test_models_that_went_on_from_the_clients_are_named_too():
    """In the rounds of the run that was made by approximation the client is not, and in its model it is."""
    store, all_of_them = fl.MemoryStore(), config(fraction_fit=1.0)
    first = ran(store, config=all_of_them)
    near = forgotten(store, first.run, "1", method="approximate", config=all_of_them)
    exact = forgotten(store, first.run, "1", config=all_of_them)
    assert near.report["other_runs"] == []
    assert exact.report["other_runs"] == [near.history.run]


def test_what_an_approximation_left_can_be_removed():
    store, all_of_them = fl.MemoryStore(), config(fraction_fit=1.0)
    first = ran(store, config=all_of_them)
    near = forgotten(store, first.run, "1", method="approximate", config=all_of_them).history.run
    gone = forgotten(store, near, "1", method="remove", config=all_of_them)
    assert gone.guarantee == "removed"
    assert not store.checkpoints(near)
    exact = forgotten(store, first.run, "1", config=all_of_them).history.run
    with pytest.raises(ConfigError, match="without client 1 already"):
        forgotten(store, exact, "1", config=all_of_them)


def test_a_file_that_somebody_reads_is_not_said_to_be_clean(tmp_path):
    given = {"initial_parameters": [np.zeros(4)], "config": config(fraction_fit=1.0, num_rounds=2)}
    store, told = SQLiteStore(tmp_path / "runs.db"), {"method": "remove", "client_fn": Marked}
    first = ran(store, Marked, **given)
    store._rows("PRAGMA busy_timeout=0")
    reader = sqlite3.connect(tmp_path / "runs.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM checkpoints").fetchall()
    with pytest.raises(StoreError, match="somebody reads"):
        forgotten(store, first.run, "2", **told, **given)
    reader.close()
    # Nothing is left to be removed, and the file is written anew all the same.
    forgotten(store, first.run, "2", **told, **given)
    secret = first.parameters["0"].tobytes()
    assert not [path for path in tmp_path.iterdir() if secret in path.read_bytes()]
    store.close()
