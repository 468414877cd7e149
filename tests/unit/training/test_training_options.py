"""What a recipe may ask of the loop beyond plain steps: averages, clipping, compiling, decay, resized crops."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn

from autoprune.config.recipes import Recipe
from autoprune.config.schema import BaseConfig, BuiltinModel, DigitsData, SpaceConfig
from autoprune.data import sources
from autoprune.data.dataset import Dataset
from autoprune.errors import ConfigError
from autoprune.models import registry
from autoprune.models.checkpoint import state_digest
from autoprune.training import compiling, loop
from autoprune.training.averaging import MovingAverage
from autoprune.training.base import BASE_CACHE
from autoprune.training.loop import Trainer
from autoprune.training.scoring import score

MODEL = BuiltinModel(name="resnet8", args={"width": 4})


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOPRUNE_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return sources.load(DigitsData())


def trainer(dataset: Dataset, on_pause=None, **settings: object) -> Trainer:
    torch.manual_seed(0)
    model = registry.build(MODEL, num_classes=10, in_channels=1)
    recipe = Recipe(**{"epochs": 2, "batch_size": 64, "augment": "crop", **settings})
    return Trainer(model, dataset, recipe, on_pause=on_pause)


def finished(one: Trainer) -> str:
    for _ in one.run():
        pass
    return state_digest(one.model.state_dict())


def carried(one: Trainer) -> dict:
    """The state as a file keeps it."""
    file = io.BytesIO()
    torch.save(one.state(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1, bias=False)
        self.norm = nn.BatchNorm1d(1, affine=False)


def test_the_average_is_the_recursion_over_weights_and_statistics():
    net = Net()
    average = MovingAverage(net, decay=0.3)
    weight, statistic = net.layer.weight.item(), 0.0
    for step in range(1, 6):
        with torch.no_grad():
            net.layer.weight.fill_(float(step))
            net.norm.running_mean.fill_(-float(step))
        average.update()
        decay = min(0.3, (1 + step) / (10 + step))
        weight, statistic = decay * weight + (1 - decay) * step, decay * statistic - (1 - decay) * step
    average.swap()
    assert net.layer.weight.item() == pytest.approx(weight)
    assert float(net.norm.running_mean) == pytest.approx(statistic)
    average.swap()
    assert net.layer.weight.item() == 5


def test_an_average_of_another_model_is_refused():
    with pytest.raises(ValueError, match="zip"):
        MovingAverage(Net(), 0.9).load_state({"updates": 1, "tensors": []})


def test_what_is_scored_and_kept_is_the_average(digits):
    one = trainer(digits, ema=0.95)
    reports = list(one.run())
    kept = state_digest(one.model.state_dict())
    here = score(one.model, digits.search_val, mean=digits.mean, std=digits.std, batch_size=500)
    assert reports[-1].val_top1 == here["top1"]
    one._ema.swap()
    last = state_digest(one.model.state_dict())
    assert last != kept
    # the weights that were trained are those of a training without an average
    assert last == finished(trainer(digits))
    assert reports[0].loss == next(trainer(digits).run()).loss


@pytest.mark.parametrize("settings", [{"ema": 0.9, "clip_norm": 1.0}, {"augment": "resized_crop"}])
def test_a_cut_in_an_epoch_changes_nothing(digits, monkeypatch, settings):
    monkeypatch.setattr(loop, "_PAUSE_STEPS", 5)
    states = []
    whole = trainer(digits, lambda: states.append(carried(whole)), **settings)
    digest = finished(whole)
    assert [(state["epoch"], state["step"]) for state in states] == [(0, 5), (0, 10), (0, 15), (1, 5), (1, 10), (1, 15)]
    for state in (states[1], states[-1]):
        other = trainer(digits, **settings)
        other.load_state(state)
        assert finished(other) == digest
    done = trainer(digits, **settings)
    done.load_state(carried(whole))
    assert state_digest(done.model.state_dict()) == digest
    assert list(done.run()) == []


def test_a_state_of_another_recipe_is_refused_and_nothing_is_changed(digits):
    one = trainer(digits, lr=0.05, ema=0.9)
    next(one.run())
    other = trainer(digits)
    before = state_digest(other.model.state_dict())
    with pytest.raises(ValueError, match=r"another recipe: lr is 0.05 there and 0.1 here, ema is 0.9 there and None"):
        other.load_state(carried(one))
    assert state_digest(other.model.state_dict()) == before
    BASE_CACHE.save_progress("key", one, 1.0)
    with pytest.raises(ConfigError, match=r"key.partial.pt cannot be continued: it is of another recipe") as caught:
        BASE_CACHE.load_progress("key", other)
    assert "Delete the file" in caught.value.hint
    assert BASE_CACHE.load_progress("key", trainer(digits, lr=0.05, ema=0.9)) == 1.0


def test_a_state_from_before_recipes_were_kept_still_loads(digits):
    one = trainer(digits)
    next(one.run())
    state = carried(one)
    del state["recipe"], state["ema"]
    other = trainer(digits)
    other.load_state(state)
    assert finished(other) == finished(one)


def test_gradients_are_clipped_to_their_common_length(digits):
    lengths = []

    class Watched(Trainer):
        def _make_optimizer(self):
            optimizer = super()._make_optimizer()
            optimizer.register_step_pre_hook(lambda *_: lengths.append(self.length()))
            return optimizer

        def length(self):
            return float(torch.cat([item.grad.flatten() for item in self.model.parameters()]).norm())

    model = registry.build(MODEL, num_classes=10, in_channels=1)
    next(Watched(copy.deepcopy(model), digits, Recipe(epochs=1, batch_size=64)).run())
    free = list(lengths)
    lengths.clear()
    next(Watched(model, digits, Recipe(epochs=1, batch_size=64, clip_norm=min(free) / 2)).run())
    assert lengths == pytest.approx([min(free) / 2] * len(lengths), rel=1e-3)


def test_a_constant_rate_stays_and_all_parameters_may_decay(digits):
    one = trainer(digits, schedule="constant", lr=0.01, warmup=0.0, decay="all", weight_decay=0.02, nesterov=False)
    next(one.run())
    groups = one._optimizer.param_groups
    assert [group["lr"] for group in groups] == [0.01, 0.01]
    assert [group["weight_decay"] for group in groups] == [0.02, 0.02]
    assert not any(group["nesterov"] for group in groups)


def test_where_compiling_fails_training_says_so_and_goes_on(digits, monkeypatch):
    def broken(model: nn.Module, **_: object):
        def run(images: torch.Tensor) -> torch.Tensor:
            model(images)  # moves the statistics of BatchNorm, as a failure in the backward pass would
            raise RuntimeError("\nno C++ compiler was found.\nmore")

        return run

    monkeypatch.setattr(compiling.torch, "compile", broken)
    one = trainer(digits, compile=True, epochs=1)
    with pytest.warns(UserWarning, match=r"torch.compile failed, training goes on without it: no C\+\+ compiler was"):
        digest = finished(one)
    assert digest == finished(trainer(digits, epochs=1))


def test_compiled_steps_are_used_for_training_alone(digits, monkeypatch):
    calls = []

    def counting(model: nn.Module, **_: object):
        def run(images: torch.Tensor) -> torch.Tensor:
            calls.append(len(images))
            return model(images)

        return run

    monkeypatch.setattr(compiling.torch, "compile", counting)
    one = trainer(digits, compile=True, epochs=1)
    assert finished(one) == finished(trainer(digits, epochs=1))
    assert calls == [64] * (1 + len(digits.train) // 64)
    calls.clear()
    monkeypatch.setattr(Trainer, "compiles", False)
    finished(trainer(digits, compile=True, epochs=1))
    assert calls == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch's own, while it compiles
def test_a_network_is_really_compiled(digits):
    one = trainer(digits, compile=True, epochs=1, dtype="float32")
    (report,) = one.run()
    assert one._run is not one.model
    (plain,) = trainer(digits, epochs=1, dtype="float32").run()
    assert report.loss == pytest.approx(plain.loss, rel=1e-2)


def test_standing_and_reports_say_how_fast_and_how_long(digits, monkeypatch):
    monkeypatch.setattr(loop, "_PAUSE_STEPS", 10)
    standings = []
    one = trainer(digits, lambda: standings.append(one.standing()), epochs=3)
    reports = list(one.run())
    assert [(item.epoch, item.epochs) for item in standings] == [(1, 3), (2, 3), (3, 3)]
    assert all(0 < item.share < 1 and item.images_per_second > 0 for item in standings)
    assert reports[0].seconds_left > reports[-1].seconds_left == 0
    assert reports[-1].pace.endswith("images/s")
    assert reports[0].pace.endswith(" left")
    left = standings[0].seconds_left
    # a third of the first epoch's images are done: what is left is at the pace so far
    expected = (3 * one._steps - 10) * 64 / standings[0].images_per_second
    assert left == pytest.approx(expected)


def test_resized_crops_reach_the_model(digits):
    config = SpaceConfig(model=MODEL, data=DigitsData(), base=BaseConfig(recipe=Recipe(augment="resized_crop")))
    assert config.base.recipe.augment == "resized_crop"
    one = trainer(digits, augment="resized_crop", epochs=1)
    (report,) = one.run()
    assert report.loss < 2.4
    assert finished(one) != finished(trainer(digits, augment="crop_flip", epochs=1))
