"""Everything a reader sees is true: code runs and prints what stands beneath it, every public name is told, links lead.

In a page, a block of `text` right after a block of `python` is what that block prints; "…" in it stands for anything.
"""

import dataclasses
import doctest
import importlib
import inspect
import os
import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import umbel
import umbel.data
import umbel.errors
import umbel.testing
from umbel.message import Context
from umbel.runtimes.history import Failure, History, RoundRecord

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
REFERENCE = sorted((DOCS / "reference").glob("*.md"))
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "examples").rglob("*.md"), *ROOT.glob("*/README.md")])
OPTIONAL = {
    "torch",
    "ray",
    "sklearn",
    "pandas",
    "pyarrow",
    "matplotlib",
    "optuna",
    "click",
    "rich",
    "cloudpickle",
    "cryptography",
}
END_OF_BLOCK = "== end of block =="
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def text_of(page: Path) -> str:
    return page.read_text("utf-8")


# Code blocks


def blocks(page: Path) -> list[tuple[str, str | None]]:
    """(code, what it prints or None) of each python block."""
    found: list[tuple[str, str | None]] = []
    end = -1
    text = text_of(page)
    for match in FENCE.finditer(text):
        language, body = match.groups()
        if language == "python":
            found.append((body, None))
            end = match.end()
        elif language == "text" and found and not text[end : match.start()].strip():
            found[-1] = (found[-1][0], body)
    return found


def printed(page: Path, folder: Path) -> list[str]:
    """What each python block of a page prints, run top to bottom as one script."""
    script = folder / "page.py"
    script.write_text("".join(f"{code}\nprint({END_OF_BLOCK!r}, flush=True)\n" for code, _ in blocks(page)), "utf-8")
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert ran.returncode == 0, ran.stderr
    return [part.strip("\n") for part in ran.stdout.split(END_OF_BLOCK + "\n")[:-1]]


FRACTION = re.compile(r"(?<![\w.])-?\d+\.\d+(?![\w.])")


def is_printed(expected: str, actual: str) -> bool:
    """Equal but for "…", blanks at ends of lines, and the last digits of fractions, which may hang on the processor."""
    tidy = ["\n".join(line.rstrip() for line in text.strip("\n").splitlines()) for text in (expected, actual)]
    pattern = "(-?\\d+\\.\\d+)".join(re.escape(part).replace("…", ".*") for part in FRACTION.split(tidy[0]))
    found = re.fullmatch(pattern, tidy[1], re.S)
    if found is None:
        return False
    pairs = zip(map(float, FRACTION.findall(tidy[0])), map(float, found.groups()), strict=True)
    return all(abs(told - seen) <= 0.02 + 0.02 * abs(told) for told, seen in pairs)


def test_quotations_are_compared_as_they_should():
    assert is_printed("loss 0.51, … clients", "loss 0.52, 7 clients  \n")
    assert not is_printed("loss 0.51", "loss 0.59")
    assert not is_printed("7 clients", "8 clients")
    assert not is_printed("loss 0.51", "lost 0.51")


WITH_CODE = [page for page in PAGES if blocks(page)]


def test_the_pages_with_code_are_found():
    assert {"README.md", "docs/tutorials/1-simulate.md"} <= {name_of(page) for page in WITH_CODE}


@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_code_runs_and_prints_what_stands_beneath_it(page, tmp_path):
    for library in OPTIONAL:
        if re.search(rf"^(import|from) {library}\b", "\n".join(code for code, _ in blocks(page)), re.M):
            pytest.importorskip(library)
    outputs = printed(page, tmp_path)
    for (code, expected), actual in zip(blocks(page), outputs, strict=True):
        if expected is not None:
            assert is_printed(expected, actual), f"{code}\nprints\n{actual}\nand not\n{expected}"


def modules() -> Iterator[str]:
    yield "umbel"
    for found in pkgutil.walk_packages(umbel.__path__, "umbel.", onerror=lambda name: None):
        if not found.name.endswith("__main__"):
            yield found.name


