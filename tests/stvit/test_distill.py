"""Distillation: students get nearer to their teacher, their base stays its, a killed run ends in the same weights."""

from pathlib import Path

import pytest
import timm
import torch
from PIL import Image

import stvit
from stvit import distill
from stvit.data.unlabelled import unlabelled
from stvit.train import Trainer, main, train
from stvit.training.config import TrainConfig
from stvit.training.distill import NamedDistill
from stvit.training.taught import ask

ROOT = Path(__file__).resolve().parents[2]
VIT = dict(img_size=48, patch_size=8, embed_dim=48, depth=6, num_heads=3, num_classes=7)
FAST = dict(epochs=3, batch_size=20, device="cpu", threads=1, lr=1e-3)
METHODS = {
    "stvit": dict(tokens=4, at=3),
    "bat": dict(keep_rate=0.5, at=(3, 5)),
    "topk": dict(keep_rate=0.3, at=(3, 5)),
    "dynamicvit": dict(keep_rate=0.5, at=(3, 5)),
    "patchmerger": dict(keep_rate=0.3, at=3),
}


@pytest.fixture(scope="module")
def teacher():
    """Untrained, with weights large enough for its tokens to differ."""
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", **VIT).eval().requires_grad_(False)
    for value in model.parameters():
        value.mul_(6 if value.ndim == 2 else 1)
    return model.requires_grad_(True)


@pytest.fixture(scope="module")
def images():
    """Coarse noise, so that class features differ."""
    coarse = torch.rand(200, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    return (255 * torch.nn.functional.interpolate(coarse, 48)).to(torch.uint8)


@pytest.mark.parametrize("method", METHODS)
def test_students_get_nearer_to_their_teacher_and_keep_its_base(method, teacher, images):
    student = stvit.sparsify(teacher, method=method, **METHODS[method])
    before = {name: value.clone() for name, value in student.named_parameters()}
    untrained = distill(student, teacher, images, **{**FAST, "epochs": 1, "lr": 0.0, "warmup_lr": 0.0}).scores
    found, scores = distill(student, teacher, images, **FAST)
    assert scores["cosine"] > untrained["cosine"] + 1
    changed = {name for name, value in found.named_parameters() if not torch.equal(value, before[name])}
    assert changed and not any(
        name.startswith(("blocks.0.", "blocks.1.", "patch_embed", "head")) for name in changed
    )
    assert all(torch.equal(value, before[name]) for name, value in student.named_parameters())
    assert all(value.requires_grad for value in found.parameters()) and not found.training


def test_full_training_changes_the_embedding_too(teacher, images):
    student = stvit.sparsify(teacher, tokens=4, at=3)
    found, _ = distill(student, teacher, images[:60], full=True, **{**FAST, "epochs": 1})
    assert not torch.equal(found.patch_embed.proj.weight, teacher.patch_embed.proj.weight)


def test_adapters_learn_in_place_of_weights_and_are_merged(teacher, images):
    pytest.importorskip("peft", reason="the extra stvit[adapters] is not installed")
    student = stvit.sparsify(teacher, tokens=4, at=3)
    untrained = distill(student, teacher, images, **{**FAST, "epochs": 1, "lr": 0.0, "warmup_lr": 0.0}).scores
    found, scores = distill(student, teacher, images, adapters=2, **FAST)
    assert scores["cosine"] > untrained["cosine"] + 1
    assert [name for name, _ in found.named_parameters()] == [name for name, _ in student.named_parameters()]
    gap = found.blocks[3].mlp.fc1.weight - student.blocks[3].mlp.fc1.weight
    assert torch.linalg.matrix_rank(gap.detach(), rtol=1e-3) == 2  # what an adapter of rank 2 can add
    with torch.no_grad():
        values = images[:8].float() / 255 * 2 - 1
        late = found.forward_features(values)
    assert late.isfinite().all()


def test_a_swin_learns_from_images(images):
    dense = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=64, window_size=4, embed_dim=16, depths=(1, 1, 6, 1),
        num_heads=(1, 1, 2, 2),
    ).eval()  # fmt: skip
    larger = torch.nn.functional.interpolate(images[:44], 64)
    _, scores = distill(stvit.sparsify(dense), dense, larger, full=True, **{**FAST, "epochs": 1})
    assert scores["images"] == 4


def test_what_the_teacher_said_serves_several_students(teacher, images):
    taught = ask(teacher, images, (2,))[2]
    held_out = ask(teacher, images[:20], (2,))[2]
    student = stvit.sparsify(teacher, tokens=4, at=3)
    one = distill(student, teacher, taught, held_out, **FAST).student
    two = distill(student, teacher, images, images[:20], **FAST).student
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    with pytest.raises(ValueError, match=r"after layer 2, .* after layer 3: ask for layers=\(3,\)"):
        distill(stvit.sparsify(teacher, tokens=4, at=4), teacher, taught, held_out, **FAST)


