"""`check_strategy`: the laws that every strategy keeps."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from umbel.arrays import Arrays
from umbel.clients import as_client
from umbel.coordinators import ServerConfig
from umbel.message import Ask, ClientState, Context, validate
from umbel.reducers import Reduction
from umbel.runtimes import checkpoint
from umbel.runtimes.memory import read_memory, write_memory
from umbel.runtimes.simulate import simulate
from umbel.strategy import State, Strategy
from umbel.testing.expect import expect, same_bits
from umbel.testing.toys import Quadratics, WithHead

ROUNDS = 3


def check_strategy(strategy: Strategy) -> None:
    """Run the laws on toy problems.

    The strategy is a frozen value; its methods are pure; its update fits its schema; its state and its clients' states
    survive being written and read; order, engines and resuming make no difference; a part of the model can stay home.

    Raises:
        AssertionError: names the law that is broken.
    """
    expect(dataclasses.is_dataclass(strategy), f"{strategy!r} is not a dataclass; strategies are frozen dataclasses")
    frozen: Any = getattr(type(strategy), "__dataclass_params__")  # noqa: B009 - the name is not in any stub
    expect(frozen.frozen, f"{type(strategy).__name__} is not frozen; write @dataclass(frozen=True)")
    _is_pure(strategy)
    _survives_writing(strategy)
    _order_and_engines_do_not_matter(strategy)
    if hasattr(strategy, "shared"):
        _keeps_private_arrays_home(strategy)


def _turn(
    strategy: Strategy, state: State, index: int, toy: Quadratics, memory: ClientState
) -> tuple[Any, ClientState]:
    task = strategy.task(state, 1)
    ctx = Context(str(index), index, toy.clients, round=1, memory=memory, key=index)
    client = as_client(toy.client(ctx))
    update, after = strategy.local(Ask(str(index), "fit", task), client, ctx)
    validate(str(index), update.groups, strategy.schema(task, {}))
    return update, after


def _one_round(strategy: Strategy, state: State, toy: Quadratics, order: list[int]) -> State:
    task = strategy.task(state, 1)
    total = strategy.reducer.start(strategy.schema(task, {}))
    for index in order:
        update, _ = _turn(strategy, state, index, toy, ClientState())
        total.fold(strategy.open(update, task, {}))
    return strategy.step(state, Reduction(total.result(), toy.clients))


def _is_pure(strategy: Strategy) -> None:
    toy = Quadratics()
    params = Arrays.of({"w": np.zeros(toy.dim)})
    before = params.digest
    state = strategy.init(params)
    first, second = (_one_round(strategy, state, toy, [0, 1, 2, 3]) for _ in range(2))
    same_bits(first.params, second.params, "step is not pure: the same round twice")
    expect(params.digest == before and state.params.digest == before, "init or step changed its argument in place")
    backwards = _one_round(strategy, state, toy, [3, 1, 0, 2])
    same_bits(first.params, backwards.params, "the order in which updates arrive makes a difference")


def _survives_writing(strategy: Strategy) -> None:
    toy = Quadratics()
    state = strategy.init(Arrays.of({"w": np.zeros(toy.dim)}))
    state = _one_round(strategy, state, toy, [0, 1, 2, 3])
    again, _ = checkpoint.read(b"".join(checkpoint.write(state, {})))
    same_bits(state.params, again.params, "a state that was written and read")
    expect(state.slots.keys() == again.slots.keys(), "a state lost slots when it was written and read")
    for name, slot in state.slots.items():
        same_bits(slot, again.slots[name], f"slot {name!r} after being written and read")
    expect(dict(state.scalars) == dict(again.scalars), "a state's scalars changed when they were written and read")
    _, memory = _turn(strategy, state, 0, toy, ClientState())
    data = write_memory("0", memory)
    expect(data is None or write_memory("0", read_memory(data)) == data, "a client's state changed in being kept")


def _run(strategy: Strategy, client_fn: Any, clients: int, **arguments: Any) -> Any:
    config = ServerConfig(num_rounds=ROUNDS, fraction_fit=0.75, seed=5)
    return simulate(client_fn, clients, strategy=strategy, config=config, progress=False, **arguments)


def _order_and_engines_do_not_matter(strategy: Strategy) -> None:
    toy = Quadratics(dtype="float32")
    serial = _run(strategy, toy.client, toy.clients, engine="serial")
    pooled = _run(strategy, toy.client, toy.clients, engine="pool", workers=2)
    same_bits(serial.parameters, pooled.parameters, "one process and two workers")
    expect(bool(np.isfinite(serial.parameters["w"]).all()), "three rounds on quadratics gave NaN or infinite values")
    expect(bool(np.any(serial.parameters["w"] != 0)), "three rounds on quadratics changed nothing")


def _keeps_private_arrays_home(strategy: Any) -> None:
    toy = WithHead()
    personal = dataclasses.replace(strategy, shared="backbone.*")
    serial = _run(personal, toy.client, toy.clients, engine="serial")
    expect(list(serial.parameters) == ["backbone.w"], f"private arrays travelled: {list(serial.parameters)}")
    pooled = _run(personal, toy.client, toy.clients, engine="pool", workers=2)
    same_bits(serial.parameters, pooled.parameters, "with a private head: one process and two workers")
    expect(serial.loss == pooled.loss, "with a private head, evaluation depends on the engine")
