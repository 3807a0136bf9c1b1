"""Folders and repositories of the Hugging Face hub: models of timm and of transformers, and adapters, with a card.

    stvit.save_pretrained(model, "runs/few", record={"top1": 79.8})
    again = stvit.from_pretrained("runs/few")
    stvit.push_to_hub(model, "me/few", record={"top1": 79.8})

A model of timm is kept as timm's hub loader reads it (``timm.create_model("local-dir:runs/few", pretrained=True)``), a
model of transformers as its own ``save_pretrained`` writes it, so that ``from_pretrained`` of its class reads it as the
dense model. An adapter (``teacher=…``) is what a student differs by from weights that anyone can have.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelHubMixin, snapshot_download
from torch import Tensor, nn

from stvit.checkpoints import CONFIG, RECORD, CheckpointError, load_checkpoint, save_checkpoint, write_json
from stvit.checkpoints.configured import architecture_rules, check_arguments, read_json
from stvit.checkpoints.difference import read_about, save_difference
from stvit.counted import multiply_adds
from stvit.extras import require
from stvit.hosts.huggingface import KEY, find_towers, image_inputs, is_sparse, takes_huggingface
from stvit.hosts.huggingface.saved import fill_added
from stvit.pretrained import from_teacher
from stvit.record import unwrap
from stvit.sparsify import densify, sparsify

ADAPTER = "adapter.safetensors"
CARD = """---
{{ card_data }}
---

# {{ title }}

{{ base }} with fewer tokens, made by stvit, which reads it again: `stvit.from_pretrained("…")`.

| | |
|---|---|
{% for name, value in facts %}| {{ name }} | {{ value }} |
{% endfor %}
{% if record %}## Record

| | |
|---|---|
{% for name, value in record %}| {{ name }} | {{ value }} |
{% endfor %}{% endif %}"""


class HubFolder(
    ModelHubMixin,
    library_name="stvit",
    tags=["token-reduction", "vision-transformer"],
    model_card_template=CARD,
):
    """A sparsified model with its record; huggingface_hub's mixin saves, loads and pushes it.

    teacher: the model that an adapter is kept beside, and ``about``, what ``save_difference`` is told of it
    """

    def __init__(
        self,
        model: nn.Module,
        record: dict | None = None,
        teacher: nn.Module | None = None,
        about: dict | None = None,
    ):
        self.model, self.record, self.teacher, self.about = unwrap(model), record, teacher, about
        self._hub_mixin_config = None if teacher is None else about  # else the model writes its own

    def _save_pretrained(self, save_directory: Path) -> None:
        if self.teacher is not None:
            rank = (self.about or {}).get("rank", 16)
            save_difference(self.model, self.teacher, save_directory / ADAPTER, rank, self.about or {})
        elif takes_huggingface(self.model):
            self.model.save_pretrained(save_directory)
        else:
            save_checkpoint(self.model, save_directory, self.record)
        if self.record is not None:
            write_json(self.record, save_directory / RECORD)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, local_files_only: bool = False, **download) -> HubFolder:
        folder = Path(model_id)
        if not folder.is_dir():
            wanted = {name: download[name] for name in ("revision", "cache_dir", "force_download", "token")}
            folder = Path(snapshot_download(model_id, local_files_only=local_files_only, **wanted))
        record = folder / RECORD
        return cls(load_folder(folder), read_json(record) if record.exists() else None)

    def generate_model_card(self, *args, **kwargs):
        shown = {
            name: value for name, value in (self.record or {}).items() if isinstance(value, (str, int, float))
        }
        about = facts(self.model, self.teacher)
        title = f"{about['base']}, {about['method']}"
        return super().generate_model_card(
            *args,
            title=title,
            base=about["base"],
            facts=list(about.items()),
            record=list(shown.items()),
            **kwargs,
        )


def save_pretrained(
    model: nn.Module,
    folder: str | Path,
    record: dict | None = None,
    teacher: nn.Module | None = None,
    about: dict | None = None,
) -> Path:
    """Write a sparsified model, its record and a model card (unless there is one) to ``folder``.

    teacher: with it only what ``model`` differs by is written, an adapter; ``about`` says how to make the student
        again: {"base": "dinov2_small", "image_size": 224, "sparsify": {"tokens": 16, "at": 5}, "rank": 16}
    """
    HubFolder(model, record, teacher, about).save_pretrained(folder)
    return Path(folder)


def push_to_hub(
    model: nn.Module,
    repo_id: str,
    record: dict | None = None,
    teacher: nn.Module | None = None,
    about: dict | None = None,
    **settings,
) -> str:
    """As ``save_pretrained``, to a repository; settings are those of huggingface_hub's mixin, such as private=True."""
    return HubFolder(model, record, teacher, about).push_to_hub(repo_id, **settings)


