"""The grid as data: which tables, which rows, trained how, and what is printed beside them.

Everything is small: 48 × 48 scenes in 8 × 8 = 64 tokens, six layers of width 64, one pass over 16,384
images. Choices follow the papers' proportions and nothing else: a third of the layers before the STGM
(4 of 12, here 2 of 6), 4 semantic tokens of 64 (16 of 196) unless a table says otherwise, Table 15 at the
25 tokens that its two scales need. Each table's rows share head, optimizer, seeds and order of images
with the base row that they are compared to.
"""

from __future__ import annotations

from analysis.shared.rows import TOKEN_HEAD, Row, Table, bat, bat_steps

SEEDS = (0, 1, 2)
TEST_IMAGES, CHECK_IMAGES, PURITY_IMAGES = 20480, 4096, 1024
TRAINING = dict(
    recipe="micro", data="scenes", image_size=48, train_images=16384, eval_images=512, epochs=1,
    batch_size=64, opt="muon", lr=0.02, weight_decay=0.05, warmup_epochs=0.1, warmup_lr=2e-4, min_lr=0.0,
    log_every=32, threads=1, device="cpu",
)  # fmt: skip


# Fourteen layers learn nothing for long at the rate and batch of six: a third of the rate and half the batch, chosen
# by the dense Swin's loss alone.
SWIN_TRAINING = dict(recipe="micro_swin", image_size=64, train_images=12288, batch_size=32, lr=0.006)


def stvit(name: str, printed: dict | None = None, **args) -> Row:
    return Row(name, "micro_stvit", args, printed or {})


def swin(name: str, model: str, printed: dict | None = None, **args) -> Row:
    return Row(name, model, args, printed or {}, SWIN_TRAINING)


DENSE_ROW = Row("dense", "micro_deit", {}, {"DeiT-T": 72.2, "DeiT-S": 79.8, "DeiT-B": 81.8})
DENSE_TOKEN = Row("dense, class token", "micro_deit", TOKEN_HEAD, {"DeiT-S": 79.8})


PRINTED_MERGERS = {
    "average": 78.1, "max": 78.1, "spatial": 78.2, "convolution": 78.2, "mlp": 78.3,
    "k_means_1": 78.6, "k_means_3": 78.8, "density_peaks": 79.0,
}  # fmt: skip

