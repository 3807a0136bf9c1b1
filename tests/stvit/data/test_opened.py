"""One table says what --data can name, to training, evaluation, the dense tasks and --help alike."""

import pytest

from stvit.data.opened import KINDS, described, kind_of
from stvit.evaluate import build_parser
from stvit.training.config import TrainConfig, parser

NAMED = {
    "scenes": ("scenes", ""),
    "clips": ("clips", ""),
    "kinetics:a/b": ("kinetics:FOLDER", "a/b"),
    "hfds/mnist": ("hfds/NAME", "mnist"),
    "wds//data/shards": ("wds/FOLDER", "/data/shards"),
    "fashion_mnist": ("fashion_mnist", ""),
    "fashion_mnist:/data/sets": ("fashion_mnist", "/data/sets"),
    "fashion_mnist2": ("FOLDER", "fashion_mnist2"),
    "scenes2": ("FOLDER", "scenes2"),
    "./scenes": ("FOLDER", "./scenes"),
    "path/to/clips": ("FOLDER", "path/to/clips"),
}


@pytest.mark.parametrize("data", NAMED)
def test_a_name_is_found_in_the_table(data):
    kind = kind_of(data)
    assert (kind.written, kind.place(data)) == NAMED[data]


@pytest.mark.parametrize("task", KINDS)
def test_every_kind_can_be_opened_and_is_named_in_the_help(task):
    for kind in KINDS[task]:
        assert (
            kind_of(f"{kind.prefix}{':' * kind.rest.startswith(':')}x" if kind.rest else kind.prefix, task)
            is kind
        )
        if task == "classify":
            assert kind.source and kind.held_out and kind.pixels
        elif task != "distill":  # whose images stvit.data.unlabelled opens by itself
            assert kind.dataset
        assert kind.written in described(task) and f"({kind.what})" in described(task)
    assert described(task) in TrainConfig.__dataclass_fields__["data"].metadata["help"]


def test_the_command_lines_list_the_kinds():
    for text in (parser().format_help(), build_parser().format_help()):
        assert all(kind.written in text for kind in KINDS["classify"])


@pytest.mark.parametrize("task", KINDS)
def test_no_name_is_an_error(task):
    with pytest.raises(ValueError, match="--data is empty; it can be (scenes|photographs)"):
        kind_of("", task)
