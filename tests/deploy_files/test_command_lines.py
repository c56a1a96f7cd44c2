"""Every `umbel …` in deploy/ and in the pages is a command line that the real parser takes."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("rich")
click = pytest.importorskip("click")
yaml = pytest.importorskip("yaml")

from umbel.cli.entry import group  # noqa: E402

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md"), *DEPLOY.rglob("*.md")]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
# A command begins a line, or comes after what runs it; `umbel-server` and /opt/umbel/ are none.
COMMAND = re.compile(r"(?<![\w./-])(?:/opt/umbel/bin/)?umbel +([a-z]+)\b")


def in_text(text: str) -> Iterator[list[str]]:
    """The command lines in shell, units and comments: from `umbel` to where the shell would end them."""
    for line in text.replace("\\\n", " ").splitlines():
        for found in COMMAND.finditer(line):
            if found[1] not in group.commands:
                continue
            rest = line[found.start(1) :]
            rest = re.split(r"\s(?:#|&&|\|\||[|>;&]|2>)|[)`;…]|$", rest, maxsplit=1)[0]
            yield shlex.split(rest)


def in_yaml(value: object) -> Iterator[list[str]]:
    """The lists `[umbel, …]`, with `args` after `command` as Kubernetes puts them together."""
    if isinstance(value, dict):
        command = value.get("command")
        if isinstance(command, list) and command[0] == "umbel":
            yield [str(word) for word in [*command[1:], *value.get("args", [])]]
        for name, part in value.items():
            if name != "command" or (isinstance(part, list) and part[0] != "umbel"):
                yield from in_yaml(part)
    elif isinstance(value, list):
        for part in value:
            yield from in_yaml(part)
    elif isinstance(value, str):
        yield from in_text(value)


def in_container_file(text: str) -> Iterator[list[str]]:
    for words in re.findall(r"^(?:CMD|ENTRYPOINT) (\[.*\])$", text, re.M):
        if json.loads(words)[0] == "umbel":
            yield json.loads(words)[1:]


def lines() -> Iterator[tuple[str, list[str]]]:
    for file in sorted(DEPLOY.rglob("*")):
        if file.is_dir() or file.suffix in (".md", ".py"):
            continue
        text, name = file.read_text("utf-8"), file.relative_to(ROOT).as_posix()
        if file.suffix == ".yaml":
            for document in yaml.safe_load_all(text):
                yield from ((name, words) for words in in_yaml(document))
        elif file.suffix == ".Dockerfile":
            yield from ((name, words) for words in in_container_file(text))
        elif file.suffix in (".service", ".sh"):
            yield from ((name, words) for words in in_text(re.sub(r"^#.*$", "", text, flags=re.M)))
    for page in sorted(PAGES):
        for language, body in FENCE.findall(page.read_text("utf-8")):
            if language in ("sh", "bash", "ini", "yaml"):
                yield from ((page.relative_to(ROOT).as_posix(), words) for words in in_text(body))


LINES = list(lines())


def filled_in(words: list[str]) -> list[str]:
    """With a number for each variable, which fits wherever text fits."""
    return [re.sub(r"\$\$?\{?\w+\}?|%d", "7", word) for word in words]


@pytest.mark.parametrize(
    ("where", "words"), LINES, ids=[f"{where}-{words[0]}-{n}" for n, (where, words) in enumerate(LINES)]
)
def test_the_parser_takes_it(where, words):
    name, *arguments = filled_in(words)
    command = group.commands.get(name)
    assert command is not None, f"{where}: there is no umbel {name}"
    try:
        command.make_context(f"umbel {name}", arguments).close()
    except click.ClickException as error:
        pytest.fail(f"{where}: umbel {shlex.join(words)}: {error.format_message()}")
    except click.exceptions.Exit:
        pass  # --help


def test_all_kinds_of_places_are_looked_at():
    places = {where for where, _ in LINES}
    assert {
        "deploy/compose/compose.yaml",
        "deploy/container/node.Dockerfile",
        "deploy/container/server.Dockerfile",
        "deploy/kubernetes/node.yaml",
        "deploy/kubernetes/server.yaml",
        "deploy/systemd/umbel-node.service",
        "deploy/systemd/umbel-server.service",
        "docs/deploy.md",
        "docs/reference/cli.md",
    } <= places
    said = [" ".join(words) for where, words in LINES if where.startswith("deploy/compose")]
    assert sum(line.startswith("invite ") for line in said) == 1
    assert sum(line.startswith("node ") for line in said) == 4


def test_a_wrong_option_is_seen():
    found = next(in_text("docker compose exec server umbel invite --nmae x > file"))
    assert found == ["invite", "--nmae", "x"]
    with pytest.raises(click.ClickException, match="nmae"):
        group.commands["invite"].make_context("umbel invite", found[1:])
