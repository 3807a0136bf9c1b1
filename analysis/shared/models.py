"""The models that figures are drawn from: shipped checkpoints, users' checkpoints, untrained stand-ins.

subject = open_model("micro_stvit_16")    # shipped in results/checkpoints, or its untrained stand-in
subject = open_model("runs/my-model")     # a folder or file that stvit.load_checkpoint reads
subject = open_model("stvit_deit_small_patch16_224")  # any timm model, untrained
subject = open_pretrained("dinov2_small", 196)  # real weights, built for an image size
subject.label                             # says so where weights are untrained
"""

from __future__ import annotations

import argparse
import copy
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.commands import at_least, new_folder
from analysis.results import RESULTS
from analysis.shared.rows import TOKEN_HEAD

if TYPE_CHECKING:
    from torch import nn

REAL, REAL_SIZE = "dinov2_small", 196  # 14 × 14 tokens, as DeiT-S has
CHECKPOINTS = RESULTS / "checkpoints"
STAND_INS: dict[str, tuple[str, dict]] = {  # what has the shape of a checkpoint that is not there
    "micro_deit": ("micro_deit", {}),
    "micro_deit_class_token": ("micro_deit", TOKEN_HEAD),
    "micro_stvit_4": ("micro_stvit", {}),
    "micro_stvit_16": ("micro_stvit", dict(num_semantic_tokens=16)),
    "micro_stvit_global": ("micro_stvit", dict(initialization="global")),
    "micro_bat": ("micro_bat", dict(keep_rate=0.4)),
    "micro_swin": ("micro_swin", {}),
    "micro_stvit_swin": ("micro_stvit_swin", {}),
    "micro_stvit_r_swin": ("micro_stvit_r_swin", {}),
}


@dataclass(frozen=True)
class Subject:
    """A model in evaluation mode, and what it is."""

    name: str
    model: nn.Module
    trained: bool
    weights: Path | None = None
    found: str = ""  # which pretrained weights these are, with a checksum

    @property
    def label(self) -> str:
        return self.name if self.trained else f"{self.name}, UNTRAINED"

    @property
    def size(self) -> tuple[int, int]:
        """The image size, in pixels, that the model was made for."""
        embed = getattr(self.model, "patch_embed", None)
        size = getattr(embed, "img_size", None) or self.model.pretrained_cfg["input_size"][1:]
        return (size, size) if isinstance(size, int) else tuple(size)

    def resized(self, size: tuple[int, int]) -> Subject:
        """The same model for images of another size in pixels: its positions are resampled."""
        if size == self.size:
            return self
        model = copy.deepcopy(self.model)
        try:
            model.set_input_size(img_size=size)
        except (AttributeError, AssertionError, RuntimeError, ValueError) as reason:
            words = str(reason).strip() or "its patches do not fit"
            raise ValueError(f"{self.name} cannot be set to {size[0]} × {size[1]} pixels: {words}") from None
        return replace(self, model=model)


def open_pretrained(name: str = REAL, size: int = REAL_SIZE) -> Subject:
    """A model with real weights, built for images of ``size`` pixels: see ``stvit.pretrained`` for the names."""
    import stvit
    from stvit.pretrained import SHIPPED

    model = stvit.pretrained(name, quiet=True, img_size=size)
    if name in SHIPPED:
        found = f"{SHIPPED[name].label}, sha256 {SHIPPED[name].sha256}"
    else:
        cfg = model.pretrained_cfg
        found = f"timm's {cfg.get('architecture')}.{cfg.get('tag')}, tensors' sha256 {digest_of(model)}"
    return Subject(name, model, trained=True, found=found)


def real_or_none(size: int = REAL_SIZE) -> tuple[Subject | None, str]:
    """The real model that figures start from; where its weights are not at hand None, and a line that says why."""
    from stvit.pretrained import PretrainedError

    try:
        return open_pretrained(REAL, size), ""
    except (PretrainedError, ImportError) as reason:
        return None, str(reason)


def digest_of(model: nn.Module) -> str:
    """A checksum over all tensors of a model."""
    state = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        state.update(name.encode() + value.contiguous().numpy().tobytes())
    return state.hexdigest()


def available(shelf: Path = CHECKPOINTS) -> list[str]:
    """The checkpoints at hand, by name."""
    return sorted(path.parent.name for path in Path(shelf).glob("*/model.safetensors"))


def open_model(which: str | Path, shelf: Path = CHECKPOINTS, seed: int = 0) -> Subject:
    """Real weights that a package ships, a shipped checkpoint, any checkpoint by path, or an untrained timm model."""
    import timm
    import torch

    import stvit
    from stvit.pretrained import SHIPPED

    name = str(which)
    if name in SHIPPED:
        return open_pretrained(name)
    if name in available(shelf):
        return _load(shelf / name, name)
    if name not in STAND_INS and Path(name).exists():
        return _load(Path(name), Path(name).name)
    if name in STAND_INS or timm.is_model(name):
        architecture, args = STAND_INS.get(name, (name, {}))
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            return Subject(name, timm.create_model(architecture, **args).eval(), trained=False)
    shipped = ", ".join(available(shelf)) or "none"
    raise stvit.CheckpointError(
        f"{name!r} is neither a path, nor a timm model, nor a shipped checkpoint ({shipped})"
    )


def _load(folder: Path, name: str) -> Subject:
    import stvit

    weights = folder / "model.safetensors" if folder.is_dir() else folder
    return Subject(name, stvit.load_checkpoint(folder).eval(), trained=True, weights=weights)


def add_arguments(parser: argparse.ArgumentParser, report: str, checkpoint: str) -> None:
    """The options of commands that draw one image through one model, or write ``report`` over many scenes."""
    from analysis.images import SAMPLES

    parser.add_argument("--image", help=f"a file, or one of {', '.join(SAMPLES)} (scene:7 is scene 7)")
    parser.add_argument(
        "--checkpoint",
        help=f"shipped name, path or timm model (for photographs {REAL} where it is at hand, else {checkpoint})",
    )
    parser.add_argument(
        "--size", type=at_least(1), nargs=2, metavar=("H", "W"), help="image size (the model's)"
    )
    parser.add_argument("--images", type=at_least(1), default=256, help="scenes to measure on (256)")
    parser.add_argument("--report", action="store_true", help=f"write results/{report} with its record")
    parser.add_argument("--out", type=new_folder, help="folder for pictures or report")


def subject_of(args: argparse.Namespace, otherwise: str) -> Subject:
    """The model that ``--checkpoint`` and ``--size`` ask for; the real one for photographs, where it is at hand."""
    subject = None
    if args.checkpoint is None and not args.image.startswith("scene"):
        subject, _ = real_or_none()
    if subject is None:
        subject = open_model(args.checkpoint or otherwise)
    return subject.resized(tuple(args.size)) if args.size else subject


def weights_of(*subjects: Subject) -> list[Path]:
    """The files that a report names as its inputs."""
    return list(dict.fromkeys(subject.weights for subject in subjects if subject.weights is not None))
