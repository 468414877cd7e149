"""The engine on a tiny network: rankings against direct evaluations, budgets, floors, zeroed filters, resuming."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from autoprune.config.recipes import Recipe
from autoprune.config.schema import RuleConfig
from autoprune.data.dataset import Dataset, Split
from autoprune.driver.observers import Silent
from autoprune.errors import ConfigError
from autoprune.models.checkpoint import state_digest
from autoprune.procedures import progress as progress_module
from autoprune.procedures import training as training_module
from autoprune.procedures.engine import Procedure
from autoprune.procedures.network import Standing
from autoprune.procedures.phases import Finetune, Layers, Length, Preset, Rounds, Scoring, ZeroedTraining
from autoprune.procedures.presets import PRESETS, preset
from autoprune.procedures.progress import Course
from autoprune.procedures.refitting import Refit
from autoprune.procedures.scoring import scored
from autoprune.procedures.setting import Setting
from autoprune.procedures.training import train_zeroed
from autoprune.pruning.slicing import slice_model
from autoprune.space.decoding import Decoder
from autoprune.space.space import SearchSpace
from autoprune.types import Constraint


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPRUNE_HOME", str(tmp_path / "home"))


def chain(norm: bool, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in ((1, 8), (8, 12), (12, 6)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), *([nn.BatchNorm2d(outputs)] if norm else []), activation()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 3)).eval()


def data(images: int = 96) -> Dataset:
    rng = np.random.default_rng(0)
    split = Split(rng.integers(0, 256, (images, 1, 6, 6), dtype=np.uint8), np.arange(images) % 3)
    return Dataset(split, split, 3, ("a", "b", "c"), (0.5,), (0.25,), read_test=lambda: split)


def setting(model: nn.Module, budget: float = 0.5, *, multiple: int = 1, **more: Any) -> Setting:
    space = SearchSpace.from_module(model, torch.zeros(1, 1, 6, 6), (RuleConfig(multiple=multiple),), check=False)
    dataset = data()
    return Setting(
        base=model,
        groups=space.groups,
        allowed={item.name: item.allowed for item in space.dimensions},
        cost=space.cost,
        budgets=Decoder(space, [Constraint("macs", "<=", budget, True)]).constraints,
        dataset=dataset,
        scored=dataset.search_val,
        calibration=dataset.train,
        batch_size=32,
        recipe=Recipe(epochs=2, batch_size=32, lr=0.01, augment="none", dtype="float32"),
        identity="test",
        **more,
    )


def run(name: str, given: Setting) -> Course:
    return Procedure(preset(name), given, Silent()).run()


# --- presets ---------------------------------------------------------------------------------------------------------


def test_jacobgils_first_ranking_is_the_formula() -> None:
    """Mean over images and positions of activation * gradient at each convolution, its size by the layer's l2 norm."""
    model = chain(norm=False)
    given = setting(model)
    (rounds, _) = preset("jacobgil").phases
    assert isinstance(rounds, Rounds)
    ours = scored(Standing.begin(model, given.groups), given.groups, rounds.scoring, given)

    (images, labels), maps, sums = next(iter(_whole(given))), {}, {}
    hooks = [
        layer.register_forward_hook(lambda _, __, out, name=name: maps.__setitem__(name, out))
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d)
    ]
    loss = F.cross_entropy(model(images), labels)
    for name, gradient in zip(maps, torch.autograd.grad(loss, list(maps.values())), strict=True):
        sums[name] = (maps[name] * gradient).mean(dim=(0, 2, 3)).abs().detach().numpy()
    for hook in hooks:
        hook.remove()

    assert ours.keys() == sums.keys()
    for name, direct in sums.items():
        np.testing.assert_allclose(ours[name], direct / np.sqrt((direct**2).sum()), rtol=1e-4, atol=1e-6)


def _whole(given: Setting) -> Any:
    split = given.dataset.train
    yield from Setting.batches(_with_batch(given, len(split)), split, given.base)


def _with_batch(given: Setting, size: int) -> Setting:
    return Setting(**{**given.__dict__, "batch_size": size})


