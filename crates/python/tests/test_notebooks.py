"""The notebooks run from top to bottom, and their numbers say what their text says."""

import ast
import math
from pathlib import Path
from typing import Any

import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
for needed in ("ipykernel", "matplotlib", "numpy"):
    pytest.importorskip(needed)
pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[3] / "data/notebooks"
NAMES = {"counting_is_learning", "there_is_a_floor", "smoothing", "q_minus_p", "your_own_text"}


def ran(name: str, folder: Path) -> tuple[dict[str, Any], Any]:
    """The dict that the last cell shows, and the notebook with its outputs."""
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}})
    client.execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    [shown] = [output for output in code[-1].outputs if output.output_type == "execute_result"]
    return ast.literal_eval(shown.data["text/plain"]), notebook


def pictures(notebook: Any) -> int:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return sum("image/svg+xml" in output.get("data", {}) for output in outputs)


def test_all_notebooks_are_tested_and_stored_without_outputs():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == NAMES
    for path in FOLDER.glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            assert not cell.get("outputs") and cell.get("execution_count") is None, path.name


def test_counting_is_learning(tmp_path):
    found, notebook = ran("counting_is_learning", tmp_path)
    assert found["kl_first"] > 1 and 0 < found["kl_last"] < 0.002
    assert found["largest_difference"] < 0.001
    assert abs(found["counted"] - found["learnt"]) < 0.002
    assert found["counted"] == pytest.approx(2.2374, abs=5e-5)
    assert pictures(notebook) == 2


def test_there_is_a_floor(tmp_path):
    found, notebook = ran("there_is_a_floor", tmp_path)
    assert found["floor"] == pytest.approx(0.2050, abs=5e-5)
    kl = found["kl"]
    assert all(divergence > 0 for divergence in kl.values())
    assert kl["1-gram"] > kl["2-gram"] > kl["3-gram"] > kl["5-gram"] > kl["7-gram"]
    assert kl["transformer"] < kl["5-gram"]
    losses = found["curve"]
    assert len(losses) == 4 and list(losses) == sorted(losses, reverse=True) and losses[-1] > found["floor"]
    assert found["dear"] > 0.5
    assert pictures(notebook) == 3


def test_smoothing(tmp_path):
    found, notebook = ran("smoothing", tmp_path)
    zeros, losses = found["zeros"], found["losses"]
    assert zeros[0] == 0 and sorted(zeros) == zeros and zeros[-1] > 1000
    assert [loss is None for loss in losses["mle"]] == [count > 0 for count in zeros]
    best = {name: min(loss for loss in row if loss is not None) for name, row in losses.items()}
    assert best["Kneser-Ney"] < best["Witten-Bell"] < best["add-0.01"] < best["add-1"]
    assert losses["Kneser-Ney"] == sorted(losses["Kneser-Ney"], reverse=True)
    assert found["error"] < 0.02
    assert math.isfinite(found["label_smoothing"]) and found["label_smoothing"] > found["add_k"]
    assert pictures(notebook) == 2


def test_q_minus_p(tmp_path):
    found, notebook = ran("q_minus_p", tmp_path)
    assert found["same"] and found["broken"] and found["finite"]
    assert found["error"] < 1e-8 and found["error_smoothed"] < 1e-8 and abs(found["sum"]) < 1e-12
    assert found["after"] < found["before"]
    assert found["surprisal_gradient"] > 0.99 and found["squared_gradient"] < 1e-3
    assert pictures(notebook) == 2


def test_your_own_text(tmp_path):
    found, notebook = ran("your_own_text", tmp_path)
    losses, alone = found["losses"], found["alone"]
    assert losses[1] > losses[2] > losses[3] > losses[4] and min(losses.values()) < 2.2
    assert found["network"] < losses[2]
    assert alone["mixture"] < min(loss for name, loss in alone.items() if name != "mixture")
    assert found["words"]["dragon."] > found["words"]["of"]
    assert found["sample"] >= 200
    assert pictures(notebook) == 2
