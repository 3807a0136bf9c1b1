"""The overhead benchmark: its twin has the same token counts, and its table every method."""

import json

import pandas as pd
import torch

import stvit
from analysis import overhead
from analysis.results import RESULTS
from stvit.reduce import METHODS

MICRO = dict(img_size=64, patch_size=8, embed_dim=48, depth=4, num_heads=3, num_classes=7)


def model(method: str):
    import timm

    torch.manual_seed(0)
    dense = timm.create_model("deit_tiny_patch16_224", **MICRO).eval()
    return stvit.sparsify(dense, method=method)


def test_the_twin_computes_on_as_many_tokens():
    for method in METHODS:
        sparse = model(method)
        assert overhead.reduction_flops(sparse) >= 0, "every method can be counted"
        images = torch.randn(2, 3, 64, 64)
        twin = overhead.cut_twin(sparse, images)
        assert twin.forward_features(images).shape == sparse.forward_features(images).shape
        assert twin(images).shape == (2, 7)


def test_the_twin_of_layers_that_compute_with_fewer_tokens():
    """Evo-ViT computes class attention besides, in all layers but the last: N·C."""
    sparse = model("evovit")
    twin = overhead.cut_twin(sparse, torch.randn(2, 3, 64, 64))
    assert twin.lengths == [65, 33, 33, 33] and twin.where == ["around"] * 4
    assert overhead.reduction_flops(sparse) == 48 * (65 + 33 + 33)


def test_queries_of_dge_look_at_all_tokens():
    """Keys and values of the others, 2·n·C², what queries do with them, 2·q·n·C, and the router: regions·C·splits."""
    torch.manual_seed(1)
    sparse, images = model("dge"), torch.randn(3, 3, 64, 64)
    lengths = overhead.cut_twin(sparse, images).lengths
    assert min(lengths) < 65 and len(set(lengths)) > 1
    others = sum(2 * (65 - q) * 48 * (48 + q) for q in lengths)
    assert overhead.reduction_flops(sparse, images) == others + 4 * 4 * 48 * 3


def test_flops_of_the_reductions_are_their_terms():
    """topk: class attention alone, N·C; evit: and the fused token; random: nothing."""
    lengths = [64, 45, 32]
    class_attention = sum((n + 1) * 48 for n in lengths)
    assert overhead.reduction_flops(model("topk")) == class_attention
    assert overhead.reduction_flops(model("random")) == 0
    before, kept = [64, 46, 34], [45, 33, 24]
    fused = sum((n + 1) * 48 + (n - k) * 48 for n, k in zip(before, kept, strict=True))
    assert overhead.reduction_flops(model("evit")) == fused


def test_table_and_command_line(capsys):
    frame = overhead.compute(["bat", "tome"], 2, torch.get_num_threads(), 2, "deit_tiny_patch16_224", **MICRO)
    assert list(frame.method) == ["bat", "tome"] and (frame[["seconds", "plain seconds"]] > 0).all(axis=None)
    overhead.main(
        ["--methods", "random", "--batch", "1", "--pairs", "1", "--json", "--model", "deit_tiny_patch16_224"]
    )
    assert json.loads(capsys.readouterr().out)[0]["method"] == "random"


def test_what_costs_much_is_told_with_its_reason():
    frame = pd.DataFrame({"method": ["bat", "atc", "tome"], "overhead %": [3.0, 47.4, 15.6]})
    told = overhead.costly(frame)
    assert told.startswith(
        f"Above 15 %: atc 47 %: {overhead.REASONS['atc']}; tome 16 %: the reason is not known"
    )
    assert "bat" not in told.split()
    assert overhead.costly(frame[:1]) == "No method costs more than 15 %."


def test_every_method_that_costs_much_has_a_reason():
    found = pd.read_csv(RESULTS / "overhead" / "overhead.csv")
    assert set(found.method) == set(METHODS)
    assert set(found[found["overhead %"] > overhead.LIMIT].method) <= set(overhead.REASONS)


def test_a_report_of_some_methods_keeps_the_rows_of_the_others(tmp_path):
    frame = pd.DataFrame({"method": ["bat", "tome"], "overhead %": [3.0, 5.0]})
    config = {"batch": 2, "threads": 1, "pairs": 3, "device": "cpu", "clock": "wall", "model": "micro"}
    overhead.report(frame, config, tmp_path)
    newer = pd.DataFrame({"method": ["evit", "bat"], "overhead %": [1.0, 4.0]})
    overhead.report(newer, config | {"pairs": 7}, tmp_path)
    found = pd.read_csv(tmp_path / "overhead.csv")
    assert dict(zip(found.method, found["overhead %"], strict=True)) == {"bat": 4.0, "tome": 5.0, "evit": 1.0}
    overhead.report(newer, config | {"batch": 8}, tmp_path)
    assert list(pd.read_csv(tmp_path / "overhead.csv").method) == ["evit", "bat"], (
        "another batch, another table"
    )
