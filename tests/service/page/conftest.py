"""The web page in a real browser: a headless Chromium, and servers on free ports for it to ask."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from autoprune.service.app import create_app
from autoprune.service.run import Server, listen
from autoprune.service.settings import Limits, Settings

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
STARTED_SECONDS = 60.0


def chromium_path(own: str) -> str | None:
    """$AUTOPRUNE_CHROMIUM, a Chromium of the system, or one that playwright installed (``own``)."""
    found = os.environ.get("AUTOPRUNE_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    return found or (own if Path(own).exists() else None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        path = chromium_path(driver.chromium.executable_path)
        if path is None:
            pytest.skip("there is no Chromium: apt-get install chromium, or set AUTOPRUNE_CHROMIUM")
        # the sandbox cannot start for root, and every page here is our own
        started = driver.chromium.launch(executable_path=path, args=["--no-sandbox"], timeout=1000 * STARTED_SECONDS)
        yield started
        started.close()


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:
    """A page in a context of its own that collects what must not happen."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.set_default_timeout(60_000)
    page = context.new_page()
    page.trouble = []
    page.asked = []
    page.on("pageerror", lambda error: page.trouble.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (page.trouble.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("console", lambda said: page.trouble.append(said.text) if "Content Security" in said.text else None)
    page.on("request", lambda request: page.asked.append(request.url))
    yield page
    context.close()


@pytest.fixture
def site(store: str, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Serve the store (or another) on a free port; returns the address of the page."""
    running: list[tuple[Server, threading.Thread]] = []

    def start(url: str = store, **settings: Any) -> str:
        listening = listen("127.0.0.1", 0)
        chosen: dict[str, Any] = {
            "store": url,
            "data_root": tmp_path / "data",
            "output": tmp_path / "out",
            "parallel": 0,
        }
        chosen["limits"] = Limits(launches_per_minute=10_000)
        app = create_app(Settings(**{**chosen, **settings}))
        server = Server(app, timeout_graceful_shutdown=2)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        running.append((server, thread))
        return f"http://127.0.0.1:{listening.getsockname()[1]}/"

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(timeout=10)
