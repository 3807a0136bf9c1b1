"""Short cuts are taken in inference, compiled or not, and nowhere where somebody looks."""

import pytest
import torch
from micro import build, images
from torch._dynamo.testing import CompileCounter
from torch.utils.flop_counter import FlopCounterMode

from stvit.fast.when import plain_inference
from stvit.layers.attention import Attention


@pytest.fixture
def ways(monkeypatch):
    """For each attention with other keys than queries, whether it took the short cut."""
    taken, absorbs = [], Attention.absorbs

    def watched(self, query, key, value):
        short = absorbs(self, query, key, value)
        if key is not None:
            taken.append(short)
        return short

    monkeypatch.setattr(Attention, "absorbs", watched)
    torch._dynamo.reset()
    return taken


def test_without_gradients():
    x = torch.zeros(1)
    assert not plain_inference(x)
    with torch.no_grad():
        assert plain_inference(x) and not plain_inference(x.to("meta"))
        with FlopCounterMode(display=False):
            assert not plain_inference(x)


def compiled(model, **choices):
    counter = CompileCounter()
    return torch.compile(model, backend=counter, fullgraph=True, **choices), counter


@torch.no_grad()
def test_in_a_compiled_graph(ways):
    model = build("default")
    quick, counter = compiled(model, dynamic=False)
    torch.testing.assert_close(quick(images(model)), model(images(model)), atol=1e-5, rtol=0)
    assert counter.frame_count == 1 and ways and all(ways)


@torch.no_grad()
def test_a_graph_for_many_batch_sizes_stays_one():
    torch._dynamo.reset()
    model = build("default")
    quick, counter = compiled(model, dynamic=True)
    for batch in (20, 33, 40):  # a convolution makes a graph of its own for fewer
        x = images(model, batch=batch)
        torch.testing.assert_close(quick(x), model(x), atol=1e-5, rtol=0)
    assert counter.frame_count == 1


def test_with_gradients_and_without_are_two_graphs(ways):
    model = build("default")
    quick, counter = compiled(model, dynamic=False)
    quick(images(model)).sum().backward()
    assert not any(ways)
    with torch.no_grad():
        quick(images(model))
    assert counter.frame_count == 2


@pytest.mark.parametrize("strict", [False, True])
@torch.no_grad()
def test_exported_graphs_have_none(strict):
    model = build("default")
    program = torch.export.export(model, (images(model),), strict=strict)
    fused = sum("scaled_dot_product_attention" in str(node.target) for node in program.graph.nodes)
    assert fused == len(model.blocks)
    torch.testing.assert_close(program.module()(images(model)), model(images(model)), atol=1e-5, rtol=0)
