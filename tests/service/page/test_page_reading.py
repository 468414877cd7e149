"""Looking at searches, walking a front, choosing a model, filtering trials: what a reader does on the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from autoprune.analysis.metrics import format_value
from autoprune.store import new_owner, open_store
from autoprune.store.points import PresetPoint, save_point
from autoprune.types import Candidate, Trial, TrialState

Site = Callable[..., str]
VIEWS = [
    "#/",
    "#/search/s/front?trial=1",
    "#/search/s/progress",
    "#/search/s/widths",
    "#/search/s/trials",
    "#/search/s/config",
    "#/compare",
    "#/launch",
]


def test_a_search_is_listed_and_opened(site: Site, tab: Any) -> None:
    tab.goto(site())
    row = tab.locator("li[data-search=s]")
    row.get_by_text("90.00 %", exact=True).wait_for()
    assert "6 failed" not in row.inner_text()
    assert "1 failed" in row.inner_text()
    assert row.locator("svg.spark path.line").count() == 1
    row.get_by_role("link", name="s").click()
    tab.get_by_role("heading", name="s", level=1).wait_for()
    tab.locator("path.members.series0").wait_for(state="attached")
    legend = tab.locator(".legend").inner_text()
    for text in ("Pareto front (3 trials)", "2 other trials", "uniform widths", "baseline (unpruned)"):
        assert text in legend
    assert tab.title() == "s: front · autoprune"
    assert tab.trouble == []


def test_sliders_select_the_best_model_or_say_what_is_missed(site: Site, tab: Any) -> None:
    tab.goto(site() + "static/index.html#/search/s/front")
    choice = tab.locator(".choice")
    choice.get_by_text("Trial 0", exact=True).wait_for()
    macs = tab.get_by_label("MACs at most")
    macs.fill("120")  # of 200 steps: 60 % of the baseline
    choice.get_by_text("Trial 1", exact=True).wait_for()
    assert "80.00 %" in choice.inner_text()
    assert macs.get_attribute("aria-valuetext") == "60 (60 %)"
    assert tab.locator("circle.chosen").count() > 0
    assert "max_macs=0.6" in tab.url
    macs.fill("20")
    choice.get_by_text("No model meets these budgets").wait_for()
    assert "Nearest is trial 5" in choice.inner_text()
    assert "it has 40, wanted at most 10" in choice.inner_text()
    tab.reload()
    tab.locator(".choice").get_by_text("No model meets these budgets").wait_for()
    assert tab.trouble == []


def test_the_front_is_walked_by_keys(site: Site, tab: Any) -> None:
    tab.goto(site() + "static/index.html#/search/s/front")
    chart = tab.locator("section[aria-label='Pareto front'] svg.chart")
    tab.locator("path.members.series0").wait_for(state="attached")
    chart.focus()
    tab.keyboard.press("ArrowRight")
    tab.get_by_text("trial 5", exact=True).wait_for()
    tab.locator("#announcer", has_text="trial 5").wait_for(state="attached")
    tab.keyboard.press("ArrowRight")
    tab.get_by_text("trial 1", exact=True).wait_for()
    tab.keyboard.press("Enter")
    card = tab.get_by_role("region", name="Trial 1")
    card.get_by_text("7 / 8").wait_for()
    assert "16 / 16" in card.inner_text()
    assert tab.evaluate("document.activeElement.textContent") == "Trial 1"
    assert tab.locator("circle.opened").count() == 1
    assert "trial=1" in tab.url


def test_hovering_shows_a_trial_and_a_click_opens_it(site: Site, tab: Any) -> None:
    tab.goto(site() + "static/index.html#/search/s/front")
    tab.locator("path.members.series0").wait_for(state="attached")
    path = tab.locator("path.others.series0").get_attribute("d")
    x, y = (float(part) for part in path.split("h0")[0].removeprefix("M").split())
    box = tab.locator("section[aria-label='Pareto front'] svg.chart").bounding_box()
    tab.mouse.move(box["x"] + x, box["y"] + y)
    tab.locator(".tip").get_by_text("trial 6").wait_for()
    assert tab.locator(".tip .bars .count").all_inner_texts() == ["2", "16"]
    tab.mouse.click(box["x"] + x, box["y"] + y)
    tab.get_by_role("region", name="Trial 6").wait_for()


def copied(store: str, name: str) -> None:
    """The search ``s`` again, under another name."""
    with open_store(store) as opened:
        old = opened.search("s")
        digests = {"digest": "other", "evaluation_digest": old.evaluation_digest}
        opened.create_search(name, config=old.config, baseline=old.baseline, channels=old.channels, **digests)
        lease = opened.claim(name, owner=new_owner(), ttl_seconds=60)
        for trial in opened.trials("s"):
            opened.start_trial(lease, Trial(trial.number, trial.candidate, TrialState.RUNNING))
            opened.finish_trial(lease, trial, {})
        opened.release(lease)


def test_random_search_stands_beside_it_on_any_axes(site: Site, store: str, tab: Any) -> None:
    copied(store, "by-chance")
    tab.goto(site() + "static/index.html#/search/s/front")
    marks, ticks = tab.locator("svg.chart path.mark"), tab.locator("svg.chart .axes text")
    marks.wait_for(state="attached")
    assert tab.get_by_label("by-chance").is_checked()
    shown = marks.get_attribute("d").count("Z")
    tab.get_by_label("Cost", exact=True).select_option("params")
    ticks.filter(has_text="parameters").first.wait_for()
    marks.wait_for(state="attached")
    assert marks.get_attribute("d").count("Z") == shown == 4
    assert "60" not in ticks.all_inner_texts()  # as MACs would be
    tab.get_by_label("logarithmic cost").check()
    assert marks.get_attribute("d").count("Z") == shown
    tab.get_by_label("by-chance").uncheck()
    marks.wait_for(state="detached")
    assert "x=params" in tab.url
    tab.goto(tab.url.split("#")[0] + "#/compare")
    tab.locator("path.members.series1").wait_for(state="attached")
    assert tab.get_by_label("Cost", exact=True).input_value() == "macs min"
    assert tab.locator("tbody tr").count() == 2
    assert tab.trouble == []


def test_metrics_of_ones_own_have_their_own_direction(site: Site, store: str, tab: Any) -> None:
    config = {"objectives": ["psnr max", "energy min"]}
    with open_store(store) as opened:
        baseline = {"psnr": 30.0, "energy": 9.0}
        opened.create_search("own", config=config, digest="o", evaluation_digest="o", baseline=baseline)
        lease = opened.claim("own", owner=new_owner(), ttl_seconds=60)
        for number, (psnr, energy) in enumerate([(29.0, 8.0), (27.5, 5.0), (20.0, 6.0)]):
            started = Trial(number, Candidate({"a": 1 + number}), TrialState.RUNNING)
            opened.start_trial(lease, started)
            metrics = {"psnr": psnr, "energy": energy}
            opened.finish_trial(lease, Trial(number, started.candidate, TrialState.COMPLETE, metrics), {})
        opened.release(lease)
    tab.goto(site() + "static/index.html#/search/own/front")
    tab.get_by_text("Pareto front (2 trials)").wait_for()
    assert tab.get_by_label("Quality", exact=True).input_value() == "psnr max"
    assert tab.get_by_label("Cost", exact=True).input_value() == "energy min"
    tab.locator(".choice").get_by_text("Trial 0", exact=True).wait_for()
    tab.get_by_label("energy at most").fill("140")
    tab.locator(".choice").get_by_text("Trial 1", exact=True).wait_for()
    tab.get_by_role("link", name="Convergence").click()
    tab.get_by_text("of today's hypervolume").wait_for()
    assert tab.trouble == []


def test_models_of_procedures_stand_beside_the_front(site: Site, store: str, tab: Any) -> None:
    with open_store(store) as opened:
        save_point(opened, "s", PresetPoint("d", "li2016", {}, {"a": 4, "b": 8}, {"top1": 0.75, "macs": 80.0}))
    tab.goto(site() + "static/index.html#/search/s/front")
    tab.locator("svg.chart text", has_text="li2016").wait_for()
    assert "papers' procedures" in tab.locator(".legend").inner_text()
    box = tab.locator("svg.chart path.triangle").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    tab.mouse.move(x, y)
    tab.locator(".tip b", has_text="li2016").wait_for()
    tab.mouse.click(x, y)
    assert tab.locator(".candidate").count() == 0
    assert tab.trouble == []


def test_trials_are_filtered_sorted_and_failures_have_reasons(site: Site, tab: Any) -> None:
    tab.goto(site() + "static/index.html#/search/s/trials")
    rows = tab.locator("tbody tr")
    tab.get_by_text("Trials 1 to 7 of 7 trials.").wait_for()
    tab.get_by_role("button", name="top1", exact=True).click()
    tab.locator("th[aria-sort=descending]", has_text="top1").wait_for()
    assert rows.first.locator("td").first.inner_text() == "0"
    tab.get_by_label("within").fill("macs <= 0.5 * baseline; top1 >= 0.65")
    tab.get_by_role("button", name="Apply").click()
    tab.get_by_text("Trials 1 to 1 of 1 trial.").wait_for()
    tab.get_by_label("within").fill("macs <= ")
    tab.get_by_role("button", name="Apply").click()
    tab.get_by_role("alert").wait_for()
    tab.goto(tab.url.split("#")[0] + "#/search/s/trials?state=failed")
    tab.get_by_text("<script>alert(1)</script>").wait_for()
    assert rows.count() == 1
    assert tab.trouble == []


@pytest.mark.parametrize("events", [True, False], ids=["events", "polling"])
def test_a_finished_trial_appears_without_a_reload(site: Site, store: str, tab: Any, events: bool) -> None:
    if not events:
        tab.route("**/api/v1/events*", lambda route: route.abort())
    tab.goto(site() + "static/index.html#/search/s/front")
    tab.get_by_text("Pareto front (3 trials)").wait_for()
    with open_store(store) as opened:
        lease = opened.claim("s", owner=new_owner(), ttl_seconds=60)
        trial = Trial(7, Candidate({"a": 1, "b": 3}), TrialState.RUNNING, started_at=300.0)
        opened.start_trial(lease, trial)
        metrics = {"top1": 0.85, "macs": 20.0, "params": 2.0, "loss": 0.4}
        opened.finish_trial(lease, Trial(7, trial.candidate, TrialState.COMPLETE, metrics, finished_at=301.0), {})
        opened.release(lease)
    tab.get_by_text("Pareto front (2 trials)").wait_for()
    tab.locator("#announcer", has_text="trial 7 is on the front").wait_for(state="attached")
    if not events:
        tab.route("**/api/**", lambda route: route.abort())
        tab.get_by_text("no connection").wait_for()
        assert tab.get_by_text("Pareto front (2 trials)").is_visible()
        tab.unroute("**/api/**")
        tab.get_by_text("no connection").wait_for(state="detached")


def test_every_view_fits_a_phone_and_asks_nobody_else(site: Site, tab: Any) -> None:
    address = site()
    tab.set_viewport_size({"width": 390, "height": 844})
    tab.emulate_media(color_scheme="dark")
    unnamed = "[...document.querySelectorAll('input, select, textarea, button, svg[role]')].filter((each) =>"
    unnamed += " !(each.labels?.length || each.ariaLabel || each.textContent.trim())).map((each) => each.outerHTML)"
    tab.goto(address)
    for view in VIEWS:
        tab.goto(f"{address}static/index.html{view}")
        tab.locator("h1").wait_for()
        tab.wait_for_timeout(300)
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390, view
        assert tab.evaluate(unnamed) == [], view
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 19, 24)"
    assert {urlsplit(url).netloc for url in tab.asked} == {urlsplit(address).netloc}
    assert tab.trouble == []


def test_numbers_are_printed_as_everywhere(site: Site, tab: Any) -> None:
    tab.goto(site())
    values = [0, 0.48, 0.91237, 1, 9.9951, 12.34567, 999.4, 999.6, 136_842, 999_950, 2.5e7, 1.5e12, 1e-5, 123456.7]
    names = ["top1", "macs", "latency_ms", "weight_bytes", "energy", "x_ms"]
    script = "async ([names, values]) => { const { value } = await import('/static/js/format.js');"
    script += " return names.map((name) => values.map((each) => value(name, each))); }"
    assert tab.evaluate(script, [names, values]) == [[format_value(name, each) for each in values] for name in names]
