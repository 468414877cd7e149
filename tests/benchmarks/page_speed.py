"""How long the web page of ``autoprune serve`` takes to show a front, beside plotly drawing the same points.

    python tests/benchmarks/page_speed.py [--trials 1000 100000] [--visits 5] [--out FILE]

Each visit is a new browser context (nothing cached) of one headless Chromium, the arms in turn. ``drawn_ms`` is the
clock from the navigation to the drawn front, server and browser on the same cores; ``browser_ms`` is the processor time
of the page's main thread until then, which a busy machine stretches less. ``slider_ms``: from a moved budget to the
model that the server selects. The plotly arm loads the points as a file and the installed package's script.
"""

from __future__ import annotations

import argparse
import gzip
import http.server
import json
import os
import shutil
import statistics
import tempfile
import threading
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from autoprune.bench.big_store import NAME, build
from autoprune.service.app import create_app
from autoprune.service.run import Server, listen
from autoprune.service.settings import Settings

STATIC = Path(__file__).resolve().parents[2] / "autoprune" / "service" / "static"
PLOTLY = """\
fetch("points.json").then((answer) => answer.json()).then(async (points) => {
  const axis = (title) => ({ title: { text: title } });
  const dots = { mode: "markers", type: "scatter", marker: { size: 5, color: "#9aa4b0", opacity: 0.5 } };
  const line = { mode: "lines+markers", type: "scatter", line: { shape: "hv" }, marker: { size: 8 } };
  await Plotly.newPlot("chart", [{ ...dots, ...points.others }, { ...line, ...points.front }],
    { xaxis: axis("MACs"), yaxis: axis("top1") });
  document.getElementById("chart").dataset.drawn = "yes";
});
"""


def serve(store: Path, folder: Path) -> str:
    listening = listen("127.0.0.1", 0)
    app = create_app(Settings(store=f"sqlite:///{store}", data_root=folder, output=folder, parallel=0))
    server = Server(app, log_level="error")
    threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True).start()
    return f"http://127.0.0.1:{listening.getsockname()[1]}"


def plotly_page(folder: Path, front: dict[str, Any]) -> str:
    """A page with the same points, the script of the installed package, and nothing else."""
    x, y = (axis["metric"] for axis in front["axes"])
    members = [each["metrics"] for each in front["front"]]
    others = front["others"]["values"]
    points = {"front": {"x": [each[x] for each in members], "y": [each[y] for each in members]}}
    points["others"] = {"x": others[0], "y": others[1]}
    spec = find_spec("plotly")
    assert spec is not None
    assert spec.submodule_search_locations
    shutil.copy(Path(spec.submodule_search_locations[0]) / "package_data" / "plotly.min.js", folder)
    (folder / "points.json").write_text(json.dumps(points))
    (folder / "draw.js").write_text(PLOTLY)
    scripts = '<script src="plotly.min.js"></script><script src="draw.js"></script>'
    (folder / "index.html").write_text(f'<!doctype html><meta charset="utf-8"><div id="chart"></div>{scripts}')
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}/"


def visit(browser: Browser, address: str, drawn: str, *, slider: bool) -> dict[str, float]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(120_000)
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto(address, wait_until="commit")
    page.locator(drawn).wait_for(state="attached")
    found = {"drawn_ms": float(page.evaluate("performance.now()"))}
    metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    found["browser_ms"] = 1000 * metrics["TaskDuration"]
    found["elements"] = float(page.evaluate("document.querySelectorAll('*').length"))
    if slider:
        found["slider_ms"] = moved(page)
    context.close()
    return found


def moved(page: Page) -> float:
    page.locator(".choice .big").wait_for()
    before = page.locator(".choice .big").inner_text()
    script = "() => { const slider = document.getElementById('budget-macs'); window.began = performance.now();"
    page.evaluate(script + " slider.value = 60; slider.dispatchEvent(new Event('input')); }")
    page.locator(".choice .big").filter(has_not_text=before).wait_for()
    return float(page.evaluate("performance.now() - window.began"))


def shipped() -> dict[str, int]:
    """Bytes of the page's own files, plain and compressed one by one."""
    files = [path.read_bytes() for path in STATIC.rglob("*") if path.suffix in (".js", ".css", ".html")]
    return {"bytes": sum(map(len, files)), "gzipped": sum(len(gzip.compress(content)) for content in files)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[1000, 100_000])
    parser.add_argument("--visits", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    path = os.environ.get("AUTOPRUNE_CHROMIUM") or shutil.which("chromium")
    with tempfile.TemporaryDirectory() as name, sync_playwright() as driver:
        folder = Path(name)
        arms: dict[str, tuple[str, str, bool]] = {}
        for trials in options.trials:
            build(folder / f"{trials}.db", trials)
            site = serve(folder / f"{trials}.db", folder)
            arms[f"page, {trials:,} trials"] = (
                f"{site}/static/index.html#/search/{NAME}",
                "path.members.series0",
                True,
            )
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        front = browser.new_page().request.get(f"{site}/api/v1/searches/{NAME}/front?others=3000").json()
        (folder / "plotly").mkdir()
        points = len(front["front"]) + len(front["others"]["number"])
        arms[f"plotly, {points:,} points"] = (plotly_page(folder / "plotly", front), "#chart[data-drawn]", False)
        rows: dict[str, list[dict[str, float]]] = {arm: [] for arm in arms}
        for _ in range(options.visits):
            for arm, (address, drawn, slider) in arms.items():
                rows[arm].append(visit(browser, address, drawn, slider=slider))
        browser.close()
    content = {
        "load": os.getloadavg()[0],
        "shipped": shipped(),
        "arms": {arm: spread(row) for arm, row in rows.items()},
    }
    text = json.dumps(content, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


def spread(rows: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Median, least and greatest of each figure."""
    found = {}
    for key in rows[0]:
        values = [row[key] for row in rows]
        found[key] = {"median": round(statistics.median(values), 1), "min": round(min(values), 1)}
        found[key]["max"] = round(max(values), 1)
    return found


if __name__ == "__main__":
    main()
