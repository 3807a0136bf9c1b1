"""Attacks on lists of videos: what a list leaves out or cannot mean is said in one line, and so are damaged videos."""

from __future__ import annotations

import pytest

from stvit.data.opened import open_source
from stvit.data.videos import class_names, read_list
from stvit.training.config import TrainConfig


def test_a_list_of_videos_with_a_byte_order_mark(tmp_path):
    for split in ("train", "val"):
        (tmp_path / f"{split}.csv").write_text("path,label\na.mp4,swim\n", encoding="utf-8-sig")
    (tmp_path / "classes.txt").write_text("swim\nrun\n", encoding="utf-8-sig")
    assert [video.label for video in read_list(tmp_path, "train")] == ["swim"]
    assert class_names(tmp_path) == ("swim", "run")


LISTS = {
    "no columns": ("clip,label\na,b\n", "train.csv has the columns clip, label"),
    "a line too short": ("path,label\na.mp4\n", "is too short"),
    "nothing listed": ("path,label\n", "no video is listed"),
    "no label": ("path,label\na.mp4,\n", "has no label"),
    "no path": ("path,label\n,swim\n", "has no video"),
    "a time of words": ("label,youtube_id,time_start,time_end\nswim,abc,soon,later\n", "train.csv: .*soon"),
    "Latin-1": ("path,label\ncaf\xe9.mp4,swim\n", "train.csv is not a table in UTF-8"),
    "a NUL": ("path,label\na.mp4,\0\n", "none of the 1 videos|not a table|has no label"),
    "no video is there": ("path,label\na.mp4,swim\nb.mp4,run\n", "none of the 2 videos that .*train.csv lists"),
}  # fmt: skip


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_videos(name, tmp_path):
    text, words = LISTS[name]
    for split in ("train", "val"):
        (tmp_path / f"{split}.csv").write_bytes(text.encode("latin-1"))
    asked = TrainConfig.of(
        data=f"kinetics:{tmp_path}", workers=0, batch_size=1, train_images=0, eval_images=0
    )
    with pytest.raises(ValueError, match=words) as error:
        open_source(asked)
    assert "\n" not in str(error.value)


def test_videos_of_which_none_can_be_read(tmp_path, capsys):
    for split in ("train", "val"):
        (tmp_path / f"{split}.csv").write_text("path,label\na.mp4,swim\nb.mp4,run\n")
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"no video" * 99)
    asked = TrainConfig.of(
        data=f"kinetics:{tmp_path}", workers=0, batch_size=2, train_images=0, eval_images=0
    )
    source = open_source(asked)
    for batches in (source.train(0), source.evaluate()):
        with pytest.raises(
            ValueError, match="none of 2 videos could be read, such as .*a.mp4: cannot be decoded"
        ):
            list(batches)
