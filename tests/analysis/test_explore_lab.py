"""The explorer's widgets in a real JupyterLab: clicks in the browser change what the kernel computes and draws."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import nbformat
import pytest
from browser import Page, needs_browser

ROOT = Path(__file__).resolve().parents[2]
EXPLORE = """
from analysis.explore import explore
from analysis.images import photo
from analysis.shared.models import open_model
explore(open_model("micro_deit_class_token"), photo("scene:2", 48))
"""
RUN = """
const until = async test => { for (let i = 0; i < 600 && !test(); i++) await wait(.1); return test(); };
await until(() => window.jupyterapp);
await window.jupyterapp.restored;
await until(() => document.querySelector(".jp-Notebook .jp-Cell"));
await until(() => window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === "idle");
await window.jupyterapp.commands.execute("notebook:run-all-cells");
const output = selector => document.querySelectorAll(".jp-OutputArea-output " + selector);
await until(() => output("img").length);
const said = () => output(".widget-html-content")[0].innerText, drawn = () => output("img")[0].src;
const patches = [...output(".widget-button")].filter(button => button.title.startsWith("patch"));
const after = async act => {
  const before = drawn();
  act();
  return [await until(() => drawn() !== before), said()];
};
const pick = method => {
  const list = output("select")[0];
  list.selectedIndex = [...list.options].findIndex(option => option.text === method);
  list.dispatchEvent(new Event("change", {bubbles: true}));
};
const [tops, sides] = ["top", "left"].map(edge => patches.map(patch => patch.getBoundingClientRect()[edge]));
const told = {patches: patches.length, gaps: [tops[8] - tops[0], sides[1] - sides[0]]};
told.looked = await after(() => patches[10].click());
output(".widget-toggle-button")[1].click();
told.hidden = await after(() => patches[20].click());
told.merged = await after(() => pick("ToMe"));
return told;
"""


@pytest.fixture
def lab(tmp_path):
    """A JupyterLab with one notebook, and its address."""
    cell = nbformat.v4.new_code_cell(EXPLORE)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel})
    nbformat.write(notebook, tmp_path / "explore.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = "-m jupyterlab --allow-root --no-browser --ip=127.0.0.1 --IdentityProvider.token= --expose-app-in-browser"
    own = {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "JUPYTER_CONFIG_DIR": str(tmp_path / "config")}
    server = subprocess.Popen(
        [sys.executable, *words.split(), f"--port={port}"],
        cwd=tmp_path,
        env={**os.environ, **own},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}/lab"
    try:
        wait_for(address, server)
        yield f"{address}/tree/explore.ipynb"
    finally:
        server.terminate()
        server.wait(30)


def wait_for(address: str, server: subprocess.Popen, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError("JupyterLab did not start")


@pytest.mark.slow
@needs_browser
def test_widgets_answer_clicks_in_jupyterlab(lab, tmp_path):
    pytest.importorskip("jupyterlab", reason="the extra 'notebook' is not installed")
    with Page(lab, tmp_path, width=1400, height=1000) as page:
        told = page.run(RUN)
    assert told["patches"] == 64 and told["gaps"] == [25, 25]  # buttons of 24 pixels, one apart both ways
    assert all(told[act][0] for act in ("looked", "hidden", "merged"))
    assert "0 hidden" in told["looked"][1] and "1 hidden" in told["hidden"][1]
    assert "(keep_rate = 0.7)" in told["hidden"][1] and "(r = 7)" in told["merged"][1]
