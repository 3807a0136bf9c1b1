"""Clips of moving scenes; videos written here are decoded, sampled and classified through the command line."""

import json

import pytest
import timm
import torch

import stvit
from stvit.data.clips import Clips, moving
from stvit.data.frames import VideoError, fetch, random_frames, view_frames, write_video
from stvit.data.opened import open_source
from stvit.data.scenes import MOTIONS, draw_clips
from stvit.data.share import Share
from stvit.data.videos import Sampling, class_names, read_list, spread_crops
from stvit.evaluate import main, predict
from stvit.train import train
from stvit.training.config import TrainConfig

SCENES = moving(32)
TINY = dict(embed_dim=8, depths=(1, 1, 3, 1), num_heads=(1, 1, 2, 2), base_depth=1)


def config(folder, **changes) -> TrainConfig:
    given = dict(
        recipe="micro_video", data=f"kinetics:{folder}", workers=0, batch_size=4, train_images=0, epochs=1,
        frame_interval=1, model_args=TINY, eval_images=0, device="cpu",
    )  # fmt: skip
    return TrainConfig.of(**{**given, **changes})


@pytest.fixture(scope="module")
def kinetics(tmp_path_factory):
    """Twelve moving scenes as files, of which a training and a held-out list name some; two cannot be read."""
    folder = tmp_path_factory.mktemp("kinetics")
    clips = Clips(SCENES, 8, "test", 12)
    for split in ("train", "validation"):
        (folder / split).mkdir()
        lines = ["label,youtube_id,time_start,time_end,split"]
        for i, (clip, label) in enumerate(zip(clips.images, clips.labels.tolist(), strict=True)):
            write_video(folder / split / f"scene{i}_{i:06d}_{i + 10:06d}.mp4", clip.transpose(0, 1))
            lines.append(f"{MOTIONS[label]},scene{i},{i},{i + 10},{split}")
        (folder / split / "broken_000000_000010.mp4").write_bytes(b"no video" * 99)
        lines += [f"still,broken,0,10,{split}", f"up,missing,0,10,{split}"]
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "classes.txt").write_text("\n".join(MOTIONS) + "\n", encoding="utf-8")
    return folder


def test_clips_are_the_scenes_in_motion(tmp_path):
    clips = Clips(SCENES, 8, "test", 24, str(tmp_path))
    frames, motion = draw_clips(SCENES, torch.arange(24), 8, "test")
    assert clips.images.shape == (24, 3, 8, 32, 32) and clips.labels.equal(motion)
    assert all(clips.images[:, :, t].equal(frame.images) for t, frame in enumerate(frames))
    again = Clips(SCENES, 8, "test", 24, str(tmp_path))
    assert again.images.equal(clips.images) and len(list(tmp_path.iterdir())) == 1
    assert Clips(SCENES, 4, "test", 24, str(tmp_path)).images.shape[2] == 4
    with pytest.raises(ValueError, match="motion needs at least 2 frames, not 1"):
        Clips(SCENES, 1, "test", 4)


def test_one_frame_does_not_tell_the_motion():
    """The class of the marked object, which one frame shows, and its motion are independent."""
    first, labels = draw_clips(SCENES, torch.arange(512), 2)
    assert (labels.bincount(minlength=5) / 512 - 0.2).abs().max() < 0.07
    table = torch.zeros(12, 5).index_put_((first[0].labels, labels), torch.ones(512), accumulate=True)
    expected = table.sum(1, keepdim=True) * table.sum(0) / 512
    assert ((table - expected) ** 2 / expected).sum() < 80  # χ² of 44 degrees of freedom, 99.9 %


def test_frames_of_a_clip():
    assert view_frames(100, 4, 10, 1).tolist() == [35, 45, 55, 65]
    assert view_frames(31, 4, 10, 1).tolist() == [0, 10, 20, 30]
    starts = view_frames(100, 4, 10, 3)[::4].tolist()
    assert starts == [11, 35, 58] and view_frames(10, 4, 10, 2).tolist() == [0, 0, 0, 0] * 2
    torch.manual_seed(0)
    drawn = torch.stack([random_frames(40, 4, 10) for _ in range(300)])
    assert set(drawn[:, 0].tolist()) == set(range(10)) and (drawn.diff() == 10).all() and drawn.max() < 40


