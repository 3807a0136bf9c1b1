"""Exported files: the model's own outputs for any batch, without this package; else one line and no file."""

import contextlib
import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from fill_rule import fill_state
from micro import build, images
from torch import nn

import stvit.extras
from stvit.convert import graphs
from stvit.convert.graphs import Parity, trace, write_graph
from stvit.export import main
from stvit.fast import absorbed

pytest.importorskip("onnxscript", reason="the extra stvit[export] is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra stvit[export] is not installed")
pytest.importorskip("openvino", reason="the extra stvit[export] is not installed")
SUFFIXES = (".onnx", ".xml")


@pytest.fixture(scope="module")
def sparse() -> nn.Module:
    return fill_state(build("default", depth=2, stgm_at=1))


@pytest.fixture(scope="module")
def folder(sparse, tmp_path_factory):
    """The same model in both formats, and what the command said."""
    folder, checkpoint = tmp_path_factory.mktemp("exported"), tmp_path_factory.mktemp("checkpoint")
    stvit.save_checkpoint(sparse, checkpoint)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        for suffix in SUFFIXES:
            assert main(["--model", str(checkpoint), "--out", str(folder / f"sparse{suffix}")]) == 0
    (folder / "said.txt").write_text(said.getvalue())
    return folder


ALONE = """
import sys
sys.modules["stvit"] = sys.modules["torch"] = None  # importing either is an error
import numpy as np
path, images = sys.argv[1], np.load(sys.argv[2])
if path.endswith(".onnx"):
    import onnxruntime
    outputs = onnxruntime.InferenceSession(path).run(None, {"images": images})[0]
else:
    import openvino
    exact = {"INFERENCE_PRECISION_HINT": "f32"}  # on some processors the default is bfloat16
    outputs = openvino.Core().compile_model(path, "CPU", exact)([images])[0]
np.save(sys.argv[3], outputs)
"""


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_runs_where_stvit_cannot_be_imported(suffix, sparse, folder, tmp_path):
    x = images(sparse, batch=5)
    np.save(tmp_path / "in.npy", x.numpy())
    words = [sys.executable, "-I", "-c", ALONE, folder / f"sparse{suffix}", "in.npy", "out.npy"]
    subprocess.run(words, cwd=tmp_path, check=True)
    with torch.no_grad():
        expected = sparse(x)
    found = torch.from_numpy(np.load(tmp_path / "out.npy"))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert found.shape == (5, 7) and expected.abs().max() > 0.5


def test_nothing_but_the_files_is_left(folder):
    names = {path.name for path in folder.iterdir()}
    assert names == {"sparse.onnx", "sparse.xml", "sparse.bin", "said.txt"}


def test_the_command_says_what_it_wrote_and_how_near_it_is(folder):
    said = (folder / "said.txt").read_text()
    assert f"written      {folder}/sparse.onnx, " in said and "any number of 48 × 48" in said
    assert "at most in ONNX Runtime, over 4 images" in said and "at most in OpenVINO, over 4 images" in said


def test_an_exported_graph_has_the_short_cut_of_few_queries(folder, sparse, monkeypatch, tmp_path):
    """Keys and values of all tokens are projected in the plain graph alone, in its two STGM layers."""
    onnx = pytest.importorskip("onnx")

    def products(path):
        return sum(node.op_type == "MatMul" for node in onnx.load(path).graph.node)

    short = products(folder / "sparse.onnx")
    monkeypatch.setattr(absorbed, "applies", lambda *_: False)
    trace(sparse, graphs.example(sparse, (48, 48)), tmp_path / "plain.onnx")
    assert short - products(tmp_path / "plain.onnx") == 2 * (5 - 4)  # q, ·W_k, ·X, ·X, ·W_v; q, kv, ·K, ·V


def test_parity_is_of_the_largest_output():
    assert Parity(2e-4, 4.0, 4).relative == pytest.approx(5e-5)
    assert Parity(0.0, 0.0, 4).relative == 0.0


def test_a_file_that_differs_is_not_written(sparse, monkeypatch, tmp_path):
    monkeypatch.setattr(graphs, "open_graph", lambda path: lambda x: sparse(x).detach() + 1)
    with pytest.raises(
        ValueError, match=r"bad.onnx is not written: its outputs are .* more than 1e-04 .* --tolerance"
    ):
        write_graph(sparse, tmp_path / "bad.onnx")
    assert not list(tmp_path.iterdir())


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Listing(nn.Module):
    def forward(self, x):
        return [x, x]


@pytest.mark.parametrize(
    ("model", "name", "message"),
    [
        (Branching(), "a.onnx", "Branching cannot be exported: "),
        (Listing(), "a.onnx", "returns a list; exported models return one tensor"),
        (nn.Flatten().train(), "a.onnx", "evaluation mode"),
        (nn.Conv2d(3, 4, 2).double().eval(), "a.onnx", "the model is in torch.float64 on cpu"),
        (nn.Flatten(), "a.pb", r"must end in .onnx \(ONNX Runtime\) or .xml \(OpenVINO\)"),
        (nn.Flatten(), "none/a.onnx", "there is no folder"),
    ],
)
def test_what_cannot_be_exported_is_one_line(model, name, message, tmp_path):
    model = model if message.startswith("evaluation") else model.eval()
    with pytest.raises(ValueError, match=message) as error:
        write_graph(model, tmp_path / name, (8, 8))
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(("suffix", "package"), [(".onnx", "onnxruntime"), (".xml", "openvino")])
def test_a_missing_runtime_is_named_with_its_remedy(suffix, package, tmp_path, monkeypatch, capsys):
    def absent(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(stvit.extras, "import_module", absent)
    assert main(["--model", "micro_stvit", "--untrained", "--out", str(tmp_path / f"a{suffix}")]) == 2
    line = capsys.readouterr().err
    assert f"needs {package}, which is not installed: pip install 'stvit[export]'" in line
    assert line.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "openvino", "--out", "a.onnx"], "writes files that end in .xml, not a.onnx"),
        (["--out", "a.onnx", "--tokens", "16"], "--tokens and --keep-rate go with --method"),
        (["--out", "a.onnx", "--method", "nope"], "unknown method 'nope'"),
        (["--out", "a.onnx", "--model", "nothing"], "which 'nothing' is not"),
        (["--out", "a.onnx", "--image-size", "-1"], "--image-size is -1"),
    ],
)
def test_errors_of_the_command_are_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--model", "micro_deit", "--untrained", *words]) == 2
    line = capsys.readouterr().err
    assert message in line and line.count("\n") == 1 and not list(tmp_path.iterdir())
