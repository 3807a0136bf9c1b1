"""The page: what the records name is on it, it needs no network, and the real one answers in a real browser."""

import json
import re

import pandas as pd
import pytest

from analysis import page, style
from analysis.commands import Parser
from analysis.page import points, words
from analysis.results import Report, processor_of

TABLE = pd.DataFrame(
    {"model": ["DeiT-S", "<b>&"], "flops": [4_583_000_000, None], "error": [0.123456789, -2e-7]}
)


@pytest.fixture()
def results(tmp_path):
    with Report(
        "first", "A first section", "python -m analysis.first", {"M": 16}, 3, out=tmp_path / "first"
    ) as report:
        report.heading("A heading")
        report.prose("Some *words* and `code`.")
        report.table("numbers", TABLE, "All numbers.")
        with style.house_style():
            fig, axes = style.figure()
            axes.plot([1, 2], [3, 4])
        report.figure("line", fig, "A line.", alt="a rising line")
    return tmp_path


def test_everything_a_record_names_is_on_the_page(results):
    html = page.write(results).read_text()
    for text in (
        "A first section",
        "A heading",
        "<em>words</em>",
        "All numbers.",
        "a rising line",
        "python -m analysis",
    ):
        assert text in html
    assert "&lt;b&gt;&amp;" in html and "<b>&" not in html
    assert "4,583,000,000" in html and "0.1235" in html and 'data-v="0.123456789"' in html
    assert "nan" not in html.lower().replace("nansen", "")


def test_the_page_needs_the_folders_beside_it_and_no_network(results):
    html = page.write(results).read_text()
    assert "http" not in html
    sources = re.findall(r'<(?:img|script|link)[^>]*? (?:src|href)="(.*?)"', html)
    assert "first/line.svg" in sources
    assert all(source.startswith("data:") or (results / source).exists() for source in sources)


def test_a_word_is_explained_where_a_section_first_uses_it():
    seen = set()
    html = words.mark("<p>At keep rate 0.5, <code>keep rate</code>; a rollout of BAT.</p><p>BAT</p>", seen)
    assert html.count('href="#word-keep-rate"') == html.count('href="#word-bat"') == 1
    assert "<code>keep rate</code>" in html and words.WORDS["rollout"] in html
    assert words.mark("keep rate", seen) == "keep rate"


def test_points_are_read_from_tables(tmp_path):
    (tmp_path / "video").mkdir()
    assert points.answers(tmp_path, "video") == []  # without its tables a point is left out
    table = pd.DataFrame({"at_the_printed_digit": [True, False, True]})
    table.to_csv(tmp_path / "video" / "table6.csv", index=False)
    trained = pd.DataFrame({"model": ["A", "B"], "passes": [1, 3], "top1": [50.0, 71.0], "sd": [1.0, 2.0]})
    trained.to_csv(tmp_path / "video" / "trained.csv", index=False)
    [(text, anchor)] = points.answers(tmp_path, "video")
    assert anchor == "video-trained" and "2 of 3 FLOPs" in text and text.endswith("top-1: B 71 % (± 2).")


def test_verdicts_by_keep_rate_are_one_sentence():
    claims = pd.DataFrame(
        {
            "claim": ["c"] * 3 + ["d"],
            "keep_rate": [0.3, 0.5, 0.7, 0.5],
            "verdict": ["reversed", "cannot tell", "holds", "holds"],
        }
    )
    assert points.by_rate(claims, "c") == "Yes at keep rate 0.7, cannot be told at 0.5, the reverse at 0.3"


def test_record_says_what_made_it(results):
    record = json.loads((results / "first" / "record.json").read_text())
    for field in (
        "command",
        "config",
        "commit",
        "versions",
        "device",
        "hardware",
        "seed",
        "seconds",
        "date",
        "python",
    ):
        assert field in record
    assert record["seed"] == 3 and record["versions"]["torch"]
    files = {name for block in record["blocks"] for name in block.get("files", ())}
    assert files == {"numbers.csv", "line.svg", "line.png"}
    assert pd.read_csv(results / "first" / "numbers.csv").error.tolist() == TABLE.error.tolist()


def test_a_failed_run_keeps_the_last_record(results):
    before = (results / "first" / "record.json").read_bytes()
    with pytest.raises(ZeroDivisionError), Report("first", "t", "c", out=results / "first"):
        raise ZeroDivisionError
    assert (results / "first" / "record.json").read_bytes() == before


def test_vectors_for_latex_on_demand(tmp_path):
    parser = Parser()
    parser.add_argument("--report", action="store_true")
    parser.parse_args(["--report", "--pdf", str(tmp_path / "figures")])
    try:
        with style.house_style(), Report("first", "t", "c", out=tmp_path / "first") as report:
            fig, axes = style.figure()
            axes.plot([1, 2], [3, 4])
            report.figure("line", fig, "A line.", alt="a rising line")
    finally:
        parser.parse_args([])
    pdf = (tmp_path / "figures" / "first-line.pdf").read_bytes()
    assert pdf.startswith(b"%PDF") and b"/Subtype /Image" not in pdf and b"/CreationDate" not in pdf
    assert Parser.pdf is None and {path.suffix for path in (tmp_path / "first").iterdir()} >= {".png", ".svg"}


def test_equal_figures_are_equal_files(tmp_path):
    for name in ("a", "b"):
        with style.house_style():
            fig, axes = style.figure()
            axes.plot([1, 2], [3, 4], label="line")
            axes.legend()
        style.save(fig, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    "flags, widest",
    [
        ("fpu avx avx2", " (AVX2)"),
        ("avx2 avx512f avx512_bf16", " (AVX-512 with bfloat16)"),
        ("avx2 avx512f", " (AVX-512)"),
        ("fpu", ""),
    ],
)
def test_a_processor_is_told_with_its_vectors(flags, widest):
    assert (
        processor_of(f"processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: {flags}\n") == f"Some CPU{widest}"
    )
