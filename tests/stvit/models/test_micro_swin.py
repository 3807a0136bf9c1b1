"""The micro Swins: the same trunk under all three, strides 2 to 16, any size, the table's rows alike."""

import pytest
import timm
import torch
from torch import Tensor, nn

from stvit.models.dumbbell import Dumbbell
from stvit.models.micro_swin import FAMILY, HalvingStem
from stvit.models.stvit_swin import STViTRSwin

BACKBONES = [name for name in FAMILY if name != "micro_stvit_swin"]
SIZES = [(64, 64), (70, 99), (33, 20)]


def build(name: str, **changes) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, **changes).eval()


def images(size: tuple[int, int] = (64, 64), batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(1))


def test_registered():
    assert set(FAMILY) <= set(timm.list_models("micro*swin"))


@pytest.mark.parametrize("name", FAMILY)
def test_what_timm_is_told(name):
    model = build(name)
    cfg = model.pretrained_cfg
    assert cfg["input_size"] == (3, 64, 64) and model.num_classes == cfg["num_classes"] == 12
    modules = dict(model.named_modules())
    assert isinstance(modules[cfg["first_conv"]], nn.Conv2d)
    assert modules[cfg["classifier"]] is model.get_classifier()
    assert isinstance(model.patch_embed, HalvingStem) and model.patch_embed.grid_size == (32, 32)


def test_all_share_the_trunk():
    """Stem, stages 1 and 2 and the first image layer of stage 3 hold the same weights by the same names."""
    dense, others = build("micro_swin").state_dict(), [build(n).state_dict() for n in FAMILY]
    shared = ("patch_embed.", "layers.0.", "layers.1.", "layers.2.downsample.", "layers.2.blocks.0.")
    names = [name for name in dense if name.startswith(shared)]
    assert len(names) > 40
    for other in others:
        assert all(torch.equal(other[name], dense[name]) for name in names)


def test_stage_three_is_four_windows_of_four_semantic_tokens():
    from stvit.layers.window_layout import layout

    stage = build("micro_stvit_r_swin").layers[2]
    assert stage.units == (Dumbbell(1, 2, 2, 1),) * 2 and stage.window == (4, 4)
    where = layout((8, 8), stage.window, stage.options, torch.device("cpu"))
    assert where.semantic == (4, 4)
    assert where.generate.keys.shape == (4, 4 + 6 * 6)  # own semantic tokens and a neighbourhood of 6 × 6
    assert where.cluster is None and where.cross is None and where.recover is None  # the whole map
    assert where.local.keys.shape == (4, 4)


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("size", SIZES)
def test_four_maps_at_strides_of_two_to_sixteen(name, size):
    model = build(name, features_only=True)
    assert model.feature_info.reduction() == [2, 4, 8, 16]
    assert model.feature_info.channels() == [16, 32, 64, 128]
    with torch.no_grad():
        maps = model(images(size, batch=1))
    grid = size
    for found in maps:
        grid = tuple(-(-side // 2) for side in grid)
        assert tuple(found.shape[2:]) == grid and found.isfinite().all()


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("size", SIZES)
def test_any_size(name, size):
    with torch.no_grad():
        assert build(name)(images(size)).shape == (2, 12)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_map_sees_nothing_far_away_before_attention_is_global(name):
    """Stage 1 looks at one window of 4 × 4 and the stem's borders: 3 × 3 pixels more on each side."""
    model = build(name, features_only=True, out_indices=(0,))
    x = images(batch=1).requires_grad_()
    model(x)[0][0, :, 4:8, 4:8].sum().backward()
    seen = (x.grad[0].abs().sum(0) > 0).nonzero()
    assert seen.min(0).values.tolist() == [5, 5] and seen.max(0).values.tolist() == [17, 17]


def test_fewer_multiply_adds_than_the_dense_model():
    from fvcore.nn import FlopCountAnalysis

    def count(name: str) -> int:
        analysis = FlopCountAnalysis(build(name), images(batch=1))
        return analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()

    dense = count("micro_swin")
    assert all(count(name) < 0.8 * dense for name in FAMILY if name != "micro_swin")


@pytest.mark.parametrize("name", FAMILY)
def test_backward_reaches_every_parameter(name):
    model = build(name).train()
    model(images()).square().sum().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


@pytest.mark.parametrize("name", FAMILY)
def test_checkpoints_come_back(name, tmp_path):
    import stvit

    changes = dict(units=[[4, 2, 5, 1]]) if FAMILY[name][0] is STViTRSwin else {}
    model = build(name, num_classes=5, **changes)
    again = stvit.load_checkpoint(stvit.save_checkpoint(model, tmp_path)).eval()
    with torch.no_grad():
        assert torch.equal(again(images()), model(images()))


def test_the_stem_tells_what_it_cannot_do():
    with pytest.raises(ValueError, match="stride of 2; patch_size=4 is not possible"):
        build("micro_swin", patch_size=4)
