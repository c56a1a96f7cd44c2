"""A report as one page of HTML that needs nothing else: no network, no scripts, pictures inside."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from html import escape
from itertools import groupby
from typing import Any

from umbel.runtimes.privacy_report.report import Report
from umbel.runtimes.privacy_report.row import TITLES, Row

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222 }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em }
table { border-collapse: collapse; width: 100% } td { border-top: 1px solid #ddd; padding: .5em; vertical-align: top }
.verdict { white-space: nowrap; font-weight: 600 } .passed { color: #15803d } .weak { color: #a16207 }
.failed, .not-shown { color: #b91c1c } .skipped { color: #666 } .small { color: #555; font-size: .9em }
figure { display: inline-block; margin: .5em 1em .5em 0 } figcaption { font-size: .85em; color: #555 }
img { image-rendering: pixelated } svg text { font-size: 11px; fill: #444 } code { overflow-wrap: anywhere }
"""


def page(report: Report, signed: Mapping[str, Any]) -> str:
    """The page of a report.

    Args:
        signed: its data, whose signature is named at the end.
    """
    about = report.about
    title = f"Privacy of {about['app']}" + (f", run {about['run']}" if about["run"] else "")
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(about["at_s"]))
    levels = "".join(_level(level, list(rows)) for level, rows in groupby(report.rows, key=lambda row: row.level))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>\n<h1>{escape(title)}</h1>\n"
        f"<p>{escape(summary(report))}</p>\n"
        '<p class="small">Each attack stands beside a control: the same attack where it has to work. One whose control '
        "did not work shows nothing, and is marked so. Attacks that found nothing do not show that none would.</p>\n"
        f"{levels}"
        f'<p class="small">{when}, umbel {escape(str(about["version"]))}, app digest <code>{about["digest"]}</code>. '
        f"{_signature(signed)}</p>\n</body></html>\n"
    )


def summary(report: Report) -> str:
    """The report in a sentence."""
    counts = {verdict: sum(row.verdict == verdict for row in report.rows) for verdict in ("passed", "weak", "skipped")}
    if not report.problems:
        weak = f", {counts['weak']} of them weakly" if counts["weak"] else ""
        skipped = f"; {counts['skipped']} were not looked at" if counts["skipped"] else ""
        return f"{counts['passed'] + counts['weak']} things hold{weak}{skipped}."
    failed = [row.name for row in report.problems if row.verdict == "failed"]
    unshown = [row.name for row in report.problems if row.verdict != "failed"]
    parts = [f"{len(failed)} fail: {', '.join(failed)}"] if failed else []
    parts += [f"{len(unshown)} could not be shown: {', '.join(unshown)}"] if unshown else []
    return "Of {} things looked at {}.".format(len(report.rows), "; ".join(parts))


def _level(level: str, rows: list[Row]) -> str:
    title = next(text for name, text in TITLES.items() if name == level)
    return f"<h2>{level}: {escape(title)}</h2>\n<table>{''.join(map(_row, rows))}</table>\n"


def _row(row: Row) -> str:
    parts = "".join(_parts(row))
    kind = row.verdict.replace(" ", "-")
    return f'<tr><td class="verdict {kind}">{row.verdict}</td><td><b>{escape(row.name)}</b></td><td>{parts}</td></tr>\n'


def _parts(row: Row) -> Iterator[str]:
    yield escape(row.text)
    if row.control is not None:
        works = "worked" if row.control.works else "did not work"
        yield f'<div class="small">Control, which {works}: {escape(row.control.text)}</div>'
    if row.mend:
        yield f'<div class="small">→ {escape(row.mend)}</div>'
    if row.pictures:
        figures = (f"<figure>{one.html}<figcaption>{escape(one.title)}</figcaption></figure>" for one in row.pictures)
        yield f"<div>{''.join(figures)}</div>"


def _signature(signed: Mapping[str, Any]) -> str:
    if "signature" not in signed:
        return "Its data are not signed: no key signs logs here."
    return f"Its data are in privacy.json, signed by the key <code>{escape(str(signed['key']))}</code>."
