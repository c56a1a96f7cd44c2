"""The notebook, executed in a real kernel."""

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("cloudpickle")

FILE = Path(__file__).parents[2] / "examples" / "quickstart.ipynb"


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(FILE, as_version=4)


def test_the_committed_notebook_is_valid_and_without_outputs(notebook):
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.slow
def test_every_cell_runs_and_the_pool_carries_classes_defined_in_cells(notebook):
    ran = nbclient.NotebookClient(nbformat.from_dict(notebook), timeout=120).execute()
    text = "".join(out.get("text", "") for cell in ran.cells for out in cell.get("outputs", []))
    assert "pool and serial give the same bits: True" in text
    assert text.count("FedA") == 3
