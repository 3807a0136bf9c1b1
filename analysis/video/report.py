"""``results/video``: Table 6 printed and computed, the trained models, and semantic tokens over the frames."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from analysis.results import Report
from analysis.shared import records
from analysis.shared.models import Subject, open_model
from analysis.shared.shelf import recounted
from analysis.shared.statistics import paired, spread
from analysis.shared.verdicts import FEWEST
from analysis.video import tables, tokens
from analysis.video.cells import (
    CELLS,
    CHECK_CLIPS,
    CHECKPOINTS,
    CLIP,
    EPOCHS,
    SEEDS,
    SEMANTIC,
    SHELF,
    SHIPPED,
    TEST_CLIPS,
    TRAINING,
)

SHOWN = (2, 5)  # test clips that are drawn
TOLERANCE = 2  # clips of 512 that rounding may turn on another machine
FRAMES = (8, 16, 32)


def write(out: Path | None = None) -> int:
    again = tested_again()
    subject, clips = open_semantic(), test_clips(SHOWN)
    inputs = [
        tables.PRINTED,
        *records.kept(CELLS, out),
        *([subject.weights] if subject.trained else []),
    ]
    config = {"training": TRAINING, "passes": list(EPOCHS), "seeds": list(SEEDS), "test_clips": TEST_CLIPS}
    with Report(
        "video",
        "Video: STViT on Video Swin",
        "python -m analysis.video --report",
        config,
        inputs=inputs,
        out=out,
    ) as report:
        frame = tables.printed()
        report.prose(introduction(frame))
        report.table("table6", frame, CAPTION_6)
        report.table("clip_length", by_length(), CAPTION_LENGTH)
        report.heading("The same models, small, trained on moving scenes")
        found = tables.trained()
        report.prose("\n\n".join(filter(None, (setting(), outcomes(found), scopes()))))
        report.table("trained", found, CAPTION_TRAINED)
        report.table(
            "motions",
            tables.by_motion(),
            "Top-1 by the marked object's motion, all seeds together, after most passes (%).",
        )
        report.table(
            "checkpoints", again, f"Right answers on the first {CHECK_CLIPS} test clips, recorded and now."
        )
        report.heading("Semantic tokens over the frames")
        followed = [tokens.follow(subject.model, clip) for clip in clips.images]
        titles = [title(one, int(label)) for one, label in zip(followed, clips.labels, strict=True)]
        report.figure("tokens", tokens.strip(followed, titles, subject.label), CAPTION_TOKENS, ALT)
        moving = tokens.animate(followed[0], report.out / "tokens.gif")
        report.prose(f"The first of these clips as a moving picture: [{moving.name}](video/{moving.name}).")
    unequal = again[~again.within_rounding].checkpoint.tolist() if len(again) else []
    for name in unequal:
        print(f"{name}: another accuracy than recorded", file=sys.stderr)
    print(f"{len(records.read_all(CELLS))} cells tabulated, {len(again)} checkpoints tested again")
    return 1 if unequal else 0


def open_semantic(which: str = SEMANTIC) -> Subject:
    return open_model(which, CHECKPOINTS)


def test_clips(numbers):
    """The test clips with these numbers: ``images`` (n, 3, T, H, W) uint8 and ``labels``."""
    from types import SimpleNamespace

    import torch

    from stvit.data.clips import moving
    from stvit.data.scenes import draw_clips

    frames, labels = draw_clips(
        moving(TRAINING["image_size"]), torch.tensor(list(numbers)), TRAINING["clip_length"], "test"
    )
    return SimpleNamespace(images=torch.stack([one.images for one in frames], dim=2), labels=labels)


def title(followed: tokens.Followed, label: int) -> str:
    from stvit.data.scenes import MOTIONS

    return f"{MOTIONS[label]}, told {MOTIONS[followed.predicted]}"


def tested_again() -> pd.DataFrame:
    """Recorded and recounted right answers of the shipped models."""

    def row(name: str, record: dict, now: dict) -> dict:
        recorded = record.get("shipped", record["test"])["first"]
        return {"checkpoint": name, **recounted(record["test"], recorded, now["first"], "clips", TOLERANCE)}

    return SHELF.recount(SHIPPED, row)


def by_length() -> pd.DataFrame:
    """FLOPs of the two sizes by the clip's frames: closed form."""
    from analysis.shared.flops.closed_local import SWIN, swin
    from analysis.shared.flops.closed_semantic import stvit_video_swin

    lines = []
    for size, base in (("tiny", 2), ("small", 10)):
        for frames in FRAMES:
            steps = frames // 2
            dense = swin(*SWIN[size], frames=steps, span=min(8, steps), taps=32, classes=400).total
            sparse = stvit_video_swin(*SWIN[size], base, frames=steps).total
            lines.append(
                {
                    "size": size, "frames": frames, "video_swin_gflops": dense / 1e9,
                    "stvit_gflops": sparse / 1e9, "saved_percent": 100 * (1 - sparse / dense),
                }
            )  # fmt: skip
    return pd.DataFrame(lines)


