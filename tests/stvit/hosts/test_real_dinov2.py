"""DINOv2-S, as shipped, through timm and through transformers: the same numbers, dense and sparsified."""

import pytest
import torch

import stvit
from stvit.pretrained import is_available

T = pytest.importorskip("transformers")
pytestmark = pytest.mark.skipif(
    not is_available(), reason="the package that ships the weights is not installed"
)

NAMES = {  # timm's → transformers'
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj.": "embeddings.patch_embeddings.projection.",
    "blocks.": "encoder.layer.",
    ".attn.proj.": ".attention.o_proj.",
    ".ls1.gamma": ".layer_scale1.lambda1",
    ".ls2.gamma": ".layer_scale2.lambda1",
}


def for_transformers(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """timm's names as transformers': queries, keys and values apart."""
    renamed = {}
    for name, value in state.items():
        for old, new in NAMES.items():
            name = name.replace(old, new)
        name = name.replace("norm.", "layernorm.") if name.startswith("norm.") else name
        if ".attn.qkv." in name:
            parts = zip("qkv", value.chunk(3), strict=True)
            renamed |= {name.replace("attn.qkv", f"attention.{letter}_proj"): part for letter, part in parts}
        else:
            renamed[name] = value
    return renamed


@pytest.fixture(scope="module")
def pair():
    timms = stvit.pretrained("dinov2_small", quiet=True, img_size=224)
    config = T.Dinov2Config(hidden_size=384, num_attention_heads=6, image_size=224, patch_size=14)
    theirs = T.Dinov2Model(config).eval()
    missing, unexpected = theirs.load_state_dict(for_transformers(timms.state_dict()), strict=False)
    assert missing == ["embeddings.mask_token"] and not unexpected
    return timms, theirs


@pytest.mark.parametrize("choices", [None, dict(method="bat", keep_rate=0.7), dict(tokens=16, at=5)])
@torch.inference_mode()
def test_the_same_numbers_through_both(pair, choices):
    torch.manual_seed(0)
    images = torch.randn(2, 3, 224, 224)
    one, other = pair
    if choices is not None:
        one, other = (stvit.sparsify(model, **choices) for model in pair)
        ours = {"initial": one.initial, "centers": one.blocks[5].centers} if "tokens" in choices else {}
        for name, part in ours.items():  # fresh parts are random: those of one model for both
            layer = other.encoder.layer[5 if name == "centers" else 4]
            getattr(layer, name).load_state_dict(part.state_dict())
    expected, found = one.forward_features(images), other(images).last_hidden_state
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.abs().max()), rtol=0)


def test_an_adapter_is_read_onto_the_public_weights(tmp_path):
    teacher = stvit.pretrained("dinov2_small", quiet=True, img_size=98)
    student = stvit.sparsify(teacher, tokens=9, at=5)
    with torch.no_grad():
        student.blocks[7].mlp.fc1.weight += torch.outer(torch.randn(1536), torch.randn(384)) / 100
    about = {"base": "dinov2_small", "image_size": 98, "sparsify": {"tokens": 9, "at": 5}, "rank": 4}
    stvit.save_pretrained(student, tmp_path, record={"cosine": 0.5}, teacher=teacher, about=about)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 1e6
    images = torch.randn(1, 3, 98, 98)
    again = stvit.from_pretrained(tmp_path)
    torch.testing.assert_close(again(images), student(images), atol=1e-2, rtol=1e-2)  # kept in half precision
    assert "| base | vit_small_patch14_dinov2 |" in (tmp_path / "README.md").read_text()
