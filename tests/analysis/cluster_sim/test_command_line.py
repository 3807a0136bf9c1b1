"""``python -m analysis.cluster_sim``: as a user runs it."""

import csv
import io
import json
import subprocess
import sys

import pytest

from analysis.cluster_sim.__main__ import main
from analysis.cluster_sim.experiments import NAMES
from analysis.cluster_sim.report import eight_digits


def run(*words):
    return subprocess.run(
        [sys.executable, "-m", "analysis.cluster_sim", *words], capture_output=True, text=True
    )


def test_quick_prints_a_summary_with_a_progress_bar():
    done = run("--quick")
    assert done.returncode == 0, done.stderr
    assert (
        "settings" in done.stdout and "F3 is within 5 %" in done.stdout and "nan" not in done.stdout.lower()
    )
    assert "cell/s" in done.stderr or "it/s" in done.stderr


def test_one_setting_as_json():
    done = run(
        "--K", "8", "--d", "64", "--theta", "45", "--sigma", "1", "--n", "4096", "--trials", "50", "--json"
    )
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert row["limit"] == pytest.approx(4.029521e-3, rel=1e-6)  # degrees on the command line
    assert row["predicted"] == pytest.approx(4.364e-3, rel=2e-4)
    assert row["trials"] == 50 and row["standard_error"] > 0


def test_help_lists_the_experiments():
    done = run("--help")
    assert done.returncode == 0 and all(name in done.stdout.replace("\n", " ") for name in NAMES)
    assert "degrees" in done.stdout


@pytest.mark.parametrize(
    "words, condition",
    [
        (["--K", "70", "--d", "64"], "K > d + 1 never fits"),
        (["--K", "64", "--d", "64"], "no direction outside the span"),
        (["--theta", "95"], "Δ must be positive"),
        (["--n", "0"], "n must be positive"),
        (["--n", "-4"], "n must be positive"),
        (["--sigma", "0"], "σ must be positive"),
        (["--sigma", "-2"], "σ must be positive"),
        (["--sigma", "nan"], "σ must be positive"),
        (["--sigma", "1e5"], "overflow: v"),
        (["--lam", "1e300"], "overflow: v"),
        (["--lam", "0"], "λ must be positive"),
        (["--gamma", "1.5"], "γ must lie in"),
        (["--init", "pooled"], "unknown init 'pooled'"),
        (["--trials", "1"], "--trials: must be at least 2, not 1"),
        (["--seed", "-1"], "--seed: must be at least 0, not -1"),
        (["--experiment", "magic"], "unknown experiment 'magic'; choose from lemmas"),
        (["--experiment", "grid", "--K", "4"], "runs its own settings"),
        (["--backend", "slurm"], "unknown backend 'slurm'; choose from threading"),
        (["--device", "warp"], "device 'warp' is not available"),
    ],
)
def test_bad_input_is_one_line_that_names_the_condition(words, condition, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--no-progress"])
    out, err = capsys.readouterr()
    assert stopped.value.code == 2 and out == ""
    assert condition in err and err.count("\n") == 1 and "Traceback" not in err


def test_vacuous_settings_say_so_and_print_no_nan(capsys):
    assert main(["--sigma", "9", "--d", "64", "--n", "64", "--trials", "20"]) == 0
    out = capsys.readouterr().out
    assert "F3 is vacuous or approximate here" in out and "bound is vacuous here" in out
    assert "nan" not in out.lower() and "inf" not in out.lower()


def test_one_token_a_cluster_prints_no_nan(capsys):
    assert main(["--n", "1", "--trials", "20"]) == 0
    assert "nan" not in capsys.readouterr().out.lower()


def test_tokens_on_a_device_agree_with_the_reduced_sampler():
    from analysis.cluster_sim.measure import measure, tokens_on_device
    from analysis.cluster_sim.options import SimulatedCell

    cell = SimulatedCell(K=4, d=16, n=200, sigma=0.8, trials=150)
    row, other = measure(cell), tokens_on_device(cell, "cpu")
    apart = abs(row["measured"] - other["tokens_measured"])
    assert apart < 4 * (row["standard_error"] ** 2 + other["tokens_standard_error"] ** 2) ** 0.5


def test_an_experiment_with_files(tmp_path, capsys):
    assert main(["--experiment", "heads", "--quick", "--csv", "--out", str(tmp_path), "--no-progress"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert rows and {"predicted", "measured", "standard_error", "verdict"} <= rows[0].keys()
    assert {"heads.csv", "heads_rows.csv", "heads.png", "heads.svg"} <= {p.name for p in tmp_path.iterdir()}


@pytest.mark.parametrize("fmt, mark", [("--markdown", "|---"), ("--latex", "\\begin{tabular}")])
def test_formats(fmt, mark, capsys):
    assert main(["--n", "32", "--trials", "20", fmt]) == 0
    assert mark in capsys.readouterr().out


def test_paths_of_steps_have_the_digits_that_processors_agree_on():
    assert eight_digits([0.00046211272682894115, 1.0, 2e-9]) == [0.00046211273, 1.0, 2e-9]
    assert eight_digits("Gaussian") == "Gaussian" and eight_digits(0.123456789123) == 0.123456789123
