"""What a dense teacher says of each image, computed once: its tokens after some layers, and its class feature.

    taught = ask(teacher, images, layers=(4,))[4]    # images (N, 3, H, W) uint8
    taught.inputs     (N, prefix + n, C) half precision, in memory or mapped from a file
    taught.features   (N, C), what the teacher's classifier reads
    taught.batch(numbers)                            # the two as float32, for training
    taught.maps       (N, n, C) half precision, if asked for: its image tokens after the last norm

After layer 0 the inputs are the images themselves, for students whose first layers learn too.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor, nn
from tqdm import tqdm

from stvit.data.on_device import free_memory
from stvit.training.bfloat16 import mixed_precision

BATCH = 50
SHARE = 0.5  # of the free memory, or 0.9 of the free disk, that may be taken
FEATURES, MAPS = "features.npy", "maps"
Kind: TypeAlias = "int | str"  # of tokens that are kept: after a layer, or MAPS


@dataclass
class Taught:
    """Images as the late layers of a student read them, and what the teacher makes of them.

    done: how many of the teacher's layers ``inputs`` have been through; 0: they are images
    grid: of the image tokens
    mean, std: by which images are normalised
    """

    inputs: Tensor
    features: Tensor
    done: int
    grid: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    maps: Tensor | None = None

    def __len__(self) -> int:
        return len(self.features)

    def first(self, count: int) -> Taught:
        """The first ``count`` images (all, where there are fewer)."""
        maps = None if self.maps is None else self.maps[:count]
        return replace(self, inputs=self.inputs[:count], features=self.features[:count], maps=maps)

    def batch(self, numbers: Tensor, maps: bool = False) -> tuple[Tensor, Tensor]:
        """Inputs, and features (b, C); with ``maps`` features and map in one, (b, 1 + n, C)."""
        inputs = self.inputs[numbers]
        if self.done == 0:
            inputs = normalise(inputs, self.mean, self.std)
        features = self.features[numbers].float()
        if maps:
            features = torch.cat([features[:, None], self.maps[numbers].float()], dim=1)
        return inputs.float(), features


def ask(
    teacher: nn.Module,
    images: Tensor,
    layers: Iterable[int],
    folder: str | Path = "",
    quiet: bool = True,
    precision: str = "no",
    maps: bool = False,
) -> dict[int, Taught]:
    """Run ``teacher`` once over ``images`` (N, 3, H, W) uint8 and keep its tokens after each of ``layers``.

    folder: keep them in files there, which another run over the same images reads again; else in memory
    precision: bf16 computes in mixed precision, which halves the time on a recent processor
    maps: keep the image tokens after the last norm too, for students that learn the whole map
    """
    layers = sorted(set(layers))
    check_images(images, teacher)
    shape = tokens_of(teacher, images)
    kinds = [*(layer for layer in layers if layer), *([MAPS] if maps else [])]
    check_room(len(images), shape, len(kinds), folder)
    place = Path(folder) / address(teacher, images, precision) if folder else None
    kept = None if place is None else read(place, kinds)
    if kept is None:
        kept = run(teacher, images, kinds, shape, place, quiet, precision)
    tokens, features = kept
    grid, cfg = grid_of(teacher, images), getattr(teacher, "pretrained_cfg", {})
    pixels = tuple(cfg.get("mean", (0.5,) * 3)), tuple(cfg.get("std", (0.5,) * 3))
    return {
        layer: Taught(tokens[layer] if layer else images, features, layer, grid, *pixels, tokens.get(MAPS))
        for layer in layers
    }


def run(teacher, images, kinds, shape, place, quiet, precision) -> tuple[dict[Kind, Tensor], Tensor]:
    """Tokens by kind, and features, written to ``place`` if there is one: files have their names when whole."""
    count, tokens, channels = len(images), *shape
    grid = grid_of(teacher, images)
    arrays = {
        kind: space((count, grid[0] * grid[1] if kind == MAPS else tokens, channels), place, kind)
        for kind in kinds
    }
    features, modes = [], [(module, module.training) for module in teacher.modules()]
    teacher.eval()
    cfg, device = getattr(teacher, "pretrained_cfg", {}), next(teacher.parameters()).device
    pixels = tuple(cfg.get("mean", (0.5,) * 3)), tuple(cfg.get("std", (0.5,) * 3))
    with torch.inference_mode(), mixed_precision(device.type, precision):
        for start in tqdm(range(0, count, BATCH), "teacher", leave=False, disable=quiet or None):
            part = slice(start, min(start + BATCH, count))
            found, feature = look(teacher, normalise(images[part], *pixels).to(device), arrays)
            features.append(feature.float().cpu())
            for kind, array in arrays.items():
                array[part] = found[kind].half().cpu().numpy()
    for module, mode in modes:
        module.training = mode
    features = torch.cat(features)
    if place is not None:
        finish(arrays, features, place)
        return read(place, kinds)
    return {kind: torch.from_numpy(array) for kind, array in arrays.items()}, features


def look(teacher: nn.Module, images: Tensor, kinds: Iterable[Kind]) -> tuple[dict[Kind, Tensor], Tensor]:
    """Tokens (B, prefix + n, C) as they leave layers (from 1), the map (B, n, C), and the class feature (B, C)."""
    found: dict[Kind, Tensor] = {}
    with ExitStack() as stack:
        for layer in kinds:
            if layer != MAPS:
                hook = lambda _, __, output, layer=layer: found.update({layer: output})  # noqa: E731
                stack.callback(teacher.blocks[layer - 1].register_forward_hook(hook).remove)
        last = teacher.forward_features(images)
        found[MAPS] = map_of(teacher, last)
        return found, feature_of(teacher, last)


def feature_of(model: nn.Module, tokens: Tensor) -> Tensor:
    """Tokens after the last norm → (B, C), what the classifier reads."""
    return model.forward_head(tokens, pre_logits=True)


def map_of(model: nn.Module, tokens: Tensor) -> Tensor:
    """Tokens after the last norm → (B, n, C), those of the image."""
    return tokens[:, getattr(model, "num_prefix_tokens", 0) :]


def normalise(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(B, 3, H, W) uint8 → as the teacher's training scaled its images."""
    mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in (mean, std))
    return (images.float() / 255 - mean) / std


