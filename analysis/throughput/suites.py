"""Named runs: which models at which workloads. Each is minutes on two quiet cores; see ``--suite``."""

from __future__ import annotations

from typing import NamedTuple

from analysis.throughput.measure import TimedCell
from analysis.throughput.specs import InputSize
from analysis.throughput.turns import Patience
from analysis.throughput.variants import ALIKE, RUNTIMES, Mode, Variant, Workload

EAGER, COMPILED = Mode(), Mode(compiled=True)
OPTIMIZED = ALIKE  # all that is known, for the dense models too
DEPLOYED = tuple(Mode(runtime=runtime) for runtime in RUNTIMES)
IMAGE_SIZE = (224, 224)
CLIP = (32, 224, 224)
DEIT_T_PAIR, DEIT_S_PAIR, DEIT_B_PAIR = (
    (f"deit_{size}_patch16_224", f"stvit_deit_{size}_patch16_224") for size in ("tiny", "small", "base")
)
SWIN_S_MODELS = tuple(f"{kind}_small_patch4_window7_224" for kind in ("swin", "stvit_swin", "stvit_r_swin"))
RIVAL_MODELS = tuple(f"{method}_deit_small_patch16_224" for method in ("evit", "bat", "dynamicvit", "tome"))
PEERS = (*DEIT_S_PAIR, f"{DEIT_S_PAIR[1]}:pooling=mean", *RIVAL_MODELS)
SWEPT = (*DEIT_S_PAIR, *RIVAL_MODELS)
WIDE = tuple(
    (
        f"deit_{size}_patch16_224",
        *(f"{method}_deit_{size}_patch16_224" for method in ("stvit", "evit", "bat", "tome")),
    )
    for size in ("tiny", "small", "base")
)
RATED = (
    DEIT_S_PAIR[0],
    *(f"{DEIT_S_PAIR[1]}:num_semantic_tokens={tokens}" for tokens in (100, 49, 16)),
    *(f"{model}:keep_rate={rate}" for model in RIVAL_MODELS[:3] for rate in (0.95, 0.8, 0.6, 0.4)),
    *(f"{RIVAL_MODELS[3]}:r={pairs}" for pairs in (1, 4, 8, 14)),
)
VIDEO = tuple(
    (f"video_swin_{size}", f"stvit_video_swin_{size}", f"torchvision.swin3d_{size[0]}")
    for size in ("tiny", "small")
)


class Suite(NamedTuple):
    """Cells that are measured in one run, those whose parts are timed, and those whose overhead is split by kind."""

    about: str
    cells: tuple[TimedCell, ...]
    patience: Patience = Patience(rounds=25, warmup=1, seconds=60, turn=0.3)
    parts: tuple[TimedCell, ...] = ()
    split: tuple[TimedCell, ...] = ()


def cell(
    models: tuple[str, ...], batch: int, *modes: Mode, size: InputSize = IMAGE_SIZE, **work
) -> TimedCell:
    """A cell of models in modes (eager); beside eager inference on a CPU, the base with the same short cuts."""
    modes, timed = modes or (EAGER,), Workload(size, batch, **work)
    fair = EAGER in modes and ALIKE not in modes and timed == Workload(size, batch, dense=timed.dense)
    return TimedCell(models, timed, modes, (Variant(models[0], ALIKE),) if fair else ())


def for_each(
    models: tuple[str, ...], *modes: Mode, batches=(8,), sizes=(IMAGE_SIZE,), **work
) -> tuple[TimedCell, ...]:
    return tuple(cell(models, b, *modes, size=size, **work) for size in sizes for b in batches)


def squares(*sides: int) -> tuple[InputSize, ...]:
    return tuple((side, side) for side in sides)


def patient(seconds: float, rounds: int = 25) -> Patience:
    return Patience(rounds=rounds, warmup=1, seconds=seconds, turn=0.3)


def on_gpu(about: str, groups: tuple[tuple[str, ...], ...]) -> Suite:
    """In bf16, eager and compiled, at two batches; compilation is most of its minutes."""
    work = dict(precision="bf16", device="cuda")
    return Suite(
        f"{about}, on a GPU in bf16, eager and through torch.compile, batch 128 and 1024",
        tuple(cell(models, batch, EAGER, COMPILED, **work) for models in groups for batch in (128, 1024)),
        Patience(rounds=25, warmup=3, seconds=15, turn=0.3),
        parts=(cell(groups[-1], 128, **work),),
    )


