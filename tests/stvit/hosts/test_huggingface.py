"""Vision transformers of transformers × every method: dense where nothing is reduced, dense again when made so."""

import copy
import pickle

import pytest
import torch

import stvit
from stvit.hosts.huggingface.guests import GuestLayer
from stvit.reduce import METHODS

pytest.importorskip("transformers")
from guests import CLASSES, build, inputs, tensors

TOWERS = [
    name
    for name in CLASSES
    if name.endswith("Model") and name not in ("CLIPModel", "SiglipModel", "Siglip2Model")
]
AROUND = ("evovit", "avit", "dge")  # all tokens stay, and layers compute with fewer
PADS = ("ats", "ats_sorted", "iared2", "spvit")  # images keep different numbers of tokens
READ_ALL = (
    "Dinov2ForImage",
    "Dinov2WithRegistersForImage",
    "CLIPForImage",
    "Siglip",
    "IJepa",
)  # by their heads
STVIT = dict(method="stvit", tokens=4, at=2)


def reason(name: str, method: str) -> str | None:
    """Why a class cannot have a method, as the error says it."""
    if method == "stvit":
        return "positions are rotary" if name.startswith("DINOv3") else None
    no_class_token = name.startswith(("Siglip", "IJepa"))
    return "no class token" if no_class_token and METHODS[method].needs_class_token else None


def possible(name: str, model: torch.nn.Module):
    """The methods that a class can have, and its sparsified model; the others are refused with the reason."""
    for choices in (STVIT, *({"method": method} for method in METHODS)):
        why = reason(name, choices["method"])
        if why is None:
            yield choices["method"], stvit.sparsify(model, **choices)
        else:
            with pytest.raises(ValueError, match=why):
                stvit.sparsify(model, **choices)


@pytest.mark.parametrize("name", CLASSES)
@torch.no_grad()
def test_every_method_in_every_class(name):
    """The class's own output, other numbers, fewer tokens; and the dense model again, to the bit."""
    model, few = build(name), {}
    for method, sparse in possible(name, model):
        batch = 1 if method in PADS and name.startswith(READ_ALL) else 2
        given = inputs(name, batch)
        if batch not in few:
            few[batch] = model(**given)
        elif batch == 1:
            with pytest.raises(ValueError, match="one image at a time"):
                sparse(**inputs(name))
        dense, output = few[batch], sparse(**given)
        assert type(sparse) is type(model) and type(output) is type(dense), method
        assert output.keys() == dense.keys() and all(value.isfinite().all() for value in tensors(output)), (
            method
        )
        differ = [not a.equal(b) for a, b in zip(tensors(output), tensors(dense), strict=True)]
        assert any(differ) or method == "avit", method  # no token of an untrained model halts by itself
        if name in TOWERS:
            fewer = output.last_hidden_state.shape[1] < dense.last_hidden_state.shape[1]
            assert fewer != (method in AROUND), method
            again = stvit.densify(sparse)
            assert [type(part) for part in again.modules()] == [type(part) for part in model.modules()], (
                method
            )
            assert again.state_dict().keys() == model.state_dict().keys(), method
            assert again.config.to_dict() == model.config.to_dict(), method
            assert all(a.equal(b) for a, b in zip(tensors(again(**given)), tensors(dense), strict=True)), (
                method
            )


@pytest.mark.parametrize("name", TOWERS)
@torch.no_grad()
def test_with_nothing_to_reduce_it_is_the_dense_model(name):
    model, given = build(name), inputs(name)
    dense = tensors(model(**given))
    for method in METHODS:
        if METHODS[method].identity is not None and reason(name, method) is None:
            same = stvit.sparsify(model, method=method, **METHODS[method].identity)
            for a, b in zip(tensors(same(**given)), dense, strict=True):
                torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6, msg=method)


@pytest.mark.parametrize("name", TOWERS)
def test_gradients_reach_every_layer(name):
    model, given = build(name), inputs(name)
    for method, sparse in possible(name, model):
        torch.manual_seed(0)
        sparse.train()(**given).last_hidden_state.square().mean().backward()
        for layer in (part for part in sparse.modules() if isinstance(part, GuestLayer)):
            gradient = next(layer.mlp.parameters()).grad
            assert gradient is not None and gradient.any(), method


