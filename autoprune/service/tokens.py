"""Tokens and what they allow: a file of lines ``SCOPE TOKEN [until YYYY-MM-DD]``."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from autoprune.errors import ConfigError

__all__ = ["Scope", "Tokens", "load_tokens", "make_token_file"]

_SHORTEST = 20
_FORM = "Each line is: read TOKEN, or launch TOKEN, with 'until YYYY-MM-DD' behind it if it expires."


class Scope(IntEnum):
    """What a caller may do; each includes those before it."""

    NONE = 0
    READ = 1
    LAUNCH = 2
    """Also launch, stop, resume, delete and export."""


@dataclass(frozen=True)
class _Token:
    digest: bytes
    """SHA-256: the token itself is not kept, and comparing digests takes equally long for tokens of any length."""
    scope: Scope
    until: datetime.date | None


@dataclass(frozen=True)
class Tokens:
    """Those of a server. Empty: none is asked for."""

    known: tuple[_Token, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.known)

    def scope(self, token: str, today: datetime.date | None = None) -> Scope:
        """What the token allows; NONE for an unknown or expired one. All known ones are compared, in constant time."""
        digest = _digest(token)
        day = today or datetime.datetime.now(datetime.timezone.utc).date()
        found = Scope.NONE
        for each in self.known:
            same = hmac.compare_digest(each.digest, digest)
            valid = each.until is None or day <= each.until
            found = max(found, each.scope if same and valid else Scope.NONE)
        return found


def load_tokens(path: Path) -> Tokens:
    """Read a token file. Raises ConfigError when others may read it too, or when a line is not understood."""
    try:
        status, text = path.stat(), path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the token file {path} cannot be read: {error}.", "Give another with --token-file."
        ) from None
    if os.name == "posix" and status.st_mode & 0o077:
        raise ConfigError(
            f"the token file {path} can be read by others (mode {status.st_mode & 0o777:04o}).",
            f"Run: chmod 600 {path}",
        )
    lines = [(place, line.split("#")[0].split()) for place, line in enumerate(text.splitlines(), 1)]
    tokens = tuple(_token(words, f"{path}:{place}") for place, words in lines if words)
    if not tokens:
        raise ConfigError(f"the token file {path} holds no token.", _FORM)
    return Tokens(tokens)


def make_token_file(path: Path) -> None:
    """A new file, mode 0600, with a ``read`` and a ``launch`` token. Raises ConfigError when it cannot be made."""
    text = "# Tokens of autoprune serve. " + _FORM + "\n"
    text += "".join(f"{scope} {secrets.token_urlsafe(32)}\n" for scope in ("read", "launch"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"the token file {path} cannot be made: {error.strerror}.") from None


def _token(words: list[str], where: str) -> _Token:
    scopes = {"read": Scope.READ, "launch": Scope.LAUNCH}
    if len(words) not in (2, 4) or words[0] not in scopes or (len(words) == 4 and words[2] != "until"):
        raise ConfigError(f"{where}: the line is not understood.", _FORM)
    if len(words[1]) < _SHORTEST:
        raise ConfigError(
            f"{where}: the token has {len(words[1])} characters, expected at least {_SHORTEST}.",
            "Make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
        )
    try:
        until = datetime.date.fromisoformat(words[3]) if len(words) == 4 else None
    except ValueError:
        raise ConfigError(f"{where}: the date {words[3]!r} is not understood.", _FORM) from None
    return _Token(_digest(words[1]), scopes[words[0]], until)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
