"""An app: a folder whose `pyproject.toml` says which function builds a client and which describes the run."""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, cast, final

from umbel.clients.initial import call
from umbel.errors import AppError, UmbelError
from umbel.runtimes.run import Run
from umbel.runtimes.settings import why_not_plain
from umbel.runtimes.turn import sentence

FORM = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
EXAMPLE = '[tool.umbel] with client = "pkg.module:client_fn" and run = "pkg.module:run"'


@final
@dataclass(frozen=True)
class App:
    """What `load_app` found.

    Attributes:
        path: the folder, as it was given.
        name: the project's name.
        client_fn: builds a client when it is asked.
        run: `(config) → fl.Run`; it may take no argument.
        config: the default settings, name → plain value.
        flower: whether clients written for Flower may take part in its runs at a server with a door for them.
        digest: SHA-256 over the names and contents of the app's Python files and `pyproject.toml`.
    """

    path: Path
    name: str
    client_fn: Callable[..., Any]
    run: Callable[..., Any]
    digest: str
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    flower: bool = False

    def describe(self, settings: Mapping[str, Any]) -> Run:
        """The run that the app describes for these settings.

        Raises:
            AppError: the function `run` fails, or returns something else than an `fl.Run`.
            ConfigError: a value in it is wrong.
        """
        try:
            described = call(self.run, dict(settings))
        except UmbelError:
            raise
        except Exception as error:
            raise AppError(f"run() of the app {self.name} failed: {_with_key(error)}") from error
        if not isinstance(described, Run):
            raise AppError(f"run() of the app {self.name} returned a {type(described).__name__}; return fl.Run(...)")
        return described

    def entry(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """What a plan keeps of the app, enough to load it again."""
        return {"path": self.path.as_posix(), "name": self.name, "digest": self.digest, "settings": dict(settings)}


@final
@dataclass(frozen=True)
class AppFolder:
    """An app that is not loaded: its folder, name and digest, as in `App`."""

    path: Path
    name: str
    digest: str


def find_app(path: str | Path) -> AppFolder:
    """Read what an app's `pyproject.toml` says, without running any of its code.

    Raises:
        AppError: there is no app, or its file is wrong.
    """
    folder = Path(path)
    project = _project(folder)
    table = _table(project, folder)
    for key in ("client", "run"):
        _target(table, key, folder)
    return AppFolder(folder, _name(project, folder), digest(folder))


def _name(project: Mapping[str, Any], folder: Path) -> str:
    return str(project.get("project", {}).get("name", folder.resolve().name))


def load_app(path: str | Path) -> App:
    """Read an app's `pyproject.toml` and import its two functions. The folder (and `src` in it) goes on `sys.path`.

    Raises:
        AppError: there is no app, or it cannot be imported or understood.
    """
    folder = Path(path)
    project = _project(folder)
    table = _table(project, folder)
    _on_path(folder)
    return App(
        path=folder,
        name=_name(project, folder),
        client_fn=_function(table, "client", folder),
        run=_function(table, "run", folder),
        digest=digest(folder),
        config=_settings(table, folder),
        flower=_flower(table, folder),
    )


def digest(folder: Path) -> str:
    """SHA-256 over names and contents of the app's `*.py` files and `pyproject.toml`, in the order of their names."""
    found = hashlib.sha256()
    for name in sorted(_files(folder)):
        content = (folder / name).read_bytes()
        found.update(f"{len(name.encode())} {len(content)}\n{name}".encode())
        found.update(content)
    return found.hexdigest()


def _files(folder: Path) -> Iterator[str]:
    """The app's own files: no hidden folders, caches or virtual environments."""
    for where, folders, files in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if not name.startswith((".", "__pycache__")) and not Path(where, name, "pyvenv.cfg").exists()
        ]
        for name in files:
            if name.endswith(".py") or (name == "pyproject.toml" and Path(where) == folder):
                yield Path(where, name).relative_to(folder).as_posix()