def test_students_that_do_not_fit(teacher, images):
    other = timm.create_model("vit_tiny_patch16_224", **{**VIT, "embed_dim": 96})
    with pytest.raises(ValueError, match="class feature has 96 numbers and the teacher's 48"):
        distill(stvit.sparsify(other, tokens=4, at=3), teacher, images, **FAST)
    stranger = timm.create_model("vit_tiny_patch16_224", **VIT)
    with pytest.raises(ValueError, match=r"differ in .*stvit.sparsify\(teacher"):
        distill(stvit.sparsify(stranger, tokens=4, at=3), teacher, images, **FAST)
    with pytest.raises(ValueError, match=r"uint8 with N ≥ 1, not \(3, 3, 48, 48\) of torch.float32"):
        distill(stvit.sparsify(teacher, tokens=4, at=3), teacher, torch.rand(4, 3, 48, 48), **FAST)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("photographs")
    for number in range(6):
        coarse = torch.rand(12, 12, 3, generator=torch.Generator().manual_seed(number))
        Image.fromarray((255 * coarse).byte().numpy()).resize((96, 96), 0).save(place / f"{number}.png")
    return place


@pytest.fixture(scope="module")
def base(teacher, tmp_path_factory):
    return stvit.save_checkpoint(teacher, tmp_path_factory.mktemp("teacher"))


def named(base, folder, out, **changes) -> TrainConfig:
    student = dict(task="distill", method="stvit", tokens=4, at="3")
    return TrainConfig.of(
        base=str(base), data=str(folder), image_size=48, train_images=60, eval_images=12,
        out=str(out), **{**student, **FAST, **changes},
    )  # fmt: skip


def test_the_whole_map_is_learned_too(teacher, images):
    units = dict(tokens=4, recovery=True, units=[[2, 2, 1, 1]])
    student = stvit.sparsify(teacher, **units)
    alone = distill(student, teacher, images, **FAST).scores
    found, scores = distill(student, teacher, images, map_weight=1, **FAST)
    begun = distill(
        student, teacher, images, map_weight=1, **{**FAST, "epochs": 1, "lr": 0.0, "warmup_lr": 0.0}
    ).scores
    assert scores["map_cosine"] > begun["map_cosine"] + 1 and scores["cosine"] > begun["cosine"] + 1
    assert "map_cosine" not in alone
    x = images[180:].float() / 255 * 2 - 1
    with torch.no_grad():
        taught = ask(teacher, images, (2,), maps=True)[2]
        center = taught.maps[:180].float().mean(dim=(0, 1))
        one, two = found.forward_features(x)[:, 1:] - center, teacher.forward_features(x)[:, 1:] - center
    mean = torch.nn.functional.cosine_similarity(one, two, dim=2).mean()
    assert 100 * float(mean) == pytest.approx(scores["map_cosine"], abs=0.2), (
        "the teacher's maps are kept in halves"
    )


def test_maps_that_are_not_there(teacher, images):
    with pytest.raises(ValueError, match="STViT ends with few: make it with recovery=True"):
        distill(stvit.sparsify(teacher, tokens=4, at=3), teacher, images, map_weight=1, **FAST)
    taught = ask(teacher, images, (2,))[2]
    student = stvit.sparsify(teacher, tokens=4, recovery=True, units=[[2, 2, 1, 1]])
    with pytest.raises(ValueError, match="maps=True"):
        distill(student, teacher, taught, taught, map_weight=1, **FAST)


def test_maps_are_kept_on_disk_beside_tokens(teacher, images, tmp_path):
    kept, fresh = (ask(teacher, images[:30], (0, 2), place, maps=True)[2] for place in (tmp_path, ""))
    assert kept.maps.shape == (30, 36, 48) and torch.equal(kept.maps, fresh.maps)
    assert ask(teacher, images[:30], (2,), tmp_path)[2].maps is None
    _, targets = kept.first(8).batch(torch.arange(8), maps=True)
    assert targets.shape == (8, 37, 48) and torch.equal(targets[:, 0], kept.features[:8])


