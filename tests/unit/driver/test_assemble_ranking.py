"""Scores of a search: training images only, kept in the cache, and told when another criterion had to rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from autoprune.config.loading import load_search
from autoprune.config.schema import SearchConfig
from autoprune.data.dataset import Dataset, Split
from autoprune.driver.assemble_ranking import channel_scores, check_criterion, labelled_batches, note_scores
from autoprune.driver.observers import Silent
from autoprune.errors import ConfigError
from autoprune.models import registry
from autoprune.space.space import SearchSpace
from autoprune.training.base import BaseModel

IMAGE = torch.zeros(1, 1, 28, 28)


def configured(criterion: Any, model: str = "lenet5", **weights: Any) -> SearchConfig:
    return load_search(
        {
            "name": "scored",
            "space": {"model": {"kind": "builtin", "name": model}, "data": {"kind": "digits"}},
            "evaluator": {"weights": {"criterion": criterion, **weights}},
        }
    )


def dataset() -> Dataset:
    rng = np.random.default_rng(0)
    train = Split(rng.integers(0, 256, (60, 1, 28, 28), dtype=np.uint8), np.arange(60) % 10)

    def closed() -> Split:
        raise AssertionError("nothing but training images may be read")

    return Dataset(train, _Closed(), 10, (), (0.4,), (0.3,), read_test=closed)  # type: ignore[arg-type]


class _Closed:
    """A split of which only the digest is known."""

    digest = "0" * 16


def base(model: str = "lenet5") -> BaseModel:
    torch.manual_seed(0)
    config = configured("l1", model).space.model
    return BaseModel(registry.build(config, num_classes=10, in_channels=1).eval(), "f" * 16, False, 0.0)


def space(module: nn.Module) -> SearchSpace:
    return SearchSpace.from_module(module, IMAGE)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUTOPRUNE_HOME", str(tmp_path))
    return tmp_path / "scores"


def test_scores_that_read_images_are_kept(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained, images = base(), dataset()
    found = channel_scores(configured("taylor"), images, trained, space(trained.module))
    (kept,) = home.iterdir()
    broken = BaseModel(nn.Identity(), trained.digest, False, 0.0)  # would fail if it ran
    again = channel_scores(configured("taylor"), images, broken, space(trained.module))
    for name, each in found.values.items():
        np.testing.assert_array_equal(again.values[name], each)
    for other in (configured("taylor", criterion_images=30), configured({"name": "taylor", "reduce": "abs_of_sum"})):
        channel_scores(other, images, trained, space(trained.module))
    assert len(list(home.iterdir())) == 3
    kept.write_bytes(b"half of a file")
    with pytest.warns(UserWarning, match=r"the file of scores .* is damaged"):
        repaired = channel_scores(configured("taylor"), images, trained, space(trained.module))
    for name, each in found.values.items():
        np.testing.assert_allclose(repaired.values[name], each, rtol=1e-5, atol=1e-9)


def test_scores_of_weights_are_not_kept(home: Path) -> None:
    trained = base()
    channel_scores(configured("fpgm"), dataset(), trained, space(trained.module))
    assert not home.exists()


def test_groups_without_a_score_are_told(home: Path) -> None:
    trained = base()
    notes: list[str] = []

    class Shown(Silent):
        def note(self, text: str) -> None:
            notes.append(text)

    config = configured("bn_scale")
    found = channel_scores(config, dataset(), trained, space(trained.module))
    note_scores(config, lambda: found, Shown())
    assert len(notes) == len(found.replaced) == len(space(trained.module).groups)
    assert notes[0].startswith("group ")
    assert "bn_scale is undefined (no BatchNorm with a scale" in notes[0]
    assert notes[0].endswith("group_l2 ranks it")


def test_what_will_fail_is_said_before_training() -> None:
    module = base().module
    strict = {"name": "bn_scale", "fallback": None}
    with pytest.raises(ConfigError, match="criterion 'bn_scale' is undefined for group"):
        check_criterion(configured(strict), space(module), lambda: (module, IMAGE))
    with pytest.raises(ConfigError, match=r"group 'features.0': 'features.2' reads its channels without an activation"):
        check_criterion(configured({"name": "apoz", "fallback": None}), space(module), lambda: (module, IMAGE))
    check_criterion(configured({"name": "fisher", "fallback": None}), space(module), lambda: (module, IMAGE))
    check_criterion(configured("bn_scale"), space(module), lambda: (module, IMAGE))


def test_batches_shrink_with_the_images() -> None:
    small = dataset()
    assert [len(labels) for _, labels in labelled_batches(small, small.train)] == [60]
    split = Split(np.zeros((3, 1, 256, 256), np.uint8), np.zeros(3, np.int64))
    large = Dataset(split, split, 10, (), (0.4,), (0.3,), read_test=lambda: split)
    assert [len(labels) for _, labels in labelled_batches(large, split)] == [1, 1, 1]
