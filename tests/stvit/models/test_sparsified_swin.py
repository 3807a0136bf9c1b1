"""A timm Swin sparsified, trained and made dense again."""

import pytest
import timm
import torch
from timm.models.swin_transformer import SwinTransformer

import stvit

SMALL = dict(embed_dim=16, depths=(1, 1, 6, 2), num_heads=(1, 2, 4, 8), num_classes=5)


def swin() -> SwinTransformer:
    torch.manual_seed(0)
    return timm.create_model("swin_tiny_patch4_window7_224", **SMALL).eval()


def norm(model: torch.nn.Module) -> torch.Tensor:
    return sum(p.square().sum() for p in model.parameters())


@pytest.mark.parametrize("recovery", [False, True])
@torch.no_grad()
def test_densify_gives_the_swin_back_to_the_bit(recovery):
    model, x = swin(), torch.randn(2, 3, 224, 224)
    sparse = stvit.sparsify(model, tokens=9, recovery=recovery)
    plain = stvit.densify(sparse)
    assert type(plain) is SwinTransformer and plain.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in plain.state_dict().items())
    assert torch.equal(plain(x), model(x)) and not plain.training
    assert plain.feature_info == list(model.feature_info) and plain.pretrained_cfg == model.pretrained_cfg
    assert torch.equal(stvit.densify(stvit.sparsify(plain, tokens=4))(x), model(x))


def test_trained_weights_come_along_and_the_sparse_model_stays():
    sparse = stvit.sparsify(swin(), tokens=9, recovery=True)
    with torch.no_grad():
        for parameter in sparse.parameters():
            parameter.add_(1e-3)
    before = norm(sparse)
    plain = stvit.densify(sparse)
    block = sparse.layers[2].blocks[1]
    assert torch.equal(plain.layers[2].blocks[1].attn.qkv.weight, block.attn.qkv.weight)
    assert torch.equal(plain.layers[0].blocks[0].mlp.fc1.bias, sparse.layers[0].blocks[0].mlp.fc1.bias)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.zero_()
    assert norm(sparse) == before
    assert stvit.densify(sparse.double()).head.fc.weight.dtype == torch.float64


def test_what_a_checkpoint_does_not_hold_is_not_made_up(tmp_path):
    sparse = stvit.sparsify(swin(), tokens=9)
    loaded = stvit.load_checkpoint(stvit.save_checkpoint(sparse, tmp_path))
    for model in (loaded, timm.create_model("micro_stvit_swin")):
        with pytest.raises(ValueError, match="densify the model that sparsify returned"):
            stvit.densify(model)
