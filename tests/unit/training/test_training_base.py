from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from autoprune.config.schema import BaseConfig, BuiltinModel, DigitsData, FileModel, Recipe, SpaceConfig
from autoprune.data import sources
from autoprune.data.dataset import Dataset, Split
from autoprune.errors import ConfigError, SearchAborted
from autoprune.models import registry
from autoprune.models.checkpoint import state_digest
from autoprune.training import cached, loop
from autoprune.training.base import BASE_CACHE, base_key, base_model
from autoprune.training.cache import TrainedCache
from autoprune.training.loop import EpochReport, Trainer


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("AUTOPRUNE_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "base"


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return sources.load(DigitsData())


def space(**recipe: object) -> SpaceConfig:
    settings = {"epochs": 2, "batch_size": 64, "augment": "crop", **recipe}
    return SpaceConfig(
        model=BuiltinModel(name="resnet8", args={"width": 4}), data=DigitsData(), base=BaseConfig(recipe=settings)
    )


def with_model(model: object, **more: object) -> SpaceConfig:
    return SpaceConfig(model=model, data=DigitsData(), base=BaseConfig(**more))


def test_training_learns_reports_and_is_cached(digits):
    reports: list[EpochReport] = []
    first = base_model(space(epochs=4), digits, on_epoch=reports.append)
    assert [report.epoch for report in reports] == [1, 2, 3, 4]
    assert reports[-1].loss < reports[0].loss
    assert reports[-1].val_top1 > 0.6
    assert first.trained
    assert not first.module.training
    again = base_model(space(epochs=4), digits, on_epoch=reports.append)
    assert not again.trained
    assert len(reports) == 4
    assert again.digest == first.digest == state_digest(again.module.state_dict())


def test_the_key_names_everything_that_decides_the_weights(digits, tmp_path):
    other = Dataset(
        train=Split(255 - digits.train.images, digits.train.labels),
        search_val=digits.search_val,
        num_classes=10,
        class_names=digits.class_names,
        mean=digits.mean,
        std=digits.std,
        read_test=digits.read_test,
    )
    keys = [
        base_key(space(), digits),
        base_key(space(epochs=3), digits),
        base_key(space(seed=1), digits),
        base_key(space(), other),
        base_key(with_model(BuiltinModel(name="resnet8"), recipe=space().base.recipe), digits),
    ]
    file = tmp_path / "net.py"
    for text in ("x = 1", "x = 2"):
        file.write_text(text)
        keys.append(base_key(with_model(FileModel(kind="file", path=str(file), factory="f")), digits))
    assert len(set(keys)) == len(keys)
    moved = file.rename(tmp_path / "moved.py")
    assert base_key(with_model(FileModel(kind="file", path=str(moved), factory="f")), digits) == keys[-1]


def test_training_depends_on_nothing_but_its_recipe(digits, home):
    torch.manual_seed(1)
    one = base_model(space(epochs=1), digits).digest
    for path in home.iterdir():
        path.unlink()
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    assert base_model(space(epochs=1), digits).digest == one
    assert torch.equal(torch.random.get_rng_state(), before)
    assert base_model(space(epochs=1, seed=9), digits).digest != one


class Cut(Exception):
    pass


def test_a_training_cut_at_any_step_ends_with_the_same_weights(digits, home, monkeypatch):
    monkeypatch.setattr(loop, "_PAUSE_STEPS", 5)
    monkeypatch.setattr(cached, "_SAVE_SECONDS", 0.0)
    model = with_model(BuiltinModel(name="mobilenet_v1", args={"width": 0.125, "dropout": 0.5, "small_images": True}))
    config = model.model_copy(update={"base": space(epochs=2).base})
    reports: list[EpochReport] = []
    whole = base_model(config, digits, on_epoch=reports.append)
    for path in home.iterdir():
        path.unlink()

    saves = 0
    original = TrainedCache.save_progress

    def save_and_cut(*args: object) -> None:
        nonlocal saves
        original(*args)
        saves += 1
        if saves in (2, 5):
            raise Cut

    monkeypatch.setattr(TrainedCache, "save_progress", save_and_cut)
    again: list[EpochReport] = []
    for _ in range(2):
        with pytest.raises(Cut):
            base_model(config, digits, on_epoch=again.append)
    resumed = base_model(config, digits, on_epoch=again.append)
    assert resumed.digest == whole.digest
    assert resumed.trained
    assert [(r.epoch, r.loss, r.train_top1, r.val_top1) for r in again] == [
        (r.epoch, r.loss, r.train_top1, r.val_top1) for r in reports
    ]
    assert [path.suffix for path in home.iterdir()] == [".safetensors"]


SCRIPT = """
import sys
from autoprune.config.loading import load_space
from autoprune.data import sources
from autoprune.training import base, cached
cached._SAVE_SECONDS = 0.0
space = load_space({"model": {"kind": "builtin", "name": "resnet8"}, "data": {"kind": "digits"},
                    "base": {"recipe": {"epochs": 400, "batch_size": 64}}})
base.base_model(space, sources.load(space.data), on_epoch=lambda report: print(report.epoch, flush=True))
"""


def test_kill_9_leaves_a_training_that_goes_on(digits, home):
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "2":
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    config = with_model(BuiltinModel(name="resnet8"), recipe=Recipe(epochs=400, batch_size=64))
    trainer = Trainer(registry.build(config.model, num_classes=10, in_channels=1), digits, config.base.recipe)
    assert BASE_CACHE.load_progress(base_key(config, digits), trainer) > 0
    assert trainer.epoch >= 1


def test_a_flipped_byte_is_noticed_and_trained_over(digits, home):
    good = base_model(space(epochs=1), digits).digest
    (path,) = home.iterdir()
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=r"damaged: its SHA-256 does not match.*trained again"):
        again = base_model(space(epochs=1), digits)
    assert again.trained
    assert again.digest == good
    assert not base_model(space(epochs=1), digits).trained