def test_a_stopped_run_ends_in_the_weights_of_an_unbroken_one(base, folder, tmp_path):
    train(named(base, folder, tmp_path / "whole"))
    trainer = Trainer(named(base, folder, tmp_path / "broken"), NamedDistill())
    steps = iter(range(5))  # of nine, in the second of three epochs
    step = trainer.train_step
    trainer.train_step = lambda *batch: (next(steps), step(*batch))[1]
    with pytest.raises((StopIteration, RuntimeError)):
        trainer.run()
    trainer.close()
    scores = train(named(base, folder, tmp_path / "broken"))
    one, two = (stvit.load_checkpoint(tmp_path / name / "model") for name in ("whole", "broken"))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert scores["epoch"] == 2 and scores["images"] == 12


def test_a_student_with_all_tokens_by_name(base, folder, tmp_path):
    units = dict(recovery=True, units=[[2, 2, 1, 1]])
    scores = train(named(base, folder, tmp_path, at="", model_args=units, map_weight=1.0, epochs=1))
    loaded = stvit.load_checkpoint(tmp_path / "model")
    assert type(loaded).__name__ == "STViTR" and scores["map_cosine"] <= 100


@pytest.mark.parametrize(
    "option", (dict(mixup=0.8), dict(distill_from="x"), dict(task="classify", adapters=4))
)
def test_options_that_would_do_nothing(base, folder, tmp_path, option):
    with pytest.raises(ValueError, match="has no use for it; leave it out"):
        train(named(base, folder, tmp_path, **option))


def test_a_rival_with_a_keep_rate_is_trained_at_it(base, folder, tmp_path):
    changes = dict(method="bat", tokens=0, at="3,5", keep_rate=0.5, epochs=1)
    train(named(base, folder, tmp_path / "run", **changes))
    model = stvit.load_checkpoint(tmp_path / "run" / "model")
    assert [reduction.keep_rate for reduction in model.reductions.values()] == [0.5, 0.5]


def test_the_teachers_tokens_are_kept_on_disk_and_read_again(teacher, images, tmp_path, monkeypatch):
    fresh = ask(teacher, images[:70], (2, 3), tmp_path)
    monkeypatch.setattr("stvit.training.taught.look", None)  # nothing is computed a second time
    again = ask(teacher, images[:70], (2, 3), tmp_path)
    assert torch.equal(fresh[3].inputs, again[3].inputs) and torch.equal(fresh[2].features, again[2].features)
    assert fresh[2].inputs.dtype == torch.float16 and fresh[2].inputs.shape == (70, 37, 48)


def test_tokens_that_take_too_much_room(teacher, images, tmp_path, monkeypatch):
    monkeypatch.setattr("stvit.training.taught.SHARE", 1e-9)
    with pytest.raises(ValueError, match=r"of 200 images take .* GB, .*--cache.*--train-images"):
        ask(teacher, images, (2,))
    ask(teacher, images[:10], (2,), tmp_path)  # on disk there is room
    ask(teacher, images, (0,))  # images alone take none


def test_folders_that_cannot_be_used(folder, tmp_path):
    with pytest.raises(ValueError, match=r"empty holds no image \(\.jpg"):
        (tmp_path / "empty").mkdir()
        unlabelled(str(tmp_path / "empty"), 48, 10, 2)
    with pytest.raises(ValueError, match="there is no folder"):
        unlabelled(str(tmp_path / "missing"), 48, 10, 2)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match="holds one image"):
        unlabelled(str(tmp_path / "one"), 48, 10, 2)
    (tmp_path / "one" / "b.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"\.jpg cannot be decoded: it is no image"):
        unlabelled(str(tmp_path / "one"), 48, 10, 2)


def test_a_folder_in_place_of_images(teacher, folder):
    student = stvit.sparsify(teacher, tokens=4, at=3)
    _, scores = distill(student, teacher, folder, **{**FAST, "epochs": 1}, train_images=40, eval_images=10)
    assert scores["images"] == 10


def test_held_out_photographs_are_not_learned_from(folder):
    train, test = unlabelled(str(folder), 48, 30, 10)
    again, _ = unlabelled(str(folder), 48, 40, 10)
    assert train.shape == (30, 3, 48, 48) and torch.equal(train, again[:30])
    known = {tuple(color) for color in train.permute(0, 2, 3, 1)[:, 20:28, 20:28].reshape(-1, 3).tolist()}
    other = {tuple(color) for color in test.permute(0, 2, 3, 1)[:, 20:28, 20:28].reshape(-1, 3).tolist()}
    assert len(known & other) < 0.1 * len(other)


def test_the_command_says_what_is_missing_in_one_line(folder, tmp_path, capsys):
    words = ["--task", "distill", "--data", str(folder), "--out", str(tmp_path / "run")]
    assert main(words) == 1
    assert capsys.readouterr().out.startswith("error: --task distill needs the dense model (--base)")