def from_pretrained(name: str | Path, **download) -> nn.Module:
    """The model of a folder, or of a repository of the hub, in evaluation mode.

    download: of huggingface_hub: revision, token, cache_dir, force_download, local_files_only
    """
    return HubFolder.from_pretrained(name, **download).model.eval()


def load_folder(folder: Path) -> nn.Module:
    """What ``save_pretrained`` wrote: an adapter, a model of transformers, or one of timm."""
    if (folder / ADAPTER).exists():
        choices = read_about(folder / ADAPTER).get("sparsify", {})
        check_arguments(choices, architecture_rules(), folder / ADAPTER)
        return from_teacher(folder / ADAPTER, "", True, {})
    if not (folder / CONFIG).exists():
        raise CheckpointError(
            f"{folder} holds neither {CONFIG} nor {ADAPTER}: it is no folder of save_pretrained"
        )
    config = read_json(folder / CONFIG)
    if "model_type" not in config:
        return load_checkpoint(folder)
    if not isinstance(config.get(KEY), dict):
        raise CheckpointError(
            f"{folder / CONFIG} has no {KEY!r}: it is a dense model; load it by its own class"
        )
    choices = check_arguments(config[KEY], architecture_rules(), folder / CONFIG)
    transformers = require("transformers", "a model of transformers")
    name = next(iter(config.get("architectures") or ()), None)
    cls: Any = getattr(transformers, str(name), None)
    is_model = isinstance(cls, type) and issubclass(cls, transformers.PreTrainedModel)
    if not is_model:
        raise CheckpointError(f"{folder / CONFIG}: {name!r} is not a model of transformers")
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # it would list what the dense model has no place for
    try:
        dense = cls.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    finally:
        transformers.logging.set_verbosity(before)
    return fill_added(sparsify(dense, **choices), folder)


def facts(model: nn.Module, teacher: nn.Module | None = None) -> dict[str, Any]:
    """What the card says: method and choices, base, image tokens, and multiply-adds of one image, counted."""
    if takes_huggingface(model):
        tower = find_towers(model)[0]
        said = dict(getattr(model.config, KEY, {}))
        base, given = model.config.name_or_path or type(model).__name__, image_inputs(tower)
        dense = find_towers(densify(model))[0] if is_sparse(model) else tower
        run = tower
    else:
        said, cfg = dict(getattr(model, "_model_args", {})), model.pretrained_cfg
        base = said.pop("base", None) or cfg["architecture"]
        size = getattr(getattr(model, "patch_embed", None), "img_size", None) or cfg["input_size"][1:]
        channels = cfg["input_size"][:-2]  # and for clips the frames
        given, run = {"x": torch.zeros(1, *channels, *size)}, model.forward_features
        dense = dense_trunk(model, teacher)
    method = said.pop("method", "stvit")
    like = next(model.parameters())
    given = {name: value.to(like) if value.is_floating_point() else value for name, value in given.items()}
    about = {
        "base": base,
        "method": method,
        **{name: json.dumps(value, default=str) for name, value in said.items()},
    }
    about["tokens after the last layer"] = tokens_of(run, given)
    about["multiply-adds of an image"] = f"{multiply_adds(run, **given):,}"
    if dense is not None:
        about["multiply-adds of the dense model"] = f"{multiply_adds(dense, **given):,}"
    return about


def dense_trunk(model: nn.Module, teacher: nn.Module | None) -> Any:
    """What the sparsified model of timm is compared with; None where its dense model cannot be had again."""
    try:
        return (densify(model) if teacher is None else teacher).forward_features
    except (ValueError, AttributeError):
        return None


@torch.no_grad()
def tokens_of(run: Any, given: dict[str, Tensor]) -> int:
    """How many tokens, or places of the map, a trunk returns for an image."""
    output = run(**given)
    tokens = (
        output if isinstance(output, Tensor) else output.last_hidden_state
    )  # (1, M, C), or a Swin's (1, h, w, C)
    return tokens.numel() // tokens.shape[-1]
