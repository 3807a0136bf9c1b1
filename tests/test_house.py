"""The house itself: import order, packaging that agrees with itself, a torch that fits torchvision."""

import ast
import builtins
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent

# Lower layers never import higher ones. Modules that stand together may not import each other
# unless a later line of the same layer is allowed to look at an earlier one.
LAYERS = [
    [
        "stvit.absorbed",
        "stvit.compatibility",
        "stvit.inference",
        "stvit.groups",
        "stvit.attention",
        "stvit.windows",
    ],
    ["stvit.pooling", "stvit.record", "stvit.token_labels", "stvit.token_linear"],
    ["stvit.semantic", "stvit.reduce"],
    ["stvit.vit", "stvit.reduced_vit", "stvit.lvvit", "stvit.swin", "stvit.video_swin"],
    ["stvit.sparsify", "stvit.optimize", "stvit.micro", "stvit.checkpoints", "stvit.convert", "stvit.dense"],
    [
        "stvit.data",
        "stvit.evaluate",
        "stvit.training",
        "stvit.train",
        "stvit.dense.segmentation.task",
        "stvit.dense.segmentation.source",
        "stvit.dense.segmentation.evaluate",
        "stvit.dense.detection.task",
        "stvit.dense.detection.source",
        "stvit.dense.detection.evaluate",
    ],
    ["analysis.formats", "analysis.style", "analysis.results"],
    ["analysis.images", "analysis.models", "analysis.panels", "analysis.trained"],
    ["analysis"],
]


def modules() -> dict[str, Path]:
    paths = [path for package in ("stvit", "analysis") for path in (ROOT / package).rglob("*.py")]
    names = {}
    for path in paths:
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if name.split(".")[0] in ("stvit", "analysis")}


def layer(name: str) -> int | None:
    """The place of the longest prefix that the layers name; None for a package's front door."""
    places = [
        (len(prefix), place)
        for place, names in enumerate(LAYERS)
        for prefix in names
        if name == prefix or name.startswith((f"{prefix}.", f"{prefix}_"))
    ]
    return max(places)[1] if places else None


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_look_down(name):
    own = layer(name)
    if name == "stvit":
        return  # the front door imports everything
    assert own is not None, f"{name} has no place in the layers of tests/test_house.py"
    known = modules()
    above = {
        imported
        for imported in imports(known[name])
        if imported in known and "." in imported and layer(imported) is not None and layer(imported) > own
    }
    assert not above, f"{name} imports {above} from above"


def test_core_does_not_know_the_analyses():
    for name, path in modules().items():
        if name.startswith("stvit"):
            assert not {i for i in imports(path) if i.startswith("analysis")}, name


def requirements() -> dict[str, str]:
    """Every requirement of pyproject, extras included: name → lower bound or pin."""
    toml = (ROOT / "pyproject.toml").read_text()
    lists = re.findall(
        r"^(?:dependencies|notebook|export|cluster|sources|dense|video|test) = \[(.*?)\]", toml, re.M | re.S
    )
    found = re.findall(r'"([\w.-]+?)(?:\[[\w,]+\])?(?:[>=]=)([\w.]+)"', " ".join(lists))
    return dict(found)


CONDA_NAMES = {"torch": "pytorch"}


def test_constraints_pin_every_requirement():
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
    assert requirements().keys() <= pins.keys()
    number = re.compile(r"\d+")
    for name, bound in requirements().items():
        at_least, tested = ([int(n) for n in number.findall(v)[:3]] for v in (bound, pins[name]))
        assert tested >= at_least, f"{name}: tested {pins[name]}, required {bound}"


def test_environment_yml_says_what_pyproject_says():
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(entry["pip"] for entry in entries if isinstance(entry, dict))
    conda = dict(
        re.split(r">=|==?", entry, maxsplit=1) for entry in entries if isinstance(entry, str) and "=" in entry
    )
    assert pip == ["--editable ."]
    python = conda.pop("python")
    assert f'requires-python = ">={python}"' in (ROOT / "pyproject.toml").read_text()
    assert conda == {CONDA_NAMES.get(name, name): bound for name, bound in requirements().items()}


def test_every_make_target_of_the_readme_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"\bmake ([a-z]+)\b", (ROOT / "README.md").read_text()))
    assert {"reproduce", "test", "lab"} <= named <= targets


def test_ci_runs_the_readmes_test_command():
    assert "make test" in (ROOT / ".ci" / "run").read_text().splitlines()


def test_a_torchvision_that_does_not_fit_gives_the_remedy(monkeypatch):
    from stvit import compatibility

    real = builtins.__import__

    def broken(name, *args, **kwargs):
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(ImportError, match=r"(?s)torchvision .* another torch.*pip install --force-reinstall"):
        compatibility.check_torchvision()


def test_light_imports():
    """The analyses' common floor costs neither torch nor matplotlib nor pandas."""
    code = "import sys, analysis.results, analysis.style, analysis.formats, analysis.__main__; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert not {"torch", "matplotlib", "pandas", "stvit"} & set(loaded.split())


def test_importing_twice_registers_once():
    import timm

    import stvit

    before = timm.list_models("stvit*")
    importlib.reload(stvit)
    assert timm.list_models("stvit*") == before
