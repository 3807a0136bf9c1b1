"""Small random models of transformers, one of each class that ``sparsify`` takes, and what they are called with."""

import torch
import transformers as T

VISION = dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=4, image_size=32, patch_size=4)
SMALL = dict(VISION, intermediate_size=64)
TEXT = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64, vocab_size=50)
PAIR = dict(text_config=dict(TEXT, bos_token_id=0, eos_token_id=1), vision_config=SMALL)
DINOV2 = dict(VISION, mlp_ratio=2, layerscale_value=0.5)
SIGLIP2 = dict(
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=64,
    num_patches=64,
    patch_size=4,
)

CONFIGS = {  # class → configuration class, its arguments
    "ViTModel": ("ViTConfig", SMALL),
    "ViTForImageClassification": ("ViTConfig", SMALL),
    "DeiTModel": ("DeiTConfig", SMALL),
    "DeiTForImageClassification": ("DeiTConfig", SMALL),
    "DeiTForImageClassificationWithTeacher": ("DeiTConfig", SMALL),
    "ViTMSNModel": ("ViTMSNConfig", SMALL),
    "IJepaModel": ("IJepaConfig", SMALL),
    "Dinov2Model": ("Dinov2Config", DINOV2),
    "Dinov2ForImageClassification": ("Dinov2Config", dict(DINOV2, use_swiglu_ffn=True)),
    "Dinov2WithRegistersModel": ("Dinov2WithRegistersConfig", DINOV2),
    "Dinov2WithRegistersForImageClassification": ("Dinov2WithRegistersConfig", DINOV2),
    "DINOv3ViTModel": ("DINOv3ViTConfig", dict(SMALL, num_register_tokens=2, layerscale_value=0.5)),
    "CLIPVisionModel": ("CLIPVisionConfig", SMALL),
    "CLIPVisionModelWithProjection": ("CLIPVisionConfig", dict(SMALL, projection_dim=8)),
    "CLIPForImageClassification": ("CLIPConfig", PAIR),
    "CLIPModel": ("CLIPConfig", PAIR),
    "SiglipVisionModel": ("SiglipVisionConfig", SMALL),
    "SiglipForImageClassification": ("SiglipConfig", PAIR),
    "SiglipModel": ("SiglipConfig", PAIR),
    "Siglip2VisionModel": ("Siglip2VisionConfig", SIGLIP2),
    "Siglip2Model": ("Siglip2Config", dict(PAIR, vision_config=SIGLIP2)),
}
CLASSES = list(CONFIGS)


def build(name: str, attention: str = "sdpa") -> torch.nn.Module:
    """A model whose weights are not small, so that tokens differ."""
    config, arguments = CONFIGS[name]
    torch.manual_seed(0)
    model = getattr(T, name)._from_config(getattr(T, config)(**arguments), attn_implementation=attention)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def inputs(name: str, batch: int = 2) -> dict:
    torch.manual_seed(1)
    images = torch.randn(batch, 3, 32, 32)
    given = {"pixel_values": images}
    if name.startswith("Siglip2"):
        patches = (
            images.unflatten(3, (8, 4))
            .unflatten(2, (8, 4))
            .permute(0, 2, 4, 3, 5, 1)
            .flatten(3)
            .flatten(1, 2)
        )
        mask = torch.ones(batch, 64, dtype=torch.long)
        given = dict(
            pixel_values=patches, pixel_attention_mask=mask, spatial_shapes=torch.full((batch, 2), 8)
        )
    if name in ("CLIPModel", "SiglipModel", "Siglip2Model"):
        given["input_ids"] = torch.tensor([[3, 4, 1]]).expand(batch, -1)
    return given


def tensors(output) -> list[torch.Tensor]:
    """What a model's output object holds, in its order."""
    return [value for value in output.to_tuple() if isinstance(value, torch.Tensor)]
