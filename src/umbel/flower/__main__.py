"""`python -m umbel.flower script.py [arguments]`."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from umbel.errors import UmbelError
from umbel.flower.finder import install

USAGE = "usage: python -m umbel.flower script.py [arguments]; runs the script with `import flwr` resolved to Umbel"


def main(arguments: list[str]) -> None:
    if not arguments or arguments[0].startswith("-") or not Path(arguments[0]).is_file():
        sys.exit(USAGE if not arguments else f"there is no script {arguments[0]!r}; {USAGE}")
    install()
    script = arguments[0]
    sys.argv = arguments
    sys.path[0] = str(Path(script).resolve().parent)
    try:
        runpy.run_path(script, run_name="__main__")
    except UmbelError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