def _project(folder: Path) -> dict[str, Any]:
    file = folder / "pyproject.toml"
    if not folder.is_dir():
        raise AppError(f"there is no folder {folder}; an app is a folder with a pyproject.toml: try umbel new NAME")
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise AppError(
            f"{folder} has no pyproject.toml, so it is not an app; name an app's folder or make one with umbel new NAME"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise AppError(f"{file} is not valid TOML: {error}") from None
    except OSError as error:
        raise AppError(f"{file} cannot be read: {error.strerror}") from None


def _table(project: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    table = project.get("tool", {}).get("umbel")
    if not isinstance(table, dict):
        raise AppError(f"{folder / 'pyproject.toml'} has no [tool.umbel], so it is not an app; add {EXAMPLE}")
    return cast("dict[str, Any]", table)


def _flower(table: Mapping[str, Any], folder: Path) -> bool:
    value = table.get("flower", False)
    if not isinstance(value, bool):
        raise AppError(f"[tool.umbel] flower of {folder} is true or false, got {value!r}")
    return value


def _settings(table: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    settings = table.get("config", {})
    if not isinstance(settings, dict):
        raise AppError(f"[tool.umbel] config of {folder} must be a table of settings such as lr = 0.1")
    found = cast("dict[str, Any]", settings)
    value: Any
    for name, value in found.items():
        items: list[Any] = cast("list[Any]", value) if isinstance(value, list) else [value]
        if not all(isinstance(item, (bool, int, float, str)) for item in items):
            raise AppError(
                f"setting {name!r} of {folder} is {_kind(value)}; settings are flat: numbers, text, true, "
                "false or lists of these"
            )
        for why in filter(None, map(why_not_plain, items)):
            raise AppError(f"setting {name!r} of {folder} {why}, got {str(cast('object', value))[:100]}")
    return found


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return "a table"
    return "a list of more than plain values" if isinstance(value, list) else f"a {type(value).__name__}"


def _on_path(folder: Path) -> None:
    for place in (folder, folder / "src"):
        text = str(place.resolve())
        if place.is_dir() and text not in sys.path:
            sys.path.insert(0, text)


def _target(table: Mapping[str, Any], key: str, folder: Path) -> str:
    target = table.get(key)
    if not isinstance(target, str) or FORM.fullmatch(target) is None:
        what = f"is {target!r}" if key in table else "is missing"
        raise AppError(f'[tool.umbel] {key} of {folder} {what}; it must have the form "pkg.module:name"')
    return target


def _function(table: Mapping[str, Any], key: str, folder: Path) -> Callable[..., Any]:
    target = _target(table, key, folder)
    module_name, name = target.split(":")
    module = _module(module_name, f"[tool.umbel] {key} = {target!r}", folder)
    if not hasattr(module, name):
        raise AppError(f"the module {module_name} of {folder} has no {name!r}, which [tool.umbel] {key} names")
    function = getattr(module, name)
    if not callable(function):
        raise AppError(f"{target} of {folder} is a {type(function).__name__}; [tool.umbel] {key} must name a function")
    return function


def _module(name: str, who: str, folder: Path) -> ModuleType:
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise AppError(f"{who}: {folder} has no module {error.name!r}; mend the name or add the file") from None
        raise AppError(f"{who}: {_import_failed(name, error)}; is a package not installed?") from error
    except UmbelError:
        raise
    except SyntaxError as error:
        where = f"{Path(error.filename or name).name} line {error.lineno}"
        raise AppError(f"{who}: the module {name} does not import: SyntaxError: {error.msg} ({where})") from error
    except (Exception, SystemExit) as error:
        raise AppError(f"{who}: {_import_failed(name, error)}") from error
    _check_origin(module, name, folder)
    return module


def _import_failed(name: str, error: BaseException) -> str:
    return f"the module {name} does not import: {sentence(error)}"


def _check_origin(module: ModuleType, name: str, folder: Path) -> None:
    """Another module of that name, imported before from elsewhere, would be run in the app's place."""
    top = name.split(".")[0]
    mine = [place for place in (folder, folder / "src") if (place / top).is_dir() or (place / f"{top}.py").is_file()]
    origin = getattr(module, "__file__", None)
    if mine and origin is not None and not Path(origin).resolve().is_relative_to(folder.resolve()):
        raise AppError(
            f"the module {name} was loaded from {origin} and not from {folder}; another module has that name: "
            "rename the app's package"
        )


def _with_key(error: Exception) -> str:
    """A missing setting is a KeyError, whose text alone ("'lr'") says too little."""
    if isinstance(error, KeyError):
        return f"there is no setting {error}: add it to [tool.umbel.config]. {sentence(error)}"
    return sentence(error)
