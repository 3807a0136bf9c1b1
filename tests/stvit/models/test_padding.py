"""Methods that keep as many tokens as an image needs: what an image gives does not depend on those beside it."""

from functools import cache

import pytest
import timm
import torch

import stvit

SIZES = dict(embed_dim=48, num_heads=3, depth=6, num_classes=7, img_size=64, patch_size=8)
METHODS = {
    "ats": {},
    "ats_sorted": {},
    "iared2": {},
    "spvit": {},
    "avit": dict(gate_scale=10.0, gate_center=2.0),
    "dge": {},
}
HEADS = {
    "class token": ("vit_tiny_patch16_224", {}),
    "mean": ("vit_tiny_patch16_224", dict(global_pool="avg")),
    "mean with class token": ("vit_tiny_patch16_224", dict(global_pool="avg", pool_include_prefix=True)),
    "maximum": ("vit_tiny_patch16_224", dict(global_pool="max")),
    "mean and maximum": ("vit_tiny_patch16_224", dict(global_pool="avgmax")),
    "attention": ("vit_base_patch16_siglip_224", dict(class_token=True)),
    "attention, PE": ("vit_pe_core_tiny_patch16_384", {}),
    "mean, BEiT": ("beit_base_patch16_224", {}),
    "auxiliary, LV-ViT": ("lvvit_small_patch16_224", dict(patch_size=16, img_size=128)),
}


@cache
def dense(head: str):
    """A model whose images keep different numbers of tokens, and eight of them, from dull to garish."""
    name, changes = HEADS[head]
    torch.manual_seed(0)
    model = timm.create_model(name, **{**SIZES, **changes}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    strength = torch.linspace(0.2, 4, 8)[:, None, None, None]
    return model, strength * torch.randn(8, 3, *model.patch_embed.img_size)


@torch.no_grad()
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("head", HEADS)
def test_an_image_gives_the_same_alone_and_among_others(head, method):
    model, x = dense(head)
    sparse = stvit.sparsify(model, method=method, **METHODS[method])
    together, alone = sparse(x), torch.cat([sparse(one) for one in x.split(1)])
    torch.testing.assert_close(together, alone, atol=2e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("method", ["ats", "ats_sorted", "iared2", "spvit"])
def test_padding_reads_zero_and_images_need_it(method):
    model, x = dense("mean")
    sparse = stvit.sparsify(model, method=method)
    tokens = sparse.forward_features(x)
    counts = (tokens[:, 1:] != 0).any(dim=2).sum(dim=1)
    assert sparse.pads and len(counts.unique()) > 1 and counts.max() == tokens.shape[1] - 1
    for one, count in zip(x.split(1), counts, strict=True):
        assert sparse.forward_features(one).shape[1] == 1 + max(1, count)


@torch.no_grad()
def test_an_image_without_tokens_gives_numbers():
    model, x = dense("attention")
    sparse = stvit.sparsify(model, method="iared2", threshold=0.6)
    for reduction in sparse.reductions.values():
        reduction.qk.weight.zero_(), reduction.qk.bias.zero_()  # every token stays with probability 1/2
    assert not sparse.forward_features(x)[:, 1:].any() and sparse(x).isfinite().all()


def test_other_methods_do_not_pad():
    model, _ = dense("mean")
    assert not any(stvit.sparsify(model, method=method).pads for method in ("bat", "tome", "avit", "dge"))
