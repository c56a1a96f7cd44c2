"""`umbel contributions`: what each client of a run was worth to its model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from umbel.cli.again import app_for, arguments
from umbel.cli.codes import FAILED, FINE
from umbel.cli.drive import json_out
from umbel.cli.options import find_run, opened, with_json
from umbel.cli.place import Place, with_place
from umbel.errors import NotSupported
from umbel.runtimes.annex import added
from umbel.runtimes.family import family
from umbel.runtimes.forgetting.gone import in_order, left_out
from umbel.runtimes.replay import rounds_in
from umbel.runtimes.worth.contributions import METHODS, OF, PERMUTATIONS, contributions
from umbel.runtimes.worth.participation import participation
from umbel.runtimes.worth.result import Contributions
from umbel.stores import RunInfo, RunReader

PARTICIPATION = "participation"
INSTEAD = f"simulate the app, or see who took part with --method {PARTICIPATION}"


@click.command("contributions")
@click.argument("run", default="last")
@click.option(
    "--method",
    type=click.Choice([*METHODS, PARTICIPATION]),
    default="auto",
    show_default=True,
    help="How worth is divided; auto is exact Shapley values up to 12 clients, else monte-carlo.",
)
@click.option(
    "--of",
    type=click.Choice(OF),
    default="retrained",
    show_default=True,
    help="What a coalition comes to: the run again with it alone, or each round's step with its updates alone.",
)
@click.option("--metric", help="What is measured; default the run's monitor, which is loss.")
@click.option("--mode", default="auto", show_default=True, help="min or max: which of the metric is better.")
@click.option(
    "--permutations", type=int, default=PERMUTATIONS, show_default=True, help="How many, for monte-carlo; at least 2."
)
@click.option("--starts", type=int, help="From how many places each permutation is walked, for monte-carlo.")
@click.option(
    "--tolerance", type=float, default=0.0, help="For monte-carlo: add nobody more where the metric is so near the end."
)
@click.option("--workers", type=int, default=1, show_default=True, help="Processes that train coalitions.")
@click.option("--record", is_flag=True, help="Write the values into the run's log, too.")
@click.option("--app", "folder", type=Path, help="Where the app is now, if it is not where it was.")
@click.option("--force", is_flag=True, help="Go on although the app's files have changed.")
@with_json
@with_place
def contributions_command(
    run: str,
    method: str,
    of: str,
    metric: str | None,
    mode: str,
    permutations: int,
    starts: int | None,
    tolerance: float,
    workers: int,
    record: bool,
    folder: Path | None,
    force: bool,
    as_json: bool,
    place: Place,
) -> int:
    """Say what each client of RUN was worth: by how much the metric is better for it.

    Coalitions of clients train again, each from the run's first model; what they came to is kept beside the store, so
    that the same command goes on where it broke off. Ends with 1 if all clients together do not come to the run's
    model.
    """
    with json_out(as_json) as out:
        with place.opened() as store:
            info = find_run(store, run)
            log = store.log(info.id)
            if method != PARTICIPATION and place.server is None:
                _check_nobody_forgotten(store, info)
        memory: Path | None = None
        if method == PARTICIPATION:
            found = participation(log)
        else:
            _check_from_the_first(info)
            app = app_for(info, folder, place, force=force, instead=INSTEAD)
            memory = None if force else place.path.with_name(f"coalitions-{info.id}.jsonl")
            given: dict[str, Any] = {"permutations": permutations, "starts": starts, "tolerance": tolerance}
            given |= {"workers": workers, "memory": memory, "metric": metric, "mode": mode}
            given |= {"without": info.plan.get("without", ())}
            found = contributions(app.client_fn, **arguments(app, info), method=method, of=of, **given)
        if record:
            _record(place, info.id, found)
        if out is not None:
            out.write(json.dumps({"run": info.id, **found.plain()}) + "\n")
        else:
            _tell(info.id, found)
        code = _verdict(info, log, found)
        if code == FAILED and info.status == "finished" and memory is not None:
            # They are of other data than the run's: with the right ones they would be taken for its own.
            memory.unlink(missing_ok=True)
        return code


def _check_nobody_forgotten(store: RunReader, info: RunInfo) -> None:
    """Refuse runs with clients that were forgotten: coalitions would train them again."""
    gone = left_out(store, info)
    there = in_order(gone - {*info.plan.get("without", ())})
    if not there:
        return
    others = [one for one in family(store, info) if gone <= {*one.plan.get("without", ())} and _is_from_the_first(one)]
    new = f"ask for umbel contributions {others[-1].id}, which is without them" if others else INSTEAD
    raise NotSupported(
        f"of the clients of run {info.id}, {', '.join(there)} had to be forgotten and may not be trained again, and "
        f"without them the values would not be of this run; {new}"
    )


def _is_from_the_first(info: RunInfo) -> bool:
    origin: Mapping[str, Any] = info.plan.get("origin") or {}
    return not origin or (origin["round"] <= 0 and origin["as_it_was"])


def _check_from_the_first(info: RunInfo) -> None:
    """Refuse runs that went on from another's checkpoint, from which coalitions would not begin."""
    if not _is_from_the_first(info):
        before = info.plan["origin"]["run"]
        raise NotSupported(
            f"run {info.id} went on from the model of run {before} after a client was forgotten, so it is not of its "
            f"clients alone; {INSTEAD}"
        )


def _record(place: Place, run: str, found: Contributions) -> None:
    if place.server is not None:
        raise NotSupported("--record writes into a log on this machine; leave it out with --server")
    with opened(place.path) as store:
        added(store, run, {"kind": "contributions", **found.plain()})


def _tell(run: str, found: Contributions) -> None:
    if found.method == PARTICIPATION:
        click.echo(f"run {run}: who took part in how many of its {found.whole:.0f} rounds\n")
    else:
        way = "the run again with each" if found.of == "retrained" else "each round's step with each one's updates"
        click.echo(f"run {run}: {found.method} values, {found.coalitions} coalitions, {way}")
        click.echo(f"{found.metric} {found.empty:.4g} before training, {found.whole:.4g} with all clients\n")
    click.echo(str(found))
    if found.stuck:
        click.echo(
            f"\n{found.stuck} coalitions could not close a round, and count with the model that they had by then"
        )


def _verdict(info: RunInfo, log: list[dict[str, Any]], found: Contributions) -> int:
    """Whether the values are those of this very run."""
    rounds = rounds_in(log)
    logged = rounds[max(rounds)].get("model") if rounds else None
    if not found.digest or logged is None or logged == found.digest:
        return FINE
    click.echo(
        f"run {info.id} ended with the model {logged[:16]}…, and all clients together now train {found.digest[:16]}…: "
        "the run broke off, or the data or a library have changed; the values are those of the new model",
        err=True,
    )
    return FAILED
