"""``python -m analysis.importance``: tokens kept by importance, by diversity, or by both (BAT, Figure 1).

    importance   the tokens of the highest class attention, the others dropped
    diversity    clusters of all tokens by density peaks, all but one token
    both         BAT: attentive tokens, and clusters of the others

Each is put into one dense model as it is, without training, at every keep rate. Fidelity is how often the reduced
model predicts the dense one's class; it needs no labels, so any ViT with a class token will do. On a shipped
checkpoint the images are test scenes, whose labels give the accuracy too.

python -m analysis.importance --checkpoint micro_deit_class_token --images 1024
python -m analysis.importance --checkpoint runs/my-vit --rates 0.7 0.5 0.3 --out pictures
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from analysis import formats, style
from analysis.commands import Parser, at_least, command, new_folder

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

CHECKPOINT = "micro_deit_class_token"
RATES = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)
CHOSEN_BY = {
    "importance": dict(method="topk"),
    "diversity": dict(method="bat", clusters=10_000, pairs=0),  # as many as fit: all but one token
    "both": dict(method="bat"),
}
COLOURS = {"importance": style.METHOD["topk"], "diversity": style.SKY, "both": style.METHOD["bat"]}


def compute(model: nn.Module, images: Tensor, labels: Tensor | None = None, rates=RATES) -> pd.DataFrame:
    """A row for each way of choosing and each keep rate: fidelity to ``model`` and, with labels, accuracy (%)."""
    import pandas as pd
    import torch

    import stvit

    def told(net: nn.Module) -> Tensor:
        with torch.inference_mode():
            return torch.cat([net(part).argmax(1) for part in images.split(256)])

    dense, rows = told(model), []
    for name, choice in CHOSEN_BY.items():
        for rate in rates:
            answers = told(stvit.sparsify(model, keep_rate=rate, **choice).eval())
            row = {"chosen_by": name, "keep_rate": rate, "fidelity": percent(answers == dense)}
            row["top1"] = None if labels is None else percent(answers == labels)
            row["top1_dense"] = None if labels is None else percent(dense == labels)
            rows.append({**row, "images": len(images)})
    return pd.DataFrame(rows)


def percent(right: Tensor) -> float:
    return 100 * float(right.double().mean())


def opened(checkpoint: str, images: int):
    """The model, images of its size and, where it was trained on scenes, their labels."""
    import torch

    from analysis.shared.models import open_model
    from stvit.data.drawn import normalise
    from stvit.data.scenes import CLASSES, SceneConfig, draw_scenes, sized

    subject = open_model(checkpoint)
    scenes = draw_scenes(sized(SceneConfig(), subject.size[0]), torch.arange(images), "test")
    known = subject.trained and subject.model.num_classes == len(CLASSES)
    return subject, normalise(scenes.images), scenes.labels if known else None


def plot(frame: pd.DataFrame, label: str):
    known = frame.top1.notna().all()
    with style.house_style():
        fig, ax = style.figure(style.COLUMN, 2.6)
        for name, rows in frame.groupby("chosen_by", sort=False):
            values = rows.top1 if known else rows.fidelity
            ax.plot(rows.keep_rate, values, "o-", color=COLOURS[name], markersize=3, label=name)
        if known:
            ax.axhline(frame.top1_dense.iloc[0], color=style.GREY, linestyle="--", linewidth=0.8)
        ax.set(
            xlabel="keep rate of each reduction", ylabel="top-1 (%)" if known else "fidelity (%)", title=label
        )
        ax.invert_xaxis()
        ax.legend(loc="lower left")
    return fig


@command("analysis.importance")
def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m analysis.importance", description=__doc__)
    parser.add_argument(
        "--checkpoint", default=CHECKPOINT, help=f"shipped name, path or timm model ({CHECKPOINT})"
    )
    parser.add_argument("--rates", nargs="+", type=float, default=list(RATES), metavar="RATE")
    parser.add_argument("--images", type=at_least(1), default=1024, help="test scenes (1024)")
    parser.add_argument("--out", type=new_folder, help="folder for the picture")
    formats.add_arguments(parser)
    args = parser.parse_args(argv)
    subject, images, labels = opened(args.checkpoint, args.images)
    frame = compute(subject.model, images, labels, tuple(args.rates))
    if args.out:
        print(*style.save(plot(frame, subject.label), Path(args.out) / "importance"), sep="\n")
    if not formats.emit(frame, args):
        print(formats.render(frame.dropna(axis=1, how="all")))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
