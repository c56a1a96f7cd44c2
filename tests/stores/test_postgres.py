"""Runs in a real PostgreSQL: the laws of every store, connections that break, databases that die, one leader."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from umbel.errors import ConfigError, StoreError
from umbel.stores import RunInfo
from umbel.testing import check_store

from .cluster import Cluster

postgres = pytest.importorskip("umbel.stores.postgres")


@pytest.fixture(scope="module")
def cluster():
    found = Cluster()
    yield found
    found.end()


@pytest.fixture
def make(cluster):
    """Makes stores on an empty database."""
    cluster.empty()
    made = []

    def another(**options):
        made.append(postgres.PostgresStore(cluster.url, **options))
        return made[-1]

    yield another
    for store in made:
        store.close()


@pytest.fixture
def store(make):
    found = make()
    found.create(RunInfo("run", "name", 1.0, "running", {}))
    return found


def test_it_keeps_the_laws_of_stores(make):
    check_store(make)


def test_of_a_connection_that_breaks_no_event_is_lost_and_none_is_there_twice(cluster, store):
    for number in range(1, 13):
        if number % 3 == 0:
            cluster.break_connections()
        if number % 2:
            store.append("run", {"round": number})
        else:
            store.commit("run", {"round": number}, round=number, checkpoint=[b"x"], states={}, keep={number - 1})
    assert [event["round"] for event in store.events("run")] == list(range(1, 13))


def test_what_was_kept_before_its_connection_broke_is_not_done_again(cluster, store):
    add = store._added("run", {"round": 1})
    store._write(add)
    cluster.break_connections()  # as if it had broken before the answer was heard
    store._write(add)
    assert len(store.events("run")) == 1
    store.append("run", {"round": 1})
    assert len(store.events("run")) == 2


def test_a_database_that_dies_is_waited_for(cluster, store):
    cluster.kill()
    with ThreadPoolExecutor(1) as pool:
        appended = pool.submit(store.append, "run", {"round": 1})
        cluster.start()
        appended.result(timeout=60)
    assert [event["round"] for event in store.events("run")] == [1]


def test_a_database_that_stays_away_is_a_typed_error(cluster, make):
    store = make(patience_s=0.0)
    cluster.kill()
    try:
        with pytest.raises(StoreError, match="the database cannot be reached"):
            store.runs()
        with pytest.raises(StoreError, match="the database cannot be reached"):
            postgres.PostgresStore(cluster.url)
    finally:
        cluster.start()
    assert store.runs() == []


def test_a_run_has_one_leader_whose_claim_outlives_its_connection(cluster, store, make):
    other = make()
    store.claim("run")
    assert other.is_claimed("run")
    with pytest.raises(StoreError, match="is being run by another process"):
        other.claim("run")
    cluster.break_connections()
    store.append("run", {"round": 1})
    assert other.is_claimed("run")
    store.close()
    other.claim("run")


def test_a_second_server_leads_once_the_first_is_gone(store, make):
    second = make()
    assert store.lead()
    assert store.lead()
    assert not second.lead()
    store.close()
    assert second.lead()


def test_who_has_led_may_not_write_once_another_leads(cluster, store, make):
    second = make()
    assert store.lead()
    beside = store.beside()
    beside.append("run", {"round": 1})
    cluster.break_connections()
    assert second.lead()
    with pytest.raises(StoreError, match="another server leads"):
        store.set_status("run", "failed")
    with pytest.raises(StoreError, match="another server leads"):
        beside.append("run", {"round": 2})
    beside.close()
    assert not store.lead()
    assert [event["round"] for event in second.events("run")] == [1]


def test_who_leads_goes_on_over_a_broken_connection_if_nobody_else_has_led(cluster, store, make):
    assert store.lead()
    cluster.break_connections()
    assert store.lead()
    store.append("run", {"round": 1})
    assert not make().lead()


def test_a_password_in_the_address_is_refused():
    with pytest.raises(ConfigError, match="PGPASSFILE"):
        postgres.PostgresStore("postgresql://me:secret@localhost/db")
    with pytest.raises(ConfigError, match="PGPASSFILE"):
        postgres.PostgresStore("postgresql://me@localhost/db?password=secret")
