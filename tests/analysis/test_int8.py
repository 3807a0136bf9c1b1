"""Fewer tokens and fewer bits: the table's definitions, and a real quantized file of a small model."""

import pandas as pd
import pytest
import torch
from fill_rule import fill_state
from micro import build

from analysis.throughput import int8
from analysis.throughput.turns import Patience


def test_a_product_is_of_the_two_savings_apart():
    def row(model, precision, ratio, cosine):
        return {"model": model, "precision": precision, "ratio": ratio, "cosine": cosine}

    rows = [row("dense", "float32", 1.0, 1.0), row("dense", "int8", 1.5, 0.9),
            row("few", "float32", 2.0, 0.8), row("few", "int8", 2.4, 0.7)]  # fmt: skip
    assert [int8.expected(one, rows)["product"] for one in rows] == [None, None, None, 3.0]
    found = int8.expected(rows[3], rows)
    assert found["of_product"] == pytest.approx(0.8) and found["cosine_product"] == pytest.approx(0.72)
    said = int8.sentence(pd.DataFrame([{**one, **int8.expected(one, rows)} for one in rows]))
    assert "1.50 times as fast, at a centred cosine of 0.900" in said and "80% to 80% of the product" in said


def test_cosine_is_centred_by_the_reference():
    reference = torch.randn(6, 4)
    assert int8.centred_cosine(reference, reference) == pytest.approx(1)
    opposite = 2 * reference.mean(dim=0) - reference
    assert int8.centred_cosine(opposite, reference) == pytest.approx(-1)


def test_a_small_model_in_eight_bits_is_smaller_and_near():
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    models = {"dense": fill_state(build("default", depth=2, stgm_at=1, num_classes=0))}
    frame = int8.compare(models, torch.randn(6, 3, 48, 48), 2, 1, Patience(rounds=2, warmup=1, turn=0))
    plain, bits = frame.to_dict("records")
    assert (plain["precision"], bits["precision"]) == ("float32", "int8") and plain["ratio"] == 1
    assert plain["cosine"] == pytest.approx(1) and 0.8 < bits["cosine"] < 1
    assert bits["megabytes"] < 0.75 * plain["megabytes"]  # convolutions and stacked matrices stay as they are
    assert frame["product"].isna().all()
