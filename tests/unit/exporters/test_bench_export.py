"""Dense against pruned: both are timed in turns, and a model that is not faster is called so."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autoprune import api
from autoprune.api.export_bench import ExportBench
from autoprune.cli.main import main
from autoprune.config.schema import BuiltinModel, FileModel
from autoprune.errors import ConfigError, NotFound
from autoprune.exporters import bench
from autoprune.exporters.bundle import save_bundle
from autoprune.exporters.description import Description, metadata
from autoprune.exporters.formats import save_program
from autoprune.models import registry
from autoprune.pruning.slicing import slice_model
from autoprune.space.space import SearchSpace

SHAPE = (3, 16, 16)


def folder_of(path: Path, format: str = "safetensors", config: Any = None) -> Path:
    """A quarter of the channels of a ResNet-8."""
    torch.manual_seed(0)
    model = registry.build(BuiltinModel(name="resnet8"), num_classes=10, in_channels=3).eval()
    space = SearchSpace.from_module(model, torch.zeros(1, *SHAPE), check=False)
    candidate = space.uniform(0.25)
    keep = {group.name: np.arange(candidate.widths[group.name]) for group in space.groups}
    description = Description(
        model=config or BuiltinModel(name="resnet8"),
        num_classes=10,
        input_shape=SHAPE,
        mean=(0.5,) * 3,
        std=(0.2,) * 3,
        class_names=tuple("abcdefghij"),
        widths=candidate.widths,
        metrics={},
        baseline={},
    )
    sliced = slice_model(model, space.groups, keep)
    if format == "safetensors":
        return save_bundle(path, sliced, description)
    return save_program(path, sliced, (torch.zeros(1, *SHAPE),), format=format, metadata=metadata(description))


@pytest.mark.parametrize("format", ["safetensors", "onnx"])
def test_an_exported_folder_is_compared_with_its_full_architecture(tmp_path: Path, format: str) -> None:
    result = api.bench_export(folder_of(tmp_path / "out", format), batch=4, warmup=1, repeats=3)
    assert result.macs["pruned"] < 0.1 * result.macs["dense"]
    assert result.dense.samples_ms.shape == result.pruned.samples_ms.shape == (3,)
    assert result.pruned.median_ms < result.dense.median_ms  # a tenth of the work: no noise hides that
    assert result.settings == {"batch": 4, "threads": 1, "warmup": 1, "repeats": 3}
    assert json.loads(json.dumps(result.to_dict()))["dense"]["median_ms"] == result.dense.median_ms


def test_rounds_alternate_so_that_drift_meets_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_MOST_CALLS", 1)
    order: list[str] = []
    calls = {"dense": lambda: order.append("d"), "pruned": lambda: order.append("p")}
    timings = bench.interleaved(calls, warmup=2, repeats=3)
    assert "".join(order) == "ddd" + "ppp" + "dp" + "pd" + "dp"  # two to warm up and one to choose the length
    assert timings["dense"].samples_ms.shape == (3,)


def result(dense: list[float], pruned: list[float]) -> ExportBench:
    ratios = np.array(dense) / np.array(pruned)
    low, middle, high = np.percentile(ratios, (25, 50, 75))
    timings = bench.Timing(np.array(dense)), bench.Timing(np.array(pruned))
    macs = {"dense": 100.0, "pruned": 40.0}
    return ExportBench("x", *timings, float(middle), float(low), float(high), macs, {"batch": 1, "threads": 1})


def test_the_verdict() -> None:
    quick = result([2.0, 2.2, 2.1, 2.0], [1.0, 1.0, 1.1, 1.0])
    assert quick.faster
    assert "2.00 times as fast with 40.0 % of the MACs" in quick.verdict
    slow = result([1.0, 1.1, 1.0, 1.0], [1.1, 1.0, 1.1, 1.2])
    assert not slow.faster
    assert "NOT faster (speed-up 0.91) although it has 40.0 % of the MACs" in slow.verdict
    assert quick.dense.spread_ms == pytest.approx(0.0625)  # quartiles 2.0 and 2.125


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="holds no exported model"):
        api.bench_export(tmp_path)
    with pytest.raises(ConfigError, match="threads must be at least 1"):
        api.bench_export(tmp_path, threads=0)
    source = tmp_path / "mine.py"
    source.write_text("def make(): raise SystemExit('was run')\n")
    own = FileModel(kind="file", path=str(source), factory="make")
    with pytest.raises(ConfigError, match="comes from a Python file, which is not run here"):
        api.bench_export(folder_of(tmp_path / "own", "torchscript", own))


def test_the_command_prints_a_table_and_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[Any] = []

    def fake(*args: Any, **kwargs: Any) -> ExportBench:
        calls.append((args, kwargs))
        return ExportBench(**{**vars(result([2.0, 2.2], [1.0, 1.0])), "settings": dict(kwargs, repeats=2)})

    monkeypatch.setattr(api, "bench_export", fake)
    monkeypatch.delenv("AUTOPRUNE_STORE", raising=False)
    for extra in ([], ["--format", "json"], ["--format", "csv"]):
        with pytest.raises(SystemExit) as leaving:
            main(["bench-export", "name", "3", "--batch", "8", *extra])
        assert not leaving.value.code
        out = capsys.readouterr().out
        if extra == ["--format", "json"]:
            assert json.loads(out)["speedup"] == pytest.approx(2.1)
        elif extra:
            assert out.splitlines()[1].startswith("dense,2.1,")
        else:
            assert "2.100 ms" in out
            assert "2.10 times as fast" in out
    assert calls[0] == (
        ("name", 3),
        {"batch": 8, "threads": 1, "warmup": 10, "repeats": 30, "store": None},
    )


def test_one_thread_is_timed_by_its_own_clock() -> None:
    """Time in which it waits does not count; with more threads the wall decides."""
    clock, name = bench.clock_for(1)
    assert name == "processor time"
    waiting = bench.interleaved({"sleep": lambda: time.sleep(0.002)}, warmup=0, repeats=3, clock=clock)
    assert waiting["sleep"].median_ms < 1.5
    clock, name = bench.clock_for(2)
    assert name == "wall time"
    assert (
        bench.interleaved({"sleep": lambda: time.sleep(0.002)}, warmup=0, repeats=3, clock=clock)["sleep"].median_ms
        >= 2
    )
