"""The committed notebooks are clean: valid, without outputs, and in an order that a diff can follow.

``make notebooks`` executes them; here they are only read.
"""

from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_the_three_notebooks_are_there():
    assert [path.stem for path in NOTEBOOKS] == ["explore_data", "parity", "read_results"]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request) -> nbformat.NotebookNode:
    read = nbformat.reader.reads(request.param.read_text(encoding="utf-8"))
    nbformat.validate(read, relax_add_props=False)
    return read


def test_nothing_of_a_run_is_committed(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [], f"cell {cell.id} has outputs: clear them before committing"
            assert cell.execution_count is None, f"cell {cell.id} has an execution count"
        assert cell.metadata == {}, f"cell {cell.id} has metadata {cell.metadata}"
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    assert set(notebook.metadata.language_info) == {"name"}, "only the language's name: versions change with machines"


def test_cells_are_named_by_what_they_hold(notebook):
    # editors name cells by chance; a name that says something stays the same in every diff
    identifiers = [cell.id for cell in notebook.cells]
    assert len(set(identifiers)) == len(identifiers)
    assert not [name for name in identifiers if len(name) == 8 and set(name) <= set("0123456789abcdef")]


def test_a_notebook_finds_the_repository_by_itself(notebook):
    source = "\n".join(cell.source for cell in notebook.cells)
    assert str(ROOT) not in source
    assert not any(word in source for word in ("/home/", "/Users/", "/tmp/", "C:\\"))
    assert "os.chdir(ROOT)" in source