@pytest.mark.parametrize("name", sorted(PRESETS))
@pytest.mark.parametrize("multiple", [1, 4])
def test_budgets_are_met_and_never_broken(name: str, multiple: int) -> None:
    given = setting(chain(norm=True), 0.45, multiple=multiple, factor=0.01)
    course = run(name, given)
    share = course.metrics["macs"] / given.cost.baseline["macs"]
    assert share <= 0.45
    for group, widths in given.allowed.items():
        assert course.standing.widths[group] in widths
    assert course.rows[-1].macs == course.metrics["macs"]
    again = slice_model(chain(norm=True), given.groups, course.standing.kept)
    assert {n: t.shape for n, t in again.state_dict().items()} == {
        n: t.shape for n, t in course.standing.module.state_dict().items()
    }


@pytest.mark.parametrize("name", ["li2016", "he2017"])
def test_a_budget_that_is_met_already_cuts_nothing(name: str) -> None:
    model = chain(norm=True)
    course = run(name, setting(model, 1.0, trains=False))
    assert course.standing.widths == {"0": 8, "3": 12, "6": 6}
    assert state_digest(course.standing.module.state_dict()) == state_digest(model.state_dict())
    assert len(course.rows) == 1


def test_a_round_of_one_channel_stops_at_the_first_network_within_the_budget() -> None:
    given = setting(chain(norm=True), 0.6, factor=0.01)
    course = run("molchanov2016", given)
    widths = course.standing.widths
    larger = [{**widths, name: width + 1} for name, width in widths.items()]
    costs = [given.cost.macs(np.array([[item[name] for name in given.cost.groups]]))[0] for item in larger]
    assert course.metrics["macs"] <= 0.6 * given.cost.baseline["macs"] < max(costs)


def test_the_penalty_counts_what_one_channel_less_saves() -> None:
    model = chain(norm=False)
    given = setting(model)
    standing = Standing.begin(model, given.groups)
    plain = scored(standing, given.groups, Scoring("l1", normaliser="l2"), given)
    charged = scored(standing, given.groups, Scoring("l1", normaliser="l2", penalty=1e3), given)
    pixels, saved = 36, {"0": 9 * (1 + 12), "2": 9 * (8 + 6), "4": 9 * 12}
    for name, weights in saved.items():
        macs = weights * pixels + (3 * 4 if name == "4" else 0)
        np.testing.assert_allclose(plain[name] - charged[name], 1e3 * macs / 1e6, rtol=1e-9)


def test_slimming_starts_at_new_weights_and_floors_hold() -> None:
    """All scales of one layer are far below the others': the percentile would empty it."""
    model = chain(norm=True)
    with torch.no_grad():
        model[1].weight.fill_(1e-6)
    course = run("slimming", setting(model, 0.5, factor=1e-3))
    assert course.standing.widths["0"] == 1


def test_zeroed_filters_are_a_fixed_share_and_their_cut_changes_nothing() -> None:
    model = chain(norm=True)
    given = setting(model, factor=0.02)
    (phase,) = preset("fpgm2019").phases
    assert isinstance(phase, ZeroedTraining)
    course = Course(Standing.begin(model, given.groups))
    standing, keep = train_zeroed(course, phase, given, "key", Silent())
    counts = given.choices.uniform()
    images = torch.randn(5, 1, 6, 6)
    for layer, name in ((0, "0"), (3, "3"), (6, "6")):
        rows = standing.module[layer].weight.detach().flatten(1)
        assert int((~rows.any(dim=1)).sum()) == len(rows) - counts[name]
    with torch.no_grad():
        torch.testing.assert_close(standing.cut(keep).module.eval()(images), standing.module.eval()(images))


def test_without_fine_tuning_weights_are_the_base_models() -> None:
    model = chain(norm=False)
    course = run("li2016", setting(model, trains=False))
    again = slice_model(model, setting(model).groups, course.standing.kept)
    assert state_digest(again.state_dict()) == state_digest(course.standing.module.state_dict())
    assert [row.after for row in course.rows] == [None]
    norms = model[0].weight.detach().abs().flatten(1).sum(1).numpy()
    assert course.standing.kept["0"].tolist() == sorted(np.argsort(-norms)[: len(course.standing.kept["0"])])


@pytest.mark.parametrize("name", ["thinet2017", "he2017"])
def test_the_next_layer_comes_nearer_to_what_it_gave(name: str) -> None:
    """Up to constants, which the BatchNorm behind it takes out."""
    model = chain(norm=True)
    given = setting(model)
    phase = preset(name).phases[0]
    assert isinstance(phase, Layers)
    before, keep = Standing.begin(model, given.groups), {"0": np.arange(4)}
    plain, fitted = before.cut(keep), before.cut(keep)
    given.calibrate(plain.module)
    Refit(phase, given)(before, before.groups[0], fitted, keep)
    images = next(iter(given.batches(given.dataset.train, model)))[0]
    with torch.no_grad():
        wanted, *found = (each[:4](images) for each in (model, plain.module, fitted.module))
        errors = [float((each - wanted - (each - wanted).mean((0, 2, 3), keepdim=True)).norm()) for each in found]
    assert errors[1] < 0.95 * errors[0]


