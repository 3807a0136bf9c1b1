"""A small random LLaVA whose tower hands on fewer tokens: prompts fit, words come out, costs are counted."""

import pytest
import torch

import stvit
from stvit.multimodal import image_tokens, prefill_table

T = pytest.importorskip("transformers")
from guests import SMALL  # noqa: E402

IMAGE = 55


@pytest.fixture(scope="module")
def llava():
    torch.manual_seed(0)
    text = T.LlamaConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4, intermediate_size=64,
        vocab_size=60, pad_token_id=0,
    )  # fmt: skip
    vision = T.CLIPVisionConfig(**dict(SMALL, num_hidden_layers=4))
    config = T.LlavaConfig(vision_config=vision, text_config=text, image_token_id=IMAGE)
    return T.LlavaForConditionalGeneration(config).eval()


def prompt(*images: int) -> dict:
    """A row for each number of images, as a processor writes it: padded on the left."""
    rows = [[1, *([2, *[IMAGE] * 64] * count), 5, 6] for count in images]
    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
    return dict(
        input_ids=ids,
        attention_mask=torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows]),
        pixel_values=torch.randn(sum(images), 3, 32, 32),
    )


def test_generates_with_fewer_image_tokens(llava):
    torch.manual_seed(1)
    given = prompt(1, 1)
    for choices, count in ((dict(tokens=9, at=2), 9), (dict(method="topk", keep_rate=0.5, at=2), 32)):
        sparse = stvit.sparsify(llava, **choices)
        own = stvit.adjust_placeholders(sparse, given)
        assert type(sparse) is type(llava) and image_tokens(sparse, given["pixel_values"]) == count
        assert own["input_ids"].shape == own["attention_mask"].shape == (2, count + 4)
        words = sparse.generate(**own, max_new_tokens=3, min_new_tokens=3, do_sample=False)
        assert words.shape == (2, count + 7)
        with pytest.raises(ValueError, match="do not match"):
            sparse(**given)


def test_placeholders_of_the_dense_model_stay_as_they_are(llava):
    given = prompt(1)
    same = stvit.adjust_placeholders(llava, given)
    assert all(same[name].equal(given[name]) for name in given)


def test_rows_with_more_images_lose_more_places(llava):
    sparse = stvit.sparsify(llava, tokens=4, at=2)
    own = stvit.adjust_placeholders(sparse, dict(prompt(1, 2), labels=prompt(1, 2)["input_ids"]))
    assert own["input_ids"].tolist() == [
        [0] * 5 + [1, 2] + [IMAGE] * 4 + [5, 6],
        [1, 2] + [IMAGE] * 4 + [2] + [IMAGE] * 4 + [5, 6],
    ]
    assert own["attention_mask"].tolist() == [[0] * 5 + [1] * 8, [1] * 13]
    assert own["labels"][0, :5].tolist() == [-100] * 5
    assert sparse(**{name: own[name] for name in prompt(1)}).logits.shape == (2, 13, 60)


def test_prefill_counts_what_closed_forms_say(llava):
    given = prompt(1)
    dense, few, control = prefill_table(llava, given, dict(method="topk", keep_rate=0.5, at=2))
    assert (dense.image_tokens, few.image_tokens, control.image_tokens) == (64, 32, 32)
    assert control.name.startswith("random") and few.prompt_tokens == control.prompt_tokens == 36
    layer = lambda n, m=None: 4 * n * 32**2 + 2 * n * n * 32 + 2 * (m or n) * 32 * 64  # noqa: E731
    tower = 64 * 48 * 32
    language = lambda n: 2 * (layer(n) + n * 32 * 64) + n * 32 * 60  # noqa: E731 (a gated MLP has a third matrix)
    assert dense.multiply_adds == tower + 4 * layer(65) + 2 * 64 * 32**2 + language(68)
    assert control.multiply_adds == tower + layer(65) + layer(65, 33) + 2 * layer(
        33
    ) + 2 * 32 * 32**2 + language(36)
    assert few.multiply_adds - control.multiply_adds == 65 * 32  # one row of the attention's maps
    assert dense.divergence == 0 and few.divergence > 0 and few.seconds > 0


def test_refusals(llava):
    images = torch.randn(2, 3, 32, 32)
    with pytest.raises(ValueError, match="another number of tokens in each of these images"):
        image_tokens(stvit.sparsify(llava, method="iared2"), images)
    with pytest.raises(ValueError, match="needs as many as the dense model"):
        stvit.adjust_placeholders(llava, dict(input_ids=torch.tensor([[1, IMAGE]]), pixel_values=images))
    with pytest.raises(ValueError, match="no multimodal model"):
        stvit.adjust_placeholders(llava.model.vision_tower, prompt(1))
