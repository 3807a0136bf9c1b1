"""Images held on the device: the same batches for any number of processes, augmentation image by image."""

import json

import pytest
import torch
from small_sets import write_mnist

from stvit.data.on_device import fit, normalise, policy, shift
from stvit.data.opened import open_held_out, open_source
from stvit.data.share import Share
from stvit.evaluate import main as evaluate
from stvit.train import main as train
from stvit.training.config import TrainConfig

IMAGES = torch.randint(0, 256, (6, 3, 16, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    write_mnist(root / "FashionMNIST" / "raw")
    return root


def config(folder, **changes) -> TrainConfig:
    given = dict(
        data=f"fashion_mnist:{folder}", recipe="micro", image_size=28, batch_size=8, train_images=0, eval_images=0,
        device="cpu",
    )  # fmt: skip
    return TrainConfig.of(**{**given, **changes})


def test_the_middle_place_leaves_an_image_as_it_is():
    places = torch.tensor([[0.5, 0.5, 0.9]]).expand(6, -1)
    assert shift(IMAGES, places, mirrored=True).equal(IMAGES)
    places = torch.tensor([[0.5, 0.5, 0.1]]).expand(6, -1)
    assert shift(IMAGES, places, mirrored=True).equal(IMAGES.flip(3))
    assert shift(IMAGES, places, mirrored=False).equal(IMAGES)


def test_each_image_is_moved_by_its_own_place():
    """By at most an eighth of the side; what comes in from outside is black."""
    places = torch.tensor([[0.0, 0.5, 0.9], [0.999, 0.5, 0.9], [0.5, 0.0, 0.9], [0.5, 0.999, 0.9]])
    right, left, down, up = shift(IMAGES[:4], places, mirrored=True)
    assert right[:, :, 3:].equal(IMAGES[0, :, :, :-3]) and (right[:, :, :3] == 0).all()
    assert left[:, :, :-3].equal(IMAGES[1, :, :, 3:]) and (left[:, :, -3:] == 0).all()
    assert down[:, 2:].equal(IMAGES[2, :, :-2]) and (down[:, :2] == 0).all()
    assert up[:, :-2].equal(IMAGES[3, :, 2:]) and (up[:, -2:] == 0).all()


def test_without_padding_images_are_mirrored_alone():
    places = torch.tensor([[0.0, 0.999, 0.9], [0.999, 0.0, 0.1]])
    still, mirrored = shift(IMAGES[:2], places, mirrored=True, padding=0.0)
    assert still.equal(IMAGES[0]) and mirrored.equal(IMAGES[1].flip(2))


def test_images_are_resized_within_their_range():
    found = fit(IMAGES, 40)
    assert found.shape == (6, 3, 40, 40) and found.min() >= 0 and found.max() <= 1
    assert fit(IMAGES[..., :16], 16).equal(IMAGES[..., :16].float() / 255)
    assert torch.allclose(
        normalise(torch.full((1, 3, 2, 2), 0.5))[0, 0, 0, 0], torch.tensor((0.5 - 0.485) / 0.229)
    )


def test_policies():
    assert policy("", 0.0) is None and policy("", 0.4).brightness == (0.6, 1.4)
    strong = policy("rand-m9-mstd0.5-inc1", 0.4)
    assert (strong.num_ops, strong.magnitude) == (2, 27) and policy("rand-m4-n3", 0).num_ops == 3
    with pytest.raises(ValueError, match="'augmix-m5': images held on the device have RandAugment alone"):
        policy("augmix-m5", 0)


@pytest.mark.parametrize(
    "changes", [{}, dict(auto_augment="rand-m9-mstd0.5-inc1", reprob=0.5), dict(image_size=20)]
)
def test_an_epoch_repeats_and_every_image_comes_once(folder, changes):
    source = open_source(config(folder, **changes))
    epochs = []
    for _ in range(2):
        torch.manual_seed(0)
        epochs.append(list(source.train(3)))
    assert source.steps == 5 and len(epochs[0]) == 5
    size = changes.get("image_size", 28)
    assert all(x.shape == (8, 3, size, size) and x.isfinite().all() for x, _ in epochs[0])
    assert sorted(torch.cat([y for _, y in epochs[0]]).tolist()) == sorted(list(range(10)) * 4)
    if not changes.get("reprob"):  # timm erases by Python's random numbers
        assert all(x.equal(z) for (x, _), (z, _) in zip(*epochs, strict=True))


def test_processes_share_the_batches_of_one(folder):
    whole = list(open_source(config(folder)).train(2))
    halves = [list(open_source(config(folder), Share(rank, 2)).train(2)) for rank in (0, 1)]
    for step, (images, labels) in enumerate(whole):
        parts = [half[step] for half in halves]
        assert torch.stack([x for x, _ in parts], 1).flatten(0, 1).equal(images)
        assert torch.stack([y for _, y in parts], 1).flatten().equal(labels)
    held = [list(open_source(config(folder), Share(rank, 2)).evaluate()) for rank in (0, 1)]
    assert sum(len(labels) for half in held for _, labels in half) == 20


def test_digits_are_not_mirrored_and_clothes_are(folder, tmp_path):
    write_mnist(tmp_path / "MNIST" / "raw")
    assert not open_source(config(tmp_path, data=f"mnist:{tmp_path}")).augment.mirrored
    assert open_source(config(folder)).augment.mirrored


def test_a_part_can_be_asked_for(folder):
    source = open_source(config(folder, train_images=16, eval_images=7))
    assert len(source.images) == 16 and len(source.held_out) == 7
    names, batches = open_held_out(config(folder, eval_images=5))
    assert names[9] == "Ankle boot" and sum(len(labels) for _, labels in batches) == 5


@pytest.mark.parametrize("model", ["micro_stvit", "micro_deit", "micro_bat"])
def test_a_set_and_a_model_are_enough(folder, tmp_path, capsys, model):
    """Size of the images and of the model, and the recipe, follow from the set."""
    words = [
        "--data",
        f"fashion_mnist:{folder}",
        "--model",
        model,
        "--out",
        str(tmp_path / "run"),
        "--device",
        "cpu",
    ]
    assert train([*words, "--epochs", "1", "--batch-size", "20"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["images"] == 20
    assert evaluate([str(tmp_path / "run" / "model"), "--data", words[1], "--json", "--device", "cpu"]) == 0
    record = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert record["pretrained_cfg"]["input_size"] == [3, 28, 28]


def test_what_is_usual_for_a_set():
    of = TrainConfig.of
    assert (of(data="cifar10").recipe, of(data="cifar10").model) == ("small_set", "micro_stvit")
    for data, size in (("fashion_mnist", 28), ("cifar100:somewhere", 32), ("stl10", 96)):
        config = of(data=data, model="micro_evit")
        assert (config.image_size, config.model_args["img_size"]) == (size, size)
    assert of(data="cifar10", image_size=40).model_args["img_size"] == 40
    assert of(data="cifar10", model="deit_tiny_patch16_224").recipe == "deit"
    assert of(data="cifar10", recipe="small_set", model_args=dict(patch_size=2)).model_args["patch_size"] == 2
    assert of(data="photographs", recipe="small_set").image_size == 32


def test_it_trains_and_is_evaluated_by_the_commands(folder, tmp_path, capsys):
    words = [
        "--recipe", "micro", "--model", "micro_deit", "--image-size", "28", "--train-images", "0", "--eval-images", "0",
        "--batch-size", "20", "--epochs", "1", "--device", "cpu", "--mixup", "0.8", "--auto-augment", "rand-m5-n1",
        "--model-args", "img_size=28", "patch_size=4", "embed_dim=16", "depth=2", "num_heads=2",
    ]  # fmt: skip
    data = ["--data", f"fashion_mnist:{folder}"]
    assert train([*words, *data, "--out", str(tmp_path)]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["images"] == 20
    assert evaluate([str(tmp_path / "model"), *data, "--device", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["top1"] == pytest.approx(told["top1"])
