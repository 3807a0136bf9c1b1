"""Commands of ``analysis`` that are asked for what cannot be done: one clear line, exit code 2, nothing lost."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest

from analysis import commands, formats
from analysis.results import ROOT

VIT = "deit_tiny_patch16_224"
REFUSED = [  # the analysis, what it is asked for, and words of the answer; DIR is an empty folder
    ("complexity", f"--model {VIT} --json DIR/missing/x.json", "there is no folder DIR/missing"),
    ("complexity", "--table errata --csv DIR/missing/x.csv", "there is no folder DIR/missing"),
    ("complexity", "--table errata --csv DIR", "DIR is a folder, not a file"),
    ("complexity", "--table errata --csv /dev/full", "No space left on device"),
    ("complexity", "--table errata --json /dev/full --no-count", "No space left on device"),
    ("complexity", "--table no_such_table", "invalid choice: 'no_such_table'"),
    ("complexity", f"--model {VIT} --batch 0", "--batch: must be at least 1, not 0"),
    ("cluster_sim", "--theta 400 --trials 4", "θ must lie between 0° and 180°, got 400°"),
    ("cluster_sim", "--theta -45 --trials 4", "θ must lie between 0° and 180°, got -45°"),
    ("cluster_sim", "--theta nan --trials 4", "θ must lie between 0° and 180°"),
    ("cluster_sim", "--jobs 0 --trials 4 --quick", "--jobs: must be at least 1, not 0"),
    ("cluster_sim", "--trials 1", "--trials: must be at least 2, not 1"),
    ("cluster_sim", "--trials many", "'many' is not a whole number"),
    ("cluster_sim", "--out FILE --quick --experiment lemmas --trials 4", "FILE is a file, not a folder"),
    ("cluster_sim", "--out FILE/x --quick --experiment lemmas", "FILE is a file, not a folder"),
    ("cluster_sim", "--out /dev/full --quick --experiment lemmas", "/dev/full is a file, not a folder"),
    ("cluster_sim", "--trials 4 --d 16 --K 2 --csv DIR/missing/x.csv", "there is no folder DIR/missing"),
    ("token_maps", "--image china --checkpoint micro_deit", "reduces no tokens.*--method tome"),
    ("token_maps", "--image china --checkpoint vit_tiny_patch16_224", "reduces no tokens.*--method tome"),
    ("token_maps", "--image china --checkpoint swin_tiny_patch4_window7_224", "reduces no tokens"),
    ("token_maps", "--image china --checkpoint resnet18", "ResNet reduces no tokens"),
    ("token_maps", "--image DIR --checkpoint micro_bat", "DIR is a folder, not an image"),
    ("token_maps", "--image FILE --checkpoint micro_bat", "FILE is not an image"),
    ("token_maps", "--image nowhere.jpg", "no image 'nowhere.jpg': neither a file nor one of china"),
    ("token_maps", "--image scene:-1", "a scene is named by its number"),
    ("token_maps", "--image china --checkpoint DIR/none", "neither a path, nor a timm model"),
    ("token_maps", "--image china --checkpoint FILE", "FILE"),
    ("token_maps", "--image china --size 0 48", "--size: must be at least 1, not 0"),
    ("token_maps", "--image china --checkpoint resnet18 --size 64 64", "resnet18 cannot be set to 64 × 64"),
    ("token_maps", "--image china --out FILE", "FILE is a file, not a folder"),
    ("token_maps", "--images 0", "--images: must be at least 1, not 0"),
    ("attention_maps", "--image china --checkpoint eva02_tiny_patch14_224", "Eva has no attention layer"),
    ("attention_maps", "--image china --checkpoint resnet18", "ResNet is neither a plain ViT nor an STViT"),
    ("attention_maps", "--image china --checkpoint micro_bat", "neither a plain ViT nor an STViT"),
    (
        "attention_maps",
        "--image china --checkpoint micro_deit --head 99",
        "head 99 of a model with heads 1 to 4",
    ),
    ("attention_maps", "--image china --head 0", "--head: must be at least 1, not 0"),
    ("attention_maps", "--image scene:7 --size 48 72", "scenes are square, not 48 × 72"),
    ("attention_maps", "--checkpoint micro_swin", "neither a plain ViT nor an STViT"),
    ("ablations", "list --table table99", "unknown table 'table99'"),
    ("ablations", "list --seeds 0", "--seeds: must be at least 1, not 0"),
    ("ablations", "run --jobs 0", "--jobs: must be at least 1, not 0"),
    ("ablations", "tabulate --csv DIR/missing/x.csv", "there is no folder DIR/missing"),
    ("ablations", "ship --retest nothing", "nothing"),
    ("dense", "--report --out FILE", "FILE is a file, not a folder"),
    ("dense", "run --task cooking", "invalid choice: 'cooking'"),
    ("dense", "run --seeds -1", "--seeds: must be at least 1, not -1"),
    ("video", "draw --clip -1", "--clip: must be at least 0, not -1"),
    ("video", "draw --checkpoint DIR/none", "DIR/none"),
    ("video", "--csv /dev/full", "No space left on device"),
    ("diversity", "--methods magic", "invalid choice: 'magic'"),
    ("diversity", "--weights DIR/none.pth", "there is no file DIR/none.pth"),
    ("diversity", "--rates 1.5 --methods evit --seeds 1", "1.5"),
    ("overhead", "--methods evit --pairs 0", "--pairs: must be at least 1, not 0"),
    ("overhead", "--methods evit --model no_such_model", "no_such_model"),
    ("overhead", "--methods evit --device nope --batch 1 --pairs 1", "nope"),
    ("variable_counts", "--rounds 0", "--rounds: must be at least 1, not 0"),
    ("planes", "--csv DIR/missing/x.csv", "there is no folder DIR/missing"),
    ("throughput", "--suite no_such_suite", "no_such_suite"),
    ("throughput", "--models no_such_model", "no_such_model"),
    ("throughput", f"--models {VIT} --csv DIR/missing/x.csv", "there is no folder DIR/missing"),
    ("overview", "--tokens 0", "--tokens: must be at least 1, not 0"),
    ("", "run complexty", "unknown analysis 'complexty'; choose from"),
    ("", "frobnicate", "invalid choice: 'frobnicate'"),
]


def main_of(name: str):
    return importlib.import_module(
        f"analysis.{name}" if name in SINGLE else f"analysis.{name}.__main__".replace("..", ".")
    ).main


SINGLE = ("overview", "planes", "diversity", "overhead", "variable_counts")


@pytest.mark.parametrize(("name", "words", "answer"), REFUSED, ids=[" ".join(case[:2]) for case in REFUSED])
def test_refused_in_one_line(name, words, answer, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("precious")
    (tmp_path / "DIR").mkdir()
    with pytest.raises(SystemExit) as stopped:
        main_of(name)(words.split())
    out, err = capfd.readouterr()
    assert stopped.value.code == 2 and out == ""
    *notes, line = err.strip().splitlines()
    assert not notes or all("Warning" in note or note.startswith(" ") for note in notes), err
    assert line.startswith(f"python -m analysis{'.' * bool(name)}{name}")
    assert not [word for word in answer.split(".*") if word not in line], line
    assert (tmp_path / "FILE").read_text() == "precious" and not list((tmp_path / "DIR").iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["DIR", "FILE"]


def test_a_table_that_cannot_be_finished_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "table.csv"
    path.write_text("old")
    monkeypatch.setattr(os, "replace", lambda *places: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space left"):
        commands.write_text("new", path)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_records_are_replaced_whole(tmp_path):
    path = tmp_path / "record.json"
    formats.dump({"a": 1}, path)
    with pytest.raises(ValueError):
        formats.dump({"a": float("nan")}, path)
    assert path.read_text() == '{\n "a": 1\n}\n' and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("words", ["complexity", "", "complexity --table formulas --csv"])
def test_a_reader_that_stops_early_is_no_error(words):
    """``| head -1``: standard output closes after the first line."""
    name, *rest = words.split() or [""]
    module = f"analysis.{name}".rstrip(".")
    run = subprocess.Popen(
        [sys.executable, "-m", module, *rest], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    run.stdout.close()
    assert run.stderr.read() == b"" and run.wait(60) in (0, commands.PIPE_CLOSED)


def test_the_traceback_is_there_for_whoever_asks(monkeypatch):
    monkeypatch.setenv("STVIT_DEBUG", "1")
    with pytest.raises(ValueError, match="θ must lie"):
        main_of("cluster_sim")(["--theta", "400", "--trials", "4"])