def check_images(images: Tensor, teacher: nn.Module) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or images.dtype != torch.uint8 or not len(images):
        raise ValueError(
            f"images are one tensor (N, 3, H, W) of uint8 with N ≥ 1, not {tuple(images.shape)} of {images.dtype}"
        )
    wanted, size = getattr(teacher, "patch_embed", None), tuple(images.shape[-2:])
    fixed = getattr(wanted, "strict_img_size", False)
    if fixed and tuple(wanted.img_size) != size:
        raise ValueError(
            f"images are {size[0]} × {size[1]}, and the teacher is made for {wanted.img_size[0]} × "
            f"{wanted.img_size[1]}; build it with img_size=… or scale the images"
        )


def tokens_of(teacher: nn.Module, images: Tensor) -> tuple[int, int]:
    """How many tokens an image has in the teacher, and how many channels they have."""
    grid = grid_of(teacher, images)
    return grid[0] * grid[1] + getattr(teacher, "num_prefix_tokens", 0), teacher.num_features


def grid_of(teacher: nn.Module, images: Tensor) -> tuple[int, int]:
    grid = teacher.patch_embed.dynamic_feat_size(tuple(images.shape[-2:]))
    return int(grid[0]), int(grid[1])


def check_room(count: int, shape: tuple[int, int], kinds: int, folder: str | Path) -> None:
    """ValueError where the tokens take more than may be taken, with what to do."""
    needed = count * shape[0] * shape[1] * 2 * kinds
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        free, where = 0.9 * shutil.disk_usage(folder).free, f"the disk of {folder}"
        remedy = "name another folder, or take fewer images"
    else:
        free, where = SHARE * free_memory(torch.device("cpu")), "half of the free memory"
        remedy = "name a folder that keeps them on disk (--cache), or take fewer images (--train-images)"
    if needed > free:
        raise ValueError(
            f"the teacher's tokens of {count:,} images take {needed / 1e9:.1f} GB, more than {where} holds "
            f"({max(free, 0) / 1e9:.1f} GB): {remedy}"
        )


def address(teacher: nn.Module, images: Tensor, precision: str) -> str:
    """A name for what this teacher says of these images."""
    state = hashlib.sha256(np.ascontiguousarray(images.numpy()).tobytes())
    for name, value in teacher.state_dict().items():
        state.update(name.encode() + value.detach().cpu().float().contiguous().numpy().tobytes())
    return f"taught-{state.hexdigest()[:16]}{'' if precision == 'no' else f'-{precision}'}"


def space(shape: tuple[int, ...], place: Path | None, kind: Kind) -> np.ndarray:
    if place is None:
        return np.empty(shape, np.float16)
    place.mkdir(parents=True, exist_ok=True)
    return open_memmap(place / f".part-{os.getpid()}-{kind}.npy", "w+", np.float16, shape)


def finish(arrays: dict[Kind, np.ndarray], features: Tensor, place: Path) -> None:
    scratch = place / f".part-{os.getpid()}-{FEATURES}"
    np.save(scratch, features.numpy())
    os.replace(scratch, place / FEATURES)
    for kind, array in arrays.items():
        array.flush()
        os.replace(place / f".part-{os.getpid()}-{kind}.npy", place / f"{kind}.npy")


def read(place: Path, kinds: list[Kind]) -> tuple[dict[Kind, Tensor], Tensor] | None:
    """What an earlier run kept of all ``kinds``; None if something is missing."""
    files = {kind: place / f"{kind}.npy" for kind in kinds}
    if not all(file.exists() for file in (*files.values(), place / FEATURES)):
        return None
    arrays = {
        kind: np.load(file, mmap_mode="c") for kind, file in files.items()
    }  # c: torch wants it writable
    return {kind: torch.from_numpy(array) for kind, array in arrays.items()}, torch.from_numpy(
        np.load(place / FEATURES)
    )
