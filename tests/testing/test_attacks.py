"""Attacks do what their papers say, on any engine, and hit what they are aimed at."""

import numpy as np
import pytest

import umbel as fl
from umbel.arrays import Arrays
from umbel.errors import ConfigError, TooFewClients
from umbel.message import Group
from umbel.testing import Quadratics
from umbel.testing.attacks import (
    ALIE,
    IPM,
    Attack,
    Attacked,
    FreeRider,
    GaussianNoise,
    MinMax,
    NaNBomb,
    PixelBackdoor,
    Scaling,
    SignFlip,
    flip_labels,
)
from umbel.testing.attacks.infiltrated import MARK

ATTACKS: list[Attack] = [SignFlip(), Scaling(), GaussianNoise(), ALIE(), IPM(), MinMax(), FreeRider(), NaNBomb()]
TOY = Quadratics(clients=10, dim=6, dtype="float32")


def simulated(strategy: fl.Strategy, engine: str = "serial", rounds: int = 2) -> fl.History:
    config = fl.ServerConfig(num_rounds=rounds, seed=4)
    workers = 2 if engine == "pool" else None
    return fl.simulate(TOY.client, 10, strategy=strategy, config=config, engine=engine, workers=workers, progress=False)


def honest() -> np.ndarray:
    return np.random.default_rng(2).standard_normal((16, 50)) + 1.0


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_without_bad_clients_nothing_changes(attack):
    plain = simulated(fl.FedAvg(reducer=fl.MultiKrum(f=2)))
    attacked = simulated(Attacked(fl.FedAvg(reducer=fl.MultiKrum(f=2)), attack, clients=()))
    assert np.array_equal(plain.parameters["w"], attacked.parameters["w"])


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
@pytest.mark.parametrize("reducer", [fl.Mean(), fl.MultiKrum(f=2)], ids=repr)
def test_an_attack_has_the_same_bits_on_two_workers(attack, reducer):
    strategy = Attacked(fl.FedAvg(reducer=reducer), attack, clients=("2", "7"))
    one, two = simulated(strategy), simulated(strategy, "pool")
    assert np.array_equal(one.parameters["w"], two.parameters["w"])


@pytest.mark.parametrize("attack", [ALIE(), IPM(), MinMax()], ids=repr)
def test_in_which_order_honest_updates_come_makes_no_difference_to_what_is_crafted(attack):
    reducer = Attacked(fl.FedAvg(), attack, clients=()).reducer
    rng, found = np.random.default_rng(9), []
    rows = 10.0 ** rng.uniform(-6, 6, (12, 1)) * rng.standard_normal((12, 60))
    for order in (range(12), rng.permutation(12), rng.permutation(12)):
        groups = [
            {"delta": Group(Arrays.of({"w": rows[i]}), 1.0), MARK: Group(Arrays.of({MARK: np.float32([i < 3])}), 1.0)}
            for i in order
        ]
        total = reducer.start({name: group.arrays.schema for name, group in groups[0].items()})
        for update in groups:
            total.fold(update)
        found.append(total.result()["delta"].mean()["w"])
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_clients_that_train_in_blocks_can_be_attacked():
    pytest.importorskip("torch")
    strategy = Attacked(fl.FedAvg(reducer=fl.MultiKrum(f=2)), SignFlip(5.0), clients=("2", "7"))
    assert np.allclose(simulated(strategy, "vmap").parameters["w"], simulated(strategy).parameters["w"], atol=1e-4)


@pytest.mark.parametrize("attack", [a for a in ATTACKS if not isinstance(a, NaNBomb)], ids=repr)
def test_an_attack_moves_the_mean(attack):
    plain, attacked = simulated(fl.FedAvg()), simulated(Attacked(fl.FedAvg(), attack, clients=("2", "7")))
    assert np.abs(plain.parameters["w"] - attacked.parameters["w"]).max() > 1e-3


def test_a_nan_is_refused_whatever_the_reducer_and_the_run_goes_on():
    history = simulated(Attacked(fl.FedAvg(), NaNBomb(), clients=("2", "7")))
    assert [len(record.failures) for record in history.rounds] == [2, 2]
    assert {failure.client for failure in history.rounds[0].failures} == {"2", "7"}
    assert np.isfinite(history.parameters["w"]).all()


def test_scaffold_can_be_attacked_in_both_of_its_groups():
    plain = simulated(fl.Scaffold())
    attacked = simulated(Attacked(fl.Scaffold(), IPM(), clients=("2",)))
    withstood = simulated(Attacked(fl.Scaffold(reducer=fl.MultiKrum(f=1)), IPM(), clients=("2",)))
    assert not np.array_equal(plain.parameters["w"], attacked.parameters["w"])
    assert np.isfinite(withstood.parameters["w"]).all()


