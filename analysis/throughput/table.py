"""Rows from seconds: speed-ups as medians of pairs, and the limits that the FLOPs set."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Spread(NamedTuple):
    """A median between its quartiles."""

    median: float
    q1: float
    q3: float


def spread(values: Sequence[float]) -> Spread:
    if len(values) < 2:
        return Spread(values[0], values[0], values[0])
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, q1, q3)


def speed_up(base: Sequence[float], own: Sequence[float]) -> Spread:
    """Speed-up over the base: the base's seconds divided by the model's in the same round, over rounds."""
    return spread([b / o for b, o in zip(base, own, strict=True)])


def realised(ratio: float, flops_ratio: float) -> float | None:
    """The share of the FLOPs saving that is time saved: (1 − time ratio) / (1 − FLOPs ratio)."""
    saving = 1 - flops_ratio
    return (1 - 1 / ratio) / saving if abs(saving) > 1e-9 else None


class Times(NamedTuple):
    """Seconds of a call over rounds: the variant's own, those of the first model in the same mode (``base``),
    and those of the first variant of all."""

    own: Sequence[float]
    base: Sequence[float]
    first: Sequence[float]


def row(variant, work, images: int, times: Times, flops: float, base_flops: float, against: str) -> dict:
    """One measured variant, whose call takes ``images`` images or clips; ``against``: the base in words."""
    ratio, flops_ratio = speed_up(times.base, times.own), flops / base_flops
    per_second = images / statistics.median(times.own)
    speed = {"images_per_second": per_second}
    if work.frames > 1:
        speed = {"clips_per_second": per_second, "frames_per_second": per_second * work.frames}
    return {
        "model": variant.spec,
        "mode": str(variant.mode),
        **speed,
        "ratio": ratio.median,
        "ratio_q1": ratio.q1,
        "ratio_q3": ratio.q3,
        "limit": 1 / flops_ratio,
        "realised": realised(ratio.median, flops_ratio),
        "time_ratio": 1 / ratio.median,
        "ratio_to_first": speed_up(times.first, times.own).median,
        "gflops": flops / 1e9,
        "flops_ratio": flops_ratio,
        "against": against,
        "milliseconds": 1e3 * work.batch_size / per_second,
        "task": work.task,
        "batch_size": work.batch_size,
        "image_size": size_text(work.size),
        "precision": work.precision,
        "device": work.device,
        **variant.mode._asdict(),
        "four_maps": work.dense,
        "rounds": len(times.own),
    }


def size_text(size: Sequence[int]) -> str:
    return "x".join(map(str, size))