SUITES = {
    "deit": Suite(
        "DeiT-T and -S with 16 semantic tokens, batch 32 and 1, as they are and with all that is known on both "
        "sides; batch 1 through torch.compile, too",
        (
            cell(DEIT_T_PAIR, 32, EAGER, OPTIMIZED),
            cell(DEIT_T_PAIR, 1, EAGER, OPTIMIZED, COMPILED),
            cell(DEIT_S_PAIR, 32, EAGER, OPTIMIZED),
            cell(DEIT_S_PAIR, 1, EAGER, OPTIMIZED, COMPILED),
        ),
        parts=(cell(DEIT_S_PAIR, 32),),
    ),
    "deit-base": Suite(
        "DeiT-B with 16 semantic tokens, batch 32 and 1, as it is and with all that is known on both sides; "
        "batch 1 through torch.compile, too",
        (
            cell(DEIT_B_PAIR, 32, EAGER, OPTIMIZED),
            cell(DEIT_B_PAIR, 1, EAGER, OPTIMIZED, COMPILED),
        ),
        patient(140),
    ),
    "single": Suite(
        "one image at a time: the parts of DeiT-S and DeiT-B with 16 semantic tokens, and what stands in their way",
        tuple(cell(models, 1, EAGER, OPTIMIZED) for models in (DEIT_S_PAIR, DEIT_B_PAIR)),
        patient(45),
        parts=tuple(cell(models, 1) for models in (DEIT_S_PAIR, DEIT_B_PAIR)),
    ),
    "swin": Suite(
        "Swin-S, STViT-Swin-S and STViT-R-Swin-S, batch 8, as they are and with all that is known on both sides",
        for_each(SWIN_S_MODELS, EAGER, OPTIMIZED),
        patient(100),
        parts=(cell(SWIN_S_MODELS, 8),),
    ),
    "peers": Suite(
        "DeiT-S and what sparsifies it, batch 32: learned and mean pooling, EViT, BAT, DynamicViT, ToMe",
        (cell(PEERS, 32),),
        patient(120),
    ),
    "compiled": Suite(
        "the peers at batch 8, eager and through torch.compile (which takes minutes itself)",
        (cell(PEERS, 8, EAGER, COMPILED),),
        patient(60, 15),
    ),
    "runtimes": Suite(
        "DeiT-S and its rivals at batch 8 and 1: eager, through torch.compile, in ONNX Runtime and in OpenVINO",
        for_each(SWEPT, EAGER, COMPILED, *DEPLOYED, batches=(8, 1)),
        patient(60, 15),
    ),
    "batch": Suite(
        "DeiT-S and its rivals from batch 1 to 32: from which batch on each method pays",
        for_each(SWEPT, batches=(1, 2, 4, 8, 16, 32)),
        patient(20),
    ),
    "resolution": Suite(
        "DeiT-S and its rivals from 112 to 448 pixels, Swin-S from 224: from which size on each method pays",
        (
            *for_each(SWEPT, batches=(4,), sizes=squares(112, 160, 224, 320, 448)),
            *for_each(SWIN_S_MODELS, batches=(2,), sizes=squares(224, 320, 448)),
        ),
        patient(15),
    ),
    "width": Suite(
        "DeiT-T, -S and -B and their rivals at batch 8: from which width on each method pays",
        tuple(cell(models, 8) for models in WIDE),
        patient(30),
    ),
    "rates": Suite(
        "DeiT-S and its rivals at batch 8, from keep rate 0.95 to 0.4: from which saving on each pays, and where its "
        "overhead goes",
        (cell(RATED, 8),),
        patient(90, 15),
        split=(cell(SWEPT, 8),),
    ),
    "precision": Suite(
        "DeiT-S in float32 and in bf16, batch 8",
        tuple(cell(DEIT_S_PAIR, 8, precision=precision) for precision in ("float32", "bf16")),
        patient(40),
    ),
    "attention": Suite(
        "fused attention on, off, and as timm builds it: DeiT-S and Swin-S, batch 8",
        for_each(DEIT_S_PAIR, *map(Mode, ("on", "off", "default")))
        + for_each(SWIN_S_MODELS, *map(Mode, ("on", "off", "default"))),
        patient(60),
    ),
    "training": Suite(
        "a training step (forward, loss, backward, AdamW) of DeiT-S and what sparsifies it, batch 8",
        for_each((*DEIT_S_PAIR, *RIVAL_MODELS), task="training step"),
        patient(90),
    ),
    "end-to-end": Suite(
        "DeiT-T and -S from JPEG files through timm's loader, and the model alone, batch 32",
        tuple(
            cell(models, 32, task=task)
            for models in (DEIT_T_PAIR, DEIT_S_PAIR)
            for task in ("inference", "end to end")
        ),
        patient(30),
    ),
    "dense": Suite(
        "Swin-S and STViT-R-Swin-S as backbones of four maps, 512×512 and 800×1333 (padded to 1336)",
        for_each(
            (SWIN_S_MODELS[0], SWIN_S_MODELS[2]), batches=(1,), sizes=((512, 512), (800, 1336)), dense=True
        ),
        patient(45),
        parts=(cell((SWIN_S_MODELS[0], SWIN_S_MODELS[2]), 1, size=(512, 512), dense=True),),
    ),
    "video": Suite(
        "Video Swin-T and -S on clips of 32 frames, one at a time",
        tuple(cell(models, 1, size=CLIP) for models in VIDEO),
        patient(60),
        parts=(cell(VIDEO[0][:2], 1, size=CLIP),),
    ),
    "gpu-deit": on_gpu("DeiT-T, -S and -B with 16 semantic tokens", (DEIT_T_PAIR, DEIT_S_PAIR, DEIT_B_PAIR)),
    "gpu-peers": on_gpu("DeiT-S and what sparsifies it", (PEERS,)),
    "gpu-swin": on_gpu("Swin-S, STViT-Swin-S and STViT-R-Swin-S", (SWIN_S_MODELS,)),
}


def find(name: str) -> Suite:
    if name not in SUITES:
        raise ValueError(f"unknown suite {name!r}; choose from {', '.join(SUITES)}")
    return SUITES[name]