TABLES: tuple[Table, ...] = (
    Table(
        "stvit_table1",
        "Number of semantic tokens (STViT, Table 1)",
        (
            DENSE_ROW,
            stvit("4 tokens", {"DeiT-T": 72.2, "DeiT-S": 79.8, "DeiT-B": 81.8}),
            stvit("9 tokens", {"DeiT-T": 72.7, "DeiT-S": 80.1, "DeiT-B": 82.2}, num_semantic_tokens=9),
            stvit("16 tokens", {"DeiT-T": 73.0, "DeiT-S": 80.5, "DeiT-B": 82.6}, num_semantic_tokens=16),
            stvit("36 tokens", {"DeiT-T": 73.2, "DeiT-S": 80.6, "DeiT-B": 82.7}, num_semantic_tokens=36),
        ),
        "4, 9, 16 and 36 of 64 tokens stand for the printed 16, 36, 64 and 100 of 196.",
    ),
    Table(
        "stvit_table7",
        "Initialization (STViT, Table 7)",
        (
            stvit("spatial and global", {"DeiT-S": 79.8}),
            stvit("spatial", {"DeiT-S": 79.4}, initialization="spatial"),
            stvit("global", {"DeiT-S": 78.7}, initialization="global"),
            stvit("spatial, learned positions", {"DeiT-S": 79.7}, initialization="learned"),
        ),
    ),
    Table(
        "stvit_table15",
        "Spatial pooling, 25 tokens (STViT, Table 15)",
        (
            stvit("intra and inter-window", {"DeiT-T": 72.2}, num_semantic_tokens=25),
            stvit("overlapping windows", {"DeiT-T": 71.6}, num_semantic_tokens=25, pooling="overlap"),
            stvit("two scales", {"DeiT-T": 71.7}, num_semantic_tokens=25, pooling="multi_scale"),
            stvit("adaptive", {"DeiT-T": 71.9}, num_semantic_tokens=25, pooling="mean"),
        ),
        "25 of 64 tokens, where the paper has 25 of 196: no smaller number is a square and the sum of two.",
    ),
    Table(
        "controls",
        "Does the attention of the STGM matter? (no printed table)",
        (
            stvit("STViT, 4 tokens"),
            stvit("STViT, 4 tokens, adaptive pooling", pooling="mean"),
            Row(
                "average pooling alone, 4 tokens",
                "micro_meanpool",
                dict(TOKEN_HEAD, class_token=False, global_pool="avg", fc_norm=False, num_tokens=4),
            ),
        ),
        "Plain average pooling replaces the tokens at the STGM's place, with the same head.",
    ),
    Table(
        "stvit_table13",
        "Position of the STGM (STViT, Table 13)",
        (
            stvit("layers 3-4", {"DeiT-S": 79.8}),
            stvit("layers 2-3", {"DeiT-S": 79.3}, stgm_at=2),
            stvit("layers 4-5", {"DeiT-S": 80.3}, stgm_at=4),
            stvit("layers 5-6", {"DeiT-S": 80.3}, stgm_at=5),
        ),
        "Printed are the positions nearest in proportion of depth: base depth 4, 3, 7 and 8 of 12. Six layers have no "
        "place for the other two, 5 of 12 (between layers) and 10 of 12 (what two layers from 5 on are here already).",
    ),
    Table(
        "stvit_table8",
        "Layers of the STGM (STViT, Table 8)",
        (
            stvit("2 layers", {"DeiT-S": 79.8}),
            stvit("3 layers", {"DeiT-S": 79.5}, stgm_layers=3),
            stvit("4 layers", {"DeiT-S": 79.6}, stgm_layers=4),
        ),
    ),
    Table(
        "stvit_table14",
        "Positions of the semantic tokens (STViT, Table 14)",
        (
            stvit("none", {"DeiT-S": 79.8}),
            stvit("learned", {"DeiT-S": 79.6}, position="learned"),
            stvit("conditional", {"DeiT-S": 79.7}, position="conditional"),
            stvit("relative", {"DeiT-S": 79.8}, position="relative"),
        ),
    ),
    Table(
        "stvit_table4",
        "Methods at like FLOPs (STViT, Table 4)",
        (
            DENSE_TOKEN,
            Row("DynamicViT", "micro_dynamicvit", dict(TOKEN_HEAD, keep_rate=0.5), {"DeiT-S": 79.3}),
            Row("EViT", "micro_evit", dict(TOKEN_HEAD, keep_rate=0.4), {"DeiT-S": 78.5}),
            Row("BAT", "micro_bat", dict(keep_rate=0.4)),
            Row("ToMe", "micro_tome", dict(TOKEN_HEAD, r=12)),
            Row("top-k", "micro_topk", dict(TOKEN_HEAD, keep_rate=0.4)),
            Row("random", "micro_random", dict(TOKEN_HEAD, keep_rate=0.4)),
            stvit("STViT, class token", {"DeiT-S": 79.8}, **TOKEN_HEAD),
        ),
        "All rows read a class token, STViT too; the text's own STViT reads the mean.",
    ),
    Table(
        "stvit_table9",
        "Dumbbell units and reused tokens in a micro Swin (STViT, Table 9)",
        (
            swin("dense Swin", "micro_swin"),
            swin("STViT-R", "micro_stvit_r_swin", {"box AP": 51.8, "mask AP": 44.7}),
            swin(
                "without dumbbell units",
                "micro_stvit_r_swin",
                {"box AP": 51.4, "mask AP": 44.4},
                units=[[4, 2, 5, 1]],
            ),
            swin(
                "reusing semantic tokens",
                "micro_stvit_r_swin",
                {"box AP": 51.6, "mask AP": 44.5},
                reuse=True,
            ),
            swin("STViT-Swin", "micro_stvit_swin"),
        ),
        "Printed are box and mask AP of detection on COCO; here it is classification, which needs the recovered map "
        "less. Micro Swins on 64 × 64 scenes, 12 layers in stage 3: two units of (1, 2, 2, 1), against one of "
        "(4, 2, 5, 1), the printed (6, 2, 9, 1) of 18 at two thirds; one pass over 12,288 images in batches of 32.",
    ),
    *(
        Table(
            f"bat_table3_keep{round(100 * rate)}",
            f"Steps of BAT at keep rate {rate} (BAT, Table 3)",
            (DENSE_TOKEN, *bat_steps(rate)),
        )
        for rate in (0.7, 0.5)
    ),
    Table(
        "bat_table4",
        "What becomes of inattentive tokens, keep rate 0.5 (BAT, Table 4)",
        tuple(
            bat(name, 0.5, PRINTED_MERGERS[name], merger=name, clusters=3)
            for name in reversed(PRINTED_MERGERS)
        ),
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
)

NOT_IN_GRID = (
    "detection and segmentation (STViT, Tables 5, 9 and 12 as printed): every cell is a classification, Table 9's "
    "too.",
    "4 and 16 semantic tokens a window and the moved STGM of Swin (STViT, Table 2): the printed differences to "
    "Swin are 0.6 points or less, and the micro Swins of Table 9 differ by 3 to 10 points from seed to seed.",
)