def test_crops_are_spread_along_the_longer_side():
    frames = torch.arange(20).view(1, 1, 1, 20).expand(1, 1, 8, 20)
    assert [crop[0, 0, 0, 0].item() for crop in spread_crops(frames, 8, 3)] == [0, 6, 12]
    assert next(spread_crops(frames, 8, 1))[0, 0, 0].tolist() == list(range(6, 14))


def test_decoded_frames_are_those_that_were_written(tmp_path):
    clip = Clips(SCENES, 8, "test", 2).images[1].transpose(0, 1)  # (T, 3, H, W)
    path = write_video(tmp_path / "scene.mp4", clip)
    wanted = torch.tensor([6, 1, 1, 7])
    frames = fetch(path, lambda total: wanted if total == 8 else None)
    far = (frames[:, None].float() - clip[None].float()).abs().mean((2, 3, 4))  # (wanted, written)
    assert far.argmin(1)[[0, 3]].tolist() == [6, 7] and frames[1].equal(frames[2])
    assert far.gather(1, wanted[:, None]).max() < 10  # of 255; colours have half the resolution there


@pytest.mark.parametrize("content", [b"", b"no video" * 99])
def test_what_is_no_video_is_said(tmp_path, content):
    (tmp_path / "bad.mp4").write_bytes(content)
    with pytest.raises(VideoError, match="cannot be decoded: "):
        fetch(tmp_path / "bad.mp4", lambda total: torch.arange(1))
    with pytest.raises(VideoError, match="no such file"):
        fetch(tmp_path / "missing.mp4", lambda total: torch.arange(1))


