"""A selected candidate trained to its end and exported, on the digits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import autoprune
from autoprune.cli.main import main
from autoprune.config.schema import DigitsData
from autoprune.data import sources
from autoprune.data.dataset import Split
from autoprune.errors import ConfigError, SearchAborted


@pytest.fixture
def searched(workplace: Path, launch: dict[str, Any]) -> Path:
    autoprune.search(launch)
    return workplace


def top1(folder: Path, split: Split) -> float:
    """Of the exported model, by a loop of its own."""
    data, model = sources.load(DigitsData()), autoprune.load_model(folder)
    images = torch.tensor((split.images / 255 - np.array(data.mean)[0]) / np.array(data.std)[0], dtype=torch.float32)
    with torch.no_grad():
        return float((model(images).argmax(1).numpy() == split.labels).mean())


def test_the_trained_model_is_what_is_exported_and_compared(searched: Path) -> None:
    data, before = sources.load(DigitsData()), {trial.number: trial for trial in autoprune.trials("small")}[5]
    done = autoprune.retrain("small", 5, "finished", arm="finetune_rewind", overrides=["epochs=3"])
    assert (done.arm, done.epochs) == ("finetune_rewind", 3)
    assert done.metrics["top1"] > before.metrics["top1"]
    one_image = 1.01 / 287  # scored by batches of another size
    assert top1(done.output, data.search_val) == pytest.approx(done.metrics["top1"], abs=one_image)
    assert top1(done.output, data.open_test()) == pytest.approx(done.metrics["test_top1"], abs=one_image)
    content = json.loads((done.output / "model.json").read_text())
    assert content["widths"] == dict(before.candidate.widths)
    assert content["metrics"] == {
        **done.metrics,
        **{key: before.metrics[key] for key in ("macs", "params")},
        **{key: content["metrics"][key] for key in ("flops", "keep_ratio")},
    }
    assert content["origin"]["retrained_by"] == "finetune_rewind"
    assert json.loads(content["origin"]["recipe"])["epochs"] == 3

    compared = autoprune.compare(
        "small", trials=[5], arms=["finetune_rewind"], seeds=2, overrides=["epochs=3"], executor="serial"
    )
    runs = sum(len(item.seeds) for item in compared.comparison.results)
    assert compared.ran == runs - 1, "the run above was stored"
    (ours,) = [item for item in compared.comparison.results if item.subject == "trial 5"]
    assert ours.test_top1[0] == done.metrics["test_top1"]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as leaving:
        main(arguments)
    return int(leaving.value.code or 0)


def test_select_trains_before_it_exports(searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    budget = ["select", "small", "--where", "macs <= 0.8 * baseline", "--quiet"]
    training = ["--retrain", "scratch_e", "--recipe", "epochs=1", "--seed", "3"]
    assert run(*budget, *training, "--export", "made", "--export-format", "torchscript") == 0
    assert sorted(path.name for path in Path("made").iterdir()) == ["SHA256SUMS", "model.ts"]
    assert run(*budget, *training) == 2
    assert "--export DIR" in capsys.readouterr().err
    assert run(*budget, "--recipe", "epochs=1", "--export", "other") == 2
    assert run(*budget, "--retrain", "finetun", "--export", "other") == 2
    assert "finetune_rewind" in capsys.readouterr().err
    assert not Path("other").exists()


def test_what_cannot_be_trained_leaves_no_file(searched: Path) -> None:
    with pytest.raises(ConfigError, match="epochs"):
        autoprune.retrain("small", 5, "none", overrides=["epochs=0"])
    with pytest.raises(SearchAborted, match="diverged"):
        autoprune.retrain("small", 5, "none", arm="scratch_e", overrides=["lr=1e30", "epochs=1", "warmup=0"])
    assert not Path("none").exists()