@pytest.mark.parametrize("name", TOWERS)
@torch.no_grad()
def test_weights_make_the_same_model_of_another(name):
    model, given = build(name), inputs(name, 1)
    for method, sparse in possible(name, model):
        choices = dict(sparse.config.stvit)
        other = stvit.sparsify(model, **choices)
        for parameter in other.parameters():
            parameter.add_(1)
        other.load_state_dict({key: value.clone() for key, value in sparse.state_dict().items()})
        for a, b in zip(tensors(other(**given)), tensors(sparse(**given)), strict=True):
            assert a.equal(b), method


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_implementations_agree(attention):
    given = inputs("ViTModel")
    for method in ("tome", "dynamicvit", "ats", "mctf"):
        one, other = (stvit.sparsify(build("ViTModel", kind), method=method) for kind in (attention, "sdpa"))
        for a, b in zip(tensors(one(**given)), tensors(other(**given)), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_copies_compute_the_same():
    sparse, given = stvit.sparsify(build("ViTModel"), method="dtem"), inputs("ViTModel")
    for again in (copy.deepcopy(sparse), pickle.loads(pickle.dumps(sparse))):
        assert again(**given).last_hidden_state.equal(sparse(**given).last_hidden_state)


def test_hidden_states_and_maps():
    model, given = build("Dinov2Model"), inputs("Dinov2Model")
    model(**given, output_hidden_states=True)  # transformers' hooks are in the layers from now on
    sparse = stvit.sparsify(model, method="topk", keep_rate=0.5)
    with stvit.record(sparse) as maps:
        output = sparse(**given, output_hidden_states=True)
    assert [state.shape[1] for state in output.hidden_states] == [65, 33, 17, 9]
    assert maps["encoder.layer.1.assignment"].shape == (2, 16, 32)
    assert maps["encoder.layer.1.attention"].shape == (2, 4, 33, 33)
    semantic = stvit.sparsify(model, tokens=4, at=2)
    with stvit.record(semantic) as maps:
        states = semantic(**given, output_hidden_states=True).hidden_states
    assert [state.shape[1] for state in states] == [65, 65, 5, 5]
    torch.testing.assert_close(maps["encoder.layer.1.assignment"].sum(2), torch.ones(2, 4))


@pytest.mark.parametrize("method", ["tome", "dynamicvit", "avit", "stvit"])
def test_checkpointing_changes_nothing(method):
    choices, gradients = STVIT if method == "stvit" else dict(method=method), []
    for enable in (False, True):
        sparse = stvit.sparsify(build("ViTModel"), **choices).train()
        if enable:
            sparse.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        torch.manual_seed(0)
        sparse(**inputs("ViTModel")).last_hidden_state.square().mean().backward()
        gradients.append(sparse.layers[0].mlp.fc1.weight.grad)
    torch.testing.assert_close(*gradients)


def test_other_sizes_and_precisions():
    sparse = stvit.sparsify(build("Dinov2Model"), method="tome", r=8)
    assert sparse(torch.randn(1, 3, 24, 40)).last_hidden_state.shape == (1, 61 - 24, 32)
    for name in ("ViTModel", "DINOv3ViTModel"):
        half = stvit.sparsify(build(name).bfloat16(), method="dtem")
        assert half(inputs(name)["pixel_values"].bfloat16()).last_hidden_state.dtype == torch.bfloat16


def test_merged_tokens_are_turned_by_the_mean_of_their_places():
    """Tokens that all merge into one have the mean place, the middle, where rotary positions turn nothing."""
    model, seen = build("DINOv3ViTModel"), []
    sparse = stvit.sparsify(model, method="meanpool", at=1, tokens=1)
    layer = sparse.model.layer[1].attention
    layer.register_forward_pre_hook(
        lambda _, __, kw: seen.append(kw["position_embeddings"]), with_kwargs=True
    )
    sparse(**inputs("DINOv3ViTModel"))
    cos, sin = seen[0]
    assert cos.shape == (2, 1, 1, 8)
    torch.testing.assert_close(cos, torch.ones_like(cos), atol=1e-6, rtol=0)
    torch.testing.assert_close(sin, torch.zeros_like(sin), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", TOWERS)
@torch.no_grad()
def test_attention_maps_of_every_layer(name):
    """They are the dense model's where nothing is reduced, and rows that sum to 1, of fewer tokens, where much is."""
    model, given = build(name), inputs(name, 1)
    model.set_attn_implementation("eager")
    dense = model(**given, output_attentions=True).attentions
    chosen = [*METHODS, "stvit"] if name == "ViTModel" else ["tome", "bat", "dge", "stvit"]
    for method in (one for one in chosen if reason(name, one) is None):
        sparse = stvit.sparsify(model, **(STVIT if method == "stvit" else {"method": method}))
        output = sparse(**given, output_attentions=True, output_hidden_states=True)
        assert len(output.attentions) == len(dense), method
        for found in (one for one in output.attentions if one is not None):
            assert found.ndim == 4 and found.shape[1] == dense[0].shape[1], method
            torch.testing.assert_close(found.sum(dim=3), torch.ones(found.shape[:3]), msg=method)
        if method not in (*AROUND, "stvit"):  # whose last layer here looks at the image tokens again
            before, after = (states.shape[1] for states in output.hidden_states[-2:])
            assert output.attentions[-1].shape[3] in (before, after), (
                method
            )  # it reduces in front of it, or later
        assert "attentions" not in sparse(**given), method
        identity = None if method == "stvit" else METHODS[method].identity
        if identity is not None:
            same = stvit.sparsify(model, method=method, **identity)(
                **given, output_attentions=True
            ).attentions
            for a, b in zip(same, dense, strict=True):
                torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5, msg=method)


def test_attention_maps_of_a_whole_model_and_after_an_error():
    model, given = build("ViTForImageClassification"), inputs("ViTForImageClassification")
    model.set_attn_implementation("eager")
    sparse = stvit.sparsify(model, method="evit", at=1, keep_rate=0.5)
    output = sparse(**given, output_attentions=True)
    assert len(output.attentions) == len(sparse.vit.layers) and output.attentions[0].requires_grad
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in sparse.modules())
    as_tuple = sparse.vit(**given, output_attentions=True, return_dict=False)
    assert torch.equal(as_tuple[-1][1], output.attentions[1])
    with pytest.raises(Exception, match=r"."):
        sparse(pixel_values=torch.zeros(1, 5, 32, 32), output_attentions=True)
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in sparse.modules()) == hooks
    assert "attentions" not in sparse(**given)
    sparse.config.output_attentions = sparse.vit.config.output_attentions = True
    assert len(sparse(**given).attentions) == len(output.attentions)


