"""What a node's owner insists on in secure rounds holds, whatever the server's plan has."""

from dataclasses import replace

import numpy as np
import pytest

import umbel as fl
from umbel.runtimes.node.rules import Policy, Privacy

from .site import Site


class Same(fl.NumPyClient):
    def fit(self, parameters, config):
        return parameters, 1, {}


@pytest.mark.parametrize(
    ("most", "ends"), [(8.0, "finished"), (4.0, "weights up to 8 would count, the owner allows 4")]
)
def test_a_round_in_which_others_may_weigh_more_than_an_owner_allows_has_no_sum(most, ends):
    site = Site(lambda context: Same(), num_rounds=1, min_available_clients=3, fraction_evaluate=0.0)
    order = {"coordinator": fl.Secure(clip=8.0, weight_cap=8.0), "initial": [np.zeros(1, np.float32)]}
    site.order = replace(site.order, **order)

    async def story():
        policy = Policy(privacy=Privacy(max_weight_cap=most))
        _nodes = [site.node(name, policy=policy) for name in "123"]
        await site.until(lambda: site.running.done())

    site.play(story)
    assert ends in str(getattr(site.outcome, "ended", site.outcome))
