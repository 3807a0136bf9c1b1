"""Recipes as data: what the papers' authors trained with, and what a CPU can train.

DeiT's and Swin's are those of their papers at a batch of 1,024 (learning rates are proportional to the
batch: 5e-4 at 512). STViT follows the one of its trunk, without distillation, for 300 epochs. LV-ViT's has
token labels in place of mixup and cutmix (``--annotator`` makes them). "transfer" fine-tunes a pretrained
model on a small folder of images.
"""

from __future__ import annotations

AUGMENTATION = dict(
    smoothing=0.1, mixup=0.8, cutmix=1.0, auto_augment="rand-m9-mstd0.5-inc1", reprob=0.25, color_jitter=0.4
)  # fmt: skip

SHORT = dict(
    train_images=32768, eval_images=4096, workers=0, epochs=4, batch_size=64, opt="muon", lr=0.02,
    weight_decay=0.05, warmup_epochs=0.1, warmup_lr=1e-4, min_lr=1e-4,
)  # fmt: skip

RECIPES: dict[str, dict] = {
    "deit": dict(
        epochs=300, batch_size=1024, opt="adamw", lr=1e-3, weight_decay=0.05, sched="cosine",
        warmup_epochs=5, warmup_lr=1e-6, min_lr=1e-5, drop_path=0.1, ema_decay=0.99996, repeats=3, **AUGMENTATION,
    ),
    "lvvit": dict(
        epochs=300, batch_size=1024, opt="adamw", lr=1.6e-3, weight_decay=0.05, sched="cosine",
        warmup_epochs=5, warmup_lr=1e-6, min_lr=1e-5, drop_path=0.1, ema_decay=0.99996, token_weight=0.5,
        **{**AUGMENTATION, "mixup": 0.0, "cutmix": 0.0},
    ),
    "swin": dict(
        epochs=300, batch_size=1024, opt="adamw", lr=1e-3, weight_decay=0.05, sched="cosine",
        warmup_epochs=20, warmup_lr=5e-7, min_lr=5e-6, clip_grad=5.0, drop_path=0.2, **AUGMENTATION,
    ),
    "finetune": dict(
        epochs=30, batch_size=1024, opt="adamw", lr=2e-5, weight_decay=1e-8, sched="cosine",
        warmup_epochs=0, min_lr=1e-6, drop_path=0.1, ema_decay=0.9999, **AUGMENTATION,
    ),
    "transfer": dict(
        epochs=30, batch_size=32, opt="adamw", lr=1e-4, weight_decay=0.05, sched="cosine", warmup_epochs=3,
        warmup_lr=1e-6, min_lr=1e-6, drop_path=0.1, keep_rate_epochs=0.0,
        smoothing=0.1, auto_augment="rand-m9-mstd0.5-inc1", reprob=0.25, color_jitter=0.4,
    ),
    "micro": dict(
        model_args=dict(img_size=48, patch_size=6, embed_dim=64, depth=6, num_heads=4, mlp_ratio=3),
        model="micro_stvit", image_size=48, **SHORT,
    ),
    # The small sets of torchvision, at their own size (img_size follows image_size): chosen on the dense model
    "small_set": dict(
        model="micro_stvit", model_args=dict(patch_size=4, embed_dim=64, depth=6, num_heads=4, mlp_ratio=3),
        **{**SHORT, "train_images": 0, "eval_images": 0, "epochs": 5, "lr": 0.01, "min_lr": 0.0, "padding": 0.0},
    ),
    # Video Swin's on Kinetics-400, from ImageNet weights: clips of 32 frames, every second of them
    "video_swin": dict(
        model="stvit_video_swin_tiny", epochs=30, batch_size=64, opt="adamw", lr=3e-4, weight_decay=0.02,
        sched="cosine", warmup_epochs=2.5, warmup_lr=3e-7, min_lr=0.0, drop_path=0.1, backbone_rate=0.1,
    ),
    "micro_video": dict(
        model="micro_stvit_video_swin", image_size=32, clip_length=8,
        **{**SHORT, "train_images": 16384, "epochs": 1, "batch_size": 16, "lr": 0.01},
    ),
    "micro_swin": dict(model="micro_stvit_r_swin", image_size=64, **SHORT),
    # 240,000 steps of 16 images are 190 passes over ADE20K's 20,210 (Appendix, Table 12), the rest is Swin's:
    # 1,500 steps of warm-up, the rate falls linearly; drop_path as in its configuration (its text says 0.2)
    "upernet": dict(
        task="segment", model="stvit_r_swin_small_patch4_window7_224", image_size=512, epochs=190, batch_size=16,
        opt="adamw", lr=6e-5, weight_decay=0.01, sched="poly", decay_rate=1.0, warmup_epochs=1.19, warmup_lr=6e-11,
        min_lr=0.0, drop_path=0.3, color_jitter=0.5, eval_every=10,
    ),
    "micro_segment": dict(
        task="segment", model="micro_stvit_r_swin", image_size=64,
        **{**SHORT, "train_images": 8192, "eval_images": 1024, "epochs": 2, "batch_size": 16},
    ),
    # Swin's 3× schedule (Table 5): 36 passes over COCO, the rate falls after 27 and 33; 500 steps of warm-up;
    # the shorter side drawn from 480 to 800, the longer at most 1333; half of the images are cut before that.
    # Swin-B has drop_path 0.3
    "cascade_mask_rcnn": dict(
        task="detect", model="stvit_r_swin_small_patch4_window7_224", epochs=36, batch_size=16,
        opt="adamw", lr=1e-4, weight_decay=0.05, sched="multistep", milestones="27,33", decay_rate=0.1,
        warmup_epochs=0.068, warmup_lr=1e-7, min_lr=0.0, drop_path=0.2,
        model_args=dict(
            detector=dict(min_sizes=tuple(range(480, 801, 32)), max_size=1333, crops=(400, 500, 600))
        ),
    ),
    "micro_detect": dict(
        task="detect", model="micro_stvit_r_swin", image_size=64,
        **{**SHORT, "train_images": 8192, "eval_images": 1024, "epochs": 2, "batch_size": 16},
    ),
    # a sparsified student learns its dense teacher's class feature; the rate was chosen on STViT with 16 tokens alone
    "distill": dict(
        task="distill", image_size=126, train_images=10000, eval_images=2000, workers=0, epochs=2, batch_size=100,
        opt="adamw", lr=2.5e-4, backbone_rate=0.1, weight_decay=0.05, clip_grad=1.0, sched="cosine",
        warmup_epochs=0.1, warmup_lr=1e-6, min_lr=0.0, log_every=10, keep_rate_epochs=0.0,
    ),
}  # fmt: skip

# The usual recipes of the dense tasks: on scenes, and on photographs.
DENSE = {"segment": ("micro_segment", "upernet"), "detect": ("micro_detect", "cascade_mask_rcnn")}

# Swin's stochastic depth grows with its size, as its authors trained it.
DROP_PATHS = {"swin": {"tiny": 0.2, "small": 0.3, "base": 0.5}}


def drop_path_of(recipe: str, given: dict) -> float:
    """The stochastic depth of a recipe for the size in the model's name; the recipe's own for other names."""
    name = given.get("model", "")
    found = (rate for size, rate in DROP_PATHS[recipe].items() if f"_{size}_" in name)
    return next(found, RECIPES[recipe]["drop_path"])