def introduction(frame: pd.DataFrame) -> str:
    from analysis.shared.flops.closed_local import SWIN
    from analysis.shared.flops.closed_semantic import stvit_video_swin
    from analysis.shared.flops.readings import rounded

    agreed, saved = int(frame.at_the_printed_digit.sum()), frame.saved_percent.iloc[1::2]
    learned = rounded(stvit_video_swin(*SWIN["small"], 10, pooling="intra_inter").total, "120.5")
    return (
        "STViT on Video Swin generates semantic tokens in each frame, behind 2 of 6 or 10 of 18 layers of stage 3, and "
        "goes on frame by frame: the models mix frames in the layers before, and in the mean at the end. "
        f"{agreed} of {len(frame)} FLOPs cells of Table 6 come out at the printed digit (32 × 224 × 224, saved "
        f"{saved.min():.1f} to {saved.max():.1f} %), and the models' counted FLOPs equal the closed form to the unit. "
        "Top-1 and frames per second of Table 6 are Kinetics-400's on the authors' machines and stand here as "
        "printed: Kinetics is not at hand. Frames per second of this machine are in the section on throughput. Three "
        "things follow from the count and are not in the text: the patch stem is Swin's, not STViT's; the first STGM "
        "layer's keys are image tokens alone, projected in each window; and pooling counts nothing, as maximum "
        f"pooling does, where that of Eqs. 4-5 would make the last cell {learned}."
    )


def setting() -> str:
    t = TRAINING
    return (
        f"Clips are {t['clip_length']} frames of {t['image_size']} × {t['image_size']} pixels of moving scenes: three "
        "to five objects, each still or moving right, down, left or up on its own; the class is the motion of the "
        "outlined one. No single frame tells it. "
        f"Both models see {t['train_images']:,} clips, {' or '.join(map(str, EPOCHS))} times over, in the same order "
        "for a seed, on one CPU thread, and are "
        f"tested on {TEST_CLIPS:,} others. Stage 3 has 4 × 4 patches a frame, of which 4 semantic tokens remain."
    )


def outcomes(frame: pd.DataFrame) -> str:
    """What came out after each number of passes, and what that says of the paper's figure."""
    told = [outcome(part, passes) for passes, part in frame.groupby("passes")]
    if not any(told):
        return "Too few cells are finished for a comparison."
    return " ".join(
        [*filter(None, told), meaning(frame.dropna(subset=["half_width"]).difference.tolist()), LIMITS]
    )


def meaning(differences: list[float]) -> str:
    """In words, what the differences after fewer and after more passes have to do with each other."""
    first, last = differences[0], differences[-1]
    if len(differences) > 1 and abs(last) < abs(first) / 4:
        return (
            "The gap all but closes with further passes: it is one of how fast a model learns, not of what it can "
            "express. Only the layers before the STGM compare frames, and they learn it later where fewer of them do."
        )
    return "Only the layers before the STGM compare frames, and here motion alone tells the class."


def scopes() -> str:
    """Tokens of each frame against tokens of the clip, paired by seed, after the most passes that both have."""
    for epochs in reversed(EPOCHS):
        clip, frame = (tables.results_of(model, epochs) for model in (CLIP, SEMANTIC))
        scores = ({seed: record["test"]["top1"] for seed, record in found.items()} for found in (clip, frame))
        differences = paired(*scores)
        if len(differences) >= FEWEST:
            mean, _, half = spread(differences)
            word = "no seed's doing" if abs(mean) > half else "within the spread of seeds"
            flops = [next(iter(found.values()))["multiply_adds"] / 1e6 for found in (clip, frame)]
            return (
                "The printed FLOPs are those of tokens that each frame generates for itself. Tokens that the clip "
                f"generates as a whole are fewer by the number of frames ({flops[0]:.1f} million multiply-adds against "
                f"{flops[1]:.1f}). After {epochs} passes they stand {abs(mean):.2f} points "
                f"{'above' if mean > 0 else 'below'} (± {half:.2f}, {len(differences)} seeds): {word}."
            )
    return ""


def outcome(frame: pd.DataFrame, passes: int) -> str:
    dense, sparse = list(frame.itertuples())[:2]
    if sparse.half_width is None or pd.isna(sparse.half_width):
        return ""
    sign = "above" if sparse.difference > 0 else "below"
    told = "cannot be told from zero" if abs(sparse.difference) <= sparse.half_width else "is beyond chance"
    times = "one pass" if passes == 1 else f"{passes} passes"
    return (
        f"After {times} STViT, with {sparse.saved_percent:.0f} % fewer multiply-adds ({sparse.mflops:.1f} against "
        f"{dense.mflops:.1f} million), stands {abs(sparse.difference):.2f} points {sign} Video Swin ({sparse.top1:.2f} "
        f"and {dense.top1:.2f} %, {sparse.seeds} seeds); with ± {sparse.half_width:.2f} that {told}."
    )


LIMITS = (
    "The paper's difference is −0.3 points, from ImageNet weights and on Kinetics, where single frames often tell the "
    "class: a training this small neither confirms nor refutes it."
)
CAPTION_6 = (
    "Table 6. gflops: multiply-adds in closed form, which equal those counted on the models; saved_percent: against "
    "Video Swin of the same size; top-1 and frames per second as printed."
)
CAPTION_LENGTH = "The saving by the frames of a clip, at 224 × 224 (10⁹ multiply-adds, closed form)."
CAPTION_TRAINED = (
    "passes: over the training clips; top1 and sd: mean and spread over seeds (%); difference: to Video Swin after as "
    "many passes, paired by seed, with half the width of its 95 % interval; mflops: counted multiply-adds of a clip, "
    "10⁶; cpu_seconds: to train, one thread."
)
CAPTION_TOKENS = (
    "Test clips, every second frame, and below each the patches of stage 3 in the colour of the semantic token that "
    "takes most of them in the last STGM layer. Tokens of different frames share a colour by their place in the frame "
    "alone: each frame generates its own."
)
ALT = "Frames of two clips with moving objects; below each frame its patches in the colours of four semantic tokens"
