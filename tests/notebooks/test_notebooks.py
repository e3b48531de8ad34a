"""Every notebook runs in a fresh kernel, and is committed as one that ran."""

import base64
import io
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

from notebooks import execute  # noqa: E402

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "notebooks").glob("*.ipynb"))
MAX_BYTES = 250_000

# "/home/me/x", "C:\x", but neither "a/b" nor "https://x/y" nor "</div>".
ABSOLUTE_PATH = re.compile(r"(?<![\w.:/<\\])(?:/[A-Za-z][\w.-]*){2,}|\b[A-Z]:\\\w")


def faults(notebook) -> list[str]:
    """What tells that a notebook was not committed as one clean execution made it."""
    found = []
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        found.append("its kernel is not python3")
    count = 0
    for number, cell in enumerate(notebook.cells):
        texts = [cell.source]
        if cell.cell_type == "code":
            count += 1
            if cell.execution_count != count:
                found.append(f"cell {number}: executed as {cell.execution_count}, is {count}")
            if any(output.output_type == "error" for output in cell.outputs):
                found.append(f"cell {number}: an error")
            if any(output.get("name") == "stderr" for output in cell.outputs):
                found.append(f"cell {number}: a warning on stderr")
            texts += [text for output in cell.outputs for text in _texts(output)]
        found += [
            f"cell {number}: the absolute path {path[0]}"
            for text in texts
            for path in ABSOLUTE_PATH.finditer(text)
        ]
    return found


def _texts(output) -> list[str]:
    data = output.get("data", {})
    return [output.get("text", ""), *(v for k, v in data.items() if k.startswith("text/"))]


def _kinds(notebook) -> list[set[str]]:
    """What each code cell shows: "stdout", "image/png", ..."""
    return [
        {kind for o in cell.outputs for kind in (o.get("data") or {o.get("name"): None})}
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_runs_from_the_first_cell_to_the_last(file):
    committed = nbformat.read(file, as_version=4)
    assert _kinds(execute.executed(file)) == _kinds(committed)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_is_committed_as_executed(file):
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    assert not faults(notebook)
    assert file.stat().st_size < MAX_BYTES


def test_there_are_notebooks():
    assert FILES


def _written(path: Path, *sources: str) -> Path:
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_a_failing_cell_is_named(tmp_path):
    file = _written(tmp_path / "broken.ipynb", "x = 1", "assert x == 2, 'one is not two'")
    with pytest.raises(execute.NotebookError) as raised:
        execute.executed(file, tmp_path)
    assert str(raised.value).startswith("broken.ipynb, cell 1:")
    assert "assert x == 2" in str(raised.value)
    assert "AssertionError: one is not two" in str(raised.value)


def test_a_kernel_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "KERNEL", "none-of-these")
    with pytest.raises(
        execute.NotebookError, match="n.ipynb, before its first cell: .*none-of-these"
    ):
        execute.executed(_written(tmp_path / "n.ipynb", "1"), tmp_path)


def test_a_kernel_that_dies_before_the_first_cell(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("import os\nos._exit(3)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(execute.NotebookError, match="n.ipynb, before its first cell: Kernel died"):
        execute.executed(_written(tmp_path / "n.ipynb", "1"), tmp_path)


def test_a_notebook_that_cannot_be_written_stays_as_it_was(tmp_path, monkeypatch):
    file = _written(tmp_path / "n.ipynb", "1")
    before = file.read_bytes()

    def half(notebook, place):
        Path(place).write_text("{")
        raise OSError("No space left on device")

    monkeypatch.setattr(execute, "executed", lambda file: nbformat.read(file, as_version=4))
    monkeypatch.setattr(nbformat, "write", half)
    with pytest.raises(OSError, match="No space left"):
        execute.main([file])
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]


def test_the_kernel_sees_this_checkout_and_its_own_folder(tmp_path):
    source = """\
        from pathlib import Path

        import riskpo_jax

        print(Path(riskpo_jax.__file__).parents[1], Path.cwd(), sep="\\n")"""
    notebook = execute.executed(_written(tmp_path / "n.ipynb", textwrap.dedent(source)), tmp_path)
    assert notebook.cells[0].outputs[0].text.split() == [str(ROOT), str(tmp_path.resolve())]
    assert not any(cell.metadata.get("execution") for cell in notebook.cells)


def test_shrinking_keeps_what_a_picture_shows():
    rng = np.random.default_rng(0)
    pixels = np.full((60, 80, 4), 255, np.uint8)
    pixels[10:30, 10:40] = [0, 114, 178, 255]
    pixels[30:50] = rng.integers(250, 256, (20, 80, 4))  # noise that a palette does without
    pixels[55:, :, 3] = 0  # transparent is white
    cell = nbformat.v4.new_code_cell(outputs=[_picture(pixels)])
    notebook = nbformat.v4.new_notebook(cells=[cell, nbformat.v4.new_markdown_cell("x")])
    before = len(cell.outputs[0].data["image/png"])

    execute.shrink_pictures(notebook)

    png = notebook.cells[0].outputs[0].data["image/png"]
    shown = np.array(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")).astype(int)
    expected = np.where(pixels[..., 3:] == 0, 255, pixels)[..., :3]
    assert np.abs(shown - expected).max() <= 5
    assert len(png) < before


def _picture(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    png = base64.b64encode(buffer.getvalue()).decode()
    return nbformat.v4.new_output("display_data", data={"image/png": png})


@pytest.mark.parametrize(
    ("cell", "fault"),
    [
        ({"execution_count": 2}, "executed as 2"),
        ({"execution_count": None}, "executed as None"),
        ({"outputs": [("error", {"ename": "E", "evalue": "", "traceback": []})]}, "an error"),
        ({"outputs": [("stream", {"name": "stderr", "text": "Warning"})]}, "on stderr"),
        ({"outputs": [("stream", {"name": "stdout", "text": "in /home/me/x"})]}, "/home/me/x"),
        ({"source": "open('/srv/data')"}, "/srv/data"),
        ({"source": r"open('C:\data')"}, "C:"),
        ({"outputs": [("display_data", {"data": {"text/plain": "'/a/b'"}})]}, "/a/b"),
    ],
)
def test_what_was_not_committed_as_executed_is_found(cell, fault):
    outputs = [nbformat.v4.new_output(kind, **own) for kind, own in cell.get("outputs", [])]
    cell = nbformat.v4.new_code_cell(**({"execution_count": 1} | cell | {"outputs": outputs}))
    notebook = nbformat.v4.new_notebook(
        cells=[cell], metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    )
    (found,) = faults(notebook)
    assert fault in found


def test_a_clean_notebook_has_no_faults():
    source = "# a/b, https://example.org/a/b, 1 / 2 / x, </div>\nprint('x')"
    outputs = [nbformat.v4.new_output("stream", name="stdout", text="runs/quickstart/plots")]
    cells = [
        nbformat.v4.new_markdown_cell(r"$\alpha/\beta$ in [a](../riskpo_jax/x.py)"),
        nbformat.v4.new_code_cell(source, execution_count=1, outputs=outputs),
    ]
    notebook = nbformat.v4.new_notebook(
        cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    )
    assert not faults(notebook)
