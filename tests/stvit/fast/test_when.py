"""Short cuts are taken in inference, compiled or not, and nowhere where somebody looks."""

import pytest
import torch
from micro import build, images
from torch._dynamo.testing import CompileCounter
from torch.utils.flop_counter import FlopCounterMode

import stvit
from stvit.fast import absorbed, groups, when
from stvit.fast.when import plain_inference


@pytest.fixture
def ways(monkeypatch):
    """For each attention with other keys than queries, whether it took the short cut."""
    taken, applies = [], absorbed.applies

    def watch(attention, query, key, value):
        short = applies(attention, query, key, value)
        if key is not None:
            taken.append(short)
        return short

    monkeypatch.setattr(absorbed, "applies", watch)
    torch._dynamo.reset()
    return taken


def test_without_gradients():
    x = torch.zeros(1)
    assert not plain_inference(x)
    with torch.no_grad():
        assert plain_inference(x) and not plain_inference(x.to("meta"))
        with FlopCounterMode(display=False):
            assert not plain_inference(x)


@torch.no_grad()
def test_the_switch_turns_all_of_them_off(ways, monkeypatch):
    monkeypatch.setattr(groups, "GROUP", 1)
    model, x = build("default"), torch.zeros(4, 9, 8)
    with stvit.fast.enabled(False):
        assert not plain_inference(x) and groups.group_size(model, x) is None
        assert groups.windows_at_once(x, 7, 2**40) == 7
        plain = model(images(model))
        with stvit.fast.enabled(True):
            assert plain_inference(x)
        assert not when.allowed()
    assert ways and not any(ways)
    assert when.allowed() and groups.group_size(model, x) == 1
    torch.testing.assert_close(model(images(model)), plain, atol=1e-5, rtol=0)
    assert any(ways)


def test_the_switch_is_set_back_after_an_error():
    with pytest.raises(KeyError), stvit.fast.enabled(False):
        raise KeyError
    assert when.allowed()


@torch.no_grad()
def test_transforms_see_the_plain_layers():
    model = build("default")
    x = images(model)
    one_by_one = torch.func.vmap(lambda image: model(image[None])[0])(x)
    torch.testing.assert_close(one_by_one, model(x), atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_hook_on_all_modules_sees_the_batch_in_one_piece(monkeypatch):
    monkeypatch.setattr(groups, "GROUP", 1)
    model, sizes = build("default"), set()
    handle = torch.nn.modules.module.register_module_forward_hook(lambda m, given, out: sizes.add(len(out)))
    try:
        model(images(model, batch=5))
    finally:
        handle.remove()
    assert 5 in sizes and 1 not in sizes


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
