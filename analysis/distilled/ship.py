"""The student that the package ships: STViT with 16 tokens, adapters trained on all crops, as a small file.

The file is ``stvit/distilled/NAME.safetensors``; how it was made, and what it scores beside a training of all late
weights at the same budget, is ``results/distilled/shipped.json``.
"""

from __future__ import annotations

from pathlib import Path

from analysis.distilled.cells import Cell, World, measured, multiply_adds, student_of
from analysis.distilled.design import BASE, GRID, MODEL, ROWS, SIZE
from analysis.formats import dump
from analysis.results import RESULTS, ROOT, environment

NAME, RANK = "stvit_dinov2_small_16", 16
BUDGET = dict(train_images=2500, epochs=2, adapters=RANK, lr=5e-4)
CHECK_CROPS = 40  # of PyPI's photographs, on which a fresh clone can compute the cosine again


def ship(world: World, folder: Path | None = None) -> Path:
    """Train, measure and write the file and its record; a stopped run in ``folder`` is continued."""
    import copy

    from stvit.checkpoints.difference import add_difference, save_difference

    row = ROWS[BASE]
    student = student_of(Cell(row, 0, BUDGET), world, folder)
    about = {
        "base": MODEL, "image_size": SIZE, "sparsify": {"method": row.method, **row.choices}, "device": "cpu",
        "budget": {**GRID.training, **BUDGET},
    }  # fmt: skip
    path = save_difference(
        student, world.teacher, ROOT / "stvit" / "distilled" / f"{NAME}.safetensors", RANK, about
    )
    import stvit

    again = add_difference(
        stvit.sparsify(copy.deepcopy(world.teacher), method=row.method, **row.choices), path
    )
    found = measured(again, world, student.unchanged_layers)  # as it is read back, in full precision
    about |= {
        "cosine": found["cosine"],
        "retrieved": found["retrieved"],
        "check": check(again, world.teacher),
    }
    save_difference(student, world.teacher, path, RANK, about)
    record = {**about, "bytes": path.stat().st_size, "multiply_adds": multiply_adds(student), **environment()}
    dump({**record, "by_photograph": found["by_photograph"]}, RESULTS / "distilled" / "shipped.json")
    return path


def check(student, teacher) -> dict:
    """The centred cosine on crops that need nothing but PyPI's packages; the center is these crops' own mean."""
    import torch

    from stvit.data.crops import cut
    from stvit.data.photographs import shipped
    from stvit.training.distill import cosine
    from stvit.training.taught import feature_of, normalise

    crops = cut([one.path for one in shipped()], CHECK_CROPS, SIZE, seed=7, mirrored=False)
    cfg = teacher.pretrained_cfg
    images = normalise(crops, cfg["mean"], cfg["std"])
    with torch.inference_mode():
        found, dense = (feature_of(one.eval(), one.forward_features(images)) for one in (student, teacher))
    return {"crops": CHECK_CROPS, "cosine": round(float(cosine(found, dense, dense.mean(dim=0)).mean()), 5)}
