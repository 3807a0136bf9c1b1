"""The page: what the records name is on it, in one file, and nothing else is needed."""

import json
import re
import shutil
import subprocess

import pandas as pd
import pytest

from analysis import page, style
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


def test_the_page_needs_no_other_file_and_no_network(results):
    html = page.write(results).read_text()
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", html)
    assert all(
        source.startswith("data:")
        for source in re.findall(r'<(?:img|script|link)[^>]*(?:src|href)="(.*?)"', html)
    )


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


def test_equal_figures_are_equal_files(tmp_path):
    for name in ("a", "b"):
        with style.house_style():
            fig, axes = style.figure()
            axes.plot([1, 2], [3, 4], label="line")
            axes.legend()
        style.save(fig, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.skipif(not shutil.which("chromium"), reason="no browser installed")
@pytest.mark.parametrize("width", [360, 1280])
def test_in_a_real_browser(results, width, tmp_path):
    """No sideways scrolling, all images loaded, tables sort: judged by a script run in the page itself."""
    html = page.write(results).read_text()
    probe = """<script>addEventListener("load", () => { 
      const head = document.querySelector("th.n button"); head.click();
      document.title = JSON.stringify({wide: document.documentElement.scrollWidth > innerWidth,
        broken: [...document.images].filter(i => !i.naturalWidth).length,
        sorted: head.parentElement.getAttribute("aria-sort")});
      document.body.innerHTML = document.title; });</script>"""
    copy = tmp_path / "probe.html"
    copy.write_text(html.replace("</body>", probe + "</body>"))
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--virtual-time-budget=3000",
    ]
    run = subprocess.run(
        [
            "chromium",
            *flags,
            f"--user-data-dir={tmp_path}/profile",
            f"--window-size={width},900",
            "--dump-dom",
            str(copy),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    body = re.search(r"<body>(\{.*?\})</body>", run.stdout, re.S)
    assert body, run.stdout[-500:] + run.stderr[-500:]
    assert json.loads(body[1]) == {"wide": False, "broken": 0, "sorted": "ascending"}


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
