"""The command line: wiring and exit codes."""

from __future__ import annotations

import sys


def main() -> None:
    """The command `umbel`."""
    try:
        import click
        import rich
    except ImportError:
        sys.stderr.write("the command umbel needs click and rich; install them with: pip install 'umbel[cli]'\n")
        raise SystemExit(3) from None
    del click, rich
    from umbel.cli.entry import enter

    raise SystemExit(enter())
