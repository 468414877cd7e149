"""YAML text to plain data, remembering on which line of which file each key stands.

Only the safe tags are read. Aliases are refused (a few hundred bytes of them expand to gigabytes), as are duplicate
keys, files over 256 KiB and nesting deeper than 32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from autoprune.errors import ConfigError

__all__ = ["Document", "parse_value", "read_yaml"]

_MAX_BYTES = 256 * 1024
_MAX_DEPTH = 32
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

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
    if len(raw) > _MAX_BYTES:
        raise ConfigError(f"{path} has {len(raw):,} bytes; a configuration has at most {_MAX_BYTES:,}.")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start}); expected a YAML file.") from None
    document = _parse(text, str(path))
    if not isinstance(document.data, Mapping):
        found = "nothing" if document.data is None else f"a {type(document.data).__name__}"
        raise ConfigError(f"{path}: expected keys and values at the top level, found {found}.")
    return document


def parse_value(text: str, where: str) -> Any:
    """The YAML value of a command-line setting: ``0.1`` is a number, ``[a, b]`` a list."""
    return _parse(text, where).data


def _parse(text: str, source: str) -> Document:
    try:
        for event in yaml.parse(text, Loader=_Loader):
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
            line = f"{source}:{key_node.start_mark.line + 1}"
            if key in result:
                raise ConfigError(f"{line}: the key {key!r} is given twice.", "Keep one of them.")
            places[(*path, key)] = line
            result[key] = _convert(value_node, (*path, key), places, source)
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_convert(item, (*path, index), places, source) for index, item in enumerate(node.value)]
    loader = _Loader("")
    try:
        return loader.construct_object(node)
    except (yaml.YAMLError, ValueError) as error:
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"{where}: the value {node.value!r} is not accepted: {problem}.") from None
    finally:
        loader.dispose()
