"""Who is let in: Host, Origin, tokens, rates and sizes."""

from __future__ import annotations

import datetime
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from autoprune.errors import ConfigError
from autoprune.service.settings import Limits, Settings
from autoprune.service.tokens import Scope, load_tokens, make_token_file

API = "/api/v1"
READ, LAUNCH, OLD = ("r" * 30, "l" * 30, "o" * 30)


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(f"# ours\nread {READ}\nlaunch {LAUNCH}  # me\nlaunch {OLD} until 2020-01-01\n")
    path.chmod(0o600)
    return path


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# --- tokens ----------------------------------------------------------------------------------------------------------


def test_a_network_server_without_tokens_does_not_start() -> None:
    for host in ("0.0.0.0", "::", "192.168.0.7", "example.org"):
        with pytest.raises(ConfigError, match="token"):
            Settings(store="sqlite:///a.db", host=host)


def test_a_token_is_needed_for_everything_but_health(serve: Callable[..., TestClient], token_file: Path) -> None:
    client = serve(tokens=load_tokens(token_file))
    assert client.get(f"{API}/health").status_code == 200
    for headers in ({}, bearer("x" * 30), bearer(""), bearer(OLD), {"Authorization": f"Basic {READ}"}):
        answer = client.get(f"{API}/searches", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    assert client.get(f"{API}/searches", headers=bearer(READ)).status_code == 200


@pytest.mark.parametrize("path", ["/api", "//api/v1/searches", "/%61pi/v1/searches", "/API/v1/searches", "/docs", "/x"])
def test_only_the_page_itself_needs_no_token(serve: Callable[..., TestClient], token_file: Path, path: str) -> None:
    client = serve(tokens=load_tokens(token_file))
    assert client.get(f"http://127.0.0.1:8642{path}").status_code == 401
    assert client.post("/static/index.html").status_code == 401
    assert client.get("/static/index.html").status_code in (200, 404)


def test_a_token_for_reading_changes_nothing(serve: Callable[..., TestClient], token_file: Path) -> None:
    client = serve(tokens=load_tokens(token_file))
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert client.request(method, f"{API}/searches/s", headers=bearer(READ)).status_code == 403
        assert client.request(method, f"{API}/nothing", headers=bearer(LAUNCH)).status_code in (404, 405)


def test_tokens_end_on_their_day(token_file: Path) -> None:
    tokens = load_tokens(token_file)
    assert tokens.scope(OLD, datetime.date(2020, 1, 1)) is Scope.LAUNCH
    assert tokens.scope(OLD, datetime.date(2020, 1, 2)) is Scope.NONE
    assert (tokens.scope(READ), tokens.scope(LAUNCH), tokens.scope(READ[:-1])) == (Scope.READ, Scope.LAUNCH, Scope.NONE)
    assert READ not in repr(tokens)


def test_a_new_token_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "tokens"
    make_token_file(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [token.scope for token in load_tokens(path).known] == [Scope.READ, Scope.LAUNCH]
    with pytest.raises(ConfigError, match="cannot be made"):
        make_token_file(path)


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [
        (f"read {READ}", 0o644, "chmod 600"),
        (f"write {READ}", 0o600, ":1: the line is not understood"),
        ("read short", 0o600, "at least 20"),
        (f"\nread {READ} until soon", 0o600, ":2: the date 'soon'"),
        ("# nothing", 0o600, "no token"),
    ],
)
def test_a_token_file_with_mistakes_is_refused(tmp_path: Path, text: str, mode: int, says: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(ConfigError) as caught:
        load_tokens(path)
    assert says in str(caught.value)


# --- hosts and origins -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8642", "192.168.0.7", "", "localhost.evil"])
def test_a_foreign_host_is_refused(client: TestClient, host: str) -> None:
    for path in ("/", "/static/index.html", f"{API}/searches", f"{API}/health"):
        answer = client.get(path, headers={"Host": host}, follow_redirects=False)
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "host_not_allowed"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8642", "[::1]:8642", "prune.example:443"])
def test_its_own_names_are_answered(serve: Callable[..., TestClient], host: str) -> None:
    client = serve(allowed_hosts=("prune.example",))
    assert client.get(f"{API}/searches", headers={"Host": host}).status_code == 200


def test_a_network_server_is_known_by_its_addresses(tmp_path: Path, token_file: Path) -> None:
    settings = Settings(store="sqlite:///a.db", host="0.0.0.0", tokens=load_tokens(token_file))
    assert settings.knows_host("192.168.0.7")
    assert settings.knows_host("localhost")
    assert not settings.knows_host("rebound.evil.example")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_pages_of_other_sites_are_refused(client: TestClient, method: str) -> None:
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "http://127.0.0.1:8642.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        answer = client.request(method, f"{API}/searches", headers=headers)
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "origin_not_allowed"
    own = {"Origin": "http://127.0.0.1:8642", "Sec-Fetch-Site": "same-origin"}
    assert client.get(f"{API}/searches", headers=own).status_code == 200
    assert "access-control-allow-origin" not in client.get(f"{API}/searches", headers=own).headers


# --- headers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/static/index.html", f"{API}/searches", f"{API}/nothing"])
def test_every_answer_has_the_security_headers(client: TestClient, path: str) -> None:
    headers = client.get(path, follow_redirects=False).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    script = [part for part in policy.split("; ") if part.startswith("script-src")]
    assert script in ([], ["script-src 'self'"])
    assert "unsafe-eval" not in policy


def test_text_of_a_trial_is_never_html(client: TestClient) -> None:
    answer = client.get(f"{API}/searches/s/trials/4")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["trial"]["reason"] == "<script>alert(1)</script>"


# --- rates and sizes -------------------------------------------------------------------------------------------------


def test_too_many_requests_have_to_wait(serve: Callable[..., TestClient]) -> None:
    client = serve(limits=Limits(requests_per_second=0.01, burst=3))
    found = [client.get(f"{API}/health") for _ in range(4)]
    assert [answer.status_code for answer in found] == [200, 200, 200, 429]
    assert int(found[-1].headers["retry-after"]) > 10


def test_guessing_tokens_is_slowed_down(serve: Callable[..., TestClient], token_file: Path) -> None:
    client = serve(tokens=load_tokens(token_file), limits=Limits(failures_per_minute=2))
    found = [client.get(f"{API}/searches", headers=bearer("x" * 30)).status_code for _ in range(4)]
    assert found == [401, 401, 429, 429]


def test_a_long_body_is_refused_with_and_without_its_length(client: TestClient) -> None:
    body = b" " * (600 * 1024)
    assert client.post(f"{API}/launches", content=body).status_code == 413
    assert client.post(f"{API}/launches", content=iter([body[:300_000]] * 3)).status_code == 413


def test_many_addresses_take_little_memory() -> None:
    from autoprune.service.limits import Rates

    rates = Rates(Limits())
    for number in range(30_000):
        rates.wait(str(number), changes=False)
    assert len(rates._all._left) == 10_000
