"""``timm.create_model`` drops options that are None: none may mean something by it."""

import dataclasses
import inspect
import json

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer

import stvit
from stvit.checkpoints import load_checkpoint, save_checkpoint
from stvit.layers.window_options import SemanticOptions
from stvit.models.reduced_vit import Place
from stvit.models.registry import default_cfgs
from stvit.models.stvit_swin import STViTRSwin, STViTSwin
from stvit.models.stvit_video_swin import STViTVideoSwin
from stvit.models.vit import SemanticTokens
from stvit.reduce import METHODS
from stvit.training.config import TrainConfig

TINY = dict(img_size=32, patch_size=8, embed_dim=16, depth=4, num_heads=2, num_classes=3)


def defaults(cls) -> dict:
    """Our own options of a class and their defaults."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.default is not inspect.Parameter.empty and name not in ("self", *Place._fields)
    }


GIVEN = [
    (method, name) for method, cls in METHODS.items() for name, v in defaults(cls).items() if v is not None
]


@pytest.mark.parametrize(("method", "option"), GIVEN)
def test_reductions_refuse_none_for_what_has_a_default(method, option):
    with pytest.raises(ValueError, match=f"{option}=None says nothing"):
        stvit.sparsify(VisionTransformer(**TINY), method=method, **{option: None})


@pytest.mark.parametrize("option", [field.name for field in dataclasses.fields(SemanticOptions)])
def test_windowed_models_refuse_none(option):
    with pytest.raises(ValueError, match=f"{option}=None says nothing"):
        SemanticOptions(**{option: None})


@pytest.mark.parametrize(
    "option", [name for name, v in defaults(SemanticTokens.equip).items() if v is not None]
)
def test_vits_refuse_none(option):
    with pytest.raises((ValueError, TypeError)):
        timm.models.build_model_with_cfg(
            stvit.models.vit.STViT, "stvit_deit_tiny_patch16_224", False, **TINY, **{option: None}
        )


OURS = {
    *(
        name
        for cls in (STViTSwin, STViTRSwin, STViTVideoSwin, SemanticTokens.equip)
        for name in defaults(cls)
    ),
    *(name for cls in METHODS.values() for name in defaults(cls)),
    *(field.name for field in dataclasses.fields(SemanticOptions)),
}


@pytest.mark.parametrize("name", sorted({name.partition(".")[0] for name in default_cfgs}))
def test_no_registered_model_changes_an_option_whose_default_is_none(name):
    """Else None, dropped by timm, would bring that model's value and not the class's default."""
    found = inspect.getclosurevars(timm.models.model_entrypoint(name)).nonlocals
    cls = found["cls"]
    own = defaults(cls) if inspect.isclass(cls) else {}
    if "method" in found["defaults"]:
        own = {**own, **defaults(METHODS[found["defaults"]["method"]])}
    changed = {*found["defaults"], *(key for tag in (found.get("tags") or {}).values() for key in tag)}
    assert not {key for key in changed & OURS if key in own and own[key] is None}


def test_a_training_refuses_what_timm_would_drop():
    with pytest.raises(ValueError, match="merger=None would be dropped"):
        TrainConfig.of(model="micro_bat", model_args=dict(merger=None))


def test_checkpoints_of_the_time_when_none_had_a_meaning_load_with_it(tmp_path):
    saved = timm.create_model("micro_bat", merger="none", keep_rate=0.5).eval()
    save_checkpoint(saved, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_args"]["merger"] == "none"
    config["model_args"]["merger"] = None
    (tmp_path / "config.json").write_text(json.dumps(config))
    x = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        assert torch.equal(load_checkpoint(tmp_path).eval()(x), saved(x))
        assert not torch.equal(timm.create_model("micro_bat", keep_rate=0.5).eval()(x), saved(x))
