"""Which modules of this repository a module needs: its imports, and theirs, read from the sources.

Imports within functions count, and so do the packages that a module lies in, whose ``__init__`` runs first.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOTS = ("stvit", "analysis")


@cache
def modules(root: Path) -> dict[str, Path]:
    """Every module of the repository by its dotted name."""
    found = {}
    for package in ROOTS:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imported(path: Path) -> frozenset[str]:
    """Dotted names that a file may import: of ``from a.b import c`` both a.b and a.b.c."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(names)


def needed(name: str, root: Path) -> list[Path]:
    """The files that ``name``, or any module of the package ``name``, is made of: its own and all it imports."""
    known = modules(root)
    waiting = [module for module in known if module == name or module.startswith(f"{name}.")]
    seen: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module in seen or module not in known:
            continue
        seen.add(module)
        parts = module.split(".")
        waiting += [".".join(parts[:end]) for end in range(1, len(parts))]
        waiting += imported(known[module])
    return sorted(known[module] for module in seen)
