"""A method of somebody else's package: installed by pip, found by its entry point, used from a fresh process."""

import json
import os
import re
import subprocess
import sys
import warnings
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import timm
import torch

from stvit.reduce import METHODS, Reduction, register
from stvit.reduce.methods import GROUP, Methods, installed

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = """[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "largest-norm"
version = "1.0"
[project.entry-points."stvit.methods"]
largest_norm = "largest_norm:LargestNorm"
vanished = "largest_norm:Vanished"
[tool.setuptools]
py-modules = ["largest_norm"]
"""
USE = """
import json, sys, tempfile, warnings
warnings.simplefilter("always")
with warnings.catch_warnings(record=True) as told:
    import stvit
    loaded, quiet = "largest_norm" in sys.modules, [str(w.message) for w in told if "stvit" in str(w.message)]
import timm, torch
sizes = dict(img_size=32, patch_size=8, embed_dim=24, depth=6, num_heads=3, num_classes=3)
dense, x = timm.create_model("vit_tiny_patch16_224", **sizes).eval(), torch.randn(2, 3, 32, 32)
named = timm.create_model("largest_norm_deit_small_patch16_224", keep_rate=0.5, **sizes).eval()
micro = timm.create_model("micro_largest_norm")
sparse = stvit.sparsify(dense, method="largest_norm", keep_rate=0.5).eval()
folder = tempfile.mkdtemp()
again = stvit.load_checkpoint(stvit.save_checkpoint(sparse, folder)).eval()
with stvit.record(sparse, attention=False) as maps:
    y = sparse(x)

from analysis.offtheshelf import settings
from analysis.overhead import compute
from analysis.shared import field
from analysis.shared.counting import count
from stvit.reduce import METHODS
cost = lambda model: count(model, (1, 3, 32, 32)).total
plan, notes = settings.plan(dense, cost, ["largest_norm"], (0.5, 1.0))
print(json.dumps(dict(
    loaded=loaded, quiet=quiet, methods=list(METHODS),
    tokens=named.forward_features(x).shape[1], saved=bool(again(x).equal(y)), micro=micro.method,
    back=bool(stvit.densify(sparse)(x).equal(dense(x))),
    maps={layer: list(map_.shape) for layer, map_ in sparse.held(maps).items()},
    flops=[cost(sparse), cost(dense)], plan=[[one.method, one.rate, one.choices] for one in plan], notes=notes,
    field=field.row("largest_norm"),
    speed=compute(["largest_norm"], 2, 1, 1, choices=dict(keep_rate=0.5), **sizes).to_dict("records"),
)))
"""


def block_of_the_readme() -> str:
    """README's own method, without the example that uses it."""
    block = next(b for b in re.findall(r"^```python\n(.*?)^```", README, re.M | re.S) if "LargestNorm" in b)
    return re.sub(r"^model = .*\n", "", block, flags=re.M)


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    """What a fresh process finds that has README's method as a package, whose second method is broken."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "largest_norm.py").write_text(block_of_the_readme(), encoding="utf-8")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
    ]
    subprocess.run([*pip, "--target", folder / "site", folder], check=True, capture_output=True)
    path = os.pathsep.join(map(str, (folder / "site", ROOT)))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", USE], env=environment, cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout.splitlines()[-1]), "told": done.stderr}


def test_the_package_runs_when_its_method_is_asked_for(used):
    assert not used["loaded"] and not used["quiet"]


def test_sparsified_named_saved_and_made_dense_again(used):
    assert used["tokens"] == 1 + 2 and used["saved"] and used["back"] and used["micro"] == "largest_norm"


def test_in_maps_flops_off_the_shelf_speed_and_the_table_of_the_field(used):
    assert used["maps"] == {"2": [2, 8, 16], "4": [2, 4, 16], "5": [2, 2, 16]}
    assert used["flops"][0] < used["flops"][1]
    rates = [["largest_norm", 0.5, {"keep_rate": 0.5}], ["largest_norm", 1.0, {"keep_rate": 1.0}]]
    assert used["plan"] == rates and not used["notes"]
    assert used["field"]["keeps"] == "The tokens of the largest norm are kept"
    assert used["field"]["origin"] == "the package largest_norm"
    assert used["speed"][0]["method"] == "largest_norm" and used["speed"][0]["tokens"] == 3


def test_a_broken_one_is_named_once_and_left_out(used):
    line = "leaves out the method 'vanished' of the package 'largest-norm': AttributeError"
    assert used["told"].count(line) == 1
    assert "largest_norm" in used["methods"] and "vanished" not in used["methods"]


def test_only_packages_that_name_the_group_are_found(tmp_path, monkeypatch):
    for name, group in (("mine", GROUP), ("other", "console_scripts")):
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {name}:Method\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path)])
    assert [(point.name, point.dist.name) for point in installed()] == [("mine", "mine")]


class OneMore(Reduction):
    pass


@pytest.mark.parametrize("value", ["tests_no_module:Method", "json:loads"])
def test_reasons(value):
    table = Methods({"one_more": OneMore})
    table.offer(EntryPoint("strange", value, GROUP))
    assert table.names() == ("one_more", "strange")
    with pytest.warns(UserWarning, match="leaves out the method 'strange' of the package"):
        assert "strange" not in table
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(table) == ["one_more"] and len(table) == 1
    with pytest.warns(UserWarning, match="the name is taken"):
        table.offer(EntryPoint("one_more", value, GROUP))


def test_registered_methods_get_their_names_in_timm():
    before = dict(METHODS)
    try:
        register(OneMore)
        assert METHODS["one_more"] is OneMore and timm.is_model("one_more_deit_small_patch16_224")
        with pytest.raises(ValueError, match="'stvit' is the name of semantic tokens"):
            register(OneMore, "stvit")
    finally:
        METHODS.clear()
        METHODS.update(before)
    with pytest.raises(ValueError, match="unknown method 'one_more'"):
        timm.create_model("one_more_deit_small_patch16_224")
    assert torch.is_tensor(timm.create_model("micro_bat")(torch.randn(1, 3, 48, 48)))
