"""``make gpu``: steps in order, each inside its share of the budget; what they wrote is packed in any case."""

import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis.gpu import __main__ as gpu
from analysis.gpu.steps import STEPS, Step
from stvit.pretrained import is_available

ROOT = Path(__file__).resolve().parents[3]


class Scripted(Step):
    """A step that writes a file and does what its name says."""

    def command(self, out, seconds, device, folder=""):
        doing = {
            "quick": "pass",
            "endless": "import time; time.sleep(60)",
            "broken": "raise SystemExit('no GPU left')",
        }
        code = f"open({str(out / f'{self.name}.csv')!r}, 'w').write('{device}'); {doing[self.name]}"
        return [sys.executable, "-c", code]


@pytest.fixture
def scripted(monkeypatch):
    steps = {name: Scripted(name, name, 1.0) for name in ("quick", "endless", "broken")}
    monkeypatch.setattr(gpu, "STEPS", steps)


def test_a_step_that_does_not_end_is_stopped_and_all_is_packed(scripted, tmp_path):
    assert (
        gpu.main(
            ["--steps", "quick,endless,broken", "--budget", "6", "--device", "cpu", "--out", str(tmp_path)]
        )
        == 1
    )
    told = {one["step"]: one for one in json.loads((tmp_path / "gpu.json").read_text())["steps"]}
    assert told["quick"]["status"] == "done" and told["endless"]["status"] == "stopped"
    assert told["broken"]["status"] == "failed: no GPU left"
    assert told["endless"]["seconds"] < 5
    with tarfile.open(tmp_path / "records.tar.gz") as archive:
        names = set(archive.getnames())
    assert {"gpu.json", "quick.csv", "endless.csv", "broken.csv", "broken.log"} <= names


def test_what_cannot_be_is_said_in_one_line(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        gpu.main(["--steps", "fly", "--out", str(tmp_path)])
    assert "unknown step 'fly'; choose from speed, distill, labels" in capsys.readouterr().err
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu.main(["--out", str(tmp_path)])
    assert "DEVICE=cpu" in capsys.readouterr().err


@pytest.mark.parametrize("device", ("cuda", "cpu"))
@pytest.mark.parametrize("name", STEPS)
def test_the_commands_of_the_steps_are_read_by_their_parsers(name, device, tmp_path, monkeypatch):
    """The words reach each command's own work, past its parser."""
    import analysis.distilled.__main__ as distilled
    import analysis.real_labels.__main__ as real_labels
    import analysis.throughput.__main__ as throughput

    reached = []
    monkeypatch.setattr(distilled, "run", lambda wanted, args: reached.append(args) or 0)
    monkeypatch.setattr(real_labels, "run", lambda args: reached.append(args) or 0)
    module, *words = STEPS[name].words(tmp_path, 60.0, device)
    if module == "analysis.distilled":
        assert distilled.main(words) == 0 and reached[0].device == device
    elif module == "analysis.real_labels":
        assert real_labels.main(words) == 0 and reached[0].device == {"cuda": "auto", "cpu": "cpu"}[device]
    else:
        assert throughput.parser().parse_args(words).device == [device]


def test_the_makefile_hands_its_variables_on():
    text = (ROOT / "Makefile").read_text()
    assert "analysis.gpu --steps $(STEPS) --budget $(BUDGET) --device $(DEVICE) --out $(OUT)" in text


@pytest.mark.slow
@pytest.mark.skipif(not is_available(), reason="the package that ships the weights is not installed")
def test_a_rehearsal_trains_a_student(tmp_path):
    """The distillation step on the CPU at toy size, from six photographs."""
    for name, count in (("learn", 4), ("test", 2)):
        (tmp_path / name).mkdir()
        for number in range(count):
            coarse = np.random.default_rng(number).integers(0, 255, (9, 9, 3), np.uint8)
            Image.fromarray(coarse).resize((150, 150), 0).save(tmp_path / name / f"{number}.png")
    words = ["--steps", "distill", "--budget", "300", "--device", "cpu", "--folder", str(tmp_path)]
    assert gpu.main([*words, "--out", str(tmp_path / "out")]) == 0
    records = [json.loads(path.read_text()) for path in (tmp_path / "out" / "distilled").glob("*.json")]
    assert records and all(-1 <= record["cosine"] <= 1 and record["device"] == "cpu" for record in records)
