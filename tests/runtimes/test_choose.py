"""What can be said of an engine before it starts: refused with a sentence, or written into the plan."""

import sys

import numpy as np
import pytest

import umbel as fl
from umbel.runtimes.choose import block_size, choose


def simulated(**arguments):
    return fl.simulate(lambda context: None, 2, initial_parameters=[np.zeros(1)], progress=False, **arguments)


def test_ray_that_is_not_installed_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(fl.ConfigError, match=r'engine="ray" needs ray; install it with: pip install \'umbel\[ray\]\''):
        simulated(engine="ray")


@pytest.mark.parametrize("engine", ["auto", "serial", "pool"])
def test_a_cluster_for_another_engine_is_refused(engine):
    with pytest.raises(fl.ConfigError, match='cluster is for engine="ray"'):
        simulated(engine=engine, cluster=fl.Cluster())


def test_an_engine_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(fl.ConfigError, match="engine must be one of auto, serial, pool, vmap, ray, got 'dask'"):
        simulated(engine="dask")


@pytest.mark.parametrize("wrong", [{"address": ""}, {"address": 7}, {"gpus_per_node": -1}, {"gpus_per_node": "two"}])
def test_clusters_that_cannot_be_are_refused(wrong):
    with pytest.raises(fl.ConfigError, match=next(iter(wrong))):
        fl.Cluster(**wrong)


def test_a_plan_tells_the_workers_of_a_cluster_only_where_they_were_given():
    pytest.importorskip("ray", reason="ray is not installed")
    assert choose("ray", None, fl.ServerConfig(), 9, fl.Cluster()) == {"name": "ray"}
    assert choose("ray", 3, fl.ServerConfig(), 9) == {"name": "ray", "workers": 3}


def test_a_block_is_as_large_as_caches_hold_and_leaves_every_core_some():
    assert block_size(2_440, cohort=1_000, cores=2) == 500
    assert block_size(2_440, cohort=2_400, cores=2) == 600
    assert block_size(2_440, cohort=100_000, cores=2) == 2_000
    assert block_size(2_440, cohort=1_000, cores=16) == 63
    assert block_size(636_000, cohort=1_000, cores=2) == 39
    assert block_size(2_440, cohort=10_000, cores=2) == 1_667, "three for each core, not five for two"
    assert block_size(636_000, cohort=100, cores=2) == 25
    assert block_size(10**9, cohort=1_000, cores=2) == block_size(100, cohort=3, cores=2) == 8


def test_a_block_that_was_asked_for_is_in_the_plan():
    assert choose("vmap", 3, fl.ServerConfig(), 1_000, block=100) == {"name": "vmap", "workers": 3, "block": 100}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"engine": "pool", "block": 8}, "block is for engine=\"vmap\", got engine='pool'"),
        ({"engine": "vmap", "block": 1}, "block must be a whole number of at least 2 or None, got 1"),
        ({"engine": "vmap", "block": "many"}, "block must be a whole number of at least 2 or None, got 'many'"),
    ],
)
def test_blocks_that_cannot_be_are_refused(arguments, sentence):
    with pytest.raises(fl.ConfigError, match=sentence):
        simulated(**arguments)


def test_an_address_is_no_cluster():
    with pytest.raises(fl.ConfigError, match=r"cluster must be a Cluster or None, got 'auto'; try fl.Cluster\(address"):
        fl.simulate(lambda context: None, 2, engine="ray", cluster="auto")
