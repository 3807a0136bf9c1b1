"""The grid as data: which rows, in which tables, trained how, and what is printed beside them.

The teacher is DINOv2-S at 126 × 126 pixels: 12 layers of width 384 with 6 heads, as DeiT-S, and 9 × 9 = 81 image
tokens. A student's layers before the first one that it changes are the teacher's and stay frozen; the others learn
the teacher's class feature. Places in depth are the papers' own; numbers of tokens are 16, 25 and 36 of 81.

The learning rate was chosen by a pilot of STViT (``results/distilled/pilot``), before any cell of the grid ran: the
lower the better, down to 2.5e-5 for the teacher's weights. What a student does not have from its teacher learns at ten
times that rate, in every row. The number of crops is what a shared machine could train in an hour: more rows and seeds
rather than more steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MODEL, SIZE = "dinov2_small", 126
SEEDS = (0, 1, 2, 3, 4)
MORE_SEEDS = (5, 6, 7, 8, 9)  # of LOOKED_AT_TWICE
GALLERY = 400  # crops among which the teacher's nearest feature is looked for
LAYERS = (0, 1, 3, 4, 5, 7, 8, 10)  # after which students read the teacher's tokens; 0: images
MARGIN = 0.5  # hundredths of centred cosine that "no better" allows; named before any cell ran
TRAINING = dict(
    epochs=1, train_images=1000, batch_size=25, lr=2.5e-4, backbone_rate=0.1, warmup_epochs=0.1, weight_decay=0.05,
    clip_grad=1.0, precision="bf16",
)  # fmt: skip


@dataclass(frozen=True)
class Budget:
    """How much is learned from and tested on.

    crops: that are cut; taught: of which the teacher is asked; test: held-out ones
    """

    crops: int
    taught: int
    test: int
    training: dict


SCALES = {
    "grid": Budget(5000, 2500, 2000, TRAINING),
    "full": Budget(
        20000, 20000, 2000, dict(TRAINING, epochs=2, train_images=20000, batch_size=100)
    ),  # for a GPU
    "toy": Budget(40, 40, 40, dict(TRAINING, train_images=40, batch_size=20)),  # a rehearsal
}
GRID = SCALES["grid"]


@dataclass(frozen=True)
class Student:
    """A student: what ``stvit.sparsify`` is asked for."""

    name: str
    method: str
    choices: dict = field(default_factory=dict)
    maps: bool = False  # learns the teacher's map beside its class feature, and is measured by it


@dataclass(frozen=True)
class StudentTable:
    """Rows by name, the first of which is the base that the others are compared to, with what is printed for them."""

    name: str
    title: str
    rows: dict[str, float | None]
    note: str = ""
    maps: bool = False  # students are compared by their maps


# STViT-R's units in 12 layers, (image, STGM, semantic, recovery) each. In Swin-S, of 24 layers, three units of
# (1, 2, 2, 1) follow 4 layers of other stages, or one of (6, 2, 9, 1): the first STGM stands behind 21 and 42 % of the
# layers. Here it is 25 and 42 %, and both have as many layers on the map and on semantic tokens.
DUMBBELLS, LONG_UNIT = [[3, 2, 1, 1], [1, 2, 1, 1]], [[5, 2, 4, 1]]
STAGE_UNITS = [[1, 2, 2, 1]] * 2  # the paper's own units, with nothing before them


def stvit(name: str, tokens: int = 16, at: int = 5, **choices) -> Student:
    return Student(name, "stvit", dict(tokens=tokens, at=at, **choices))


def stvit_r(name: str, units: list[list[int]] = DUMBBELLS, **choices) -> Student:
    return Student(name, "stvit", dict(tokens=16, recovery=True, units=units, **choices), maps=True)


def bat(name: str, keep_rate: float, **choices) -> Student:
    return Student(name, "bat", dict(keep_rate=keep_rate, **choices))


BAT_STEPS = {
    "attentive tokens alone": dict(merger="none", pairs=0),
    "+ inattentive packed": dict(merger="pack", pairs=0),
    "+ inattentive clustered": dict(pairs=0),
}
MERGERS = ("average", "max", "spatial", "convolution", "mlp", "k_means_1", "k_means_3")
PRINTED_MERGERS = dict(zip(MERGERS, (78.1, 78.1, 78.2, 78.2, 78.3, 78.6, 78.8), strict=True))
BASE = "STViT, 16 tokens"

# By priority: of a tier all seeds are trained before the next one begins.
TIERS: tuple[tuple[Student, ...], ...] = (
    (
        stvit(BASE),
        Student("average pooling alone, 16 tokens", "meanpool", dict(num_tokens=16)),
        stvit("spatial", initialization="spatial"),
        stvit("global", initialization="global"),
        stvit("spatial, learned positions", initialization="learned"),
    ),
    (
        stvit("25 tokens", 25),
        stvit("25 tokens, adaptive pooling", 25, pooling="mean"),
        stvit("25 tokens, overlapping windows", 25, pooling="overlap"),
        stvit("25 tokens, two scales", 25, pooling="multi_scale"),
        stvit("36 tokens", 36),
    ),
    (
        stvit("STGM at layer 9", at=9),
        stvit("STGM at layer 4", at=4),
        stvit("3 STGM layers", stgm_layers=3),
        stvit("4 STGM layers", stgm_layers=4),
    ),
    (
        Student("EViT", "evit", dict(keep_rate=0.47)),
        Student("DynamicViT", "dynamicvit", dict(keep_rate=0.51)),
    ),
    (
        stvit("learned positions", position="learned"),
        stvit("conditional positions", position="conditional"),
        stvit("relative positions", position="relative"),
    ),
    tuple(bat(f"BAT, keep rate {rate}", rate) for rate in (0.7, 0.5, 0.3)),
    tuple(bat(f"{name}, 0.5", 0.5, **choices) for name, choices in BAT_STEPS.items()),
    tuple(bat(f"{name}, 0.7", 0.7, **choices) for name, choices in BAT_STEPS.items()),
    tuple(bat(f"merger {name}, 0.5", 0.5, merger=name, clusters=3) for name in (*MERGERS, "density_peaks")),
    (
        bat("BAT", 0.47),
        Student("ToMe from layer 5", "tome", dict(r=24, at=tuple(range(5, 13)))),
        Student("top-k", "topk", dict(keep_rate=0.47)),
        Student("random", "random", dict(keep_rate=0.47)),
    ),
    (
        stvit("STGM at layer 6", at=6),
        stvit("STGM at layer 8", at=8),
        stvit("STGM at layer 11", at=11),
    ),
    (
        stvit_r("STViT-R"),
        stvit_r("one long unit", LONG_UNIT),
        stvit_r("reusing semantic tokens", reuse=True),
        stvit_r("units of (1, 2, 2, 1)", STAGE_UNITS),
    ),
)
ROWS = {row.name: row for tier in TIERS for row in tier}
LOOKED_AT_TWICE = (
    BASE,
    "25 tokens",
    "36 tokens",
    "spatial",
    "global",
    "3 STGM layers",
    "4 STGM layers",
)  # five seeds could not tell the conclusions of Tables 1, 7 and 8
SHELF = (
    ROWS["EViT"],
    ROWS["BAT"],
    ROWS["ToMe from layer 5"],
    Student("ToMe", "tome", dict(r=7)),
)  # untrained


def seeds_of(name: str) -> tuple[int, ...]:
    """The seeds from which a row is trained."""
    return (*SEEDS, *MORE_SEEDS) if name in LOOKED_AT_TWICE else SEEDS


def steps_of(rate: float, printed: tuple[float, ...]) -> dict[str, float]:
    return dict(
        zip((*(f"{name}, {rate}" for name in BAT_STEPS), f"BAT, keep rate {rate}"), printed, strict=True)
    )


TABLES: tuple[StudentTable, ...] = (
    StudentTable(
        "stvit_table1",
        "Number of semantic tokens (STViT, Table 1)",
        {BASE: 79.8, "25 tokens": 80.1, "36 tokens": 80.5},
        "16, 25 and 36 of 81 tokens; printed are DeiT-S's 16, 36 and 64 of 196.",
    ),
    StudentTable(
        "stvit_table7",
        "Initialization (STViT, Table 7)",
        {BASE: 79.8, "spatial": 79.4, "global": 78.7, "spatial, learned positions": 79.7},
    ),
    StudentTable(
        "stvit_table8",
        "Layers of the STGM (STViT, Table 8)",
        {BASE: 79.8, "3 STGM layers": 79.5, "4 STGM layers": 79.6},
    ),
    StudentTable(
        "stvit_table13",
        "Position of the STGM (STViT, Table 13)",
        {BASE: 79.8, "STGM at layer 4": 79.3, "STGM at layer 6": None, "STGM at layer 8": 80.3,
         "STGM at layer 9": 80.3, "STGM at layer 11": None},
    ),
    StudentTable(
        "stvit_table14",
        "Positions of the semantic tokens (STViT, Table 14)",
        {BASE: 79.8, "learned positions": 79.6, "conditional positions": 79.7, "relative positions": 79.8},
    ),
    StudentTable(
        "stvit_table15",
        "Spatial pooling, 25 tokens (STViT, Table 15; printed: DeiT-T)",
        {"25 tokens": 72.2, "25 tokens, overlapping windows": 71.6, "25 tokens, two scales": 71.7,
         "25 tokens, adaptive pooling": 71.9},
    ),
    StudentTable(
        "controls",
        "Does the attention of the STGM matter? (no printed table)",
        {BASE: None, "average pooling alone, 16 tokens": None},
        "Plain average pooling takes the tokens' place within layer 5; layers 5 and following learn.",
    ),
    StudentTable(
        "stvit_table4",
        "Methods at like FLOPs (STViT, Table 4)",
        {BASE: 79.8, "DynamicViT": 79.3, "EViT": 78.5, "BAT": None, "ToMe from layer 5": None, "top-k": None,
         "random": None},
        "Rates are those nearest to the multiply-adds of STViT with 16 tokens. Of rivals, layers from 4 on learn.",
    ),
    StudentTable(
        "stvit_table9",
        "Dumbbell units and reused tokens (STViT, Table 9)",
        {"STViT-R": 51.8, "one long unit": 51.4, "reusing semantic tokens": 51.6, "units of (1, 2, 2, 1)": None},
        "Printed is box AP of detection on COCO. These students learn the teacher's map too: the mean of 1 − centred "
        "cosine over its places is added to the loss. correlation: of the saliency map that a trained head, frozen, "
        "reads from the student's map, with the one that it reads from the teacher's; places: centred cosine of the "
        "map's tokens. Units in 12 layers of (image, STGM, semantic, recovery): (3, 2, 1, 1) and (1, 2, 1, 1); the "
        "long one is (5, 2, 4, 1); with the paper's own (1, 2, 2, 1) twice, one layer comes before the first STGM.",
        maps=True,
    ),
    StudentTable(
        "bat_table3_keep70", "Steps of BAT at keep rate 0.7 (BAT, Table 3)", steps_of(0.7, (79.3, 79.3, 79.5, 79.6))
    ),
    StudentTable(
        "bat_table3_keep50", "Steps of BAT at keep rate 0.5 (BAT, Table 3)", steps_of(0.5, (78.2, 78.4, 78.8, 79.0))
    ),
    StudentTable(
        "bat_table4",
        "What becomes of inattentive tokens, keep rate 0.5 (BAT, Table 4)",
        {"merger density_peaks, 0.5": 79.0, **{f"merger {name}, 0.5": PRINTED_MERGERS[name] for name in MERGERS}},
    ),
    StudentTable(
        "bat_keep_rates",
        "Keep rates of BAT",
        {"BAT, keep rate 0.7": 79.6, "BAT, keep rate 0.5": 79.0, "BAT, keep rate 0.3": None},
    ),
)  # fmt: skip
