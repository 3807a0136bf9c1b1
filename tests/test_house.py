"""The house itself: packaging that agrees with itself, a torch that fits torchvision, light imports."""

import builtins
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from analysis import notebooks

ROOT = Path(__file__).resolve().parent.parent


def requirements() -> dict[str, str]:
    """Every requirement of pyproject, extras included: name → lower bound or pin."""
    toml = (ROOT / "pyproject.toml").read_text()
    lists = re.findall(
        r"^(?:dependencies|train|analysis|notebook|export|cluster|sources|huggingface|dense|video|adapters"
        r"|track|real|docs|test)"
        r" = \[(.*?)\]$",
        toml,
        re.M | re.S,
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


def test_binder_builds_what_the_notebooks_need():
    entries = yaml.safe_load((ROOT / ".binder" / "environment.yml").read_text())["dependencies"]
    conda = dict(entry.split(">=") for entry in entries if isinstance(entry, str) and ">=" in entry)
    assert conda == {"pytorch-cpu": requirements()["torch"], "torchvision": requirements()["torchvision"]}
    (pip,) = next(entry["pip"] for entry in entries if isinstance(entry, dict))
    where, extras = re.fullmatch(r"--editable (\S+)\[(.*)\]", pip).groups()
    assert (ROOT / ".binder" / where / "pyproject.toml").exists()
    toml = (ROOT / "pyproject.toml").read_text()
    assert all(re.search(rf"^{extra} = \[", toml, re.M) for extra in extras.split(","))
    assert (
        f"[{extras}]".replace("notebook,", "") in notebooks.ON_COLAB
    )  # Colab has a notebook server of its own
    assert os.access(ROOT / ".binder" / "postBuild", os.X_OK)


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
