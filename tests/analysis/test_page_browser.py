"""The results page of this repository, in a real browser: folds, search, links, words, figures and tables."""

import json

import pytest
from browser import Page, needs_browser

from analysis import page
from analysis.results import RESULTS

pytestmark = needs_browser
SCREEN = 900  # pixels

SCRIPT = """
const told = {}, heights = () => document.documentElement.scrollHeight;
told.wide = document.documentElement.scrollWidth > innerWidth;
told.answers = all(".answers li").length;
told.lost = all("main a[href^='#']").map(link => link.hash).filter(name => !document.getElementById(name.slice(1)));
const names = all("[id]").map(node => node.id);
told.twice = names.filter((name, i) => names.indexOf(name) !== i);
told.height = heights();
told.far = all("main > section:not(#words)").filter(section => {
  const point = section.querySelector(".point");
  return !point || point.getBoundingClientRect().top - section.getBoundingClientRect().top > 300;
}).map(section => section.id);
told.without_text = all("main img").filter(image => image.alt.length < 12).length;

find.value = "dumbbell units"; find.dispatchEvent(new Event("input")); await wait(.4);
told.found = one("#found").textContent;
told.hidden = all("section[hidden]").length;
told.opened = all(".fold[open]").every(fold => fold.textContent.toLowerCase().includes("dumbbell"));
find.dispatchEvent(new KeyboardEvent("keydown", {key: "Escape", bubbles: true})); await wait(.2);
told.back = all("[hidden]").length;
document.body.dispatchEvent(new KeyboardEvent("keydown", {key: "/", bubbles: true}));
told.focused = document.activeElement === find;

const link = all(".answers a:not(.word)")[3], target = document.getElementById(link.hash.slice(1));
link.click(); await wait(.6);
told.revealed = target.closest("details").open && Math.abs(target.getBoundingClientRect().top) < innerHeight;

const word = one(".point .word");
word.click(); told.note = word.nextElementSibling.textContent === word.title;
word.click(); told.note_gone = !word.nextElementSibling?.matches(".note");

const head = target.querySelector("th.n button");
head.click(); told.sorted = head.parentElement.getAttribute("aria-sort");
const column = [...target.querySelectorAll("tbody tr")].map(row => row.cells[head.parentElement.cellIndex])
  .map(cell => +(cell.dataset.v ?? cell.textContent));
told.ordered = column.length > 1 && column.every((value, i) => !i || column[i - 1] <= value);

one(".zoom").focus(); one(".zoom").click(); await wait(.2);
told.enlarged = one("#big").open && one("#big img").width >= one(".zoom img").width;
one("#big").close();

one("#all").click(); await wait(.5);
told.wide_open = document.documentElement.scrollWidth > innerWidth;
const tiny = image => image.width < .6 * Math.min(image.getAttribute("width"), 1000);
told.tiny = all(".zoom img").filter(tiny).map(image => image.src);
for (const image of document.images) image.loading = "eager";
await Promise.all(all(".zoom img").map(image => image.decode().catch(() => 0)));
told.broken = all(".zoom img").filter(image => !image.naturalWidth).map(image => image.src);
return told;
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    for one in RESULTS.iterdir():
        if one.is_dir():
            (folder / one.name).symlink_to(one, target_is_directory=True)
    return page.write(folder)


def test_it_is_small(path):
    assert path.stat().st_size < 2_000_000


@pytest.mark.parametrize("width", [390, 1280])
def test_it_answers(path, width, tmp_path):
    with Page(path, tmp_path, width) as browser:
        told = browser.run(SCRIPT)
        assert not browser.errors
    assert told.pop("height") < (12 if width > 1000 else 20) * SCREEN, "screens with all folds closed"
    assert told.pop("hidden") > 3 and "parts in" in told.pop("found")
    assert told == {
        "answers": 10,
        "wide": False,
        "wide_open": False,
        "lost": [],
        "twice": [],
        "far": [],
        "without_text": 0,
        "opened": True,
        "back": 0,
        "focused": True,
        "revealed": True,
        "note": True,
        "note_gone": True,
        "sorted": "ascending",
        "ordered": True,
        "enlarged": True,
        "tiny": [],
        "broken": [],
    }, json.dumps(told, indent=1)
