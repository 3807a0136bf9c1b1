"""The explorer: hands do what they say, the page answers in a browser, and widgets compute what the page promises."""

import json

import numpy as np
import pytest
import torch
from browser import Page, needs_browser

from analysis.explore import __main__ as command
from analysis.explore import hands, pack
from analysis.explore.state import check_methods, look, reduced
from analysis.images import photo
from analysis.shared.models import open_model


@pytest.fixture(scope="module")
def dense():
    return look(open_model("micro_deit_class_token"), photo("scene:2", 48))


def test_the_last_layers_alone_give_the_feature(dense):
    for layer in (1, 4):
        x = hands.tokens_before(dense.model, dense.images, layer)
        torch.testing.assert_close(hands.feature_from(dense.model, x, layer)[0], dense.feature)


def test_hands_hide_and_merge_what_they_are_told(dense):
    x = torch.arange(6.0).view(1, 6, 1)  # a class token and five patches
    assert hands.by_hand(x, 1).flatten().tolist() == [0, 1, 2, 3, 4, 5]
    assert hands.by_hand(x, 1, hide=[0, 3]).flatten().tolist() == [0, 2, 3, 5]
    assert hands.by_hand(x, 1, merge=[(0, 2)]).flatten().tolist() == [0, 2, 4, 5, 2]
    assert hands.by_hand(x, 1, hide=[2], merge=[(0, 2, 4)]).flatten().tolist() == [0, 2, 4, 3]
    with pytest.raises(ValueError, match="no patch 5; the image has 0 to 4"):
        hands.by_hand(x, 1, hide=[5])


