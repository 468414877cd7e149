"""From a stored search to every export format, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autoprune import api
from autoprune.cli.main import main
from autoprune.config.loading import load_search
from autoprune.data import sources
from autoprune.exporters import formats, onnx
from autoprune.exporters.verify import Inputs
from autoprune.training.scoring import normalise


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as leaving:
        main(arguments)
    return int(leaving.value.code or 0)


@pytest.fixture
def searched(workplace: Path, launch: dict[str, Any]) -> dict[str, Any]:
    launch["limits"] = {"trials": 3}
    api.search(launch)
    return launch


def test_every_format_gives_the_trials_top1(searched: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    trial = api.trials("small")[2]
    assert run("export", "small", "2", "--out", "plain", "--quiet") == 0
    for format in ("onnx", "torch_export", "torchscript"):
        options = ["--format", format, "--fold-bn", "--licence", "BSD-3-Clause", "--quiet"]
        assert run("export", "small", "2", "--out", format, *options) == 0
    assert capsys.readouterr().out.split() == ["plain", "onnx", "torch_export", "torchscript"]

    config = load_search(searched)
    dataset = sources.load(config.space.data, seed=config.seed)
    labels = dataset.search_val.labels
    images = normalise(torch.tensor(dataset.search_val.images), dataset.mean, dataset.std)
    with torch.no_grad():
        expected = api.load_model("plain")(images)
    assert float((expected.argmax(1).numpy() == labels).mean()) == pytest.approx(trial.metrics["top1"], abs=0.004)
    for format in ("onnx", "torch_export", "torchscript"):
        backend = __import__(f"autoprune.exporters.{format}", fromlist=["load"])
        (got,) = backend.load(Path(format) / backend.FILE)((images,))
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)
        facts = formats.read_metadata(Path(format))
        assert facts is not None
        assert json.loads(facts["widths"]) == dict(trial.candidate.widths)
        assert (facts["search"], facts["trial"], facts["data"]) == ("small", "2", "digits")
        assert float(facts["top1"]) == trial.metrics["top1"]
        assert float(facts["macs"]) == trial.metrics["macs"]
        assert facts["licence"] == "BSD-3-Clause"
        assert int(facts["folded_batchnorms"]) > 0


def test_a_mismatch_ends_with_code_6_and_leaves_nothing(
    searched: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = onnx.load

    def off(path: Path) -> Any:
        run_it = real(path)

        def wrong(sample: Inputs) -> Any:
            """Wrong on real images alone."""
            outputs = run_it(sample)
            return [output + 1 for output in outputs] if len(sample[0]) == 8 else outputs

        return wrong

    monkeypatch.setattr(onnx, "load", off)
    before = sorted(path.name for path in Path().iterdir())
    assert run("select", "small", "--export", "out", "--export-format", "onnx", "--quiet") == 6
    assert "does not reproduce the PyTorch model" in capsys.readouterr().err
    assert sorted(path.name for path in Path().iterdir()) == before


def test_mistakes_are_said_before_any_work(
    searched: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from autoprune.driver import assemble

    monkeypatch.setattr(assemble, "prepare", lambda *args: pytest.fail("prepared in vain"))
    assert run("export", "small", "0", "--out", "out", "--fold-bn") == 2
    assert "cannot be folded in format 'safetensors'" in capsys.readouterr().err
    assert run("export", "small", "0", "--out", "out", "--batch", "2") == 2
    Path("full").mkdir()
    (Path("full") / "x").touch()
    assert run("export", "small", "0", "--out", "full", "--format", "onnx") == 3
    assert run("export", "small", "99", "--out", "out") == 3


def test_bench_export_needs_neither_data_nor_weights(
    searched: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sources, "load", lambda *args, **kwargs: pytest.fail("data were read"))
    assert run("bench-export", "small", "2", "--repeats", "3", "--warmup", "1", "--format", "json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["pruned"]["macs"] == api.trials("small")[2].metrics["macs"]
    assert content["dense"]["macs"] == api.searches()[0].baseline["macs"]
    assert np.isfinite(content["speedup"])
    assert content["facts"]["processor"]
