"""Every method compiles in one piece, once, and gives the same outputs in ONNX Runtime and OpenVINO."""

import pytest
import torch
from fill_rule import fill_state
from reduced import ROWS, build, images
from torch import nn
from torch._dynamo.testing import CompileCounter

from stvit.convert.graphs import parity, to_openvino, write_graph
from stvit.reduce import METHODS

MORE = ["evit without fused token", "bat on evit", "bat by k_means_3", "bat by spatial"]
EXPORTED = [*METHODS, "bat on evit", "bat by max"]
NOT_IN_OPENVINO: dict[str, str] = {}  # row → why, in the words of the error


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
def test_onnx_runtime_and_openvino(row, tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    model, path = small(row), tmp_path / "model.onnx"
    found = write_graph(model, path)
    assert found.difference < 1e-5 and found.largest > 0.5
    if row in NOT_IN_OPENVINO:
        with pytest.raises(ValueError, match=NOT_IN_OPENVINO[row]):
            to_openvino(path, path.with_suffix(".xml"))
        return
    pytest.importorskip("openvino")
    xml, _ = to_openvino(path, path.with_suffix(".xml"))
    assert parity(model, xml, images().shape[1:]).difference < 1e-5
