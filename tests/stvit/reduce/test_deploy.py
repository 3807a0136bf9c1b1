"""Every method compiles in one piece, once, and exports to ONNX with the same outputs."""

import pytest
import torch
from reduced import MICRO, ROWS, build, images
from torch._dynamo.testing import CompileCounter

from stvit.reduce import METHODS

EXPORTED = [*METHODS, "tome, r 5, no prop_attn", "evit without fused token", "bat on evit", "bat on keys"]
EXPORTED += ["bat by k_means_3", "bat by max", "bat by spatial", "bat by mlp"]


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_one_graph_without_breaks_or_recompiles(row):
    torch._dynamo.reset()
    counter = CompileCounter()
    model = build(row)
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    with torch.no_grad():
        for seed in range(3):
            torch.manual_seed(seed)
            x = torch.randn(2, 3, 64, 64)
            torch.testing.assert_close(compiled(x), model(x), atol=1e-5, rtol=0)
    assert counter.frame_count == 1


@pytest.mark.slow
@pytest.mark.parametrize("method", ["bat", "tome"])
def test_compiled_by_inductor(method):
    torch._dynamo.reset()
    model = build(method, depth=3)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(model)(images()), model(images()), atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("row", EXPORTED)
def test_onnx(row, tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    model, x = build(row, depth=3), images(3)
    batch = torch.export.Dim("batch", min=1, max=64)
    path = tmp_path / "model.onnx"
    torch.onnx.export(
        model,
        (x,),
        path,
        dynamo=True,
        opset_version=20,
        dynamic_shapes=({0: batch},),
        input_names=["images"],
        verbose=False,
    )
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for count in (3, 2):
        (logits,) = session.run(None, {"images": images(count).numpy()})
        with torch.no_grad():
            expected = model(images(count))
        torch.testing.assert_close(torch.from_numpy(logits), expected, atol=1e-5, rtol=0)
    assert MICRO["num_classes"] == logits.shape[1]
