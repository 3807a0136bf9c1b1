"""Every method compiles in one piece, once, and exports to ONNX with the same outputs."""

import pytest
import torch
from fill_rule import fill_state
from reduced import ROWS, build, images
from torch import nn
from torch._dynamo.testing import CompileCounter

from stvit.reduce import METHODS

MORE = ["evit without fused token", "bat on evit", "bat by k_means_3", "bat by spatial"]
EXPORTED = [*METHODS, "bat on evit", "bat by max"]


def small(row: str) -> nn.Module:
    """Two layers, weights by rule, which make logits of order 1; what the first layer drops, the second misses."""
    fixed = METHODS[ROWS[row][0]].fixed_layers
    return fill_state(build(row, depth=2, **({} if fixed else {"at": 1})))


@pytest.mark.slow
@pytest.mark.parametrize("row", [*METHODS, *MORE])
def test_one_graph_without_breaks_or_recompiles(row):
    torch._dynamo.reset()
    counter = CompileCounter()
    model = small(row)
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    with torch.no_grad():
        for seed in range(3):
            x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(seed))
            torch.testing.assert_close(compiled(x), model(x), atol=1e-5, rtol=0)
    assert counter.frame_count == 1


@pytest.mark.slow
def test_compiled_by_inductor():
    torch._dynamo.reset()
    model = small("bat")
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(model)(images()), model(images()), atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("row", EXPORTED)
def test_onnx(row, tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    model, path = small(row), tmp_path / "model.onnx"
    torch.onnx.export(
        model,
        (images(3),),
        path,
        dynamo=True,
        opset_version=20,
        dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},),
        input_names=["images"],
        verbose=False,
    )
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for count in (3, 2):
        (logits,) = session.run(None, {"images": images(count).numpy()})
        with torch.no_grad():
            expected = model(images(count))
        torch.testing.assert_close(torch.from_numpy(logits), expected, atol=1e-5, rtol=0)
        assert expected.abs().max() > 0.5
