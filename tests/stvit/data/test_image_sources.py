"""Hugging Face data sets and WebDataset shards, made here: they train by the same command as a folder."""

import json
import tarfile
from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image

from stvit.checkpoints import load_checkpoint
from stvit.data.folders import open_reader
from stvit.data.opened import open_held_out
from stvit.train import train
from stvit.training.config import TrainConfig

SHADES = {"ash": 40, "birch": 120, "cedar": 200}
COUNTS = {"train": 8, "validation": 3}  # of each class
SHAPE = dict(img_size=24, patch_size=6, embed_dim=16, depth=4, num_heads=2, mlp_ratio=3)


def photograph(shade: int, number: int) -> bytes:
    noise = torch.randint(-30, 30, (40, 40, 3), generator=torch.Generator().manual_seed(number))
    pixels = (noise + shade).clamp(0, 255).to(torch.uint8).numpy()
    file = BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def shards(root: Path) -> Path:
    """Two shards a split, as WebDataset has them, and the table of contents that timm reads."""
    contents = {}
    for split, count in COUNTS.items():
        samples = [(label, i) for i in range(count) for label in range(len(SHADES))]
        names = [f"{split}-{part}.tar" for part in range(2)]
        for part, name in enumerate(names):
            with tarfile.open(root / name, "w") as tar:
                for label, i in samples[part::2]:
                    add(tar, f"{label}-{i}.png", photograph([*SHADES.values()][label], i))
                    add(tar, f"{label}-{i}.cls", str(label).encode())
        lengths = [len(samples[part::2]) for part in range(2)]
        contents[split] = dict(name=split, filenames=names, shard_lengths=lengths, num_samples=len(samples))
    (root / "_info.json").write_text(json.dumps({"splits": contents}))
    return root


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, BytesIO(content))


def folder(root: Path) -> Path:
    for split, count in COUNTS.items():
        for name, shade in SHADES.items():
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                (root / split / name / f"{i}.png").write_bytes(photograph(shade, i))
    return root


@pytest.fixture(params=["wds", "hfds"])
def data(request, tmp_path, monkeypatch) -> str:
    if request.param == "wds":
        pytest.importorskip("webdataset")
        return f"wds/{shards(tmp_path)}"
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets.disable_progress_bars()
    return f"hfds/{folder(tmp_path / 'photographs')}"


def config(data: str, **changes) -> TrainConfig:
    return TrainConfig.of(
        **{
            **dict(data=data, recipe="micro", model="micro_deit", model_args=dict(SHAPE, num_classes=3)),
            **dict(image_size=24, train_images=0, eval_images=0, batch_size=8, epochs=2, log_every=1),
            **dict(threads=1, device="cpu", lr=1e-3, opt="adamw", workers=0),
            **changes,
        }
    )


def test_every_held_out_image_comes_once_with_its_class(data):
    names, batches = open_held_out(config(data))
    assert names == (("0", "1", "2") if data.startswith("wds") else tuple(SHADES))
    found = [
        (float(image.mean()), int(label))
        for images, labels in batches
        for image, label in zip(images, labels, strict=True)
    ]
    assert sorted(label for _, label in found) == [0] * 3 + [1] * 3 + [2] * 3
    shades = [[shade for shade, label in found if label == i] for i in range(3)]
    assert max(shades[0]) < min(shades[1]) and max(shades[1]) < min(shades[2])


def test_it_trains_by_the_same_command(data, tmp_path):
    scores = train(config(data, out=str(tmp_path / "run")))
    assert scores["images"] == 9 and scores["epoch"] == 1
    model = load_checkpoint(tmp_path / "run" / "model")
    assert model.num_classes == 3
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines if "step" in json.loads(line)]
    assert steps == [1, 2, 3, 4, 5, 6]  # 24 images in batches of 8, twice


def test_shards_do_not_tell_their_classes(tmp_path):
    pytest.importorskip("webdataset")
    asked = config(f"wds/{shards(tmp_path)}", model_args=SHAPE)
    assert len(open_reader("wds", asked, str(tmp_path), training=True)) == 24
    with pytest.raises(ValueError, match="does not tell its classes; give --model-args num_classes="):
        open_held_out(asked)
