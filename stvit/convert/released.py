"""The STViT-R authors' released weights: classifiers and the backbones of their detectors.

    model = stvit.load_released("stvit-r-swin-small.pth")  # images → logits, or images → four maps

The files hold a pickled configuration beside the tensors. They are read by torch's restricted unpickler,
with an inert dictionary standing in for the configuration's class: no code of the file runs.
"""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

# Classes of configuration objects in such files. They are not imported: their content becomes a dictionary.
CONFIGURATIONS = ("yacs.config.CfgNode", "mmcv.utils.config.ConfigDict", "addict.addict.Dict")

RENAMED = (
    (r"^patch_embed\.proj\.0\.c\.", "patch_embed.proj.0.conv."),
    (r"^patch_embed\.proj\.2\.c\.", "patch_embed.proj.1.conv."),
    (r"^patch_embed\.proj\.2\.bn\.", "patch_embed.proj.1.bn."),
    (r"\.layer_scale_([12])$", r".ls\1.gamma"),
    (r"^norm([0-3])\.", r"output_norms.\1."),
    (r"^head\.", "head.fc."),
)
DERIVED = ("relative_position_index", "attn_mask")  # buffers that a model computes itself


def load_released(path: str | Path, **options: object) -> nn.Module:
    """The model of one of the authors' checkpoints, with its weights, in evaluation mode.

    A classifier returns logits, a detector's backbone four maps at strides 4, 8, 16 and 32. ``options``
    change the model as in ``timm.create_model``. A detector's backbone masks padding as it should by
    default; ``border="released"`` masks it as the authors' program does, to reproduce its outputs.
    Raises ValueError where the file is not one of these checkpoints.
    """
    state_dict = strip(read_tensors(path))
    name, found = describe(state_dict)
    model = timm.create_model(name, **{**found, **options})
    target = getattr(model, "model", model)  # features_only wraps the model
    missing, unexpected = target.load_state_dict(convert(state_dict), strict=False)
    missing = [key for key in missing if not key.endswith(".num_batches_tracked")]
    if missing or unexpected:
        raise ValueError(f"{path} does not fit {name}: missing {missing[:5]}, unexpected {unexpected[:5]}")
    return model.eval()


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a checkpoint file, which may be nested and hold other things."""
    stand_ins = [(OrderedDict, name) for name in CONFIGURATIONS]
    try:
        with torch.serialization.safe_globals(stand_ins):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError, AttributeError, TypeError, ValueError) as error:
        found = re.search(r"[Uu]nsupported (?:global: )?GLOBAL (\S+)", str(error))
        what = "it is damaged or no checkpoint"
        if found:
            what = f"it holds {found[1]}, which is not loaded because unpickling it can run code"
        raise ValueError(f"{path} cannot be read as a checkpoint of tensors: {what}") from error
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, dict) else {}
    if not tensors:
        raise ValueError(f"{path} holds no tensors by name")
    return tensors


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
        raise ValueError(
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
        if ".attn.q." in key:
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
