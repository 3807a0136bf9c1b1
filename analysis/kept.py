"""Keep a file of the last run where this run says the same, so that git shows what really changed.

Numbers are the same up to one part in a million, which is more than processors and library versions differ by;
pictures where no more than a few pixels differ visibly.
"""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.formats import dump

if TYPE_CHECKING:
    import pandas as pd

RELATIVE, ABSOLUTE = 1e-6, 1e-12
VISIBLE, FEW = 32, 20  # of 255, and how many pixels of a picture may differ by more
LARGER = 1.25  # a picture of before that takes so much more than the new one is written anew
CIRCUMSTANCES = ("commit", "date", "hardware", "python", "seconds", "versions")


def write_table(path: Path, text: str) -> None:
    if not (path.exists() and same_table(path.read_text(encoding="utf-8"), text)):
        path.write_text(text, encoding="utf-8")


def with_timings(frame: pd.DataFrame, path: Path, timed: tuple[str, ...]) -> pd.DataFrame:
    """``frame`` with the columns ``timed`` of the table at ``path``, if all other columns are the same there.

    Timings differ from run to run; those of the first run that gave these results stand until the file is deleted.
    """
    import pandas as pd

    if not path.exists():
        return frame
    old, others = pd.read_csv(path), [name for name in frame if name not in timed]
    if [*old] != [*frame] or not same_table(
        old[others].to_csv(index=False), frame[others].to_csv(index=False)
    ):
        return frame
    return frame.assign(**{name: old[name] for name in timed})


def write_figure(stem: Path, files: dict[str, bytes]) -> list[Path]:
    """``files`` by suffix, a .png among them; those that this figure no longer has are removed."""
    paths = {suffix: stem.with_suffix(suffix) for suffix in files}
    old, new = stem.with_suffix(".png"), files[".png"]
    keep = old.exists() and old.stat().st_size < LARGER * len(new) and same_picture(old.read_bytes(), new)
    for suffix, path in paths.items():
        if not (keep and path.exists()):
            path.write_bytes(files[suffix])
    for suffix in {".svg", ".png"} - files.keys():
        stem.with_suffix(suffix).unlink(missing_ok=True)
    return list(paths.values())


def write_record(path: Path, record: dict) -> bool:
    """Write ``record`` unless it differs from the last in its circumstances alone; whether it was kept.

    The circumstances of this run, such as its date, go to run.json beside it, which is not for git.
    """
    kept = path.exists() and without_circumstances(json.loads(path.read_text(encoding="utf-8"))) == (
        without_circumstances(json.loads(json.dumps(record)))
    )
    if not kept:
        dump(record, path)
    circumstances = {name: record[name] for name in CIRCUMSTANCES if name in record}
    dump({**circumstances, "reproduced": kept}, path.with_name("run.json"))
    return kept


def without_circumstances(record: dict) -> dict:
    return {name: value for name, value in record.items() if name not in CIRCUMSTANCES}


def same_table(old: str, new: str) -> bool:
    before, after = (list(csv.reader(io.StringIO(text))) for text in (old, new))
    return len(before) == len(after) and all(
        len(a) == len(b) and all(map(same_cell, a, b)) for a, b in zip(before, after, strict=True)
    )


def same_cell(old: str, new: str) -> bool:
    """Whole numbers and words are equal; other numbers are close."""
    if old == new:
        return True
    if old.lstrip("-").isdigit() and new.lstrip("-").isdigit():
        return False
    try:
        return math.isclose(float(old), float(new), rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    except ValueError:
        return False


def same_picture(old: bytes, new: bytes) -> bool:
    if old == new:
        return True
    import numpy as np
    from PIL import Image

    before, after = (np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), int) for data in (old, new))
    if before.shape != after.shape:
        return False
    return int((np.abs(before - after).max(axis=-1) > VISIBLE).sum()) <= FEW
