"""A look at one client before a run starts: what it can, and what its model looks like."""

from __future__ import annotations

from collections.abc import Sequence

from umbel.arrays import Arrays, ArraysLike, is_numbered
from umbel.dtypes import finite
from umbel.errors import ConfigError, NotSupported, UmbelError
from umbel.local_client import LocalClient, StepClient
from umbel.message import Ask, Context, Task
from umbel.runtimes.program import Program
from umbel.runtimes.turn import sentence
from umbel.schema import Schema
from umbel.strategy import Strategy

PROBES = 3


def probe(program: Program, clients: Sequence[str]) -> tuple[LocalClient, Context]:
    """Build one client, to see what it can and perhaps to ask for its parameters.

    Args:
        clients: the ids of the first that can be asked.

    Raises:
        ConfigError: none of the first clients can be built, or such clients do not suit the strategy.
    """
    problem: Exception | None = None
    # If none can be asked the first round says so; until then the first client stands for all.
    for name in clients or ["0"]:
        ask = Ask(name, "properties", Task(0, Arrays.of({})))
        ctx = program.context(ask, None)
        try:
            client = program.build(ctx)
        except UmbelError:
            raise
        except Exception as error:
            problem = error
            continue
        check_capable(program.strategy, client)
        return client, ctx
    assert problem is not None
    raise ConfigError(f"client_fn cannot build client {[*clients, '0'][0]}: {sentence(problem)}") from problem


def initial(client: LocalClient, ctx: Context, given: ArraysLike | None) -> Arrays:
    """The model to start from: the given arrays, named and with roles as an open client has them, else the client's.

    Raises:
        ConfigError: there are none, or they are not those of the client's model.
    """
    if given is None:
        return not_empty(client.parameters(ctx))
    schema = client.parameters(ctx).schema if isinstance(client, StepClient) else None
    return not_empty(named_like(schema, Arrays.of(given)))


def not_empty(params: Arrays) -> Arrays:
    """`params`.

    Raises:
        ConfigError: there is no array in them, or one holds NaN or an infinite value.
    """
    if not len(params):
        raise ConfigError("the initial parameters are empty; a model has at least one array")
    for spec in params.schema.specs:
        if not finite(params[spec.name], spec.dtype):
            raise ConfigError(
                f"the initial parameters hold NaN or an infinite value in {spec.name!r}; look at where they come from"
            )
    return params


def check_private(strategy: Strategy, client: LocalClient, ctx: Context) -> None:
    """Refuse clients that cannot say how the arrays begin that they are to keep at home.

    Raises:
        NotSupported: says what to give them.
    """
    if not getattr(strategy, "patterns", ()):
        return
    try:
        client.parameters(ctx)
    except ConfigError:
        name = type(getattr(client, "user", client)).__name__
        raise NotSupported(
            f"with shared= each client keeps arrays of its own, and {name} cannot say how they begin; give it a method "
            "get_parameters(self, config) that returns all arrays of its model"
        ) from None


def named_like(own: Schema | None, given: Arrays) -> Arrays:
    """The given parameters with the names and roles that an open client's model has; None leaves them as they are.

    Raises:
        ConfigError: they are not those of the client's model.
    """
    if own is None:
        return given
    if is_numbered(list(given)) and len(given) == len(own):
        given = Arrays.of(dict(zip(own.by_name, given.values(), strict=True)))
    if given.keys() != own.by_name.keys():
        differing = next(iter(given.keys() ^ own.by_name.keys()))
        raise ConfigError(f"initial_parameters and the client's model differ in the array {differing!r}")
    ordered = {spec.name: given[spec.name] for spec in own.specs}
    return Arrays.of(ordered, roles={spec.name: spec.role for spec in own.specs})


def check_capable(strategy: Strategy, client: LocalClient) -> None:
    """Refuse clients that cannot do what the strategy needs.

    Raises:
        NotSupported: says what is missing and what to use instead.
    """
    name = type(getattr(client, "user", client)).__name__
    # What wraps a strategy needs what that needs.
    inner = strategy
    while isinstance(wrapped := getattr(inner, "inner", None), Strategy):
        inner = wrapped
    method = type(inner).__name__
    missing = strategy.needs - client.capabilities
    corrected = strategy.corrects
    if corrected is not None and "inside" not in client.capabilities and corrected not in client.corrections:
        missing = missing | {"inside"}
    if "inside" in missing & (strategy.needs - inner.needs):
        raise NotSupported(
            f'noise="dp-sgd" is in each step of the training loop, which a {name} keeps closed; use TorchClient or '
            "GradientClient"
        )
    if "inside" in missing:
        raise NotSupported(
            f"{method} reaches inside the training loop, which a {name} keeps closed; use TorchClient "
            f"or GradientClient, or FedAvg"
            + (f', or apply the correction yourself and declare corrections = ("{corrected}",)' if corrected else "")
        )
    if missing:
        raise NotSupported(f"{method} needs clients that can {', '.join(sorted(missing))}; {name} cannot")