def test_alie_hides_within_its_z_and_takes_the_papers_if_none_is_given():
    updates = honest()
    found = ALIE().crafted(updates, 4)
    # n = 20, f = 4: s = 7 supporters, and the normal distribution has 9/16 of its mass below 0.157311.
    assert np.allclose(found, updates.mean(axis=0) - 0.157311 * updates.std(axis=0), atol=1e-6)
    assert np.allclose(ALIE(z=1.5).crafted(updates, 4), updates.mean(axis=0) - 1.5 * updates.std(axis=0))


def test_ipm_turns_the_mean_round():
    assert np.allclose(IPM(epsilon=0.6).crafted(honest(), 4), -0.6 * honest().mean(axis=0))


def test_min_max_goes_as_far_as_two_honest_clients_lie_apart_and_no_farther():
    updates = honest()
    found = MinMax().crafted(updates, 4)
    widest = max(np.linalg.norm(a - b) for a in updates for b in updates)
    assert np.linalg.norm(updates - found, axis=1).max() == pytest.approx(widest)


def test_equal_honest_updates_leave_min_max_no_room():
    assert np.array_equal(MinMax().crafted(np.ones((5, 3)), 2), np.ones(3))


@pytest.mark.parametrize(
    ("attack", "length"), [(SignFlip(2.0), 2.0), (Scaling(50.0), 50.0), (GaussianNoise(3.0), 3.0), (FreeRider(), 0.01)]
)
def test_an_update_is_as_long_as_its_attack_says(attack, length):
    sent = attack.sent(np.full(16, 0.25), np.random.default_rng(0))
    assert np.linalg.norm(sent) == pytest.approx(length)


def test_flipping_labels_twice_is_nothing():
    labels = np.arange(10)
    assert np.array_equal(flip_labels(flip_labels(labels, 10), 10), labels)
    assert not (flip_labels(labels, 10) == labels).any()


def test_a_backdoor_is_in_the_share_that_is_poisoned_and_nowhere_else():
    trigger = PixelBackdoor(target=7, size=2, value=9.0)
    pictures, labels = np.zeros((200, 8, 8)), np.arange(200) % 10
    poisoned, changed = trigger.poisoned(pictures, labels, share=0.5, seed=1)
    stamped = poisoned[:, 0, 0] == 9.0
    assert 60 < stamped.sum() < 140
    assert (changed[stamped] == 7).all()
    assert np.array_equal(changed[~stamped], labels[~stamped])
    assert not pictures.any()
    assert trigger.success(np.full(200, 7), labels) == 1.0
    assert trigger.success(np.where(labels == 7, 7, 3), labels) == 0.0


def test_bad_clients_are_named_by_ids():
    with pytest.raises(fl.ConfigError, match=r'ids such as \("0", "1"\), got \(0, 1\)'):
        Attacked(fl.FedAvg(), IPM(), clients=(0, 1))


def test_byzfl_attacks_the_same():
    byzfl = pytest.importorskip("byzfl")
    updates = honest()
    assert np.allclose(IPM(epsilon=0.6).crafted(updates, 4), byzfl.InnerProductManipulation(tau=0.6)(updates))
    # ByzFL divides the variance by h - 1, and adds.
    found = ALIE(z=-1.5 * np.sqrt(16 / 15)).crafted(updates, 4)
    assert np.allclose(found, byzfl.ALittleIsEnough(tau=1.5)(updates))


@pytest.mark.parametrize(
    ("reason", "made"),
    [
        ("factor must be a finite number, got nan", lambda: SignFlip(factor=float("nan"))),
        ("factor must be a finite number, got 'a'", lambda: Scaling(factor="a")),
        ("factor must be a finite number, got None", lambda: FreeRider(factor=None)),
        ("epsilon must be a finite number, got True", lambda: IPM(epsilon=True)),
        ("attack must be one of", lambda: Attacked(fl.FedAvg(), None, clients=("2",))),
        ("clients must be ids", lambda: Attacked(fl.FedAvg(), SignFlip(), clients=None)),
        ("clients must be ids", lambda: Attacked(fl.FedAvg(), SignFlip(), clients=(2,))),
    ],
)
def test_an_attack_that_would_be_none_is_refused(reason, made):
    with pytest.raises(ConfigError, match=reason):
        made()


@pytest.mark.parametrize("name", ["zz", "99"])
def test_an_attack_by_nobody_is_refused(name):
    with pytest.raises(TooFewClients, match=f"clients names '{name}'; in this run there are 0 to"):
        simulated(Attacked(fl.FedAvg(), SignFlip(), clients=("2", name)))
