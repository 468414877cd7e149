"""Everything that autoprune raises on purpose.

    AutopruneError            exit 1
    |- ConfigError            exit 2    the user's input is wrong: configuration, expression, file, checkpoint
    |  `- UndefinedScore                a criterion says nothing about a group of channels
    |- NotFound               exit 3    no such search, trial, model
    |- Conflict               exit 3    the name is taken by another configuration, or another driver holds it
    |- StoreError             exit 4    the store cannot be read or written (disk full, read-only, newer schema)
    |- SearchAborted          exit 4    the search cannot go on; what was measured stays
    |- NothingFeasible        exit 5    no candidate or trial meets the budgets; carries the nearest miss
    |- ExportMismatch         exit 6    an exported model does not reproduce the trial
    |- ServiceError           exit 4    a server (autoprune serve, a cluster) does not answer, or does not allow it
    `- EvaluationError        exit 1    one trial failed; the session retries it and then records FAILED

Every message says what, got, expected; ``hint`` says the next step.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = [
    "AutopruneError",
    "ConfigError",
    "Conflict",
    "EvaluationError",
    "ExportMismatch",
    "NotFound",
    "NothingFeasible",
    "SearchAborted",
    "ServiceError",
    "StoreError",
    "UndefinedScore",
    "did_you_mean",
    "without_password",
]


class AutopruneError(Exception):
    """Base of the tree: a message for a person, and the next step in ``hint``."""

    exit_code = 1
    http_status = 500

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)  # both, so that the error survives pickling between processes
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class ConfigError(AutopruneError):
    exit_code = 2
    http_status = 422


class UndefinedScore(ConfigError):
    """The message is the reason alone: the end of a sentence that names criterion and group."""


class NotFound(AutopruneError):
    exit_code = 3
    http_status = 404


class Conflict(AutopruneError):
    exit_code = 3
    http_status = 409


class StoreError(AutopruneError):
    exit_code = 4
    http_status = 503


class SearchAborted(AutopruneError):
    exit_code = 4
    http_status = 500


class NothingFeasible(AutopruneError):
    exit_code = 5
    http_status = 422

    def __init__(self, message: str, hint: str = "", nearest: Mapping[str, Any] | None = None) -> None:
        super().__init__(message, hint)
        self.nearest = nearest
        """``trial``, and ``misses``: a list of ``constraint``, ``metric``, ``value``, ``bound``; None: no trial."""


class ExportMismatch(AutopruneError):
    exit_code = 6
    http_status = 500


class ServiceError(AutopruneError):
    exit_code = 4
    http_status = 502


class EvaluationError(AutopruneError):
    pass


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The nearest known names as a sentence, or all of them when none is near.

    >>> did_you_mean("resnet2", ["resnet20", "vgg16"])
    "Did you mean 'resnet20'?"
    >>> did_you_mean("alexnet", ["resnet20", "vgg16"])
    'Known: resnet20, vgg16.'
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if near:
        return "Did you mean " + " or ".join(repr(item) for item in near) + "?"
    return f"Known: {', '.join(names)}." if names else "None are known."


_IN_URL = re.compile(r"(?P<before>[\w+.-]+://[^\s:/@'\"]*:)[^\s'\"]*(?=@)")
_IN_QUERY = re.compile(r"(?P<before>(?:[?&]|\b)(?:ssl)?password=)[^&\s'\"]+", re.IGNORECASE)


def without_password(text: str) -> str:
    """The text with ``***`` for every password of a URL in it.

    >>> without_password("no store at postgresql://me:se/cr@t@host:5432/db?password=secret.")
    'no store at postgresql://me:***@host:5432/db?password=***'
    """
    return _IN_QUERY.sub(r"\g<before>***", _IN_URL.sub(r"\g<before>***", text))
