"""The contestants that train a task, by the name that the table shows."""

from umbelbench.contest import Contestant
from umbelbench.options import Options

ONE_BY_ONE = ("--form", "built", "--engine", "pool")
_UMBEL, _FLOOR = "umbelbench.contestants.umbel_task", "umbelbench.contestants.floor"
_FLWR, _PFL = "umbelbench.contestants.flwr_sim", "umbelbench.contestants.pfl_sim"


def umbel(name: str, options: Options, task: str, *more: str) -> Contestant:
    return Contestant(name, options.python, _UMBEL, ("--task", task, *more))


def loop(name: str, options: Options, task: str) -> Contestant:
    """The best loop written by hand that trains one client after the other."""
    return Contestant(name, options.python, _FLOOR, ("--task", task))


def pfl(options: Options, task: str, *more: str) -> list[Contestant]:
    """pfl, or nobody where it is not installed."""
    if options.pfl_python is None or options.quick:
        return []
    return [Contestant("pfl", options.pfl_python, _PFL, ("--task", task, *more))]


def flwr(options: Options, task: str, *more: str) -> list[Contestant]:
    """Flower, or nobody where it is not installed."""
    if options.flwr_python is None or options.quick:
        return []
    return [Contestant("flwr", options.flwr_python, _FLWR, ("--work", task, *more))]