def refused():
    vit, given = build("ViTModel"), inputs("ViTModel")
    sparse = stvit.sparsify(vit, method="tome")
    siglip2, images = stvit.sparsify(build("Siglip2VisionModel"), method="tome"), inputs("Siglip2VisionModel")
    yield "stvit.densify", lambda: stvit.sparsify(sparse, method="tome")
    yield "nothing in it reduces", lambda: stvit.densify(vit)
    yield "no choice 'keep'; it has tokens, at", lambda: stvit.sparsify(vit, at=2, keep=3)
    yield "keep_prefix must stay", lambda: stvit.sparsify(vit, at=2, tokens=4, keep_prefix=False)
    yield "unknown method 'tom'", lambda: stvit.sparsify(vit, method="tom")
    yield (
        "output_attentions needs eager attention, and the model has sdpa",
        lambda: sparse(**given, output_attentions=True),
    )
    yield "attention_mask counts", lambda: sparse(**given, attention_mask=torch.ones(2, 65))
    flash = stvit.sparsify(vit, method="dynamicvit", at=1).train()  # its later layers mask what was dropped
    flash.config._attn_implementation = "flash_attention_2"
    yield "attn_implementation='sdpa'", lambda: flash(**given)
    yield "saved by stvit.save_pretrained", lambda: stvit.save_checkpoint(sparse, "nowhere")
    reentrant = copy.deepcopy(sparse).train()
    reentrant.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    yield "'use_reentrant': False", lambda: reentrant(**given)
    yield "call the model", lambda: sparse.layers[0](torch.randn(2, 65, 32))
    yield (
        "images of one size",
        lambda: siglip2(**{**images, "spatial_shapes": torch.tensor([[8, 8], [4, 8]])}),
    )
    yield "no vision tower", lambda: stvit.sparsify(build("CLIPModel").text_model)


def test_refusals_say_why():
    for message, act in refused():
        with pytest.raises(ValueError, match=message):
            act()