def test_a_cut_cache_file_is_noticed(digits, home):
    base_model(space(epochs=1), digits)
    (path,) = home.iterdir()
    path.write_bytes(path.read_bytes()[:500])
    with pytest.warns(UserWarning, match="cannot be read"):
        assert base_model(space(epochs=1), digits).trained


def test_damaged_progress_is_set_aside_and_said(digits, home):
    home.mkdir(parents=True)
    path = home / f"{base_key(space(), digits)}.partial.pt"
    path.write_bytes(b"PK broken")
    with pytest.warns(UserWarning, match=r"unfinished training .*partial.pt is damaged: .* It begins anew"):
        assert base_model(space(), digits).trained
    assert path.with_name(f"{path.name}.corrupt").read_bytes() == b"PK broken"


def test_writers_at_once_leave_a_good_file(digits, home):
    model = registry.build(space().model, num_classes=10, in_channels=1)
    stop = time.perf_counter() + 1.0
    errors: list[BaseException] = []

    def work(write: bool, number: int) -> None:
        try:
            while time.perf_counter() < stop:
                if write:
                    BASE_CACHE.save("key", model, {"writer": number})
                elif (loaded := BASE_CACHE.load("key")) is not None:
                    assert loaded[1]["writer"] in (0, 1)
        except (AssertionError, OSError, ConfigError, UserWarning) as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number < 2, number)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert os.listdir(home) == ["key.safetensors"]


def test_the_record_says_how_the_weights_came_about(digits):
    base_model(space(epochs=1), digits)
    loaded = BASE_CACHE.load(base_key(space(epochs=1), digits))
    assert loaded is not None
    assert loaded[1]["recipe"]["epochs"] == 1
    assert 0 <= loaded[1]["search_val_top1"] <= 1
    json.dumps(loaded[1])


def test_divergence_stops_with_a_hint(digits, home):
    with pytest.raises(SearchAborted, match=r"diverged in epoch \d+ of 3") as caught:
        base_model(space(epochs=3, lr=1e18, warmup=0.0), digits)
    assert "base.recipe.lr (now 1e+18" in caught.value.hint
    assert not list(home.glob("*.safetensors"))


def test_a_checkpoint_is_loaded_and_nothing_trained(digits, tmp_path):
    model = registry.build(BuiltinModel(name="resnet8"), num_classes=10, in_channels=1)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "c.pt")
    loaded = base_model(with_model(BuiltinModel(name="resnet8"), checkpoint=str(tmp_path / "c.pt")), digits)
    assert not loaded.trained
    assert loaded.digest == state_digest(model.state_dict())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nn.Sequential(nn.Flatten(), nn.Linear(64, 7))", r"returns \(2, 7\) for 2 images.*shape \(2, 10\)"),
        ("nn.Sequential(nn.Flatten(), nn.Linear(65, 10))", r"cannot take .* shape \(2, 1, 8, 8\)"),
        ("nn.Flatten(0)", r"returns \(128,\)"),
    ],
)
def test_a_model_that_does_not_fit_the_data_is_explained(digits, tmp_path, text, message):
    (tmp_path / "net.py").write_text(f"from torch import nn\ndef make():\n    return {text}\n")
    config = with_model(FileModel(kind="file", path=str(tmp_path / "net.py"), factory="make"))
    with pytest.raises(ConfigError, match=message):
        base_model(config, digits)


def test_weight_decay_leaves_biases_and_batchnorm_alone():
    model = registry.build(BuiltinModel(name="resnet8"), num_classes=10, in_channels=1)
    decayed, free = loop.sgd(model, Recipe(weight_decay=0.01)).param_groups
    assert decayed["weight_decay"] == 0.01
    assert free["weight_decay"] == 0
    assert all(item.ndim > 1 for item in decayed["params"])
    assert len(decayed["params"]) + len(free["params"]) == len(list(model.parameters()))


@pytest.mark.parametrize(("width", "expected"), [(4, torch.contiguous_format), (16, torch.channels_last)])
def test_channels_last_is_avoided_where_it_corrupts_memory(width, expected):
    model = registry.build(BuiltinModel(name="resnet8", args={"width": width}), num_classes=10, in_channels=1)
    assert loop._memory_format(model, torch.device("cpu")) is expected
    assert loop._memory_format(model, torch.device("cuda")) is torch.channels_last


def test_fewer_images_than_a_batch_still_train(digits):
    small = Dataset(
        train=digits.train.take(30),
        search_val=digits.search_val,
        num_classes=10,
        class_names=digits.class_names,
        mean=digits.mean,
        std=digits.std,
        read_test=digits.read_test,
    )
    report = next(Trainer(registry.build(space().model, num_classes=10, in_channels=1), small, Recipe()).run())
    assert np.isfinite(report.loss)
