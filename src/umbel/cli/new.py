"""`umbel new`: a working app to start from."""

from __future__ import annotations

import importlib.util
import keyword
import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import click

from umbel.errors import AppError


@click.command()
@click.argument("name")
@click.option("--numpy", "kind", flag_value="numpy", default=True, help="A model in NumPy alone (the default).")
@click.option("--torch", "kind", flag_value="torch", help="A PyTorch network in a TorchClient.")
@click.option("--sklearn", "kind", flag_value="sklearn", help="A scikit-learn classifier in an SklearnClient.")
def new(name: str, kind: str) -> None:
    """Write a working app into the new folder NAME.

    It trains on the heart disease patients of four hospitals and runs at once: umbel run NAME.
    """
    folder = Path(name)
    package = folder.name.replace("-", "_").replace(".", "_")
    _check_name(folder, package)
    try:
        _write(files("umbel.cli") / "templates" / kind, folder, {"name": folder.name, "package": package})
    except OSError as error:
        raise AppError(f"{folder} cannot be written: {error.strerror}; choose another folder") from error
    click.echo(f"{folder} is ready: umbel run {folder}")


def _check_name(folder: Path, package: str) -> None:
    if folder.exists():
        raise AppError(f"{folder} is there already; umbel new never overwrites: choose another name or remove it")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", package) or keyword.iskeyword(package):
        raise AppError(
            f"{folder.name!r} cannot be an app's name; allowed are small letters, digits, - and _, first a letter: "
            "try hospital"
        )
    if importlib.util.find_spec(package) is not None:
        raise AppError(f"there is a Python module {package!r} already, which the app would hide; choose another name")


def _write(source: Traversable, target: Path, words: dict[str, str]) -> None:
    target.mkdir(parents=True)
    for entry in source.iterdir():
        if entry.is_dir():
            _write(entry, target / words.get(entry.name, entry.name), words)
        elif entry.name.endswith(".txt"):
            text = entry.read_text("utf-8")
            for word, value in words.items():
                text = text.replace(f"{{{{{word}}}}}", value)
            (target / entry.name.removesuffix(".txt")).write_text(text, "utf-8")