@pytest.mark.parametrize("name", list(modules()))
def test_examples_in_docstrings_print_what_they_say(name):
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in OPTIONAL:
            raise
        pytest.skip(f"{error.name} is not installed")
    # `testmod` looks into classes and functions of this very module only.
    found = doctest.testmod(module)
    assert found.failed == 0


def test_there_are_examples_in_docstrings():
    finder = doctest.DocTestFinder()
    assert sum(len(test.examples) for test in finder.find(importlib.import_module("umbel.arrays"))) >= 3


# Names


def documented(name: str, pages: list[Path] | None = None) -> bool:
    """Whether a reference page has the name as code: `name`, `fl.name`, or `name(…)`."""
    pattern = re.compile(rf"`(?:fl\.|umbel\.\w+\.)?{re.escape(name)}[`(\[]")
    return any(pattern.search(text_of(page)) for page in (REFERENCE if pages is None else pages))


@pytest.mark.parametrize("package", [umbel, umbel.data, umbel.testing], ids=lambda package: package.__name__)
def test_every_public_name_is_in_the_reference(package):
    missing = [name for name in package.__all__ if not documented(name)]
    assert not missing, f"not in docs/reference: {missing}"


def test_every_strategy_of_the_known_spellings_is_in_the_reference():
    functions = inspect.getmembers(importlib.import_module("umbel.server.strategy"), inspect.isfunction)
    names = [name for name, function in functions if function.__module__ == "umbel.server.strategy" and name[0] != "_"]
    assert "FedMedian" in names
    assert not [name for name in names if not documented(f"fl.server.strategy.{name}") and not documented(name)]


def public(owner: type) -> list[str]:
    """Fields, properties and methods that a user may touch."""
    fields = [field.name for field in dataclasses.fields(owner)]
    own = [name for name, value in vars(owner).items() if callable(value) or not isinstance(value, (str, type(None)))]
    return [name for name in dict.fromkeys([*fields, *own]) if not name.startswith("_")]


