"""The core needs torch, timm and safetensors, and what comes with them; what else is missing is told in one line."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from branches import branch

from stvit.extras import EXTRAS

ROOT = Path(__file__).resolve().parent.parent
IMPORTED_AS = {"scikit-learn": "sklearn"}
BLOCK = """
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        hidden = name.partition(".")[0] in {names!r}
        return None if hidden else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path[:] = map(Without, sys.meta_path)
"""
CORE = """
import tempfile, timm, torch, stvit
model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=4, num_classes=3).eval()
images = torch.randn(1, 3, 32, 32)
for sparse in (stvit.sparsify(model, tokens=1, at=2), stvit.sparsify(model, method="bat", keep_rate=0.5)):
    sparse = stvit.optimize(sparse.eval())
    with stvit.record(sparse) as maps:
        sparse(images)
    assert maps
with tempfile.TemporaryDirectory() as folder:
    stvit.save_checkpoint(model, folder)
    torch.testing.assert_close(stvit.load_checkpoint(folder).eval()(images), model(images))
print("fine")
"""


def extra(name: str) -> set[str]:
    """The packages that an extra of pyproject lists, by the names they are imported by."""
    toml = (ROOT / "pyproject.toml").read_text()
    listed = re.search(rf"^{name} = \[(.*?)\]$", toml, re.M | re.S)[1].replace("stvit[train]", "")
    return {IMPORTED_AS.get(package, package) for package in re.findall(r'"([\w-]+)[><=]', listed)}


def test_the_core_works_without_what_extras_bring():
    names = {*EXTRAS, *extra("analysis"), *extra("train")}
    command = [sys.executable, "-c", BLOCK.format(names=names) + CORE]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.stdout == "fine\n", result.stderr[-800:]


@pytest.mark.parametrize(
    "module, gone, line",
    [
        ("stvit.train", "accelerate", "training needs accelerate, not installed: pip install 'stvit[train]'"),
        (
            "stvit.evaluate",
            "torchmetrics",
            "evaluation needs torchmetrics, not installed: pip install 'stvit[train]'",
        ),
        ("analysis", "seaborn", "the analyses need seaborn, not installed: pip install 'stvit[analysis]'"),
    ],
)
def test_what_is_missing_is_one_line(module, gone, line, tmp_path):
    process = branch(BLOCK.format(names={gone}) + f"import {module}", said=tmp_path / "said")
    process.join()
    assert (tmp_path / "said").read_text().splitlines()[-1] == f"ImportError: {line}"


def test_what_is_asked_for_is_what_pyproject_lists():
    import analysis

    assert extra("train") == {package for package, name in EXTRAS.items() if name == "train"}
    assert set(analysis.NEEDED) == extra("analysis") | extra("train") | {"tqdm"}
