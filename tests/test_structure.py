"""The house rules that a machine can check: sizes, names, classes, imports, ambient state."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src" / "umbel").rglob("*.py"))
LONGEST = 600
MEANT_FOR_SUBCLASSES = {"Client", "NumPyClient"}
BANNED_WORDS = ("Manager", "Handler", "Utils", "Helper", "Base")
# Below `cli`, who touches the environment and why.
ENVIRONMENT_ALLOWED = {
    "runtimes/pool/seed.py": "hands the whole environment on to the process it starts, and looks at nothing in it",
}


def place(file: Path) -> str:
    return file.relative_to(ROOT / "src" / "umbel").as_posix()


def classes() -> Iterator[tuple[str, ast.ClassDef]]:
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                yield place(file), node


def plain(expression: ast.expr) -> str:
    """The name of a base class or decorator without its module, arguments and parameters."""
    while isinstance(expression, (ast.Subscript, ast.Call)):
        expression = expression.value if isinstance(expression, ast.Subscript) else expression.func
    return ast.unparse(expression).rsplit(".", 1)[-1]


def test_no_file_is_longer_than_600_lines():
    long = {place(file): n for file in SOURCES if (n := len(file.read_text("utf-8").splitlines())) > LONGEST}
    assert not long, f"files past {LONGEST} lines: {long}; divide them by ideas"


def test_every_class_is_abstract_or_final():
    above: dict[str, set[str]] = {}
    for _, node in classes():
        above.setdefault(node.name, set()).update(map(plain, node.bases))
    loose = [
        f"{where}: {node.name}"
        for where, node in classes()
        if not is_final(node) and not is_abstract(node, above) and node.name not in MEANT_FOR_SUBCLASSES
    ]
    assert not loose, f"neither abstract nor @final: {loose}"


def is_final(node: ast.ClassDef) -> bool:
    return "final" in {plain(decorator) for decorator in node.decorator_list}


def is_abstract(node: ast.ClassDef, above: dict[str, set[str]]) -> bool:
    """ABCs and protocols with something left to write, and errors, whose tree is their meaning."""
    ancestors: set[str] = set()
    new = {node.name}
    while new:
        ancestors |= new
        new = {base for name in new for base in above.get(name, set())} - ancestors
    if ancestors & {"Exception", "NamedTuple"} or above[node.name] & {"ABC", "Protocol"}:
        return True
    methods = [item for item in node.body if isinstance(item, ast.FunctionDef)]
    return "ABC" in ancestors and any(
        "abstractmethod" in {plain(decorator) for decorator in method.decorator_list} for method in methods
    )


def test_nothing_final_is_subclassed():
    final = {node.name for _, node in classes() if is_final(node)}
    wrong = [f"{where}: {node.name}" for where, node in classes() if {plain(base) for base in node.bases} & final]
    assert not wrong, f"they subclass a final class: {wrong}; pass or wrap a value instead"


def test_no_class_has_an_empty_name():
    words = {(where, node.name): re.findall(r"[A-Z][a-z]*", node.name) for where, node in classes()}
    wrong = [f"{where}: {name}" for (where, name), parts in words.items() if set(parts) & set(BANNED_WORDS)]
    assert not wrong, f"name them after what they are: {wrong}"


def test_tests_mock_nothing():
    for file in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
                assert not any("mock" in name.lower().split(".") for name in names), f"{file.name} imports a mock"


def test_every_folder_of_tests_is_a_package():
    # pytest tells two files of one name apart by their packages, and stops at the second one otherwise.
    folders = {file.parent for file in (ROOT / "tests").rglob("test_*.py")} - {ROOT / "tests"}
    bare = sorted(folder.name for folder in folders if not (folder / "__init__.py").exists())
    assert not bare, f"tests without an __init__.py beside them: {bare}"


def imported(code: str) -> set[str]:
    """Top-level modules that are there after `code`, beyond those of the bare interpreter and the standard library."""
    script = f"import sys; before = set(sys.modules); {code}; print(*(set(sys.modules) - before))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return {name.split(".")[0] for name in ran.stdout.split()} - set(sys.stdlib_module_names)


def test_importing_umbel_imports_nothing():
    assert imported("import umbel") == {"umbel"}


@pytest.mark.parametrize(
    "code",
    [
        "import umbel as fl; fl.simulate, fl.FedAvg, fl.Scaffold, fl.NumPyClient, fl.SQLiteStore, fl.Run",
        "import umbel as fl; fl.sweep, fl.Range, fl.Sweep",
        "import umbel.client, umbel.server.strategy",
        "from umbel.data import heart_disease, DirichletLabels; heart_disease()",
        "import umbel.testing",
        "import umbel.runtimes.pool, umbel.runtimes.app",
    ],
)
def test_the_core_needs_numpy_alone(code):
    # Some versions of NumPy bring company of their own; multiprocessing gives the main module a second name.
    assert imported(code) <= {"umbel", "__mp_main__", *imported("import numpy")}


def reads_environment(file: Path) -> bool:
    tree = ast.parse(file.read_text("utf-8"))
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    return bool((attributes | names) & {"environ", "environb", "getenv", "getenvb"})


def test_nothing_below_the_command_line_reads_the_environment():
    found = {place(file) for file in SOURCES if reads_environment(file) and not place(file).startswith("cli/")}
    assert found == set(ENVIRONMENT_ALLOWED)


def test_every_example_in_the_table_exists_and_every_example_is_in_the_table():
    table = (ROOT / "examples" / "README.md").read_text("utf-8")
    named = set(re.findall(r"examples/([\w/]+\.(?:py|ipynb))", table))
    missing = {name for name in named if not (ROOT / "examples" / name).exists()}
    assert not missing, f"examples/README.md names files that are not there: {missing}"
    there = {path.name for path in (ROOT / "examples").iterdir() if not path.name.startswith((".", "__"))}
    untold = there - {name.split("/")[0] for name in named} - {"README.md"}
    assert not untold, f"examples that examples/README.md does not mention: {untold}"
