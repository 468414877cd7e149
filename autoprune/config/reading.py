"""YAML text to plain data, remembering on which line of which file each key stands.

Only the safe tags are read. Aliases are refused (a few hundred bytes of them expand to gigabytes), as are duplicate
keys, files over 256 KiB and nesting deeper than 32.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from autoprune.errors import ConfigError

__all__ = ["Document", "parse_json", "parse_text", "parse_value", "read_yaml"]

_MAX_BYTES = 256 * 1024
_MAX_DEPTH = 32
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_LONGEST_NUMBER = 100
_NUMBER_TAGS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_PLAIN_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")

KeyPath = tuple[str | int, ...]


@dataclass
class Document:
    """Data and, for each path of keys in it, where it was written (``file:line``)."""

    data: Any
    places: dict[KeyPath, str] = field(default_factory=dict)

    def place(self, path: KeyPath) -> str:
        """Where the path, or the nearest enclosing one that was written, stands; empty when nowhere."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return ""

    def graft(self, path: KeyPath, other: Document) -> None:
        """Put another document in the place of the value at ``path`` (a mapping's key)."""
        parent = self.data
        for key in path[:-1]:
            parent = parent[key]
        parent[path[-1]] = other.data
        self.places.update({path + inner: place for inner, place in other.places.items()})


def read_yaml(path: Path) -> Document:
    """Read one YAML file whose top level is a mapping. Raises ConfigError with file and line."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(
            f"there is no file {str(path)!r}.", "Check the path, relative to the folder you are in."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    return parse_text(raw, str(path))


def parse_text(raw: bytes, source: str) -> Document:
    """The same of a file's content; ``source`` is what messages call it."""
    if len(raw) > _MAX_BYTES:
        raise ConfigError(f"{source} has {len(raw):,} bytes; a configuration has at most {_MAX_BYTES:,}.")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{source} is not UTF-8 text (byte {error.start}); expected a YAML file.") from None
    document = _parse(text, source)
    if not isinstance(document.data, Mapping):
        found = "nothing" if document.data is None else f"a {type(document.data).__name__}"
        raise ConfigError(f"{source}: expected keys and values at the top level, found {found}.")
    return document


def parse_json(raw: bytes, source: str) -> Document:
    """The same of JSON, whose numbers are finite here."""
    if len(raw) > _MAX_BYTES:
        raise ConfigError(f"{source} has {len(raw):,} bytes; a configuration has at most {_MAX_BYTES:,}.")
    try:
        data = json.loads(raw, parse_constant=_no_number, object_pairs_hook=_distinct, parse_float=_finite_number)
    except RecursionError:
        raise ConfigError(f"{source}: nested deeper than {_MAX_DEPTH} levels.") from None
    except ValueError as error:  # of JSON, of UTF-8, or an integer of thousands of digits
        raise ConfigError(f"{source} is not valid JSON: {str(error)[:200]}.") from None
    if not isinstance(data, Mapping):
        raise ConfigError(f"{source}: expected keys and values at the top level, found a {type(data).__name__}.")
    _check_depth(data, source)
    return Document(data)


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not a number of JSON")


def _finite_number(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text[:_LONGEST_NUMBER])


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a key is given twice in one object")
    return result


def _check_depth(data: Any, source: str, depth: int = 0) -> None:
    if depth > _MAX_DEPTH:
        raise ConfigError(f"{source}: nested deeper than {_MAX_DEPTH} levels.")
    if isinstance(data, dict | list):
        for item in data.values() if isinstance(data, dict) else data:
            _check_depth(item, source, depth + 1)


def parse_value(text: str, where: str) -> Any:
    """The YAML value of a command-line setting: ``0.1`` is a number, ``[a, b]`` a list."""
    return _parse(text, where).data


def _parse(text: str, source: str) -> Document:
    try:
        depth = 0
        for event in yaml.parse(text, Loader=_Loader):
            # before composing, which goes as deep as the text does
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _MAX_DEPTH + 1:
                line = event.start_mark.line + 1 if event.start_mark else "?"
                raise ConfigError(f"{source}:{line}: nested deeper than {_MAX_DEPTH} levels.")
            if isinstance(event, yaml.AliasEvent):
                line = event.start_mark.line + 1 if event.start_mark else "?"
                raise ConfigError(f"{source}:{line}: YAML aliases (*{event.anchor}) are not accepted.")
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(
            f"{source}{line}: not valid YAML: {problem}.", "Check indentation, colons and quotes."
        ) from None
    document = Document(None)
    if node is not None:
        document.data = _convert(node, (), document.places, source)
    return document


def _convert(node: yaml.Node, path: KeyPath, places: dict[KeyPath, str], source: str) -> Any:
    where = f"{source}:{node.start_mark.line + 1}"
    places.setdefault(path, where)
    if len(path) > _MAX_DEPTH:
        raise ConfigError(f"{where}: nested deeper than {_MAX_DEPTH} levels.")
    if isinstance(node, yaml.CollectionNode) and node.tag not in _PLAIN_TAGS:
        raise ConfigError(f"{where}: the YAML tag {node.tag!r} is not accepted; write plain keys, lists and values.")
    if isinstance(node, yaml.MappingNode):
        result: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key, str):
                raise ConfigError(f"{where}: a key must be plain text.", "Write for example 'trials: 100'.")
            line = f"{source}:{key_node.start_mark.line + 1}"
            if key in result:
                raise ConfigError(f"{line}: the key {key!r} is given twice.", "Keep one of them.")
            places[(*path, key)] = line
            result[key] = _convert(value_node, (*path, key), places, source)
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_convert(item, (*path, index), places, source) for index, item in enumerate(node.value)]
    if len(node.value) > _LONGEST_NUMBER and node.tag in _NUMBER_TAGS:
        raise ConfigError(f"{where}: a number of {len(node.value):,} characters is not accepted.")
    loader = _Loader("")
    try:
        return loader.construct_object(node)
    except (yaml.YAMLError, ValueError, LookupError, AttributeError) as error:  # its own slips: !!bool, !!timestamp
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"{where}: the value {node.value[:100]!r} is not accepted: {problem}.") from None
    finally:
        loader.dispose()
