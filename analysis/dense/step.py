"""One training step of a whole model on one image: does it fit, and does every parameter learn?

Forward, loss and backward of UperNet or Cascade Mask R-CNN on STViT-R-Swin-S, at the sizes of Tables 12 and
5. The record has the loss, the parameters without gradient (there should be none) and the highest memory.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from analysis.results import RESULTS, environment, output

STEP_RECORDS = RESULTS / "dense" / "steps"
BACKBONE = "stvit_r_swin_small_patch4_window7_224"
CLASS_COUNTS = {"segment": 150, "detect": 80}
SIZES = ((512, 512), (800, 1333))


def step(task: str, size: tuple[int, int], device: str = "cpu", seed: int = 0) -> dict:
    """Loss, parameters without gradient and memory of one step; the process should do nothing else."""
    import torch

    torch.manual_seed(seed)
    model = create(task).to(device).train()
    begun = time.perf_counter()
    loss = loss_of(task, model, size, device)
    loss.backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and not learnt(p)]
    return {
        "task": task,
        "backbone": BACKBONE,
        "size": list(size),
        "loss": round(float(loss.detach()), 4),
        "parameters": sum(p.numel() for p in model.parameters()),
        "without_gradient": without,
        "memory_gib": round(peak(device) / 2**30, 2),
        "seconds": round(time.perf_counter() - begun, 1),
        "threads": torch.get_num_threads(),
        "seed": seed,
    }


def create(task: str):
    """With stochastic depth off: a path that was dropped would learn nothing from this one image."""
    if task == "segment":
        from stvit.dense.segmentation.model import create_segmenter

        return create_segmenter(BACKBONE, CLASS_COUNTS[task], {"drop_path_rate": 0.0})
    from stvit.dense.detection.model import create_detector

    sizes = dict(min_sizes=[800], max_size=1333)
    return create_detector(BACKBONE, CLASS_COUNTS[task], {"drop_path_rate": 0.0}, **sizes)


def loss_of(task: str, model, size: tuple[int, int], device: str):
    import torch

    height, width = size
    if task == "segment":
        images = torch.randn(1, 3, height, width, device=device)
        labels = torch.randint(CLASS_COUNTS[task], (1, height, width), device=device)
        return model(images, labels=labels).loss
    model.transform.min_size, model.transform.max_size = (min(size),), max(size)  # the image as it is
    boxes = torch.tensor([[0.1, 0.2, 0.5, 0.7], [0.4, 0.3, 0.9, 0.8]]) * torch.tensor([width, height] * 2)
    masks = torch.zeros(2, height, width, dtype=torch.uint8)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y0:y1, x0:x1] = 1
    target = {
        "boxes": boxes.to(device),
        "labels": torch.tensor([1, 2], device=device),
        "masks": masks.to(device),
    }
    return sum(model([torch.rand(3, height, width, device=device)], [target]).values())


def learnt(parameter) -> bool:
    return parameter.grad is not None and bool(parameter.grad.any())


def peak(device: str) -> int:
    """Bytes: of the GPU's allocator, or of the whole process on a CPU."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def write(task: str, size: tuple[int, int], device: str = "cpu", folder: Path | None = None) -> dict:
    from analysis.formats import dump

    record = {**step(task, size, device), **environment(device)}
    folder = folder or output("dense") / "steps"
    folder.mkdir(parents=True, exist_ok=True)
    dump(record, folder / f"{task}_{size[0]}x{size[1]}_{device}.json")
    return record