# --- resuming --------------------------------------------------------------------------------------------------------


class Stopping(Silent):
    """Ctrl-C at the so-manieth step of progress."""

    def __init__(self, after: int) -> None:
        self.left = after

    def advance(self, text: str = "", step: int = 1) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


def finished(course: Course) -> tuple[str, Mapping[str, list[int]], list[Any]]:
    kept = {name: units.tolist() for name, units in course.standing.kept.items()}
    return state_digest(course.standing.module.state_dict()), kept, course.rows


@pytest.mark.parametrize(("name", "factor"), [("jacobgil", 0.1), ("slimming", 0.02)])
def test_a_cut_run_goes_on_to_the_same_model(
    name: str, factor: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(progress_module, "_SAVE_SECONDS", 0.0)
    monkeypatch.setattr(training_module, "_SAVE_SECONDS", 0.0)
    given = setting(chain(norm=True), factor=factor)
    monkeypatch.setenv("AUTOPRUNE_HOME", str(tmp_path / "whole"))
    whole = finished(run(name, given))
    monkeypatch.setenv("AUTOPRUNE_HOME", str(tmp_path / "cut"))
    cuts = 0
    for after in (1, 1, 2, 3, 100):
        try:
            Procedure(preset(name), given, Stopping(after)).run()
        except KeyboardInterrupt:
            cuts += 1
    assert cuts >= 2
    assert finished(run(name, given)) == whole


def test_a_finished_run_is_not_run_again() -> None:
    given = setting(chain(norm=True))
    first = run("li2016", given)
    again = Procedure(preset("li2016"), given, Stopping(0)).run()
    assert finished(again) == finished(first)
    assert again.metrics == first.metrics


def test_another_seed_length_or_budget_is_another_run() -> None:
    model = chain(norm=True)
    digests = [
        Procedure(preset("li2016"), setting(model, budget, **more), Silent()).digest
        for budget, more in ((0.5, {}), (0.4, {}), (0.5, {"seed": 1}), (0.5, {"factor": 2.0}), (0.5, {"trains": False}))
    ]
    assert len(set(digests)) == 5


# --- lengths and what does not apply ---------------------------------------------------------------------------------


def test_lengths_below_an_epoch_are_updates_on_fewer_images() -> None:
    given = setting(chain(norm=False))
    whole, all_images = given.stage_recipe({}, Length(epochs=3), 0)
    assert (whole.epochs, len(all_images.train)) == (3, 96)
    part, few = given.stage_recipe({"lr": 1e-4, "batch_size": 16}, Length(updates=4), 1)
    assert (part.epochs, part.batch_size, part.lr, len(few.train)) == (1, 16, 1e-4, 64)
    assert few.train.digest != given.stage_recipe({"batch_size": 16}, Length(updates=4), 2)[1].train.digest


def test_the_users_settings_win() -> None:
    given = setting(chain(norm=False), overrides={"lr": 0.5})
    assert given.stage_recipe({"lr": 1e-3}, Length(epochs=1), 0)[0].lr == 0.5


def test_presets_that_cannot_apply_say_so_before_anything_is_trained() -> None:
    with pytest.raises(ConfigError, match="slimming reads BatchNorm's scales"):
        run("slimming", setting(chain(norm=False)))
    with pytest.raises(ConfigError, match=r"apoz2016 cannot prune this network.*'0'"):
        run("apoz2016", setting(chain(norm=True, activation=nn.GELU)))
    with pytest.raises(ConfigError, match="no preset 'li2017'") as error:
        preset("li2017")
    assert "li2016" in error.value.hint


def test_every_preset_names_paper_steps_and_deviations() -> None:
    for name, each in PRESETS.items():
        assert each.name == name
        assert min(map(len, (each.paper, each.steps, each.deviations))) > 30
        assert each.last_epochs > 0
        assert isinstance(each, Preset)
        assert isinstance(each.phases[-1], Finetune | ZeroedTraining)
