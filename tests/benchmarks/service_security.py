"""Attacks on a server of ``autoprune serve``: the cases S1 to S15, each with what it found, as JSON.

    python tests/benchmarks/service_security.py OUT.json [--cases 5000] [--only S3,S9]

The server runs in a process of its own (``service_security_server.py``) over a small store; S4 needs schemathesis.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.benchmarks import service_security_corpora as corpora  # noqa: E402
from tests.service.conftest import fill  # noqa: E402

READ, LAUNCH, OLD = "r" * 40, "l" * 40, "o" * 40
CANARY = "canary-that-nobody-may-read"
SPACE = {"model": {"kind": "builtin", "name": "resnet8"}, "data": {"kind": "digits"}}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


class Server:
    """A process, and a client of it."""

    def __init__(self, folder: Path, *, tokens: bool = False) -> None:
        self.folder = folder
        (folder / "data").mkdir(parents=True)
        (folder / "secret.txt").write_text(CANARY)
        (folder / "data" / "link").symlink_to(folder / "secret.txt")
        self.store = f"sqlite:///{folder / 'a.db'}"
        for name in ("s", "other"):
            fill(self.store, name)
        files = [folder / name for name in ("port", "connections", "tokens")]
        files[2].write_text(f"read {READ}\nlaunch {LAUNCH}\nlaunch {OLD} until 2020-01-01\n")
        files[2].chmod(0o600)
        command = [sys.executable, str(Path(__file__).with_name("service_security_server.py")), self.store]
        command += [str(folder / "data"), str(files[0]), str(files[1]), *([str(files[2])] if tokens else [])]
        self.log = folder / "server.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(ROOT)}
            )
        self.url = self._wait(files[0])
        self.http = httpx.Client(base_url=f"{self.url}/api/v1", timeout=120)

    def _wait(self, port: Path) -> str:
        for _ in range(1200):
            with contextlib.suppress(OSError, httpx.HTTPError, ValueError):
                url = f"http://127.0.0.1:{int(port.read_text())}"
                httpx.get(f"{url}/api/v1/health", timeout=5)
                return url
            time.sleep(0.1)
        raise SystemExit(f"the server did not start: {self.log.read_text()}")

    def rss_mb(self, what: str = "VmRSS") -> float:
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{what}:\s+(\d+)", text)[1]) / 1024  # type: ignore[index]

    def close(self) -> None:
        self.http.close()
        self.process.terminate()
        self.process.wait(30)


@contextlib.contextmanager
def server(*, tokens: bool = False) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        made = Server(Path(folder) / "work", tokens=tokens)
        try:
            yield made
        finally:
            made.close()


def launch(made: Server, content: Any, media: str = "application/json") -> httpx.Response:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return made.http.post("/launches", content=body, headers={"content-type": media})


def config(**content: Any) -> dict[str, Any]:
    return {"name": "n", "space": {**SPACE, **content.pop("space", {})}, **content}


def queued(made: Server) -> int:
    return len(made.http.get("/launches").json()["launches"])


# --- the cases -------------------------------------------------------------------------------------------------------


def s1() -> dict[str, Any]:
    """Checkpoints that run code when they are unpickled."""
    from autoprune.errors import ConfigError
    from autoprune.models.checkpoint import load_state

    with tempfile.TemporaryDirectory() as folder:
        marker, refused = Path(folder) / "executed", 0
        files = corpora.evil_checkpoints(Path(folder), marker)
        for file in files:
            try:
                load_state(file)
            except ConfigError:
                refused += 1
        return {"checkpoints": len(files), "refused": refused, "code_executed": int(marker.exists())}


def s2() -> dict[str, Any]:
    """YAML attacks."""
    seconds, statuses = [], Counter[int]()
    with server() as made:
        launch(made, b"name: nothing", "application/yaml")  # what is imported at the first one is not the attack's
        before = made.rss_mb("VmHWM")
        for text in corpora.YAML_ATTACKS:
            began = time.perf_counter()
            statuses[launch(made, text.encode(), "application/yaml").status_code] += 1
            seconds.append(time.perf_counter() - began)
        grown = made.rss_mb("VmHWM") - before
        accepted = queued(made)
    slowest = max(range(len(seconds)), key=seconds.__getitem__)
    return {
        "attacks": len(seconds),
        "slowest": corpora.YAML_ATTACKS[slowest][:40],
        "accepted": accepted,
        "statuses": dict(statuses),
        "slowest_ms": round(1000 * max(seconds), 1),
        "median_ms": round(1000 * sorted(seconds)[len(seconds) // 2], 1),
        "peak_memory_growth_mb": round(grown, 1),
    }


def s3() -> dict[str, Any]:
    """Path traversal in every path and query field, and in every key of a configuration that names a file."""
    paths, statuses, leaked = corpora.traversals(), Counter[int](), 0
    with server() as made:
        secret = [text.replace("SECRET", str(made.folder / "secret.txt")) for text in paths]
        for text in secret:
            raw = [
                f"/searches/{text}",
                f"/searches/s/trials/{text}",
                f"/exports/{text}/download",
                f"/launches/{text}/log",
            ]
            urls = [made.url + "/api/v1" + path for path in raw] + [f"{made.url}/static/{text}", f"{made.url}/{text}"]
            for url in urls:
                with contextlib.suppress(httpx.InvalidURL, UnicodeError):
                    answer = made.http.get(url)
                    statuses[answer.status_code] += 1
                    leaked += CANARY in answer.text or "root:" in answer.text
            query = {"where": text, "x": text, "sort": text, "cursor": text, "search": text}
            for path in ("/searches/s/front", "/searches/s/trials", "/searches/s/select", "/launches"):
                answer = made.http.get(path, params=query)
                statuses[answer.status_code] += 1
                leaked += CANARY in answer.text
            for content in _file_keys(text):
                answer = launch(made, content)
                statuses[answer.status_code] += 1
                leaked += CANARY in answer.text
        accepted = queued(made)
    return {
        "strings": len(paths),
        "requests": statuses.total(),
        "leaked": leaked,
        "launched": accepted,
        **_by(statuses),
    }


def _file_keys(text: str) -> list[dict[str, Any]]:
    return [
        {"name": "n", "space": text},
        config(space={"data": {"kind": "image_folder", "root": text}}),
        config(space={"base": {"checkpoint": text}}),
        config(latency={"table": text}),
    ]


def s4(cases: int) -> dict[str, Any]:
    """schemathesis over the whole OpenAPI document: once with whatever it invents, once with names that exist."""
    found: dict[str, Any] = {}
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    with server() as made:
        for kind, share in (("invented", 0.6), ("existing", 0.4)):
            settings = made.folder / f"{kind}.toml"
            settings.write_text('[parameters]\n"path.name" = "s"\n"path.number" = 5\n' if kind == "existing" else "")
            command = ["st", "--config-file", str(settings), "run", f"{made.url}/api/v1/openapi.json"]
            command += ["--phases", "examples,coverage,fuzzing", "--max-examples", str(max(5, int(cases * share / 27)))]
            command += ["--exclude-path", "/api/v1/events", "--checks", f"{checks},unsupported_method"]
            command += ["--continue-on-failure", "--request-timeout", "60", "--no-color"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            summary = re.findall(r"^\s+\d+ generated.*$", done.stdout, re.MULTILINE)
            found[kind] = summary[-1].strip() if summary else done.stdout[-500:]
            found[f"{kind}_exit"] = done.returncode
            if done.returncode:
                sys.stderr.write(done.stdout[-8000:])
        found["defects_in_log"] = made.log.read_text().count("Traceback")
    return found


def s5() -> dict[str, Any]:
    """SQL injection in every text, sort and filter field."""
    texts, statuses, leaked = corpora.injections(), Counter[int](), 0
    with server() as made:
        for text in texts:
            asked = [
                (f"/searches/{quote(text, safe='')}", {}),
                ("/searches/s/trials", {"sort": text}),
                ("/searches/s/trials", {"where": text}),
                ("/searches/s/trials", {"state": text}),
                ("/searches/s/trials", {"cursor": text}),
                ("/searches/s/front", {"x": text, "where": text}),
                ("/searches/s/select", {"maximize": text}),
                ("/launches", {"search": text}),
            ]
            for path, query in asked:
                with contextlib.suppress(httpx.InvalidURL):
                    answer = made.http.get(path, params=query)
                    statuses[answer.status_code] += 1
                    leaked += '"search":"other"' in answer.text
            statuses[made.http.delete("/searches/s", params={"confirm": text}).status_code] += 1
        left = [each["trials"] for each in made.http.get("/searches").json()["searches"]]
    return {
        "strings": len(texts),
        "requests": statuses.total(),
        "rows_leaked": leaked,
        "trials_left": left,
        **_by(statuses),
    }


def s6() -> dict[str, Any]:
    """Every route and method without a token, with a wrong one, with one that has expired; and reading tokens."""
    allowed, asked = [], 0
    with server(tokens=True) as made:
        document = made.http.get("/openapi.json", headers={"authorization": f"Bearer {READ}"}).json()
        for path in document["paths"]:
            url = made.url + re.sub(r"\{\w+\}", "s", path)
            for method in METHODS:
                tokens = {"none": None, "wrong": "x" * 40, "prefix": READ[:-1], "expired": OLD, "empty": "-"}
                if method not in ("GET", "HEAD") and not path.endswith("/validate"):
                    tokens["reading"] = READ
                for kind, token in tokens.items():
                    headers = {} if token is None else {"authorization": f"Bearer {token}"}
                    status = made.http.request(method, url, headers=headers).status_code
                    asked += 1
                    if status not in (401, 403) and not path.endswith("/health"):
                        allowed.append(f"{method} {path} {kind}: {status}")
        log = made.log.read_text()
    return {"requests": asked, "let_in": allowed, "tokens_in_log": sum(token in log for token in (READ, LAUNCH, OLD))}


def s7() -> dict[str, Any]:
    """Starting on other than loopback addresses without tokens."""
    codes = []
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        command = [sys.executable, "-m", "autoprune", "serve", "--host", host, "--port", "0"]
        with tempfile.TemporaryDirectory() as folder:
            env = {**os.environ, "PYTHONPATH": str(ROOT)}
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, env=env, timeout=120, check=False
            )
        codes.append((host, done.returncode, "token is required" in done.stderr))
    return {"started": [host for host, code, said in codes if code == 0 or not said], "tried": len(codes)}


def s8() -> dict[str, Any]:
    """Pages of other sites, and this server under other names."""
    let_in, asked = [], 0
    with server() as made:
        host = made.url.removeprefix("http://")
        for method in METHODS:
            for headers in corpora.foreign_headers(host):
                for path in ("/searches", "/searches/s?confirm=s", "/launches", "/searches/s/stop"):
                    status = made.http.request(method, path, headers=headers).status_code
                    asked += 1
                    if status != 403:
                        let_in.append(f"{method} {path} {headers}: {status}")
    return {"requests": asked, "let_in": let_in}


def s9() -> dict[str, Any]:
    """A body of 300 MB, with its length and in chunks, while small requests go on."""
    found: dict[str, Any] = {}
    block, blocks = b" " * (1 << 20), 300
    with server() as made:
        made.http.get("/searches/s/front")
        for kind in ("with_length", "chunked"):
            before, stop = made.rss_mb(), threading.Event()
            peak, beside = [before], []

            def watch(peak: list[float] = peak, beside: list[float] = beside, stop: threading.Event = stop) -> None:
                with httpx.Client(timeout=60) as http:
                    while not stop.is_set():
                        began = time.perf_counter()
                        http.get(f"{made.url}/api/v1/searches/s/trials?limit=5")
                        beside.append(time.perf_counter() - began)
                        peak.append(made.rss_mb())

            thread = threading.Thread(target=watch)
            thread.start()
            headers = {"content-type": "application/json"}
            headers |= {"content-length": str(len(block) * blocks)} if kind == "with_length" else {}
            began = time.perf_counter()
            answer = made.http.post("/launches", content=(block for _ in range(blocks)), headers=headers)
            seconds = time.perf_counter() - began
            stop.set()
            thread.join()
            ordered = sorted(beside)
            found[kind] = {
                "status": answer.status_code,
                "seconds": round(seconds, 2),
                "memory_growth_mb": round(max(peak) - before, 1),
                "small_requests": len(beside),
                "small_median_ms": round(1000 * ordered[len(ordered) // 2], 1),
                "small_p99_ms": round(1000 * ordered[int(0.99 * (len(ordered) - 1))], 1),
            }
    return found


def s10() -> dict[str, Any]:
    """JSON with NaN and infinities, and very deep."""
    statuses = Counter[int]()
    with server() as made:
        for body in corpora.BAD_JSON:
            for path in ("/launches", "/validate", "/searches/s/resume", "/searches/s/trials/5/exports"):
                answer = made.http.post(path, content=body, headers={"content-type": "application/json"})
                valid = path != "/validate" or answer.json().get("valid") is not False
                statuses[answer.status_code if valid else 422] += 1
        accepted = queued(made)
    return {"requests": statuses.total(), "accepted": accepted, **_by(statuses)}


def s11() -> dict[str, Any]:
    """Import strings, files, stores and machines in configurations."""
    statuses = Counter[int]()
    with server() as made:
        for content in corpora.imports(config):
            statuses[launch(made, content).status_code] += 1
        accepted = queued(made)
    return {"configurations": statuses.total(), "accepted": accepted, **_by(statuses)}


def s12() -> dict[str, Any]:
    """The policies for scripts (the page itself is tried in a browser, tests/service)."""
    with server() as made:
        answers = [made.http.get(made.url + path) for path in ("/static/index.html", "/api/v1/searches/s/trials/4")]
    policies = [answer.headers["content-security-policy"] for answer in answers]
    return {"policies": policies, "unsafe": sum("unsafe-" in policy for policy in policies)}


def s13() -> dict[str, Any]:
    """Connections that the server made while it was asked for everything."""
    with server() as made:
        document = made.http.get("/openapi.json").json()
        for path in document["paths"]:
            url = re.sub(r"\{name\}", "s", re.sub(r"\{number\}", "5", path)).replace("{launch_id}", "1")
            if "{" not in url and not url.endswith("/events"):
                made.http.get(made.url + url)
        for content in corpora.imports(config):
            launch(made, content)
        made.http.post("/validate", json=config(space={"data": {"kind": "cifar10"}}))
        file = made.folder / "connections"
        found = file.read_text().splitlines() if file.exists() else []
    return {"connections": found}


def s14() -> dict[str, Any]:
    """Whether the time of a wrong token tells how much of it is right."""
    import random
    import statistics

    from autoprune.service.tokens import load_tokens, make_token_file

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokens"
        make_token_file(path)
        mode, token = oct(path.stat().st_mode & 0o777), path.read_text().split()[-1]
        tokens = load_tokens(path)
    tried = {"nothing_right": "!" * len(token), "all_but_one_right": token[:-1] + "!"}
    times: dict[str, list[int]] = {kind: [] for kind in tried}
    order = list(tried) * 10_000
    random.Random(0).shuffle(order)
    for kind in order:
        began = time.perf_counter_ns()
        tokens.scope(tried[kind])
        times[kind].append(time.perf_counter_ns() - began)
    medians = {kind: statistics.median(values) for kind, values in times.items()}
    spread = statistics.quantiles(times["nothing_right"], n=4)
    return {"median_ns": medians, "quartiles_ns": spread, "tries_each": 10_000, "token_file_mode": mode}


def s15() -> dict[str, Any]:
    """Calls that must not be anywhere in the package."""
    banned = r"\bpickle\.loads?\(|\beval\(|\bexec\(|yaml\.load\(|shell=True|weights_only=False|os\.system\("
    found = []
    for file in sorted((ROOT / "autoprune").rglob("*.py")):
        for place, line in enumerate(file.read_text().splitlines(), 1):
            if re.search(banned, line) and not line.lstrip().startswith(("#", '"')) and ".eval()" not in line:
                found.append(f"{file.relative_to(ROOT)}:{place}: {line.strip()}")
    command = ["ruff", "check", "--select", "S1,S2,S3,S5,S6,S7", "--output-format", "concise"]
    command += ["--ignore", "S101,S110,S112,S311,S603,S607", str(ROOT / "autoprune")]
    ruff = subprocess.run(command, capture_output=True, text=True, check=False)
    return {"banned_calls": found, "ruff_bandit": ruff.stdout.strip().splitlines()[-12:]}


def _by(statuses: Counter[int]) -> dict[str, Any]:
    return {
        "server_errors": sum(n for code, n in statuses.items() if code >= 500),
        "statuses": dict(sorted(statuses.items())),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    cases: dict[str, Callable[[], dict[str, Any]]] = {
        "S1": s1, "S2": s2, "S3": s3, "S4": lambda: s4(given.cases), "S5": s5, "S6": s6, "S7": s7, "S8": s8,
        "S9": s9, "S10": s10, "S11": s11, "S12": s12, "S13": s13, "S14": s14, "S15": s15,
    }  # fmt: skip
    found = json.loads(given.out.read_text()) if given.out.exists() else {}
    for name in given.only.split(",") if given.only else cases:
        began = time.perf_counter()
        result = cases[name]()
        found[name] = {"what": (cases[name].__doc__ or "schemathesis over the OpenAPI document."), **result}
        sys.stderr.write(f"{name} ({time.perf_counter() - began:.0f} s): {json.dumps(result)[:600]}\n")
        given.out.write_text(json.dumps({key: found[key] for key in cases if key in found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
