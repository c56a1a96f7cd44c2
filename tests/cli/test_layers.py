"""click is the command line's alone, rich also the observers'."""

import re
from pathlib import Path

import umbel

SOURCES = Path(umbel.__file__).parent


def importers(library: str) -> set[str]:
    pattern = re.compile(rf"^\s*(import|from) {library}\b", re.MULTILINE)
    found = [path for path in SOURCES.rglob("*.py") if pattern.search(path.read_text("utf-8"))]
    return {path.relative_to(SOURCES).parts[0] for path in found}


def test_only_the_command_line_imports_click():
    assert importers("click") == {"cli"}


def test_only_command_line_and_observers_import_rich():
    assert importers("rich") == {"cli", "observe"}
