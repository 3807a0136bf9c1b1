"""torchvision's small sets: found in each place, read as they are, and named in one line where they are damaged."""

import gzip
import json
import os
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from small_sets import idx, write_cifar10, write_mnist
from torchvision import datasets

from stvit.data import small_sets
from stvit.data.small_sets import SETS, read_small_set, squares


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """No data set on this machine, no network."""

    def refuse(*args, **kwargs):
        raise URLError("no network here")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(small_sets, "SYSTEM", tmp_path / "system")
    monkeypatch.setattr("urllib.request.urlopen", refuse)


PLACES = {
    "a folder that is named": ("sets", False, "sets", "fashion_mnist"),
    "packed files in a folder that is named": ("sets", True, "sets", "fashion_mnist"),
    "data": ("data", False, "", "fashion_mnist"),
    "the cache": ("cache/stvit/datasets", False, "", "fashion_mnist"),
    "a package of the system": ("system/fashion-mnist", True, "", "fashion_mnist"),
    "a package with digits": ("system/mnist", True, "", "mnist"),
}


@pytest.mark.parametrize("name", PLACES)
def test_files_are_found(name, tmp_path):
    folder, packed, place, which = PLACES[name]
    inner = "" if packed else SETS[which].folder
    content = write_mnist(tmp_path / folder / inner, packed)
    for training, split in ((True, "train"), (False, "t10k")):
        images, labels, names = read_small_set(which, place, training, 28)
        assert np.array_equal(images[:, 0], content[f"{split}-images-idx3-ubyte"]) and images.shape[1] == 1
        assert np.array_equal(labels, content[f"{split}-labels-idx1-ubyte"])
        assert len(names) == 10 and (names[1] == "Trouser") == (which == "fashion_mnist")


def test_cifar(tmp_path, monkeypatch):
    expected = write_cifar10(tmp_path / "data", datasets.CIFAR10, monkeypatch)
    images, labels, names = read_small_set("cifar10", "", True, 32)
    assert np.array_equal(images, expected) and images.dtype == torch.uint8
    assert labels.tolist() == [0, 1, 2, 9] * 5 and names[9] == "class 9"


def test_cifar_trains(tmp_path, monkeypatch, capsys):
    from stvit.train import main

    write_cifar10(tmp_path / "data", datasets.CIFAR10, monkeypatch)
    words = [
        "--data",
        "cifar10",
        "--model",
        "micro_stvit",
        "--epochs",
        "1",
        "--batch-size",
        "10",
        "--device",
        "cpu",
    ]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["images"] == 4


def test_a_pickle_that_is_not_cifars_is_not_opened(tmp_path, monkeypatch):
    write_cifar10(tmp_path / "data", datasets.CIFAR10, monkeypatch)
    hostile = tmp_path / "data" / "cifar-10-batches-py" / "data_batch_1"
    hostile.write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR.")
    with pytest.raises(ValueError, match="cifar10 in data/cifar-10-batches-py is damaged or not whole"):
        read_small_set("cifar10", "", True, 32)
    assert not (tmp_path / "ran").exists()


