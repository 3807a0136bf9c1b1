"""A page in headless Chromium, driven through its debugging pipe: scripts, sizes of phone and desk, dark and light."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(not CHROMIUM, reason="no browser installed")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
)  # fmt: skip
WAIT = "const wait = seconds => new Promise(done => setTimeout(done, 1000 * seconds));"


class Page:
    """``with Page(path, folder, width=390) as page: page.run("return document.title")``"""

    def __init__(self, path: Path, scratch: Path, width: int = 1280, height: int = 900, dark: bool = False):
        self.path, self.scratch, self.size, self.dark = path, scratch, (width, height), dark
        self.count, self.buffer, self.session, self.errors = 0, b"", None, []

    def __enter__(self) -> Page:
        orders, self.orders = os.pipe()
        self.answers, answers = os.pipe()
        command = f"exec {CHROMIUM} {' '.join(FLAGS)} --user-data-dir={self.scratch}/profile 3<&{orders} 4>&{answers}"
        self.process = subprocess.Popen(
            ["bash", "-c", command],
            pass_fds=(orders, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(orders), os.close(answers)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        width, height = self.size
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if self.dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Runtime.enable")
        self.call("Page.enable")
        self.call("Page.navigate", url=self.path if isinstance(self.path, str) else self.path.as_uri())
        self.run("while (document.readyState !== 'complete') await wait(.05)")
        return self

    def __exit__(self, *_) -> None:
        self.process.terminate()
        self.process.wait(10)
        os.close(self.orders), os.close(self.answers)

    def call(self, method: str, **params) -> dict:
        self.count += 1
        order = {"id": self.count, "method": method, "params": params}
        if self.session:
            order["sessionId"] = self.session
        os.write(self.orders, json.dumps(order).encode() + b"\0")
        while True:
            said = self._read()
            if said.get("method") == "Runtime.exceptionThrown":
                self.errors.append(said["params"]["exceptionDetails"])
            if said.get("id") == self.count:
                assert "error" not in said, f"{method}: {said['error']}"
                return said["result"]

    def run(self, script: str):
        """What ``script``, the body of an async function, returns in the page."""
        code = f"(async () => {{ {WAIT} {script} }})()"
        told = self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]["exception"].get("description")
        return told["result"].get("value")

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def _read(self) -> dict:
        while b"\0" not in self.buffer:
            piece = os.read(self.answers, 1 << 20)
            assert piece, "the browser ended"
            self.buffer += piece
        said, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(said)
