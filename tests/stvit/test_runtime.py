"""Where users run models: compiled, exported, in ONNX, in half precision, in several processes."""

import copy
from functools import cache

import pytest
import timm
import torch
import torch._dynamo.testing
from branches import branch_twice
from micro import MODELS, build, images

EXPORTED = ["default", "kept class token", "initialization learned", "position relative", "pooling max"]


@pytest.mark.parametrize("row", MODELS)
def test_bf16_autocast_is_near_float32(row):
    model = build(row)
    x = images(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(x)
    torch.testing.assert_close(half.float(), model(x), atol=2e-2, rtol=0)
    assert build(row).bfloat16()(x.bfloat16()).isfinite().all()


@pytest.mark.parametrize("row", ["default", "position conditional"])
def test_channels_last_changes_nothing(row):
    model = build(row)
    x = images(model)
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    torch.testing.assert_close(last(x.to(memory_format=torch.channels_last)), model(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("row", MODELS)
def test_meta_device_gives_shapes_without_memory(row):
    model = build(row).to("meta")
    assert model(torch.empty(2, 3, 48, 48, device="meta")).shape == (2, 7)


@pytest.mark.parametrize("row", MODELS)
def test_traced_without_graph_breaks(row):
    """Dynamo's tracing decides on breaks and recompiles; compiling for speed comes behind it."""
    model, x = build(row), images(build(row))
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    for _ in range(3):
        torch.testing.assert_close(compiled(x), model(x), atol=1e-5, rtol=0)
    assert counter.frame_count == 1


@pytest.mark.slow
def test_compiled_by_inductor():
    model = build("default")
    x = images(model)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(model, fullgraph=True)(x), model(x), atol=1e-5, rtol=0)


@cache
def exported(row: str) -> torch.export.ExportedProgram:
    """The model's graph for any batch."""
    model, batch = build(row), torch.export.Dim("batch", min=1, max=64)
    return torch.export.export(model, (images(model),), dynamic_shapes=({0: batch},))


@pytest.mark.parametrize("row", EXPORTED)
def test_torch_export_with_any_batch(row):
    model = build(row)
    x = images(model, batch=5)
    torch.testing.assert_close(exported(row).module()(x), model(x), atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("row", ["default", "kept class token"])
def test_onnx_runtime_agrees(row, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model, path = build(row), tmp_path / "model.onnx"
    torch.onnx.export(exported(row), f=path, dynamo=True, opset_version=20, verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = images(model, batch=3)
    (logits,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), model(x), atol=1e-5, rtol=0)


HALF = """
import sys, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from micro import build, images
torch.set_num_threads(1)
dist.init_process_group("gloo")
rank = dist.get_rank()
model = DistributedDataParallel(build("default").train())
x = images(model.module, batch=4).chunk(2)[rank]
for _ in range(2):  # the second step raises if a parameter went unused in the first
    model.zero_grad()
    model(x).square().sum(1).mean().backward()
if rank == 0:
    torch.save({n: p.grad for n, p in model.module.named_parameters()}, sys.argv[1])
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    """DistributedDataParallel without find_unused_parameters: gradients of a batch cut in two."""
    ranks = branch_twice(HALF, tmp_path / "grads.pt", said=tmp_path / "said")
    for process in ranks:
        process.join(300)
    assert [process.exitcode for process in ranks] == [0, 0], (tmp_path / "said").read_text()
    model = build("default").train()
    model(images(model, batch=4)).square().sum(1).mean().backward()
    grads = torch.load(tmp_path / "grads.pt", weights_only=True)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(grads[name], parameter.grad, atol=1e-6, rtol=1e-3, msg=name)


def test_two_seeds_differ_and_one_repeats():
    def weights(seed):
        torch.manual_seed(seed)
        model = timm.create_model("stvit_deit_tiny_patch16_224", embed_dim=48, depth=2, stgm_at=1)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert weights(1).equal(weights(1)) and not weights(1).equal(weights(2))
