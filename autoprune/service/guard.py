"""What every request passes before a route sees it: Host, Origin, rate, token, and the headers of every answer."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from autoprune.service.limits import Rates
from autoprune.service.replies import send_refusal
from autoprune.service.settings import Settings
from autoprune.service.tokens import Scope as Right

__all__ = ["API", "Guard"]

API = "/api/v1"
_OPEN = (f"{API}/health",)
"""Answered without a token."""
_READING_POSTS = (f"{API}/validate",)
_SAFE = ("GET", "HEAD")

_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_API_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Guard:
    """Refuses before any work is done. Answers without a body of their own get the headers too."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._rates = Rates(settings.limits)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # no web sockets here
        guarded = _with_headers(send, scope["path"])
        refused = self._refused(scope)
        if refused is None:
            await self._app(scope, receive, guarded)
        else:
            status, code, message, hint, headers = refused
            await send_refusal(guarded, status, code, message, hint, headers)

    def _refused(self, scope: Scope) -> tuple[int, str, str, str, Mapping[str, str]] | None:
        headers, path, method = Headers(scope=scope), scope["path"], scope["method"]
        host = headers.get("host", "")
        if not self._settings.knows_host(_without_port(host)):
            hint = "Open it by its address, or start it with --allow-host NAME."
            return 403, "host_not_allowed", "this server is not known by the name in the Host header.", hint, {}
        if _is_page(path) and method in _SAFE:
            return None
        if not _same_origin(headers, host):
            return 403, "origin_not_allowed", "requests from pages of other sites are refused.", "", {}
        client = scope["client"][0] if scope.get("client") else ""
        wait = self._rates.wait(client, changes=method not in _SAFE)
        if wait:
            hint = f"Try again in {wait} s."
            return 429, "too_many_requests", "too many requests from this address.", hint, {"retry-after": str(wait)}
        return self._unauthorised(scope, headers, client)

    def _unauthorised(
        self, scope: Scope, headers: Headers, client: str
    ) -> tuple[int, str, str, str, Mapping[str, str]] | None:
        path, method = scope["path"], scope["method"]
        if not self._settings.tokens or path in _OPEN:
            return None
        kind, _, token = headers.get("authorization", "").partition(" ")
        right = self._settings.tokens.scope(token.strip()) if kind.lower() == "bearer" else Right.NONE
        needed = Right.READ if method in _SAFE or path in _READING_POSTS else Right.LAUNCH
        if right >= needed:
            return None
        if right is not Right.NONE:
            return 403, "forbidden", "this token allows reading only.", "Use a token with the scope 'launch'.", {}
        wait = self._rates.failed(client)
        if wait:
            return 429, "too_many_requests", "too many wrong tokens from this address.", "", {"retry-after": str(wait)}
        hint = "Send the header 'Authorization: Bearer TOKEN', with a token of the server's token file."
        return 401, "unauthorized", "a valid token is required.", hint, {"www-authenticate": "Bearer"}


def _with_headers(send: Send, path: str) -> Send:
    page = _is_page(path)
    policy = _PAGE_POLICY if page else _API_POLICY

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
            headers["content-security-policy"] = policy
            headers.setdefault("cache-control", "no-cache" if page else "no-store")
        await send(message)

    return guarded


def _is_page(path: str) -> bool:
    """The page's own files, which hold nothing of the store; whatever else there is needs a token."""
    return path == "/" or path.startswith("/static/")


def _without_port(host: str) -> str:
    """
    >>> [_without_port(host) for host in ("Localhost:80", "[::1]:80", "::1", "a.b")]
    ['localhost', '[::1]', '::1', 'a.b']
    """
    if host.startswith("["):
        return host.partition("]")[0].lower() + "]"
    return (host.partition(":")[0] if host.count(":") == 1 else host).lower()


def _same_origin(headers: Headers, host: str) -> bool:
    """Not sent by a page of another site. Programs send neither header."""
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    if origin is None:
        return True
    parts = urlsplit(origin)
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()
