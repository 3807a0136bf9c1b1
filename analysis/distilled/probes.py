"""What students' features know of classes that no training named: a linear probe on frozen features, Fashion-MNIST.

The dense teacher, what is off the shelf at like multiply-adds, and the students that the package ships. All are asked
of the same images, enlarged to the students' size; a classifier (logistic regression) is fitted for each.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from analysis.distilled.cells import HERE, build, multiply_adds
from analysis.distilled.design import BASE, MODEL, ROWS, SHELF, SIZE
from analysis.formats import dump
from analysis.results import environment
from analysis.shared.statistics import rounded

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stvit.training.taught import Taught

DATA, TRAIN, TEST = "fashion_mnist", 4000, 2000
DENSE = "dense"
RECORD = HERE / "probes.json"
COLUMNS = ("model", "mflops", "top1", "half", "difference", "half_width")


def run(cache: Path, path: Path = RECORD) -> Path:
    """Probe every model and write one record."""
    import stvit

    teacher = stvit.pretrained(MODEL, quiet=True, img_size=SIZE)
    rows = probed(teacher, models_of(teacher), cache)
    dump({"data": DATA, "train_images": TRAIN, "images": TEST, "rows": rows, **environment()}, path)
    return path


def models_of(teacher: nn.Module) -> dict[str, nn.Module]:
    """Off the shelf, and distilled."""
    import stvit
    from stvit.pretrained import distilled

    return {
        **{f"{row.name}, off the shelf": build(row, teacher, 0) for row in (ROWS[BASE], *SHELF)},
        **{name: stvit.pretrained(name, quiet=True) for name in distilled()},
    }


def probed(teacher: nn.Module, models: dict[str, nn.Module], cache: Path) -> list[dict]:
    """A row a model, the dense one first."""
    from stvit.training.late_layers import layers_kept
    from stvit.training.scores import half_width

    labels, taught = asked(teacher, {layers_kept(model) for model in models.values()}, cache)
    rows, dense = [], rightly(next(iter(taught.values())).features, labels)
    for name, model in {DENSE: teacher, **models}.items():
        right = dense if name == DENSE else rightly(features(model, taught), labels)
        gap, top1 = (right - dense).double(), 100 * float(right.double().mean())
        row = {
            "model": name, "mflops": round(multiply_adds(model) / 1e6), "top1": rounded(top1),
            "half": rounded(half_width(top1, len(right))),
        }  # fmt: skip
        if name != DENSE:
            width = 196 * float(gap.std()) / math.sqrt(len(gap))
            row |= {"difference": rounded(100 * float(gap.mean())), "half_width": rounded(width)}
        rows.append(row)
    return rows


def asked(teacher: nn.Module, layers: set[int], cache: Path) -> tuple[Tensor, dict[int, Taught]]:
    """Labels of training and test images, one after another, and what the teacher says of them."""
    import torch
    import torch.nn.functional as F

    from stvit.data.small_sets import SETS, read_small_set
    from stvit.training.taught import ask

    side = SETS[DATA].size
    known, others = (read_small_set(DATA, "", training, side) for training in (True, False))
    images = torch.cat([known[0][:TRAIN], others[0][:TEST]]).expand(-1, 3, -1, -1)
    images = F.interpolate(images.float(), (SIZE, SIZE), mode="bilinear", align_corners=False)
    taught = ask(teacher, images.round().to(torch.uint8), layers, cache)
    return torch.cat([known[1][:TRAIN], others[1][:TEST]]).long(), taught


def features(model: nn.Module, taught: dict[int, Taught]) -> Tensor:
    """(images, C), from the teacher's tokens after the layers that the model has in common with it."""
    import torch

    from stvit.training.late_layers import LateLayers, layers_kept

    done = layers_kept(model)
    late = LateLayers(model, done, taught[done].grid).eval()
    with torch.inference_mode():
        numbers = torch.arange(len(taught[done])).split(100)
        return torch.cat([late(taught[done].batch(some)[0]) for some in numbers])


def rightly(found: Tensor, labels: Tensor) -> Tensor:
    """(TEST,) 1 where a probe of the training images' features names a test image's class."""
    from stvit.training.probe import fit_probe

    probe = fit_probe(found[:TRAIN], labels[:TRAIN])
    return (probe.predict(found[TRAIN:]) == labels[TRAIN:]).int()


def table(path: Path = RECORD) -> pd.DataFrame:
    if not path.exists():
        return pd.DataFrame(columns=list(COLUMNS))
    return pd.DataFrame(json.loads(path.read_text(encoding="utf-8"))["rows"], columns=list(COLUMNS))
