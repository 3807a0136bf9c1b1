"""README's row on speed: two sentences, made of the records alone, one for each dense model to compare with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.results import ROOT
from analysis.throughput import report
from analysis.throughput.alike import beside_alike
from analysis.throughput.suites import DEIT_B_PAIR, DEIT_S_PAIR, RIVAL_MODELS, SWIN_S_MODELS, VIDEO

if TYPE_CHECKING:
    import pandas as pd

README = ROOT / "README.md"
START, END = "| Speed | ", " | `python -m analysis.throughput` |"
SIZES = {"tiny": "deit", "small": "deit", "base": "deit-base"}  # size → its named run
SWEEP_MODES = {
    "eager": "eager",
    "compiled": "`torch.compile`",
    "ONNX Runtime": "ONNX Runtime",
    "OpenVINO": "OpenVINO",
}


def sentences(folder: Path = report.FOLDER) -> str:
    """Against timm's models, and against dense models with the same short cuts."""
    records = report.records(folder)
    frames = {name: frame_of(folder, name) for name in records}
    config = records["deit"]["config"]
    deits = [(frames[SIZES[size]], f"stvit_deit_{size}_patch16_224") for size in SIZES]

    def of_deits(column: str, batch: int, mode: str = "eager") -> str:
        return listed(value(frame, spec, column, batch, mode) for frame, spec in deits)

    peers = [value(frames["peers"], spec, "ratio", 32) for spec in RIVAL_MODELS[:2]]
    limits = [value(frames["peers"], spec, "limit", 32) for spec in RIVAL_MODELS[:2]]
    swins = [value(frames["swin"], spec, "ratio", 8) for spec in SWIN_S_MODELS[1:]]
    swin_limits = [value(frames["swin"], spec, "limit", 8) for spec in SWIN_S_MODELS[1:]]
    videos = [value(frames["video"], names[1], "ratio", 1) for names in VIDEO]
    first = (
        f"Against timm's models, by turns on {config['threads']} CPU cores ({config['instructions']}): STViT-DeiT-T, "
        f"-S, -B {of_deits('ratio', 32)} times as fast at batch 32 (by FLOPs {of_deits('limit', 32)}) and "
        f"{of_deits('ratio', 1)} at batch 1{one_at_a_time(frames, records)}, "
        f"EViT and BAT at keep rate 0.7 {listed(peers)} at batch 32 "
        f"({listed(limits)}), STViT-Swin-S and STViT-R-Swin-S {listed(swins)} at batch 8 ({listed(swin_limits)}), "
        f"STViT on Video Swin-T and -S {listed(videos)}; no GPU has been measured."
    )
    second = (
        "Against dense models with the same short cuts (layers on groups of images, packed weights): "
        f"{of_deits('ratio_alike', 32)} times as fast at batch 32"
        f"{in_runtimes(frames.get(report.COLUMNS), records)}; "
        "from one run to another on a shared machine all these ratios differ by 5 to 15 %."
    )
    return f"{first} {second}"


def one_at_a_time(frames: dict[str, pd.DataFrame], records: dict) -> str:
    """The run of its own at batch 1, once it is measured."""
    if "single" not in frames:
        return ""
    ratios = listed(value(frames["single"], pair[1], "ratio", 1) for pair in (DEIT_S_PAIR, DEIT_B_PAIR))
    return f" (-S and -B {ratios} in a run of its own, {records['single']['config']['instructions']})"


def in_runtimes(frame: pd.DataFrame | None, records: dict) -> str:
    """The ratios in each runtime at batch 8 and 1, once they are measured."""
    if frame is None:
        return ""
    modes = [mode for mode in SWEEP_MODES if mode in set(frame["mode"])]
    names = {DEIT_S_PAIR[1]: "STViT-DeiT-S", **dict(zip(RIVAL_MODELS, ("EViT", "BAT"), strict=False))}
    parts = [
        f"{name} {listed(value(frame, spec, 'ratio', 8, mode) for mode in modes)}"
        for spec, name in names.items()
    ]
    one = listed(value(frame, DEIT_S_PAIR[1], "ratio", 1, mode) for mode in modes)
    instructions = records[report.COLUMNS]["config"]["instructions"]
    return (
        f", and with both sides in {' / '.join(SWEEP_MODES[mode] for mode in modes)} at batch 8 ({instructions}) "
        f"{'; '.join(parts)} (STViT-DeiT-S at batch 1 {one})"
    )


def frame_of(folder: Path, name: str) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(beside_alike(report.read(folder, name).to_dict("records")))


def value(frame: pd.DataFrame, spec: str, column: str, batch: int, mode: str = "eager") -> float:
    rows = frame[(frame.model == spec) & (frame["mode"] == mode) & (frame.batch_size == batch)]
    if rows.empty:
        raise ValueError(
            f"no record of {spec}, {mode}, at batch {batch}: python -m analysis.throughput --help"
        )
    return float(rows[column].iloc[0])


def listed(values) -> str:
    return ", ".join(f"{one:.2f}" for one in values)


def write(folder: Path = report.FOLDER, readme: Path = README) -> str:
    """Put the sentences into README's table, in the place of those that are there."""
    text, row = readme.read_text(encoding="utf-8"), f"{START}{sentences(folder)}{END}"
    found = re.compile(rf"^{re.escape(START)}.*{re.escape(END)}$", re.MULTILINE)
    if len(found.findall(text)) != 1:
        raise ValueError(f"{readme} has no row {START.strip()} … {END.strip()} to write into")
    readme.write_text(found.sub(lambda _: row, text), encoding="utf-8")
    return row
