"""From a configuration to a model on this disk, in the browser alone."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import autoprune
from autoprune.store import open_store

CONFIG = """\
name: launched
space:
  model: {kind: builtin, name: resnet8}
  data: {kind: digits}
  base: {recipe: {epochs: 3, batch_size: 64, lr: 0.1}}
  rules: [{multiple: 2, floor: 0.25}]
controller: {kind: regression}
evaluator: {calibration_images: 100, validation_images: 287}
executor: {kind: serial}
limits: {trials: 16}
"""


def test_mistakes_are_shown_at_their_lines(site: Callable[..., str], tab: Any) -> None:
    tab.goto(site() + "static/index.html#/launch")
    area = tab.get_by_label("Configuration (YAML)")
    tab.get_by_text("digits-quickstart").first.wait_for(state="attached")
    assert area.input_value().startswith("#")
    area.fill(CONFIG.replace("regression", "regresion").replace("trials: 16", "trials: many"))
    tab.get_by_text("2 problems").wait_for()
    assert tab.locator(".numbers .wrong").all_inner_texts() == ["7", "10"]
    assert "regression" in tab.locator(".panel .error").inner_text()
    assert tab.get_by_role("button", name="Launch", exact=True).is_disabled()
    tab.get_by_role("button", name="line 10").click()
    assert tab.evaluate("document.activeElement.id") == "yaml"
    area.fill(CONFIG)
    tab.get_by_text("The configuration is valid.").wait_for()
    assert tab.locator(".numbers .wrong").count() == 0
    assert tab.trouble == []


def test_a_launch_without_a_search_is_listed_stopped_and_run_again(site: Callable[..., str], tab: Any) -> None:
    tab.goto(site() + "static/index.html#/launch")  # nobody works off the queue
    tab.get_by_label("Configuration (YAML)").fill(CONFIG)
    tab.get_by_role("button", name="Launch", exact=True).click()
    tab.get_by_text("Number 1 in the queue.").wait_for()
    tab.get_by_role("link", name="Searches").first.click()
    waiting = tab.get_by_role("list", name="Launches without a search")
    assert waiting.get_by_role("listitem").inner_text() == "launched\nnumber 1 in the queue\nqueued"
    waiting.get_by_role("link", name="launched").click()
    tab.get_by_role("button", name="Stop").click()
    tab.get_by_text("stopped before it began.").wait_for()
    tab.get_by_role("button", name="Run it again").click()
    tab.get_by_text("Number 1 in the queue.").wait_for()
    assert tab.trouble == []


@pytest.mark.timeout(600)
def test_a_search_is_launched_watched_chosen_and_taken_home(
    site: Callable[..., str], tab: Any, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOPRUNE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("AUTOPRUNE_STORE", raising=False)
    tab.set_default_timeout(240_000)
    tab.goto(site(parallel=1) + "static/index.html#/launch")
    tab.evaluate("() => { window.loadedOnce = true; }")
    tab.get_by_label("Configuration (YAML)").fill(CONFIG)
    tab.get_by_text("The configuration is valid.").wait_for()
    tab.get_by_role("button", name="Launch", exact=True).click()
    tab.get_by_role("heading", name="launched", level=1).wait_for()
    tab.locator("path.members.series0").wait_for(state="attached")
    tab.get_by_text("16 trials finished").wait_for()
    tab.get_by_label("MACs at most").fill("120")
    tab.get_by_text("macs ≤").wait_for(state="attached")
    tab.locator(".choice .big", has_text="Trial").wait_for()
    number = int(tab.locator(".choice .big").inner_text().removeprefix("Trial "))
    with tab.expect_download() as download:
        tab.locator(".choice").get_by_role("button", name="Download the model").click()
    download.value.save_as(tmp_path / "model.zip")
    assert tab.evaluate("window.loadedOnce") is True
    assert tab.trouble == []

    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        archive.extractall(tmp_path / "model")
    model = autoprune.load_model(tmp_path / "model")
    with open_store(store) as opened:
        trial = opened.trial("launched", number)
        assert trial.metrics["macs"] <= 0.6 * opened.baseline("launched")["macs"]
    assert sum(each.numel() for each in model.parameters()) == trial.metrics["params"]