@pytest.mark.parametrize(
    ("owner", "left_out"),
    [
        (umbel.ServerConfig, {"less_is_better"}),
        (History, {"of"}),
        (RoundRecord, {"of"}),
        (Failure, set()),
        (umbel.Run, set()),
        (umbel.Range, set()),
        (umbel.Sweep, set()),
        (umbel.SweepRun, set()),
        (umbel.PointResult, set()),
        (umbel.Cluster, set()),
        (Context, {"key", "clock", "ends_at_s", "on_report"}),
        (umbel.State, set()),
        (umbel.Correction, set()),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_field_is_in_the_reference(owner, left_out):
    missing = [name for name in public(owner) if name not in left_out and not documented(name)]
    assert not missing, f"{owner.__name__}: not in docs/reference: {missing}"


@pytest.mark.parametrize(
    "name",
    ["simulate", "sweep", "TorchClient", "SklearnClient", "GradientClient", "FedAvg", "FedProx", "FedDyn", "QFedAvg"],
)
def test_every_argument_is_in_the_reference(name):
    try:
        value = getattr(umbel, name)
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed")
    missing = [argument for argument in inspect.signature(value).parameters if not documented(argument)]
    assert not missing, f"{name}: not in docs/reference: {missing}"


def test_every_class_and_function_has_a_docstring():
    for name in umbel.__all__:
        try:
            value = getattr(umbel, name)
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] not in OPTIONAL:
                raise
            continue
        if inspect.isclass(value) or inspect.isfunction(value):
            text = (value.__doc__ or "").strip()
            # A dataclass without one gets its signature as its docstring.
            assert text, f"{name} has no docstring"
            assert not text.startswith(f"{name}("), f"{name} has no docstring"


def test_the_error_tree_is_the_one_in_the_code():
    page = text_of(DOCS / "errors.md")
    tree = inspect.cleandoc(umbel.errors.__doc__ or "").split("\n\n")[1]
    assert "\n".join(line.removeprefix("    ") for line in tree.splitlines()) in page
    for name, _ in inspect.getmembers(umbel.errors, inspect.isclass):
        told = re.search(rf"^### {name}\n\n\*\*Means\*\*: \S.*?\n\n\*\*Mend\*\*: \S", page, re.M | re.S)
        assert told is not None, f"docs/errors.md has no section on {name}"
        assert "###" not in told[0][3:], f"docs/errors.md does not say what to do about {name}"


def test_the_design_shows_the_house_as_it_is():
    house, layers = (body for _, body in FENCE.findall(text_of(DOCS / "design.md")))
    source = ROOT / "src" / "umbel"
    there = {path.name for path in source.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    unseen = [name for name in there if not re.search(rf"\b{re.escape(name)}\b", house)]
    assert not unseen, f"docs/design.md does not show {unseen}"
    told = re.findall(r"^  +(\w+)/ ", house, re.M)
    assert all((source / name).is_dir() for name in told), f"docs/design.md shows what is not there: {told}"
    contract = tomllib.loads(text_of(ROOT / "pyproject.toml"))["tool"]["importlinter"]["contracts"][0]["layers"]
    words = re.sub(r" and | spellings|\(.*?\)", lambda match: " | " if "and" in match[0] else "", layers)
    assert [sorted(line.strip().split(" | ")) for line in words.splitlines()] == [
        sorted(line.split(" | ")) for line in contract
    ]


# The command line


def section(command: str) -> str:
    """The part of the page on the command line that tells of one command."""
    found = re.search(rf"^## `umbel {command}`(.*?)(?=^## |\Z)", text_of(DOCS / "reference" / "cli.md"), re.M | re.S)
    assert found is not None, f"docs/reference/cli.md has no section on umbel {command}"
    return found[1]


def test_every_command_and_option_is_in_the_reference():
    pytest.importorskip("rich")
    click = pytest.importorskip("click")
    from umbel.cli.entry import group

    parts = [(name, part) for name, one in group.commands.items() for part in getattr(one, "commands", {}).values()]
    for name, command in [*group.commands.items(), *parts]:
        text = section(name)
        for parameter in command.params:
            words = parameter.opts if isinstance(parameter, click.Option) else [(parameter.name or "").upper()]
            for word in words:
                assert re.search(rf"`{re.escape(word)}\b", text), f"umbel {name}: {word} is not documented"
    page = text_of(DOCS / "reference" / "cli.md")
    for parameter in group.params:
        assert f"`{parameter.opts[0]}`" in page


def test_every_exit_code_is_in_the_reference():
    pytest.importorskip("rich")
    pytest.importorskip("click")
    from umbel.cli import codes
    from umbel.cli.entry import EXIT_CODES

    told = dict(re.findall(r"^  (\d+) +(.+)$", EXIT_CODES, re.M))
    assert {value for name, value in vars(codes).items() if name.isupper()} <= set(map(int, told))
    page = text_of(DOCS / "reference" / "cli.md")
    for code, meaning in told.items():
        assert f"| {code} | {meaning} |" in page
        assert f"\n### Exit code {code}\n\n" in text_of(DOCS / "errors.md")


def test_commands_in_the_pages_exist():
    pytest.importorskip("rich")
    pytest.importorskip("click")
    from umbel.cli.entry import group

    for page in PAGES:
        for language, body in FENCE.findall(text_of(page)):
            for line in body.replace("\\\n", " ").splitlines() if language == "sh" else ():
                words = shlex.split(line, comments=True)
                if words[:1] != ["umbel"]:
                    continue
                command = group.commands[words[1]]
                command = getattr(command, "commands", {}).get(words[2] if words[2:] else "", command)
                known = {option for parameter in command.params for option in parameter.opts}
                unknown = {word for word in words[2:] if word.startswith("-")} - known
                assert not unknown, f"{name_of(page)}: umbel {words[1]} has no {unknown}"


def test_make_targets_in_the_pages_exist():
    targets = set(re.findall(r"^([\w-]+):", text_of(ROOT / "Makefile"), re.M))
    for page in PAGES:
        named = set(re.findall(r"`make ([\w-]+)", text_of(page)))
        assert named <= targets, f"{name_of(page)}: there is no make {named - targets}"


# Links and quotations


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ +(.+)$", FENCE.sub("", text_of(page)), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text_of(page))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name_of(page)} links to {target}, which is not there"
        assert file.is_relative_to(ROOT), f"{name_of(page)} links to {target}, outside of the project"
        if anchor:
            assert anchor in anchors(file), f"{name_of(page)} links to {target}; there is no such heading"


def test_every_extra_is_in_the_readme():
    extras = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]["optional-dependencies"]
    _, told = text_of(ROOT / "README.md").split("The extras: ")
    missing = [name for name in extras if f"`{name}`" not in told.split("\n\n")[0]]
    assert not missing


def test_every_page_can_be_reached_from_the_readme():
    seen: set[Path] = set()
    new = {ROOT / "README.md"}
    while new:
        seen |= new
        links = {(page.parent / link.split("#")[0]).resolve() for page in new for link in _links(page)}
        new = {link for link in links if link.suffix == ".md" and link.exists()} - seen
    lost = [name_of(page) for page in DOCS.rglob("*.md") if page not in seen]
    assert not lost, f"no link leads to {lost}"


def _links(page: Path) -> list[str]:
    return re.findall(r"\]\(((?![a-z]+:)[^)\s#]+)", FENCE.sub("", text_of(page)))


def shape(line: str) -> str:
    """A line without its numbers and without its verdicts, which depend on them."""
    line = re.sub(r"better|worse|no difference shown", "VERDICT", line)
    return re.sub(r"\s+", " ", re.sub(r"[+-]?\d+(\.\d+)?", "N", line)).strip()


def test_the_readme_quotes_the_demo_as_it_is():
    quoted = next(body for _, body in FENCE.findall(text_of(ROOT / "README.md")) if "What federation bought" in body)
    ran = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "hospitals" / "main.py"), "--repeats", "1"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert ran.returncode == 0, ran.stderr
    fresh = [shape(line) for line in ran.stdout.splitlines()]
    # The closing paragraph is broken into lines by its numbers: its beginning is enough.
    table, closing = quoted.split("What federation bought")
    for line in table.splitlines():
        assert line == "[…]" or shape(line) in fresh, f"the demo does not print: {line}"
    assert closing.splitlines()[-1] == "" or shape(closing.splitlines()[-1]) in fresh
    assert any(line.startswith("What federation bought, averaged over the N hospitals:") for line in fresh)
    for name in umbel.data.heart_disease():
        assert re.search(rf"^{name}: \d+, \d+% ill", quoted, re.M), f"the README leaves out {name}"


PRINTED = re.compile(r"^\| `(\w+)\(([^`]*)\)` \|", re.MULTILINE)


@pytest.mark.parametrize("page", REFERENCE, ids=lambda page: page.stem)
def test_signatures_in_tables_are_printed_as_they_are(page):
    """What is printed without a name is given without one: keyword-only arguments stand after a star."""
    for name, arguments in PRINTED.findall(page.read_text("utf-8")):
        known = getattr(umbel, name, None) or getattr(umbel.data, name, None)
        if not callable(known) or "…" in arguments:
            continue
        parameters = inspect.signature(known).parameters
        positional = arguments.partition("*, ")[0] if "*, " in arguments else arguments
        for argument in filter(None, (part.strip() for part in re.split(r",(?![^(]*\))", positional))):
            if "=" not in argument:
                assert parameters[argument].kind is not inspect.Parameter.KEYWORD_ONLY, (
                    f"{page.name}: {name}({argument}"
                )
