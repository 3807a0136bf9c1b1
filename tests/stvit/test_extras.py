"""Optional packages: the line that installs one names the extra that has it."""

import re
from pathlib import Path

import pytest

from stvit.extras import EXTRAS, install_line, require

PROJECT = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8")
NAMES = {"sklearn": "scikit-learn"}  # where PyPI's differs from the one that is imported


@pytest.mark.parametrize("package", EXTRAS)
def test_every_package_is_in_its_extra(package):
    listed = re.search(rf"^{EXTRAS[package]} = \[(.*?)\]$", PROJECT, re.MULTILINE | re.DOTALL)[1]
    assert re.search(rf'"{NAMES.get(package, package)}\W', listed), listed


def test_what_is_not_installed_is_said(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])

    monkeypatch.setattr("stvit.extras.import_module", absent)
    with pytest.raises(
        ImportError, match=r"AP needs pycocotools, which is not .*: pip install 'stvit\[dense\]'"
    ):
        require("pycocotools.mask", "AP")
    with pytest.raises(ImportError, match="it needs nothing, which is not installed: pip install nothing"):
        require("nothing", "it")
    assert install_line("av") == "pip install 'stvit[video]'"
