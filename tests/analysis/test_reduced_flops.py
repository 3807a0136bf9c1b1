"""Counted multiply-adds of reduced models against the printed cells: layers, and what matching adds."""

import pytest
import timm
import torch

import stvit  # noqa: F401 (registers the models)
from analysis.shared.counting import count

SHAPE = (1, 3, 224, 224)


def gflops(name: str, **choices) -> tuple[float, float]:
    """Without the reductions' own work, and with it."""
    with torch.device("meta"):
        model = timm.create_model(name, **choices).eval()
    counted = count(model, SHAPE)
    return (counted.total - counted.reductions()) / 1e9, counted.total / 1e9


@pytest.mark.parametrize(
    ("name", "choices", "layers", "printed"),
    [
        ("bat_deit_tiny_patch16_224", {}, 0.8238, "0.8"),
        ("bat_deit_small_patch16_224", {}, 3.0355, "3.0"),
        ("bat_deit_base_patch16_224", {}, 11.6225, "11.6"),
        ("bat_deit_small_patch16_224", dict(keep_rate=0.6), 2.6407, "2.6"),
        ("bat_deit_small_patch16_224", dict(keep_rate=0.5), 2.3136, "2.3"),
        ("bat_deit_small_patch16_224", dict(keep_rate=0.4), 2.0477, "2.0"),
        ("bat_deit_small_patch16_224", dict(keep_rate=0.3), 1.8204, "1.8"),
        ("bat_deit_small_patch16_224", dict(keep_rate=0.2), 1.6473, "1.6"),
        ("bat_lvvit_small_patch16_224", {}, 4.7196, "4.7"),
    ],
)
def test_bat(name, choices, layers, printed):
    """Compared by keys, matching and clustering leave every printed digit as it is; by tokens they cost up to 1.1 %."""
    counted, total = gflops(name, **choices)
    assert counted == pytest.approx(layers, abs=6e-5) and f"{counted:.1f}" == printed
    assert 0 < total - counted < 0.011 * total
    by_keys = gflops(name, features="keys", **choices)[1]
    assert f"{by_keys:.1f}" == printed


@pytest.mark.parametrize(
    ("name", "choices", "printed"),
    [
        ("lvvit_small_patch16_224", {}, "6.57"),
        ("evit_lvvit_small_patch16_224", dict(keep_rate=0.5), "3.89"),
        ("evit_lvvit_small_patch16_224", dict(keep_rate=0.7), "4.72"),
        ("stvit_lvvit_small_patch16_224", dict(num_semantic_tokens=36), "3.69"),
        ("stvit_lvvit_small_patch16_224", dict(num_semantic_tokens=49), "3.91"),
        ("evit_deit_small_patch16_224", {}, "3.04"),
    ],
)
def test_lvvit_and_evit(name, choices, printed):
    """3.69 and 3.91 are STViT's Table 10; 6.6, 3.9, 4.7 are its Table 11's and BAT's Table 2's."""
    assert f"{gflops(name, **choices)[1]:.2f}" == printed


def test_a_hundred_semantic_tokens_do_not_give_the_printed_cell():
    assert gflops("stvit_lvvit_small_patch16_224", num_semantic_tokens=100)[1] == pytest.approx(
        4.82, abs=0.01
    )  # 4.62
