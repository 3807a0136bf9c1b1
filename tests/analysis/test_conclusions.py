"""Conclusions side by side: one line each, in any source's words, and what they say together."""

import pandas as pd
import pytest

from analysis import conclusions
from analysis.ablations.claims import CLAIMS as SCENES
from analysis.conclusions import DIFFER, NO_SOURCE, SOURCES, main, side_by_side, summary, together
from analysis.real_labels.design import CLAIMS as REAL
from analysis.shared.verdicts import FAILS, HOLDS, NOT_RUN, OPEN


@pytest.mark.parametrize(
    ("verdicts", "word"),
    [
        ([HOLDS, OPEN, NOT_RUN], HOLDS),
        ([OPEN, FAILS], FAILS),
        ([HOLDS, FAILS, OPEN], DIFFER),
        ([OPEN, NOT_RUN], OPEN),
        ([NOT_RUN, NOT_RUN], NOT_RUN),
    ],
)
def test_the_word_that_sources_give_together(verdicts, word):
    assert together(verdicts) == together(verdicts[::-1]) == word


def write(results, folder: str, *lines: tuple[str, str, str]) -> None:
    (results / folder).mkdir(parents=True)
    frame = pd.DataFrame(lines, columns=["table", "conclusion", "verdict"])
    frame.to_csv(results / folder / "conclusions.csv", index=False)


def test_lines_are_joined_by_table_and_words(tmp_path):
    write(tmp_path, "ablations", ("t1", "a", OPEN), ("t1", "b", FAILS), ("t2", "a", HOLDS))
    write(tmp_path, "real_labels", ("t1", "a", HOLDS), ("t1", "b", HOLDS), ("t1", "c", NOT_RUN))
    frame = side_by_side(tmp_path)
    assert list(frame) == ["table", "conclusion", "real labels", "scenes", "together"]
    assert frame.iloc[:, :2].to_numpy().tolist() == [["t1", "a"], ["t1", "b"], ["t1", "c"], ["t2", "a"]]
    assert frame["real labels"].tolist() == [HOLDS, HOLDS, NOT_RUN, NO_SOURCE]
    assert frame.together.tolist() == [HOLDS, DIFFER, NOT_RUN, HOLDS]
    assert summary(frame) == "Of 4 conclusions: 2 holds; 1 sources differ; 1 not run."


def test_a_verdict_that_pays_for_all_comparisons_counts(tmp_path):
    write(tmp_path, "ablations", ("t1", "a", HOLDS), ("t1", "b", FAILS))
    path = tmp_path / "ablations" / "conclusions.csv"
    pd.read_csv(path).assign(corrected=[OPEN, FAILS]).to_csv(path, index=False)
    assert side_by_side(tmp_path).scenes.tolist() == [OPEN, FAILS]


def test_a_source_that_has_not_reported_is_no_column(tmp_path, monkeypatch, capsys):
    write(tmp_path, "ablations", ("t1", "a", OPEN))
    assert list(side_by_side(tmp_path)) == ["table", "conclusion", "scenes", "together"]
    monkeypatch.setattr(conclusions, "files", lambda results=None: {})
    assert main([]) == 0 and "python -m analysis.ablations --report" in capsys.readouterr().out


def test_two_grids_ask_in_the_same_words():
    """Else one conclusion would be two lines; what only one of them can ask is named here."""
    scenes = {(claim.table, claim.words) for claim in SCENES}
    alone = {claim.words for claim in REAL if (claim.table, claim.words) not in scenes}
    assert alone == {"Overlap does not help"}  # scenes have two scales besides


def test_the_command_line_and_the_report(tmp_path, capsys):
    assert main(["--csv"]) == 0
    assert capsys.readouterr().out.startswith("table,conclusion,")
    assert main(["--report", "--out", str(tmp_path / "out")]) == 0
    frame = pd.read_csv(tmp_path / "out" / "conclusions.csv")
    assert (
        set(frame.columns) - {"table", "conclusion", "together"} <= set(SOURCES.values()) and len(frame) >= 21
    )
