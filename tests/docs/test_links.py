"""Every link of the built documentation leads somewhere, and one that does not is named with its page."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from analysis import coverage

DOCS = Path(__file__).resolve().parents[2] / "docs"
SPEC = importlib.util.spec_from_file_location("links", DOCS / "links.py")
links = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(links)


@pytest.fixture
def site(tmp_path):
    """Two pages and a picture, and what points to them."""
    (tmp_path / "part").mkdir()
    (tmp_path / "some picture.png").touch()
    (tmp_path / "index.html").write_text('<h1 id="first">One</h1><a href="part/two.html#ü">two</a>')
    (tmp_path / "part" / "two.html").write_text(
        '<p id="ü"><a href="#">up</a> <a href="../index.html#first">one</a> <img src="../some%20picture.png">'
        '<a href="https://example.org/a#b">elsewhere</a> <img src="data:image/png;base64,AA=="> <a href="mailto:a@b.c">'
    )
    return tmp_path


def test_links_that_lead_somewhere(site, capsys):
    assert links.dead_links(site) == [] and links.main([str(site)]) == 0
    assert capsys.readouterr().out == "Every link leads somewhere.\n"


@pytest.mark.parametrize(
    "tag, reason",
    [
        ('<a href="gone.html">', "part/two.html: gone.html (no such file)"),
        ('<a href="../index.html#second">', "part/two.html: ../index.html#second (no such anchor)"),
        ('<a href="#first">', "part/two.html: #first (no such anchor)"),
        ('<img src="picture.png">', "part/two.html: picture.png (no such file)"),
        ('<img srcset="../some%20picture.png 1x, b.png 2x">', "part/two.html: b.png (no such file)"),
        ('<a href="../../outside.html">', "part/two.html: ../../outside.html (outside the pages)"),
        ('<a href="..">', "part/two.html: .. (no such file)"),
        (
            '<a href="/index.html">',
            "part/two.html: /index.html (begins at the root, which is not this folder)",
        ),
        (
            '<a href="file:///index.html">',
            "part/two.html: file:///index.html (neither a page nor an address of the web)",
        ),
        (
            '<a href="https://example.org/a b">',
            "part/two.html: https://example.org/a b (a space in an address)",
        ),
        ('<a href="https:///a">', "part/two.html: https:///a (no host)"),
    ],
)
def test_a_dead_link_is_named_with_its_page(site, capsys, tag, reason):
    page = site / "part" / "two.html"
    page.write_text(page.read_text() + tag)
    assert links.dead_links(site) == [reason]
    assert links.main([str(site)]) == 1 and capsys.readouterr().err == reason + "\n"


def test_a_folder_without_pages(tmp_path, capsys):
    assert links.main([str(tmp_path)]) == 2 and "no HTML page in" in capsys.readouterr().err


@pytest.mark.slow
def test_the_documentation_builds_offline_and_has_no_dead_link(tmp_path):
    pytest.importorskip("furo", reason="the extra 'docs' is not installed")
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        "docs",
        str(tmp_path),
    ]
    built = subprocess.run(
        command, cwd=DOCS.parent, env={**os.environ, **nowhere}, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr[-3000:]
    assert links.dead_links(tmp_path) == []
    formulas = (tmp_path / "notebooks" / "03_cluster_recovery.html").read_text(encoding="utf-8")
    assert formulas.count("<math") > 10 and "<script" in formulas and "mathjax@" not in formulas
    papers = (tmp_path / "generated" / "papers.html").read_text(encoding="utf-8")
    assert papers.count("<tr") == len(coverage.table()) + 2  # a head for each paper
