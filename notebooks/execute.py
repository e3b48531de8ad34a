"""Executes the notebooks anew and keeps their outputs: `python -m notebooks.execute [FILE ...]`.

Each runs in a fresh kernel, in this folder, with this checkout first on the import path.
"""

from __future__ import annotations

import base64
import io
import os
import re
import sys
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import NoSuchKernel
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal
from PIL import Image

from riskpo_jax.files import replacing

FOLDER = Path(__file__).parent
TIMEOUT_S = 300  # a cell: against a hang, and generous, because tests share their cores
KERNEL = "python3"
_PALETTE = 128
_TERMINAL_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class NotebookError(Exception):
    """A cell failed or took too long, or no kernel ran: names the notebook, the cell and what happened."""


def executed(file: Path, folder: Path = FOLDER) -> nbformat.NotebookNode:
    """The notebook of `file` with the outputs of a fresh kernel that works in `folder`.

    Raises:
      NotebookError: a cell raised, took longer than TIMEOUT_S, or took the kernel with it; or the kernel
        is not installed or does not start.
    """
    notebook = nbformat.read(file, as_version=4)
    begun = []
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT_S,
        kernel_name=KERNEL,
        resources={"metadata": {"path": str(folder)}},
        coalesce_streams=True,
        record_timing=False,  # or every execution would change the file
        on_cell_execute=lambda cell, cell_index: begun.append(cell_index),
    )
    try:
        client.execute(env=_environment())
    # A kernel that dies or does not start is a RuntimeError, one that cannot be run an OSError.
    except (CellControlSignal, NoSuchKernel, RuntimeError, OSError) as error:
        message = _TERMINAL_COLOURS.sub("", str(error))
        where = f"cell {begun[-1]}" if begun else "before its first cell"
        raise NotebookError(f"{file.name}, {where}: {message}") from error
    return notebook


def shrink_pictures(notebook: nbformat.NotebookNode) -> None:
    """Gives the PNGs a palette, in place: a third of the bytes, and every execution is committed."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if png := output.get("data", {}).get("image/png"):
                output.data["image/png"] = _with_palette(png)


def _with_palette(png: str) -> str:
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGBA")
    on_white = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    buffer = io.BytesIO()
    on_white.convert("RGB").quantize(_PALETTE).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def _environment() -> dict[str, str]:
    path = [str(FOLDER.parent), os.environ.get("PYTHONPATH")]
    own = {"PYTHONPATH": os.pathsep.join(filter(None, path))}
    return {"JAX_PLATFORMS": "cpu"} | os.environ | own


def main(files: list[Path]) -> None:
    for file in files or sorted(FOLDER.glob("*.ipynb")):
        try:
            notebook = executed(file)
        except NotebookError as error:
            sys.exit(str(error))
        shrink_pictures(notebook)
        with replacing(file) as aside:
            nbformat.write(notebook, aside)
        print(f"{file.name}: executed")


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
