"""The grid as data: the papers' classification tables on Fashion-MNIST, trained from scratch.

Images of 28 × 28 pixels in patches of 4 are 7 × 7 = 49 tokens; six layers of width 64. Choices follow the papers'
proportions: a third of the layers before the STGM, 4 semantic tokens of 49 (16 of 196) unless a table says
otherwise. Rows of a table share head, optimizer, seeds and order of images with the row that they are compared to.

TRAINING was chosen on the dense model alone (``python -m analysis.real_labels pilot``), the margin of half a
point (``analysis.shared.verdicts``) before any row ran.
"""

from __future__ import annotations

from analysis.shared.rows import (
    INITIALIZATION_CLAIMS,
    KEEP_RATE_CLAIMS,
    TOKEN_HEAD,
    Claim,
    Row,
    Table,
    above,
    bat,
    bat_steps,
    every_step_adds,
)

DATA = "fashion_mnist"
SEEDS = (0, 1, 2, 3, 4)
GOAL = {"top1": 91.0, "sd": 0.5}  # of the dense model, for effects of the papers' size to be told
TRAINING = dict(
    recipe="micro", data=DATA, image_size=28, train_images=0, eval_images=512, epochs=5, eval_every=1000,
    batch_size=64, opt="muon", lr=0.008, precision="bf16", padding=0.0, weight_decay=0.05, warmup_epochs=0.1,
    warmup_lr=2e-4, min_lr=0.0, log_every=100, threads=1, device="cpu", workers=0,
)  # fmt: skip
MODEL = dict(img_size=28, patch_size=4)


def stvit(name: str, tokens: int, printed: dict | None = None, **args) -> Row:
    return Row(name, "micro_stvit", dict(num_semantic_tokens=tokens, **args), printed or {})


def rival(name: str, method: str, printed: float | None = None, **args) -> Row:
    return Row(name, f"micro_{method}", {**TOKEN_HEAD, **args}, {"DeiT-S": printed} if printed else {})


DENSE_ROW = Row("dense", "micro_deit", {}, {"DeiT-T": 72.2, "DeiT-S": 79.8, "DeiT-B": 81.8})
DENSE_TOKEN = Row("dense, class token", "micro_deit", TOKEN_HEAD, {"DeiT-S": 79.8})

TABLES: tuple[Table, ...] = (
    Table(
        "stvit_table1",
        "Number of semantic tokens (STViT, Table 1)",
        (
            DENSE_ROW,
            stvit("4 tokens", 4, {"DeiT-T": 72.2, "DeiT-S": 79.8, "DeiT-B": 81.8}),
            stvit("9 tokens", 9, {"DeiT-T": 72.7, "DeiT-S": 80.1, "DeiT-B": 82.2}),
            stvit("16 tokens", 16, {"DeiT-T": 73.0, "DeiT-S": 80.5, "DeiT-B": 82.6}),
        ),
        "4, 9 and 16 of 49 tokens stand for the printed 16, 36 and 64 of 196.",
    ),
    Table(
        "stvit_table7",
        "Initialization (STViT, Table 7)",
        (
            stvit("spatial and global", 4, {"DeiT-S": 79.8}),
            stvit("spatial", 4, {"DeiT-S": 79.4}, initialization="spatial"),
            stvit("global", 4, {"DeiT-S": 78.7}, initialization="global"),
            stvit("spatial, learned positions", 4, {"DeiT-S": 79.7}, initialization="learned"),
        ),
    ),
    Table(
        "stvit_table4",
        "Methods at like FLOPs (STViT, Table 4)",
        (
            DENSE_TOKEN,
            rival("DynamicViT", "dynamicvit", 79.3, keep_rate=0.57),
            rival("EViT", "evit", 78.5, keep_rate=0.5),
            bat("BAT", 0.5, 79.0),
            rival("ToMe", "tome", r=8),
            rival("ATS", "ats", keep_rate=0.55),
            stvit("STViT, class token", 9, {"DeiT-S": 79.8}, **TOKEN_HEAD),
        ),
        "All rows read a class token, STViT too; the text's own STViT reads the mean. Each row's option is the one "
        "that brings it nearest to 10.1 million multiply-adds, 59 % of the dense model's.",
    ),
    *(
        Table(
            f"bat_table3_keep{round(100 * rate)}",
            f"Steps of BAT at keep rate {rate} (BAT, Table 3)",
            (DENSE_TOKEN, *bat_steps(rate)),
        )
        for rate in (0.5, 0.7)
    ),
    Table(
        "bat_keep_rates",
        "Keep rates of BAT",
        (
            DENSE_TOKEN,
            *(
                bat(f"keep rate {rate}", rate, value)
                for rate, value in ((0.7, 79.6), (0.5, 79.0), (0.3, None))
            ),
        ),
    ),
    Table(
        "stvit_table15",
        "Spatial pooling, 9 tokens (STViT, Table 15)",
        (
            stvit("intra and inter-window", 9, {"DeiT-T": 72.2}),
            stvit("overlapping windows", 9, {"DeiT-T": 71.6}, pooling="overlap"),
            stvit("adaptive", 9, {"DeiT-T": 71.9}, pooling="mean"),
        ),
        "9 of 49 tokens, where the paper has 25 of 196. The printed row of two scales has no place here: 9 is not the "
        "sum of two squares.",
    ),
)

CLAIMS = (
    Claim(
        "stvit_table1", "The fewest semantic tokens cost no accuracy", (("4 tokens", "not below", "dense"),)
    ),
    Claim(
        "stvit_table1",
        "More semantic tokens than the fewest beat the dense model",
        above("16 tokens", "dense"),
    ),
    Claim(
        "stvit_table1",
        "Accuracy grows with the number of semantic tokens",
        above("9 tokens", "4 tokens") + above("16 tokens", "9 tokens"),
    ),
    *INITIALIZATION_CLAIMS,
    Claim(
        "stvit_table4",
        "STViT loses less than the other methods at like FLOPs",
        above("STViT, class token", "DynamicViT", "EViT"),
    ),
    every_step_adds("bat_table3_keep50", 0.5),
    every_step_adds("bat_table3_keep70", 0.7),
    *KEEP_RATE_CLAIMS,
    Claim(
        "stvit_table15",
        "Intra and inter-window pooling beats adaptive pooling",
        above("intra and inter-window", "adaptive"),
    ),
    Claim("stvit_table15", "Overlap does not help", (("overlapping windows", "not above", "adaptive"),)),
)