def test_single_effects_are_those_of_single_hands(dense):
    x = hands.tokens_before(dense.model, dense.images, 4)
    found = hands.single_effects(dense.model, x, 4, dense.feature, dense.prefix)
    assert found["hide"].shape == found["merge"].shape == (64,)
    alone = hands.change(dense.model, hands.by_hand(x, 1, hide=[9]), 4, dense.feature)
    pair = [(9, int(found["partner"][9]))]
    together = hands.change(dense.model, hands.by_hand(x, 1, merge=pair), 4, dense.feature)
    torch.testing.assert_close(found["hide"][9], alone[0], rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(found["merge"][9], together[0], rtol=1e-3, atol=1e-6)


def test_a_method_that_keeps_all_changes_nothing(dense):
    one = reduced(dense, "evit", 1.0)
    assert one.tokens == [64] * 6 and one.cosine == pytest.approx(1) and one.lost == 0
    assert (one.labels == np.arange(64)).all()


@pytest.mark.parametrize("method", ["topk", "bat", "tome", "random"])
def test_fewer_tokens_at_a_lower_rate(dense, method):
    many, few = reduced(dense, method, 0.8), reduced(dense, method, 0.4)
    assert (
        few.tokens[-1] < many.tokens[-1] < 64 and few.multiply_adds < many.multiply_adds < dense.multiply_adds
    )
    assert (few.lost > 0) == (method in ("topk", "random"))
    assert len(set(few.labels[-1]) - {-1}) <= few.tokens[-1]


def test_methods_that_cannot_be_are_named(dense):
    with pytest.raises(ValueError, match="unknown method 'batt'; choose from topk"):
        check_methods(dense, ["batt"])
    with pytest.raises(ValueError, match="tokenlearner has no keep rate"):
        check_methods(dense, ["tokenlearner"])


CLICKS = """
while (!document.body.dataset.ready) await wait(.05);
const look = id => at(id).toDataURL(), told = {};
const change = (id, value) => { at(id).value = value; at(id).dispatchEvent(new Event("input", {bubbles: true})); };
const click = (id, x, y) => {
  const box = at(id).getBoundingClientRect();
  at(id).dispatchEvent(new MouseEvent("click", {clientX: box.left + x * box.width, clientY: box.top + y * box.height}));
};
const differs = act => { const before = ["where", "attention", "effect"].map(look); act();
  return ["where", "attention", "effect"].map(look).map((now, i) => +(now !== before[i])).join(""); };
told.methods = [...at("method").options].map(option => option.text);
told.rate = differs(() => change("rate", at("rate").max));
told.tokens = at("tokens").textContent;
told.method = differs(() => change("method", "bat"));
told.layer = differs(() => change("layer", 4));
told.head = differs(() => change("head", 1));
told.patch = differs(() => click("where", .3, .3));
told.said = at("where-said").textContent;
told.from_class = differs(() => { at("class").checked = true; change("head", 1); });
told.hide = differs(() => click("effect", .9, .9));
told.hidden = at("effect-said").textContent;
told.undo = differs(() => at("forget").click());
told.key = differs(() => at("where").dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowUp", bubbles: true})));
const query = 1 + state.patch, shown = (at("head").value = 0, at("layer").value = 2, row());
told.row = [...shown.slice(0, 4)];
told.query = query;
told.wide = document.documentElement.scrollWidth > innerWidth;
return told;
"""


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_in_a_browser(dense, tmp_path, width):
    path = tmp_path / "explore.html"
    path.write_text(pack.page(dense, 4, ["topk", "bat"], (0.8, 0.5)), encoding="utf-8")
    assert "http" not in path.read_text().replace("http://www.w3.org/2000/svg", "")
    with Page(path, tmp_path, width) as browser:
        told = browser.run(CLICKS)
        assert not browser.errors
    truth = dense.attention[1, 0, told.pop("query"), :4].tolist()
    assert told.pop("row") == pytest.approx(truth, abs=0.01)
    assert told.pop("tokens") == f"{reduced(dense, 'topk', 0.5).tokens[-1]} of 64  (keep_rate = 0.5)"
    assert told.pop("said").startswith("Patch 19 ") and "By hand: 1;" in told.pop("hidden")
    pictures = {"rate": "100", "method": "100", "layer": "110", "head": "010", "patch": "111", "from_class": "010",
                "hide": "101", "undo": "001", "key": "111"}  # fmt: skip
    assert told == {"methods": ["top-k", "BAT"], "wide": False, **pictures}, json.dumps(told)


def test_widgets_compute_live(dense):
    pytest.importorskip("ipywidgets")
    from analysis.explore.widgets import HIDE, LOOK, MERGE, Explorer

    shown = Explorer(dense.subject, dense.pixels)
    pictures = [bytes(shown.picture.value)]
    for widget, value in ((shown.method, "tome"), (shown.rate, 0.5), (shown.layer, 4), (shown.head, 2)):
        widget.value = value
        pictures.append(bytes(shown.picture.value))
    assert f"<b>{reduced(dense, 'tome', 0.5).tokens[-1]}</b> of 64 tokens" in shown.said.value
    for how, patch in ((LOOK, 9), (HIDE, 9), (MERGE, 20), (MERGE, 21)):
        shown.click.value = how
        shown.buttons.children[patch].click()
        pictures.append(bytes(shown.picture.value))
    x = hands.tokens_before(dense.model, dense.images, 4)
    changed = hands.by_hand(x, 1, hide=[9], merge=[(20, 21)])
    assert shown.effect == pytest.approx(
        float(hands.change(dense.model, changed, 4, dense.feature)[0]), abs=1e-6
    )
    shown.undo.click()
    assert shown.effect == pytest.approx(0, abs=1e-6) and "0 hidden, 0 merged" in shown.said.value
    assert len(set(pictures)) == 9 and all(one.startswith(b"\x89PNG") for one in pictures)


def test_command(tmp_path, capsys):
    out = tmp_path / "out.html"
    asked = [
        "--model",
        "micro_deit_class_token",
        "--image",
        "scene:1",
        "--methods",
        "evit",
        "--html",
        str(out),
    ]
    assert command.main(asked) == 0 and capsys.readouterr().out == f"{out}\n"
    data = json.loads(out.read_text().split('id="data">')[1].split("</script>")[0])
    assert list(data["methods"]) == ["evit"] and data["effects"]["layer"] == 4
    with pytest.raises(SystemExit):
        command.main([*asked, "--hide-at", "7"])
    assert "--hide-at is 7; micro_deit_class_token has 6 layers" in capsys.readouterr().err
