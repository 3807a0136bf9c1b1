"""What README and the help pages show works: code is run, command lines are read by the commands' own parsers."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from pathlib import Path

import pytest
import timm
import torch

from stvit.reduce import METHODS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
COMMAND = re.compile(r"python -m ((?:stvit|analysis)[\w.]*)([^`#\n]*)")


class Parsed(Exception):
    """The command line was read without a complaint."""


@pytest.fixture
def small_world(tmp_path, monkeypatch):
    """Random weights in place of downloads, a small model in place of DeiT-S, and a folder of photographs."""
    from PIL import Image

    real = timm.create_model

    def create(name, pretrained=False, **choices):
        if name == "deit_small_patch16_224":
            choices.update(embed_dim=24, depth=6, num_heads=3)
        return real(name, **choices)

    monkeypatch.setattr(timm, "create_model", create)
    for split, count in (("train", 4), ("validation", 1)):
        for number, name in enumerate(("cat", "dog")):
            folder = tmp_path / "photographs" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (40 + i, 36), (90 * number + 20 * i, 80, 60)).save(folder / f"{i}.jpg")
    monkeypatch.chdir(tmp_path)
    before = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(before)


def shorter(block: str) -> str:
    """The training example with one short epoch on a small image."""
    return block.replace('out="runs/bat"', 'out="runs/bat", epochs=1, batch_size=4, image_size=32, workers=0')


@pytest.mark.slow
def test_the_readmes_code_runs(small_world):
    assert len(BLOCKS) >= 3
    space: dict = {}
    for block in BLOCKS:
        exec(compile(shorter(block), "README.md", "exec"), space)
    assert space["maps"]["blocks.4.assignment"].shape == (2, 16, 196)
    x = torch.randn(1, 3, 518, 518)
    with torch.no_grad():
        assert torch.equal(space["again"](x), space["dino"](x))
        assert space["fast"](x).shape == space["sparse"](x).shape
        assert space["seen"].shape == (1, 161, 96)
        images = torch.randn(1, 3, 224, 224)
        assert torch.equal(space["loaded"](images).pooler_output, space["light"](images).pooler_output)
        assert space["model"](torch.randn(1, 3, 224, 224)).shape == (1, 1000)


def examples() -> list[str]:
    """Command lines in README and in the docstrings that help pages show."""
    found = [("README.md", README)]
    for package in ("stvit", "analysis"):
        for path in sorted((ROOT / package).rglob("*.py")):
            doc = re.match(r'"""(.*?)"""', path.read_text(encoding="utf-8"), re.S)
            found.append((str(path.relative_to(ROOT)), doc[1] if doc else ""))
    lines = {}
    for where, text in found:
        for module, rest in COMMAND.findall(text):
            rest = re.split(r"\s{3,}|[.,;)]\s|[.,;)]$", rest)[
                0
            ].strip()  # what follows three spaces is a remark
            if "NAME" not in module + rest:
                lines.setdefault(f"{module} {rest}".strip(), where)
    return list(lines)


@pytest.mark.parametrize("line", examples())
def test_commands_read_their_examples(line, monkeypatch):
    module, *arguments = shlex.split(line)
    try:
        command = importlib.import_module(f"{module}.__main__")
    except ModuleNotFoundError as error:
        assert error.name in (f"{module}.__main__", module)
        command = importlib.import_module(module)
    read = argparse.ArgumentParser.parse_args

    def parse(parser, *args, **kwargs):
        read(parser, *args, **kwargs)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    with pytest.raises((Parsed, SystemExit)) as ended:
        command.main(arguments or ["--help"])
    assert ended.type is Parsed or ended.value.code == 0  # 0: the help page
