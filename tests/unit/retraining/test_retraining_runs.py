"""Runs: trained to the end, cut and taken up again, diverged."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from autoprune.config.recipes import Recipe
from autoprune.config.schema import BuiltinModel
from autoprune.data.dataset import Split
from autoprune.models.registry import build
from autoprune.pruning.groups import discover
from autoprune.retraining.runs import PROGRESS, RUN, Materials, Retrainer, Run, images_per_epoch
from autoprune.retraining.weights import Origins
from autoprune.types import Candidate, Measurement

RECIPE = Recipe(epochs=3, batch_size=16, lr=0.05, augment="crop", dtype="float32", seed=1)
FIRST = Candidate({RUN: 0})


def split(images: int, seed: int) -> Split:
    """Dark and bright images, with noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % 2
    pixels = rng.integers(0, 120, (images, 1, 8, 8)) + 100 * labels[:, None, None, None]
    return Split(pixels.astype(np.uint8), labels)


def materials(*runs: Run) -> Materials:
    torch.manual_seed(0)
    base = build(BuiltinModel(name="resnet8"), num_classes=2, in_channels=1)
    groups = discover(base, torch.zeros(1, 1, 8, 8), check=False).groups
    ranking = {group.name: np.arange(group.units) for group in groups}
    state = {name: tensor.numpy() for name, tensor in base.state_dict().items()}
    origins = Origins(BuiltinModel(name="resnet8"), 2, 1, groups, state, ranking, initial_seed=0)
    return Materials(origins, split(70, 0), split(20, 1), split(30, 2), (0.5,), (0.25,), runs)


def run(**changes: object) -> Run:
    values: dict[str, object] = {"widths": {"conv1": 8}, "arm": "scratch_e", "start": "scratch", "recipe": RECIPE}
    return Run(**{**values, "first_epoch": 0, "identity": "test", **changes})  # type: ignore[arg-type]


def last(retrainer: Retrainer) -> Measurement:
    *_, final = retrainer.evaluate(FIRST)
    return final


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPRUNE_HOME", str(tmp_path))


def test_a_run_reports_each_epoch_and_scores_once() -> None:
    found = list(Retrainer(materials(run())).evaluate(FIRST))
    assert [(item.step, item.final) for item in found] == [(1, False), (2, False), (3, False), (3, True)]
    assert set(found[-1].metrics) == {"top1", "loss", "test_top1", "test_loss", "train_seconds"}
    assert found[-1].metrics["test_top1"] > 0.8
    assert found[-1].metrics["top1"] == found[-2].metrics["top1"], "the last epoch's model is the one that counts"


def test_the_test_split_is_opened_after_the_last_epoch() -> None:
    class Opened(Exception):
        pass

    class Closed(Split):
        def __len__(self) -> int:
            raise Opened

    given = materials(run())
    closed = Materials(**{**vars(given), "test": Closed(given.test.images, given.test.labels)})
    measurements = Retrainer(closed).evaluate(FIRST)
    assert [next(measurements).step for _ in range(3)] == [1, 2, 3]
    with pytest.raises(Opened):
        next(measurements)


@pytest.mark.parametrize("changes", [{}, {"start": "inherit", "first_epoch": 1}], ids=["scratch", "rewound"])
def test_a_cut_run_goes_on_to_the_same_end(changes: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = last(Retrainer(materials(run(**changes))))
    monkeypatch.setattr("autoprune.retraining.runs._SAVE_SECONDS", 0.0)
    cut = Retrainer(materials(run(**changes))).evaluate(FIRST)
    next(cut)
    next(cut)
    del cut
    again = list(Retrainer(materials(run(**changes))).evaluate(FIRST))
    assert len(again) < run(**changes).epochs + 1, "the epochs that were saved are not trained again"
    for name in ("top1", "loss", "test_top1", "test_loss"):
        assert again[-1].metrics[name] == whole.metrics[name]
    assert not PROGRESS._progress_path(run(**changes).digest).exists()


def test_a_damaged_state_is_forgotten() -> None:
    path = PROGRESS._progress_path(run().digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"no checkpoint")
    with pytest.warns(UserWarning, match="damaged.*It begins anew"):
        steps = [item.step for item in Retrainer(materials(run())).evaluate(FIRST)]
    assert steps == [1, 2, 3, 3]


def test_divergence_is_a_result() -> None:
    wild = run(recipe=RECIPE.model_copy(update={"lr": 1e30}))
    found = last(Retrainer(materials(wild)))
    assert math.isnan(found.metrics["test_top1"])
    assert found.final


def test_a_digest_tells_runs_apart_by_what_decides_them() -> None:
    plain = run().digest
    assert run(arm="another name").digest == plain
    others = [
        run(widths={"conv1": 6}),
        run(start="inherit"),
        run(first_epoch=1),
        run(identity="another base model"),
        run(recipe=RECIPE.model_copy(update={"seed": 2})),
    ]
    assert len({plain, *(other.digest for other in others)}) == 6


def test_images_of_an_epoch_are_whole_batches() -> None:
    assert images_per_epoch(70, RECIPE) == 64
    assert images_per_epoch(7, RECIPE) == 7
