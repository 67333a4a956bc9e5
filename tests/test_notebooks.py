"""The notebooks of the documents run from their first cell to their last, and lie in the tree without outputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
#: Executes the notebook that is named first, and writes it with its outputs to the path that is named second.
EXECUTE = """if True:
    import sys, nbformat
    from nbclient import NotebookClient
    notebook = nbformat.read(sys.argv[1], 4)
    nbformat.validate(notebook)
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    nbformat.write(notebook, sys.argv[2])
"""


def executed(notebook: Path, folder: Path) -> list[dict]:
    """The cells with their outputs, executed in a folder of their own."""
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    out = folder / "executed.ipynb"
    environment = {**os.environ, "JUPYTER_PLATFORM_DIRS": "1", "IPYTHONDIR": str(folder / "ipython")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", EXECUTE, str(notebook), str(out)],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [cell for cell in json.loads(out.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def shown(cell: dict, kind: str) -> str:
    """What a cell shows of a kind, such as text/html."""
    parts = [output.get("data", {}).get(kind, output.get("text", "")) for output in cell["outputs"]]
    return "".join("".join(part) for part in parts)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(notebook: Path) -> None:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    assert [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []


def test_a_notebook_user_explains_and_benchmarks_an_own_network(tmp_path: Path) -> None:
    cells = executed(FOLDER / "own_network.ipynb", tmp_path)
    [described] = [cell for cell in cells if "describe()" in "".join(cell["source"])]
    assert "3 classes (disc, ring, bar)" in shown(described, "text/plain")
    assert sum("image/png" in output.get("data", {}) for cell in cells for output in cell["outputs"]) == 3
    [table] = [cell for cell in cells if "".join(cell["source"]).endswith("results.table()")]
    assert all(name in shown(table, "text/html") for name in ("gc", "dix2", "dix3", "random", "ap_object"))
    assert (tmp_path / "results" / "own" / "store").is_dir()


def test_a_notebook_user_tries_an_own_method(tmp_path: Path) -> None:
    cells = executed(FOLDER / "own_method.ipynb", tmp_path)
    assert sum("image/png" in output.get("data", {}) for cell in cells for output in cell["outputs"]) == 2
    [verdict] = [cell for cell in cells if "compare(" in "".join(cell["source"])]
    assert "undecided" in shown(verdict, "text/html")
