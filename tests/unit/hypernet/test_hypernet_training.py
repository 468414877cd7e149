from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from autoprune.config.evaluation import HypernetRecipe, HypernetWeights
from autoprune.config.loading import load_search
from autoprune.config.schema import BaseConfig, BuiltinModel, DigitsData, RuleConfig, SpaceConfig
from autoprune.data import sources
from autoprune.data.dataset import Dataset
from autoprune.driver.assemble import prepare
from autoprune.driver.observers import Silent
from autoprune.errors import ConfigError, SearchAborted
from autoprune.hypernet import training
from autoprune.hypernet.training import Task, hypernet, hypernet_key, hypernet_recipe, untrained
from autoprune.models import registry
from autoprune.models.checkpoint import state_digest
from autoprune.space.space import SearchSpace
from autoprune.training import cached, loop
from autoprune.training.base import BaseModel
from autoprune.training.cache import TrainedCache
from autoprune.training.loop import EpochReport
from autoprune.types import Candidate


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUTOPRUNE_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "hypernet"


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return sources.load(DigitsData())


@pytest.fixture(scope="module")
def task(digits: Dataset) -> Task:
    """ResNet-8 of width 4 that starts at random weights; one epoch of 17 steps."""
    config = SpaceConfig(
        model=BuiltinModel(name="resnet8", args={"width": 4}),
        data=DigitsData(),
        base=BaseConfig(recipe={"epochs": 8, "batch_size": 64, "augment": "crop"}),
    )
    torch.manual_seed(0)
    module = registry.build(config.model, num_classes=10, in_channels=1).eval()
    space = SearchSpace.from_module(module, torch.zeros(1, 1, 8, 8), (RuleConfig(multiple=1, floor=0.25),))
    base = BaseModel(module, state_digest(module.state_dict()), trained=False, seconds=0.0)

    def draw(seed: int, step: int) -> Candidate:
        random = np.random.default_rng((seed, step))
        return Candidate({item.name: int(random.choice(item.allowed)) for item in space.dimensions})

    weights = HypernetWeights(kind="hypernet", hidden=4, init="random", recipe=HypernetRecipe(epochs=1))
    return Task(config, weights, space, digits, base, draw, space.uniform(0.7))


def changed(task: Task, recipe: dict[str, object] | None = None, **weights: object) -> Task:
    content = {**task.weights.model_dump(), **weights}
    content["recipe"] = {**content["recipe"], **(recipe or {})}
    return replace(task, weights=HypernetWeights.model_validate(content))


def test_training_learns_reports_and_is_cached(task: Task, home: Path) -> None:
    reports: list[EpochReport] = []
    more = changed(task, {"epochs": 6}, hidden=8)
    first = hypernet(more, on_epoch=reports.append)
    assert [report.epoch for report in reports] == list(range(1, 7))
    assert reports[-1].loss < reports[0].loss
    assert reports[-1].val_top1 > 0.3
    assert first.trained
    assert first.path == home / f"{hypernet_key(more)}.safetensors"
    again = hypernet(more, on_epoch=reports.append)
    assert not again.trained
    assert len(reports) == 6
    assert again.digest == first.digest


def test_the_paper_trains_for_a_quarter_of_the_schedule(task: Task) -> None:
    recipe = hypernet_recipe(task.config, HypernetWeights(kind="hypernet"))
    assert (recipe.epochs, recipe.batch_size, recipe.augment) == (2, 64, "crop")
    given = HypernetWeights(kind="hypernet", recipe=HypernetRecipe(epochs=5, lr=0.02))
    assert hypernet_recipe(task.config, given) == recipe.model_copy(update={"epochs": 5, "lr": 0.02})


def test_the_key_names_everything_that_decides_the_weights(task: Task) -> None:
    module = task.base.module
    narrower = SearchSpace.from_module(module, torch.zeros(1, 1, 8, 8), (RuleConfig(multiple=2),))
    from_base = changed(task, init="base")
    tasks = [
        task,
        changed(task, {"epochs": 2}),
        changed(task, {"seed": 1}),
        changed(task, hidden=5),
        changed(task, rank=1),
        from_base,
        replace(from_base, base=replace(task.base, digest="another")),
        replace(task, space=narrower),
        replace(task, dataset=replace(task.dataset, train=task.dataset.search_val)),
    ]
    assert len({hypernet_key(item) for item in tasks}) == len(tasks)
    assert hypernet_key(replace(task, base=replace(task.base, digest="another"))) == hypernet_key(task)


def test_a_start_from_the_base_is_the_base_with_its_best_channels_first(task: Task) -> None:
    network = untrained(changed(task, init="base"))
    images = torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(network.build(task.space.full())(images), task.base.module(images))
    start = network.network.conv1.weight.flatten(1).norm(dim=1)
    assert not torch.equal(start, task.base.module.conv1.weight.flatten(1).norm(dim=1))


def test_a_random_start_depends_on_the_seed_alone(task: Task) -> None:
    torch.manual_seed(5)
    one = state_digest(untrained(task).state_dict())
    torch.manual_seed(6)
    assert state_digest(untrained(task).state_dict()) == one
    assert state_digest(untrained(changed(task, {"seed": 1})).state_dict()) != one