def test_photographs_are_cut_to_squares(tmp_path):
    files = []
    for i, (width, height) in enumerate([(40, 20), (20, 40), (20, 20)]):
        pixels = np.zeros((height, width, 3), dtype=np.uint8)
        pixels[height // 2 - 10 : height // 2 + 10, width // 2 - 10 : width // 2 + 10] = 50 + i
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(pixels).save(files[-1])
    found = squares(files, 20)
    assert found.shape == (3, 3, 20, 20) and [found[i].unique().tolist() for i in range(3)] == [
        [50],
        [51],
        [52],
    ]


def test_what_is_nowhere_is_said(tmp_path):
    with pytest.raises(
        ValueError, match="fashion_mnist is not in data or .*cannot be downloaded .*no network"
    ) as e:
        read_small_set("fashion_mnist", "", True, 28)
    assert "--data fashion_mnist:FOLDER (on Debian: apt-get install dataset-fashion-mnist)" in str(e.value)
    with pytest.raises(
        ValueError, match="there is no folder nowhere, in which --data cifar10:FOLDER looks for cifar"
    ):
        read_small_set("cifar10", "nowhere", True, 32)


@pytest.mark.parametrize("name", SETS)
def test_every_set_says_in_one_line_that_it_is_not_here(name):
    with pytest.raises(ValueError, match=f"{name} is not in .*--data {name}:FOLDER") as error:
        read_small_set(name, "", False, 32)
    assert "\n" not in str(error.value)


DAMAGED = {
    "images that break off": ("train-images-idx3-ubyte", lambda b: b[:-100], "damaged or not whole"),
    "labels that break off": ("train-labels-idx1-ubyte", lambda b: b[:-9], "damaged"),
    "an empty file": ("train-images-idx3-ubyte", lambda b: b"", "damaged or not whole"),
    "no format": ("train-images-idx3-ubyte", lambda b: b"text" * 99, "damaged or not whole"),
    "a file is missing": ("train-labels-idx1-ubyte", None, "not whole: train-labels-idx1-ubyte not there"),
    "labels for images": (
        "train-images-idx3-ubyte",
        lambda b: idx(np.arange(40) % 10),
        "damaged or not whole: .",
    ),
    "images of no pixels": ("train-images-idx3-ubyte", lambda b: idx(np.zeros((40, 0, 28))), "damaged"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files(name, tmp_path):
    file, spoil, words = DAMAGED[name]
    write_mnist(tmp_path / "data" / "FashionMNIST" / "raw")
    path = tmp_path / "data" / "FashionMNIST" / "raw" / file
    path.unlink() if spoil is None else path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ValueError, match=f"fashion_mnist .*{words}") as error:
        read_small_set("fashion_mnist", "", True, 28)
    assert "\n" not in str(error.value)


def test_a_packed_file_that_breaks_off(tmp_path):
    write_mnist(tmp_path / "sets", packed=True)
    path = tmp_path / "sets" / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(ValueError, match="sets/train-images-idx3-ubyte.gz is damaged"):
        read_small_set("fashion_mnist", "sets", True, 28)
    path.write_bytes(gzip.compress(b"text")[:-3] + b"abc")
    with pytest.raises(ValueError, match="sets/train-images-idx3-ubyte.gz is damaged"):
        read_small_set("fashion_mnist", "sets", True, 28)
    assert not list(tmp_path.rglob(".part*"))


def test_a_packed_file_that_is_missing(tmp_path):
    write_mnist(tmp_path / "sets", packed=True)
    (tmp_path / "sets" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(ValueError, match="sets has no t10k-labels-idx1-ubyte.gz: FashionMNIST is 4 files"):
        read_small_set("fashion_mnist", "sets", True, 28)
    assert not (tmp_path / "sets" / "FashionMNIST" / "raw").exists()


def test_the_second_of_two_processes_that_unpack_finds_the_set_there(tmp_path, monkeypatch):
    """The other one is played in this process: it unpacks the set right before this one's is put in place."""
    content = write_mnist(tmp_path / "sets", packed=True)
    replace = os.replace

    def come_second(whole, folder):
        monkeypatch.setattr(os, "replace", replace)
        small_sets.unpack(SETS["fashion_mnist"], tmp_path / "sets", tmp_path / "sets")
        assert len(list(folder.iterdir())) == 4
        replace(whole, folder)

    monkeypatch.setattr(os, "replace", come_second)
    images, _, _ = read_small_set("fashion_mnist", "sets", True, 28)
    assert np.array_equal(images[:, 0], content["train-images-idx3-ubyte"])
    assert not list(tmp_path.rglob(".part*"))


@pytest.mark.parametrize("name", ["train", "t10k"])
def test_a_packed_file_whose_bits_turned(name, tmp_path):
    """Every byte is under gzip's checksum; nothing of the others is lost or left behind."""
    write_mnist(tmp_path / "sets", packed=True)
    path = tmp_path / "sets" / f"{name}-images-idx3-ubyte.gz"
    good = path.read_bytes()
    path.write_bytes(good[:-8] + bytes([good[-8] ^ 1]) + good[-7:])
    with pytest.raises(
        ValueError, match=f"{name}-images-idx3-ubyte.gz is damaged: CRC check failed"
    ) as error:
        read_small_set("fashion_mnist", "sets", True, 28)
    assert "\n" not in str(error.value)
    path.write_bytes(good)
    assert len(read_small_set("fashion_mnist", "sets", True, 28)[1]) == 40


def test_damage_ends_a_training_in_one_line_and_nothing_is_lost(tmp_path, capsys):
    """A run that goes on after its data was damaged says so, keeps its state, and goes on when it is mended."""
    from stvit.train import main

    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    write_mnist(raw)
    words = "--data fashion_mnist --model micro_deit --recipe micro --image-size 28 --train-images 0 --batch-size 16"
    sizes = ["--model-args", "img_size=28", "patch_size=4", "embed_dim=16", "depth=1", "num_heads=2"]
    words = [*words.split(), "--device", "cpu", "--out", str(tmp_path / "run"), *sizes]
    assert main([*words, "--epochs", "2"]) == 0
    state = (tmp_path / "run" / "last.pt").read_bytes()
    path = raw / "train-images-idx3-ubyte"
    good = path.read_bytes()
    path.write_bytes(good[:500])
    capsys.readouterr()
    assert main([*words, "--epochs", "2"]) == 1
    said = capsys.readouterr().out
    assert (
        said.startswith("error: fashion_mnist in data/FashionMNIST/raw is damaged") and said.count("\n") == 1
    )
    assert (tmp_path / "run" / "last.pt").read_bytes() == state
    path.write_bytes(good)
    assert main([*words, "--epochs", "2"]) == 0


@pytest.mark.parametrize(
    ("labels", "words"),
    [([200] * 40, "labels from 200 to 200, and 10 classes"), ([1] * 39, "40 images and 39 labels")],
)
def test_labels_that_do_not_fit(labels, words, tmp_path):
    write_mnist(tmp_path / "data" / "FashionMNIST" / "raw", labels={"train": labels})
    with pytest.raises(ValueError, match=words):
        read_small_set("fashion_mnist", "", True, 28)
