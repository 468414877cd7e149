"""A search of 100,000 trials on the page: all of the front, some of the rest, and few elements."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import autoprune
from autoprune.bench import big_store


@pytest.mark.slow
def test_a_hundred_thousand_trials_are_thinned_but_never_the_front(
    site: Callable[..., str], tab: Any, tmp_path: Path
) -> None:
    big_store.build(tmp_path / "big.db", 100_000)
    url = f"sqlite:///{tmp_path / 'big.db'}"
    members = len(autoprune.front(big_store.NAME, store=url).trials)
    page = site(url) + f"static/index.html#/search/{big_store.NAME}/"
    tab.goto(page + "front")
    tab.get_by_text(f"Pareto front ({members} trials)").wait_for()
    assert tab.locator("path.members.series0").get_attribute("d").count("h0") == members
    assert 1000 < tab.locator("path.others.series0").get_attribute("d").count("h0") <= 3100
    assert tab.locator("svg.chart *").count() < 200
    tab.get_by_label("MACs at most").fill("100")
    tab.locator(".legend").get_by_text("selected").wait_for()
    tab.goto(page + "trials?sort=-top1")
    tab.get_by_text("Trials 1 to 50 of 9").wait_for()
    tab.get_by_role("button", name="Next").click()
    tab.get_by_text("Trials 51 to 100 of 9").wait_for()
    tab.goto(page + "widths")
    tab.get_by_text("48 of its").wait_for()
    assert tab.locator(".heat tbody tr").count() == 12
    tab.set_viewport_size({"width": 390, "height": 844})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert tab.trouble == []
