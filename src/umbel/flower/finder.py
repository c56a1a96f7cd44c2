"""Makes `import flwr` mean this package, in this process only; what is not here is an error that names a way."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, final

PACKAGE = "flwr"
HOMES = {
    "flwr": "umbel.flower",
    "flwr.client": "umbel.flower.client",
    "flwr.common": "umbel.flower.common",
    "flwr.common.typing": "umbel.flower.common",
    "flwr.server": "umbel.flower.server",
    "flwr.server.strategy": "umbel.flower.strategy",
    "flwr.simulation": "umbel.flower.simulation",
}
_APP = (
    "make the folder an Umbel app (umbel new NAME): its client_fn stays as it is, its run() says what the server does"
)
_WHO = "say who is asked in the ServerConfig: fraction_fit, min_fit_clients, min_available_clients"
_SUM = "use umbel.FedAvg(reducer=...) with umbel.Krum, umbel.Bulyan or umbel.TrimmedMean, or umbel.Median()"
HINTS = {
    "ClientApp": _APP,
    "ServerApp": _APP,
    "ServerAppComponents": _APP,
    "clientapp": _APP,
    "serverapp": _APP,
    "app": _APP,
    "run_simulation": "use flwr.simulation.start_simulation, or umbel.simulate",
    "Strategy": "write an umbel.Strategy, which is both halves of a method in one class",
    "ClientManager": _WHO,
    "SimpleClientManager": _WHO,
    "client_manager": _WHO,
    "client_proxy": _WHO,
    "Server": "start_server(config=..., strategy=...) leads the run",
    "Krum": _SUM,
    "Bulyan": _SUM,
    "FedTrimmedAvg": _SUM,
    "log": "use logging.getLogger(__name__).info",
    "logger": "use logging.getLogger(__name__).info",
}


def install() -> None:
    """From now on `import flwr` in this process finds the modules of this package, whether flwr is installed or not."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _missing(module: str, name: str) -> str:
    there = ", ".join(sorted({*_names(module), *_children(module)}))
    return f"{module} has no {name!r} under python -m umbel.flower; {HINTS.get(name, f'there are {there}')}"


def _names(module: str) -> Sequence[str]:
    return getattr(importlib.import_module(HOMES[module]), "__all__", ())


def _children(module: str) -> list[str]:
    return [name.removeprefix(f"{module}.") for name in HOMES if name.rpartition(".")[0] == module]


@final
class _Finder(MetaPathFinder, Loader):
    """Finds and makes the modules named in `HOMES`."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname.partition(".")[0] != PACKAGE:
            return None
        if fullname not in HOMES:
            module, _, name = fullname.rpartition(".")
            # No ModuleNotFoundError: `from flwr.x import y` would put its own, shorter sentence in the place of this.
            raise ImportError(_missing(module, name), name=fullname)
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        home, name = importlib.import_module(HOMES[module.__name__]), module.__name__
        children = _children(name)
        module.__doc__ = home.__doc__
        for known in _names(name):
            setattr(module, known, getattr(home, known))

        def absent(asked: str) -> Any:
            if asked in children:
                return importlib.import_module(f"{name}.{asked}")
            raise AttributeError(_missing(name, asked))

        vars(module)["__getattr__"] = absent
