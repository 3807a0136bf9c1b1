"""The STViT-R authors' released weights: classifiers and the backbones of their detectors.

    model = stvit.load_released("stvit-r-swin-small.pth")  # images → logits, or images → four maps

The files hold a pickled configuration beside the tensors. They are read by torch's restricted unpickler,
with an inert dictionary standing in for the configuration's class: no code of the file runs.
"""

from __future__ import annotations

import re
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from stvit.checkpoints import CheckpointError, fill, read_state_dict
from stvit.convert.rivals import is_rival, load_rival

# Classes of configuration objects in such files. They are not imported: their content becomes a dictionary.
CONFIGURATIONS = (
    "yacs.config.CfgNode",
    "mmcv.utils.config.ConfigDict",
    "addict.addict.Dict",
    "argparse.Namespace",
)

RENAMED = (
    (r"^patch_embed\.proj\.0\.c\.", "patch_embed.proj.0.conv."),
    (r"^patch_embed\.proj\.2\.c\.", "patch_embed.proj.1.conv."),
    (r"^patch_embed\.proj\.2\.bn\.", "patch_embed.proj.1.bn."),
    (r"\.layer_scale_([12])$", r".ls\1.gamma"),
    (r"^norm([0-3])\.", r"output_norms.\1."),
    (r"^head\.", "head.fc."),
)
DERIVED = ("relative_position_index", "attn_mask")  # buffers that a model computes itself
COUNTERS = ("*.num_batches_tracked",)  # of BatchNorm, which inference does not read and old files lack


def load_released(path: str | Path, **options: object) -> nn.Module:
    """The model of one of the authors' checkpoints, with its weights, in evaluation mode.

    A classifier returns logits, a detector's backbone four maps at strides 4, 8, 16 and 32. ``options``
    change the model as in ``timm.create_model``. A detector's backbone masks padding as it should by
    default; ``border="released"`` masks it as the authors' program does, to reproduce its outputs.
    Rivals' checkpoints are read, too: see ``stvit.convert.rivals``.
    Raises CheckpointError where the file is not one of these checkpoints.
    """
    state_dict = strip(read_tensors(path))
    if is_rival(state_dict):
        return load_rival(state_dict, str(path), **options)
    try:
        name, found = describe(state_dict)
    except (IndexError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path} holds no released STViT-R-Swin: {error}") from None
    model = timm.create_model(name, **{**found, **options})
    target = getattr(model, "model", model)  # features_only wraps the model
    fill(target, convert(state_dict), source=f"{path} as {name}", fresh=COUNTERS)
    return model.eval()


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The state dict in one of the authors' files, which may be nested and hold a configuration beside it."""
    return read_state_dict(path, inert=CONFIGURATIONS, nestings=("model", "state_dict"))


def strip(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """The backbone alone: a detector's other parts are left out."""
    state_dict = {key.removeprefix("module."): value for key, value in state_dict.items()}
    if any(key.startswith("backbone.") for key in state_dict):
        state_dict = {
            key.removeprefix("backbone."): value
            for key, value in state_dict.items()
            if key.startswith("backbone.")
        }
    return state_dict


def describe(state_dict: dict[str, Tensor]) -> tuple[str, dict]:
    """Which released model a state dict in the authors' names belongs to: its name and arguments."""
    stem, table = "patch_embed.proj.2.c.weight", "layers.{}.blocks.0.attn.relative_position_bias_table"
    needed = [stem, "layers.2.blocks.1.layer_scale_1", *(table.format(i) for i in range(4))]
    absent = [key for key in needed if key not in state_dict]
    if absent:
        raise CheckpointError(
            f"these are not weights of the released STViT-R-Swin: {', '.join(absent[:3])} is not among "
            f"{len(state_dict)} tensors such as {', '.join(list(state_dict)[:3])}"
        )
    numbers = [re.match(r"layers\.(\d)\.blocks\.(\d+)\.norm1\.weight", key) for key in state_dict]
    found = [(int(match[1]), int(match[2])) for match in numbers if match]
    width = state_dict[stem].shape[0]
    args: dict = dict(
        embed_dim=width,
        depths=tuple(1 + max(block for stage, block in found if stage == i) for i in range(4)),
        num_heads=tuple(state_dict[table.format(i)].shape[1] for i in range(4)),
        in_chans=state_dict["patch_embed.proj.0.c.weight"].shape[1],
    )
    detection = "norm3.weight" in state_dict
    if detection:
        args.update(features_only=True)
    else:
        args.update(num_classes=state_dict["head.weight"].shape[0] if "head.weight" in state_dict else 0)
    if "layers.2.semantic_token2" in state_dict:
        args.update(initialization="offset")
    size = "base" if width >= 128 else "small"
    return f"stvit_r_swin_{size}_patch4_window7_224.released{'_detection' * detection}", args


def convert(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """From the authors' names and layout to those here."""
    converted = {}
    for key, value in state_dict.items():
        if key.endswith(DERIVED) or ".attn.kv." in key:
            continue
        if ".attn.q." in key and key.replace(".q.", ".kv.") in state_dict:
            value = torch.cat([value, state_dict[key.replace(".q.", ".kv.")]])
            key = key.replace(".attn.q.", ".attn.qkv.")
        if key == "layers.2.semantic_token2":
            key, value = "layers.2.blocks.2.centers.weight", value[0]
        key = re.sub(  # patch merging closes a stage there and opens the next one here
            r"^layers\.(\d)\.downsample", lambda match: f"layers.{int(match[1]) + 1}.downsample", key
        )
        for pattern, new in RENAMED:
            key = re.sub(pattern, new, key)
        converted[key] = value
    return converted
