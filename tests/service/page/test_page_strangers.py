"""Names that try to script the page, tokens, and servers that go away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from autoprune.service.tokens import load_tokens
from autoprune.store import new_owner, open_store
from autoprune.types import Candidate, SearchState, Trial, TrialState

Site = Callable[..., str]

CALL = "window.pwned=1"
PAYLOADS = [
    f"<script>{CALL}</script>",
    f"<img src=x onerror={CALL}>",
    f"<svg onload={CALL}>",
    f"<svg><script>{CALL}</script></svg>",
    f"<iframe srcdoc='<script>parent.{CALL}</script>'>",
    f"<body onload={CALL}>",
    f"<details open ontoggle={CALL}>",
    f"<input autofocus onfocus={CALL}>",
    f"<a href=javascript:{CALL}>x</a>",
    f"<math><mtext><img src=x onerror={CALL}></mtext></math>",
    f'"><img src=x onerror={CALL}>',
    f"'><img src=x onerror={CALL}>",
    f"`><img src=x onerror={CALL}>",
    f"javascript:{CALL}",
    f"</title><script>{CALL}</script>",
    f"</textarea><script>{CALL}</script>",
    f"</style><script>{CALL}</script>",
    f"--><script>{CALL}</script>",
    f"]]><script>{CALL}</script>",
    f"{{{{constructor.constructor('{CALL}')()}}}}",
    f"${{{CALL}}}",
    f"#{{{CALL}}}",
    f"<template><script>{CALL}</script></template>",
    f"<object data=javascript:{CALL}>",
    f"<embed src=javascript:{CALL}>",
    f"<form action=javascript:{CALL}><button>",
    f"<marquee onstart={CALL}>",
    f"<video><source onerror={CALL}>",
    f"<audio src onerror={CALL}>",
    f"<link rel=stylesheet href=javascript:{CALL}>",
    f"<meta http-equiv=refresh content='0;url=javascript:{CALL}'>",
    f"<base href=javascript:{CALL}//>",
    f"<style>@import 'javascript:{CALL}'</style>",
    f"<div style=background:url(javascript:{CALL})>",
    f"<x onclick={CALL} autofocus tabindex=1>",
    f"\\u003cimg src=x onerror={CALL}\\u003e",
    f"&lt;img src=x onerror={CALL}&gt;",
    f"&#60;img src=x onerror={CALL}&#62;",
    f"%3Cimg src=x onerror={CALL}%3E",
    f"<<script>{CALL}//<</script>",
    f"<scr<script>ipt>{CALL}</script>",
    f"<IMG SRC=x OnErRoR={CALL}>",
    f"<img/src=x/onerror={CALL}>",
    f"<img src=x\tonerror={CALL}>",
    f"<img src=x\nonerror={CALL}>",
    f"\x00<script>{CALL}</script>",
    f"\u2028<script>{CALL}</script>",
    f"\u202e<script>{CALL}</script>",
    "__proto__",
    "constructor",
]


@pytest.fixture
def nasty(tmp_path: Path) -> str:
    """A search whose every text tries to run."""
    url = f"sqlite:///{tmp_path / 'nasty.db'}"
    config = {"objectives": ["top1 max", "macs min"], "controller": {"kind": PAYLOADS[1]}, "constraints": PAYLOADS[:3]}
    baseline = {"top1": 0.9, "macs": 100.0, "params": 10.0, PAYLOADS[1]: 1.0}
    with open_store(url) as opened:
        for name in ("nasty", PAYLOADS[1]):
            channels = dict.fromkeys(PAYLOADS, 8)
            opened.create_search(
                name,
                config=config,
                digest=PAYLOADS[0],
                evaluation_digest=PAYLOADS[1],
                baseline=baseline,
                channels=channels,
            )
        lease = opened.claim("nasty", owner=new_owner(), ttl_seconds=60)
        for number, text in enumerate(PAYLOADS):
            widths = dict.fromkeys(PAYLOADS, 1 + number % 8)
            trial = Trial(number, Candidate(widths), TrialState.RUNNING, note={text: text}, started_at=1.0)
            state = TrialState.FAILED if number % 3 == 2 else TrialState.COMPLETE
            metrics = {"top1": 0.5 + number / 200, "macs": 20.0 + number, "params": 5.0, PAYLOADS[1]: 1.0}
            opened.start_trial(lease, trial)
            done = Trial(number, trial.candidate, state, {} if number % 3 == 2 else metrics, text, note=trial.note)
            opened.finish_trial(lease, done, {})
        opened.set_search_state("nasty", SearchState.COMPLETE, lease=lease)
        opened.release(lease)
    return url


def test_no_name_runs(site: Site, tab: Any, nasty: str) -> None:
    page = site(nasty) + "static/index.html"
    views = ["front?trial=1", "widths", "trials?state=failed", "progress", "log", "config"]
    hashes = [
        "#/",
        *(f"#/search/nasty/{view}" for view in views),
        "#/compare",
        f"#/search/{PAYLOADS[1]}",
        f"#/{PAYLOADS[0]}",
    ]
    for address in hashes:
        tab.goto("about:blank")
        tab.goto(page + address)
        tab.locator("h1").wait_for()
        tab.wait_for_timeout(250)
        assert tab.evaluate("'pwned' in window") is False, address
        assert tab.locator("img").count() == 1, address  # the page's own
        assert tab.locator("main script, iframe, object, embed, base").count() == 0, address
    tab.goto(page + "#/search/nasty/trials?state=failed")
    tab.get_by_text(PAYLOADS[2], exact=True).first.wait_for()
    assert tab.trouble == []


def test_the_page_forbids_what_is_not_its_own(site: Site) -> None:
    with urlopen(site()) as response:
        policy = response.headers["content-security-policy"]
    assert "unsafe" not in policy
    for rule in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'"):
        assert rule in policy


def test_a_token_is_asked_for_and_kept_in_the_tab(site: Site, tab: Any, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("read reading-token-of-this-test\nlaunch launching-token-of-this-test\n")
    file.chmod(0o600)
    tab.goto(site(tokens=load_tokens(file)))
    dialog = tab.get_by_role("dialog", name="This server asks for a token")
    dialog.get_by_label("Token").fill("a-wrong-token-of-this-test")
    dialog.get_by_role("button", name="Use it").click()
    dialog.get_by_label("Token").fill("reading-token-of-this-test")
    dialog.get_by_role("button", name="Use it").click()
    tab.get_by_role("link", name="s", exact=True).click()
    tab.locator("path.members.series0").wait_for(state="attached")
    tab.reload()
    tab.locator("path.members.series0").wait_for(state="attached")
    assert not dialog.is_visible()
    assert not any("token-of-this-test" in url for url in [*tab.asked, tab.url])
    assert tab.evaluate("Object.keys(localStorage).length + document.cookie.length") == 0
    tab.get_by_role("button", name="Delete").click()
    tab.get_by_label("Write s to confirm").fill("s")
    tab.get_by_role("dialog", name="Delete s").get_by_role("button", name="Delete").click()
    dialog.get_by_text("this token allows reading only").wait_for()


def test_what_cannot_be_shown_says_why(site: Site, tab: Any) -> None:
    page = site() + "static/index.html"
    for address, text in (
        ("#/search/other", "no search"),
        ("#/search/s/nowhere", "there is no tab"),
        ("#/nowhere", "there is no page"),
        ("#/search/%ZZ", "not understood"),
        ("#/launched/99", "99"),
    ):
        tab.goto("about:blank")
        tab.goto(page + address)
        tab.get_by_role("alert").filter(has_text=text).wait_for()
    assert tab.trouble == []


def test_an_empty_store_says_how_to_launch(site: Site, tab: Any, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'empty.db'}"
    open_store(url).close()
    page = site(url)
    tab.goto(page)
    tab.get_by_text("autoprune search launch/quickstart.yaml").wait_for()
    tab.goto(page + "static/index.html#/compare")
    tab.get_by_text("There is no search with a finished trial").wait_for()
    assert tab.trouble == []