def test_a_video_that_breaks_off_is_skipped_or_read(tmp_path):
    clip = torch.randint(0, 255, (30, 3, 32, 32), dtype=torch.uint8)
    whole = write_video(tmp_path / "whole.mkv", clip).read_bytes()
    (tmp_path / "half.mkv").write_bytes(whole[: len(whole) // 2])
    seen = []
    frames = fetch(tmp_path / "half.mkv", lambda total: (seen.append(total), torch.tensor([0, 29]))[1])
    assert 5 < seen[0] < 30 and frames.shape == (2, 3, 32, 32)  # the last frame that is there stands in


def test_lists(kinetics, tmp_path):
    assert class_names(kinetics) == MOTIONS
    listed = read_list(kinetics, "validation")
    assert len(listed) == 14 and listed[3].path == kinetics / "validation" / "scene3_000003_000013.mp4"
    (tmp_path / "train.csv").write_text("a b/1.mp4,10\n2.mp4,2\n", encoding="utf-8")
    plain = read_list(tmp_path, "train")
    assert [video.label for video in plain] == ["10", "2"] and plain[0].path == tmp_path / "a b/1.mp4"
    assert class_names(tmp_path) == tuple(map(str, range(11)))
    (tmp_path / "val.csv").write_text("path,label\nx.mp4,swim\ny.mp4,run\n", encoding="utf-8")
    (tmp_path / "train.csv").unlink()
    assert class_names(tmp_path) == ("run", "swim")


def test_lists_that_cannot_be_used_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no validation.csv, val.csv or test.csv"):
        class_names(tmp_path)
    with pytest.raises(ValueError, match="does not exist, which would list the videos of the train split"):
        read_list(tmp_path, "train")
    (tmp_path / "val.csv").write_text("label,name\nx,y\n", encoding="utf-8")
    with pytest.raises(
        ValueError, match="has the columns label, name; it needs label and path, or youtube_id"
    ):
        read_list(tmp_path, "val")
    (tmp_path / "val.csv").write_text("path,label\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no video is listed"):
        read_list(tmp_path, "val")
    with pytest.raises(ValueError, match="views are clips x crops, such as 4x3, which '4' is not"):
        Sampling.of(config(tmp_path, views="4"))
    with pytest.raises(ValueError, match="cutmix: not for videos"):
        open_source(config(tmp_path, cutmix=1.0))


def test_batches_of_videos(kinetics, capsys):
    source = open_source(config(kinetics, views="2x3"))
    assert source.class_names == MOTIONS and source.steps == 3
    batches = list(source.train(0))
    assert [tuple(images.shape) for images, _ in batches] == [(4, 3, 8, 32, 32)] * 3
    written = capsys.readouterr().err
    assert "broken_000000_000010.mp4: cannot be decoded" in written or "missing" in written
    held = source.evaluate()
    shapes = [tuple(images.shape) for images, _ in held]
    assert shapes == [(4, 6, 3, 8, 32, 32)] * 3  # the last two cannot be read
    shapes_ok = sum(shape[0] for shape in shapes) == 12
    assert shapes_ok and {name.rsplit("/", 1)[1].split("_")[0] for name in held.skipped} == {
        "broken",
        "missing",
    }


def test_processes_share_the_videos(kinetics):
    whole = open_source(config(kinetics))
    parts = [open_source(config(kinetics), Share(rank, 2)).evaluate() for rank in (0, 1)]
    labels = [torch.cat([labels for _, labels in part]) for part in parts]
    assert sum(map(len, labels)) == sum(len(labels) for _, labels in whole.evaluate()) == 12


def test_views_are_averaged_as_probabilities():
    model = timm.create_model(
        "micro_video_swin", **{k: v for k, v in TINY.items() if k != "base_depth"}
    ).eval()
    clips = torch.randn(2, 3, 3, 8, 32, 32)
    with torch.no_grad():
        each = torch.stack([model(clips[:, i]).softmax(-1) for i in range(3)]).mean(0)
        torch.testing.assert_close(predict(model, clips).softmax(-1), each)
        torch.testing.assert_close(predict(model, clips[:, 0]), model(clips[:, 0]))


def test_a_video_is_classified_from_the_command_line(kinetics, tmp_path, capsys):
    stvit.save_checkpoint(timm.create_model("micro_stvit_video_swin", **TINY), tmp_path)
    line = [str(tmp_path), "--data", f"kinetics:{kinetics}", "--frame-interval", "1", "--workers", "0"]
    assert main([*line, "--views", "4x3", "--batch-size", "3", "--json"]) == 0
    printed = capsys.readouterr()
    scores = json.loads(printed.out)
    assert scores["images"] == 12 and len(scores["skipped"]) == 2 and sum(map(sum, scores["confusion"])) == 12
    assert "broken_000000_000010.mp4: cannot be decoded" in printed.err and "no such file" in printed.err
    assert main(line) == 0
    assert "skipped            2 (could not be read)" in capsys.readouterr().out
    assert main([str(tmp_path), "--data", "scenes"]) == 2
    assert "is a model of clips, which scenes is not" in capsys.readouterr().err


def test_clips_are_classified_from_the_command_line(tmp_path, capsys):
    stvit.save_checkpoint(timm.create_model("micro_stvit_video_swin", **TINY), tmp_path)
    assert main([str(tmp_path), "--images", "32", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 32


@pytest.mark.parametrize("data", ["clips", "kinetics"])
def test_the_same_training_trains_on_videos(kinetics, tmp_path, data):
    changes = dict(data="clips", train_images=16, eval_images=8) if data == "clips" else {}
    scores = train(config(kinetics, out=str(tmp_path), **changes))
    assert scores["images"] == (8 if data == "clips" else 12)
    assert stvit.load_checkpoint(tmp_path / "model").num_classes == 5


def test_recipes_follow_the_data():
    assert TrainConfig.of(data="clips").model == "micro_stvit_video_swin"
    assert TrainConfig.of(data="kinetics:x").clip_length == 32
    assert TrainConfig.of(data="kinetics:x").model == "stvit_video_swin_tiny"