class Cut(Exception):
    pass


@pytest.mark.parametrize("settings", [{}, {"rank": 1, "init": "base"}])
def test_a_training_cut_at_any_step_ends_with_the_same_weights(
    task: Task, home: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object]
) -> None:
    monkeypatch.setattr(loop, "_PAUSE_STEPS", 5)
    monkeypatch.setattr(cached, "_SAVE_SECONDS", 0.0)
    task = changed(task, {"epochs": 2}, **settings)
    whole = hypernet(task)
    whole.path.unlink()
    saves = 0
    original = TrainedCache.save_progress

    def save_and_cut(*args: object) -> None:
        nonlocal saves
        original(*args)
        saves += 1
        if saves in (2, 5):
            raise Cut

    monkeypatch.setattr(TrainedCache, "save_progress", save_and_cut)
    for _ in range(2):
        with pytest.raises(Cut):
            hypernet(task)
    resumed = hypernet(task)
    assert resumed.trained
    assert resumed.digest == whole.digest
    assert [path.suffix for path in home.iterdir()] == [".safetensors"]


SCRIPT = """
import sys
from autoprune.config.loading import load_search
from autoprune.driver.assemble import prepare
from autoprune.driver.observers import Silent
from autoprune.training import cached
cached._SAVE_SECONDS = 0.0
class Speaking(Silent):
    def phase(self, name, total=None): print(name, flush=True)
    def advance(self, text="", step=1): print("epoch", flush=True)
prepare(load_search(sys.argv[1]), Speaking())
"""
LAUNCH = """
name: killed
space:
  model: {kind: builtin, name: resnet8, args: {width: 4}}
  data: {kind: digits}
  base: {recipe: {epochs: 1}}
evaluator: {weights: {kind: hypernet, hidden: 4, recipe: {epochs: 5, batch_size: 64}}}
"""


def test_kill_9_and_the_same_command_end_as_if_nothing_had_happened(home: Path, tmp_path: Path) -> None:
    launch = tmp_path / "launch.yaml"
    launch.write_text(LAUNCH)
    command = [sys.executable, "-c", SCRIPT, str(launch)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    seen = 0
    for line in process.stdout:
        seen = seen + 1 if line.strip() == "epoch" else 0 if line.strip() == "hypernet" else seen
        if seen == 3:
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    assert [path.name.split(".", 1)[1] for path in home.iterdir() if not path.name.startswith(".")] == ["partial.pt"]
    resumed = prepare(load_search(str(launch)), Silent()).hypernet
    for path in home.iterdir():
        path.unlink()
    whole = prepare(load_search(str(launch)), Silent()).hypernet
    assert resumed is not None
    assert whole is not None
    assert resumed.trained
    assert resumed.digest == whole.digest


def test_a_flipped_byte_is_noticed_and_trained_over(task: Task) -> None:
    first = hypernet(task)
    content = bytearray(first.path.read_bytes())
    content[-100] ^= 1
    first.path.write_bytes(content)
    with pytest.warns(UserWarning, match=r"cached hypernetwork .*damaged: its SHA-256 does not match.*trained again"):
        again = hypernet(task)
    assert again.trained
    assert again.digest == first.digest


def test_divergence_says_which_setting_to_change(task: Task, home: Path) -> None:
    with pytest.raises(SearchAborted, match="diverged") as caught:
        hypernet(changed(task, {"lr": 1e18, "warmup": 0.0}))
    assert "evaluator.weights.recipe.lr (now 1e+18" in caught.value.hint
    assert not list(home.glob("*.safetensors"))


def test_a_checkpoint_is_read_whatever_its_hidden_and_rank(task: Task, tmp_path: Path) -> None:
    trained = hypernet(changed(task, rank=2))
    moved = trained.path.rename(tmp_path / "moved.safetensors")
    found = hypernet(replace(task, weights=HypernetWeights(kind="hypernet", checkpoint=str(moved))))
    assert not found.trained
    assert found.digest == trained.digest


@pytest.mark.parametrize("kind", ["missing", "text", "cut", "base", "groups", "layers"])
def test_checkpoints_that_do_not_fit(task: Task, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "given.safetensors"
    expected = {
        "missing": "does not exist",
        "text": "is damaged, or no hypernetwork",
        "cut": "is damaged, or no hypernetwork",
        "base": "is no hypernetwork",
        "groups": r"another space: for group 'conv1' this space has 4 channels, the file has 8 channels",
        "layers": "does not fit the model",
    }[kind]
    if kind == "text":
        path.write_text("no weights")
    elif kind != "missing":
        cache = TrainedCache("elsewhere", "hypernetwork")
        groups = {group.name: group.channels for group in task.space.groups}
        record = {"base": {}, "groups": {"groups": {**groups, "conv1": 8}}}.get(kind, {"groups": groups})
        cache.save("given", untrained(task).generators, record)
        cache.path("given").rename(path)
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ConfigError, match=expected):
        hypernet(replace(task, weights=HypernetWeights(kind="hypernet", checkpoint=str(path))))


def test_a_group_that_only_the_file_has_is_named(task: Task) -> None:
    assert training._difference({"a": 1, "b": 2}, {"a": 1}) == (
        "for group 'b' this space has no channels, the file has 2 channels"
    )
