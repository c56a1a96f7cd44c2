"""What an app's digest covers, and how it is found again."""

import pytest

from umbel.errors import AppError
from umbel.runtimes.app import digest, load_app

from .conftest import write_app


def test_the_digest_depends_on_python_files_and_the_project_alone(app):
    before = digest(app)
    for name in ("notes.txt", ".hidden.d/code.py", "means/__pycache__/client.py", "venv/lib/code.py"):
        (app / name).parent.mkdir(parents=True, exist_ok=True)
        (app / name).write_text("x = 1")
        (app / "venv" / "pyvenv.cfg").parent.mkdir(exist_ok=True)
        (app / "venv" / "pyvenv.cfg").write_text("")
    assert digest(app) == before


@pytest.mark.parametrize("name", ["means/client.py", "pyproject.toml", "means/other.py"])
def test_the_digest_sees_every_change(app, name):
    before = digest(app)
    with (app / name).open("a") as file:
        file.write("\n")
    assert digest(app) != before


def test_the_digest_sees_a_rename_and_a_moved_line(app):
    before = digest(app)
    (app / "means" / "client.py").rename(app / "means" / "clients.py")
    assert digest(app) != before
    (app / "means" / "clients.py").rename(app / "means" / "client.py")
    assert digest(app) == before
    init, client = app / "means" / "__init__.py", app / "means" / "client.py"
    text = client.read_text()
    init.write_text(text[:1])
    client.write_text(text[1:])
    assert digest(app) != before


def test_the_digest_does_not_depend_on_where_the_app_lies(app, tmp_path):
    before = digest(app)
    app.rename(tmp_path / "elsewhere")
    assert digest(tmp_path / "elsewhere") == before


def test_the_entry_holds_what_loads_the_app_again(here, tmp_path):
    app = load_app(write_app(tmp_path / "again"))
    entry = app.entry({"lr": 1.0})
    assert entry == {"path": app.path.as_posix(), "name": "means", "digest": app.digest, "settings": {"lr": 1.0}}
    assert load_app(entry["path"]).digest == entry["digest"]


def test_an_unreadable_project_is_an_app_error(tmp_path):
    (tmp_path / "pyproject.toml").mkdir()
    with pytest.raises(AppError, match="cannot be read"):
        load_app(tmp_path)
