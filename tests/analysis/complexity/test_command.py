"""The command line, in its own process where that matters."""

import json
import subprocess
import sys

import pytest

from analysis.complexity import report
from analysis.complexity.__main__ import main
from analysis.complexity.table import FIELDS
from analysis.results import ROOT


def run(*words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "analysis.complexity", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


LIGHT = """
import resource, runpy, sys
sys.argv = ["analysis.complexity"]
try:
    runpy.run_module("analysis.complexity", run_name="__main__")
except SystemExit as stop:
    assert not stop.code
used = resource.getrusage(resource.RUSAGE_SELF)
heavy = sorted({"torch", "timm", "stvit", "pandas", "matplotlib", "fvcore"} & set(sys.modules))
print("HEAVY", heavy, "SECONDS", used.ru_utime + used.ru_stime, file=sys.stderr)
"""


def test_the_plain_command_is_light_and_complete():
    """No torch, and under a second of process time."""
    done = subprocess.run([sys.executable, "-c", LIGHT], cwd=ROOT, capture_output=True, text=True, check=True)
    _, heavy, _, seconds = done.stderr.strip().splitlines()[-1].split()
    assert heavy == "[]"
    assert float(seconds) < 1.0
    for words in (
        "Table 13",
        "Fig. 6",
        "Eq. 13",
        "Errata of the papers",
        "reproduced, digits cut off",
        "11. INCONSISTENCY STViT",
        "73 under one",
    ):
        assert words in done.stdout


def test_json_is_a_list_of_cells_with_the_fields(capsys):
    assert main(["--json", "-", "--no-count"]) == 0
    cells = json.loads(capsys.readouterr().out)
    assert len(cells) == 103
    for cell in cells:
        assert list(cell) == list(FIELDS)
        assert cell["counted"] is None and cell["reason"]
    fields = [
        "paper",
        "table",
        "model",
        "setting",
        "printed",
        "closed_form",
        "counted",
        "residual_percent",
        "reading",
    ]
    assert set(fields) <= set(FIELDS)
    assert isinstance(cells[0]["closed_form_flops"], int)


@pytest.mark.parametrize("fmt", ["csv", "markdown", "latex"])
@pytest.mark.parametrize("table", ["cells", "formulas", "errata"])
def test_formats(fmt, table, capsys, tmp_path):
    path = tmp_path / "table"
    assert main(["--table", table, f"--{fmt}", str(path)]) == 0
    assert capsys.readouterr().out == "" and len(path.read_text().splitlines()) > 11


def test_a_table_that_is_named_is_printed_alone(capsys):
    assert main(["--table", "bat_table1"]) == 0
    header, _, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[:4] == ["model", "setting", "printed", "counted"] and len(rows) == 23
    row = next(row for row in rows if row.startswith("BAT-DeiT-S"))
    assert row.split()[1:4] == ["k=0.7", "3", "3.036"]


def test_what_if_prints_all_that_is_asked(capsys):
    words = [
        "--model",
        "stvit_deit_small_patch16_224",
        "--tokens",
        "16",
        "--image-size",
        "384",
        "--batch",
        "8",
    ]
    assert main(words) == 0
    out = capsys.readouterr().out
    for expected in (
        "5.8590 GFLOPs",
        "46.87",
        "saving 62.2 %",
        "pays from 64×64",
        "MiB",
        "STGM 2",
        "block 12",
        "total",
    ):
        assert expected in out
    assert main([*words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["batch_flops"] == 8 * answer["flops"] == 8 * sum(answer["terms"].values())
    assert sum(layer["total"] for layer in answer["layers"]) == answer["flops"]


def test_a_model_without_closed_form_is_counted(capsys):
    assert main(["--model", "resnet18", "--image-size", "160"]) == 0
    streams = capsys.readouterr()
    assert "0.9283 GFLOPs" in streams.out and "counted by fvcore" in streams.out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--model stvit_deit_smal", "stvit_deit_small_patch16_224"),
        ("--model stvit_deit_small_patch16_224 --image-size 390", "384 or 400"),
        ("--model stvit_deit_small_patch16_224 --tokens 400", "nearest that fit"),
        ("--model resnet18 --tokens 4", "ResNet"),
        ("--model resnet18 --keep-rate 0.7", "resnet18 takes no --keep-rate; name a --method"),
        ("--model vit_tiny_patch16_224 --method magic", "unknown method 'magic'"),
        ("--model vit_tiny_patch16_224 --method bat --tokens 4", "tokens"),
        ("--method bat", "--method needs --model NAME"),
        ("--tokens 4", "--tokens needs --model NAME"),
        ("--image-size abc", "neither a whole number"),
        ("--model deit_tiny_patch16_224 --out x.png", "--sweep"),
        ("--model deit_tiny_patch16_224 --sweep side 1:2:3", "image-size, tokens, depth"),
        ("--frobnicate", "unrecognized"),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_2(words, expected, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words.split())
    streams = capsys.readouterr()
    assert stop.value.code == 2 and streams.out == ""
    assert streams.err.count("\n") == 1 and expected in streams.err


def test_bad_input_in_its_own_process():
    done = run("--model", "no_such_model_at_all", "--image-size", "224")
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1 and "unknown model" in done.stderr


def test_the_report_writes_what_its_record_names(tmp_path):
    report.write(tmp_path, count=False)
    record = json.loads((tmp_path / "record.json").read_text())
    names = {block.get("name") for block in record["blocks"]}
    assert {"cells", "readings", "formulas", "errata", "residuals", "shares", "growth"} <= names
    for block in record["blocks"]:
        assert all((tmp_path / file).stat().st_size > 100 for file in block.get("files", {}))
    assert record["inputs"].keys() == {"analysis/paper/flops_cells.csv"}
