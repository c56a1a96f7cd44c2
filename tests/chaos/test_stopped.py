"""A run that is stopped goes on as if nothing had been, also where its clients remember something."""

import asyncio

import pytest
from tests.chaos.test_chaos import HEADS, NAMES, SCAFFOLD, everybody
from tests.chaos.world import World

import umbel as fl
from umbel.stores import MemoryStore


class Stopped(World):
    """A world whose operator stops the run after a while and resumes it at once."""

    def __init__(self, *args, after_s):
        super().__init__(*args)
        self.after_s, self.led = after_s, []

    async def _server(self):
        self.led.append(await self._serve())
        self.led.append(await self._serve())
        return self.led[-1]

    def begins(self, conduct):
        if not self.led:
            asyncio.get_running_loop().call_later(self.after_s, conduct.leader.stop, "stopped")


@pytest.mark.parametrize("seed", range(8))
def test_a_stopped_run_with_states_at_its_nodes_goes_on_to_the_same_bits(seed):
    simulated = fl.simulate(HEADS.client, 4, strategy=SCAFFOLD, config=everybody(), engine="serial", progress=False)
    order = {"strategy": SCAFFOLD, "config": everybody()}
    world = Stopped(seed, HEADS.client, NAMES, order, MemoryStore(), after_s=1.0 + 0.5 * seed)
    history = world.play()
    assert history.parameters == simulated.parameters
    assert [(record.participants, record.failures) for record in history.rounds] == [(4, ())] * 4
    assert [one.ended for one in world.led] == ["interrupted", "finished"]
