"""What is said of a run after its end, or before it began, is signed as everything else is."""

from dataclasses import replace

import numpy as np
import pytest

import umbel as fl
from umbel.audit.key import LogKey, new_pem
from umbel.audit.whole import looked
from umbel.stores import link

from .site import Site

KEY = LogKey.read(new_pem(), "the test's")


class Mean(fl.NumPyClient):
    def fit(self, parameters, config):
        return parameters, 1, {}

    def evaluate(self, parameters, config):
        return 0.0, 1, {}


def verdict(site):
    [info] = site.store.runs()
    check = link.signatures(key=KEY.public)
    return info.status, looked(info, site.store.log(info.id), check=check, trusts=True)


def made(**more):
    site = Site(lambda context: Mean(), num_rounds=2, min_available_clients=2)
    site.order = replace(site.order, **{"log_key": KEY, "initial": [np.zeros(1, np.float32)], **more})
    return site


def test_a_word_that_comes_after_the_end_is_signed():
    def observe(event):
        if event["kind"] == "ended":
            site.conduct._note("node 7 does not take part: it came too late")

    site = made(observers=[observe])

    async def story():
        for name in "12":
            site.node(name)
        await site.until(lambda: site.running.done())

    site.play(story)
    status, found = verdict(site)
    assert (status, found.problem) == ("finished", None)
    assert [event["kind"] for event in site.store.log(site.conduct.run)][-3:] == ["tree_head", "warning", "tree_head"]


@pytest.mark.parametrize("words", [0, 1])
def test_a_run_that_was_stopped_before_it_began_says_so_and_is_not_whole_without(words):
    site = made(initial=None)

    async def story():
        for _ in range(words):
            site.conduct._note("node 7 does not take part: it has no data")
        await site.until(lambda: len(site.store.log(site.conduct.run)) >= words)

    site.play(story)
    status, found = verdict(site)
    assert (status, found.problem) == ("interrupted", None)
    assert (found.tree_heads, found.covered) == (1, words + 1)
    [info] = site.store.runs()
    log, check = site.store.log(info.id), link.signatures(key=KEY.public)
    assert [event["kind"] for event in log] == [*["warning"] * words, "ended", "tree_head"]
    problem = looked(info, log[:words], check=check, trusts=True).problem
    assert ("has no events" if words == 0 else "its log does not say so") in problem
