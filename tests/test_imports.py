"""The order of the rooms: imports look down, function-level ones too, and no modules import each other in a circle."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# From the ground up. A module may import from its own room and from those above it in this list.
ROOMS = [
    ("stvit.surgery", "stvit.extras", "stvit.compatibility", "stvit.command", "stvit.version"),
    ("stvit.fast", "stvit.counted"),
    ("stvit.layers",),
    ("stvit.record",),
    ("stvit.reduce",),
    ("stvit.models",),
    ("stvit.hosts",),
    (
        "stvit.sparsify",
        "stvit.optimize",
        "stvit.restore",
        "stvit.checkpoints",
        "stvit.convert",
        "stvit.pretrained",
        "stvit.hub",
        "stvit.multimodal",
    ),
    ("stvit.data",),
    ("stvit.training",),
    ("stvit.dense",),
    ("stvit.train", "stvit.evaluate", "stvit.distill", "stvit.export"),
    ("stvit",),  # the front door: public names, which no module of the house asks for
    (
        "analysis.commands",
        "analysis.dependencies",
        "analysis.formats",
        "analysis.kept",
        "analysis.results",
        "analysis.style",
        "analysis.panels",
        "analysis.images",
        "analysis.crops",
        "analysis.bootstrap",
    ),
    ("analysis.shared",),
    ("analysis",),  # the analyses, one package or module each; none imports another
    ("analysis.__main__", "analysis.explore", "analysis.notebooks", "analysis.page", "analysis.pareto"),
]
PLACES = {prefix: place for place, prefixes in enumerate(ROOMS) for prefix in prefixes}
FREE = (
    "analysis.__main__",
    "analysis.explore",
    "analysis.page",
    "analysis.pareto",
)  # these look at all analyses


def find_modules() -> dict[str, Path]:
    names = {}
    for package in ("stvit", "analysis"):
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def find_imports(path: Path, known: set[str]) -> set[str]:
    """Modules of this repository that a file imports anywhere in it: ``from a.b import c`` is a.b.c or a.b."""
    asked = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            asked |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                asked.add(inner if inner in known else node.module)
    return {name for name in asked if name in known}


MODULES = find_modules()
IMPORTS = {name: find_imports(path, set(MODULES)) - {name} for name, path in MODULES.items()}


def place(name: str) -> int:
    """The room of the longest prefix that is listed; ``stvit`` and ``analysis`` stand for themselves alone."""
    if name == "stvit":
        return PLACES["stvit"]
    parts = name.split(".")
    prefixes = [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
    return next(PLACES[prefix] for prefix in prefixes if prefix in PLACES and prefix != "stvit")


def analysis_of(name: str) -> str | None:
    """``analysis.dense.cells`` → ``analysis.dense``; None for the rooms that all analyses share."""
    if not name.startswith("analysis.") or place(name) != PLACES["analysis"]:
        return None
    return ".".join(name.split(".")[:2])


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_look_down(name):
    above = {other for other in IMPORTS[name] if place(other) > place(name)}
    assert not above, f"{name} imports {sorted(above)} from above"


@pytest.mark.parametrize("name", sorted(name for name in MODULES if analysis_of(name)))
def test_analyses_do_not_import_each_other(name):
    if name not in FREE:
        others = {other for other in IMPORTS[name] if analysis_of(other) not in (None, analysis_of(name))}
        assert not others, (
            f"{name} imports {sorted(others)}, of another analysis; what two share is in analysis.shared"
        )


def test_no_circle():
    """A package's own __init__ may gather the modules below it, which do not ask it for anything then."""
    try:
        list(TopologicalSorter(IMPORTS).static_order())
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_top_level_classes_have_names_of_their_own():
    owners: dict[str, list[str]] = {}
    for name, path in MODULES.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                owners.setdefault(node.name, []).append(name)
    doubles = {cls: modules for cls, modules in owners.items() if len(modules) > 1}
    assert not doubles, doubles
