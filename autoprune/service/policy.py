"""What a configuration from the network may name: no code, no file outside the data root, no other machine.

Whatever a configuration can hold is looked at: a text that could be a path or a URL is refused unless its key is
known here, so that a key that comes later is refused until somebody has thought about it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from autoprune.config.loading import load_search_document
from autoprune.config.reading import parse_json, parse_text
from autoprune.config.schema import FileData, FileModel, FunctionData, ModuleModel, SearchConfig
from autoprune.errors import AutopruneError, ConfigError
from autoprune.service.settings import Settings

__all__ = ["Refused", "admitted", "read_config"]

_HINT = "Run it with 'autoprune search' on the machine itself, or start the server with --allow-code."
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}")
_FREE = re.compile(r"objectives\.\d+|constraints\.\d+|space\.rules\.\d+\.match")
"""Keys with a grammar of their own, which is parsed and never opened."""
_PATHS = ("space.data.root", "space.base.checkpoint", "evaluator.weights.checkpoint", "latency.table")
"""Keys that name something to be read, inside the data root."""
_JSON = ("application/json", "text/json")


class Refused(AutopruneError):
    """A configuration that is valid, but not to be run for somebody on the network."""

    http_status = 403


def read_config(body: bytes, media_type: str, settings: Settings) -> SearchConfig:
    """The configuration in a request's body, admitted. Raises ConfigError with all mistakes, or Refused."""
    source = "request"
    document = parse_json(body, source) if media_type in _JSON else parse_text(body, source)
    return admitted(load_search_document(document, lambda path: _space_file(path, settings)), settings)


def admitted(config: SearchConfig, settings: Settings) -> SearchConfig:
    """The configuration as this server runs it: paths resolved inside the data root, its own store and output folder.

    Raises Refused.
    """
    if "store" in config.model_fields_set:
        raise Refused("'store' cannot be chosen from here: searches go to the store of the server.", "Leave it out.")
    _refuse_objects(config)
    if settings.allow_code:
        given = "output" in config.model_fields_set
        return config if given else config.model_copy(update={"output": str(settings.output)})
    _refuse_code(config)
    content = _with_own_data(config, settings)
    for path, text in list(_texts(content)):
        if path in _PATHS:
            _replace(content, path, str(_inside(text, settings.data_root, path)))
        elif path != "output" and not _FREE.fullmatch(path) and not _PLAIN.fullmatch(text) and text:
            raise Refused(f"{path}: {text[:100]!r} is not accepted from the network: expected a plain name.", _HINT)
    return SearchConfig.model_validate(content)


def _with_own_data(config: SearchConfig, settings: Settings) -> dict[str, Any]:
    """The content, its data in the data root by default, and not downloaded."""
    content = config.model_dump(mode="json", exclude={"store"})
    content["output"] = str(settings.output)
    given, data = config.space.data.model_fields_set, content["space"]["data"]
    if "root" in data and "root" not in given:
        data["root"] = str(settings.data_root)
    if data.get("download"):
        if "download" in given:
            raise Refused("space.data.download: a server downloads nothing.", "Put the data into its data root.")
        data["download"] = False
    return content


def _refuse_objects(config: SearchConfig) -> None:
    if isinstance(config.space.model, ModuleModel) or isinstance(config.space.data, FunctionData):
        raise Refused("a search over a module or a function in hand runs where they are.", "Use search_module there.")


def _refuse_code(config: SearchConfig) -> None:
    if isinstance(config.space.model, FileModel):
        raise Refused("space.model.kind: 'file' runs Python code and is not accepted from the network.", _HINT)
    if isinstance(config.space.data, FileData):
        raise Refused("space.data.kind: 'file' runs Python code and is not accepted from the network.", _HINT)
    if getattr(config.executor, "address", None) is not None:
        raise Refused("executor.address names another machine and is not accepted from the network.", _HINT)


def _texts(content: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Dotted path and text of every string, keys of mappings included."""
    if isinstance(content, str):
        yield path, content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            if not _PLAIN.fullmatch(str(key)):
                yield f"{path}.<key>", str(key)
            yield from _texts(value, f"{path}.{key}" if path else str(key))
    elif isinstance(content, list | tuple):
        for place, value in enumerate(content):
            yield from _texts(value, f"{path}.{place}")


def _replace(content: dict[str, Any], path: str, text: str) -> None:
    *parents, last = path.split(".")
    for key in parents:
        content = content[key]
    content[last] = text


def _inside(text: str, root: Path, path: str) -> Path:
    """The file or folder that ``text`` means, inside the root or with the root's own name in front; links are followed
    before it is judged."""
    root = root.resolve()
    inside = False
    for folder in (root, root.parent):
        try:
            found = (folder / text).resolve()
            there = found.exists()
        except (OSError, RuntimeError, ValueError):  # a loop of links, a null character, a name too long
            raise ConfigError(f"{path}: {text[:100]!r} is no usable path.") from None
        if found.is_relative_to(root):
            inside = True
            if there:
                return found
    if not inside:
        raise Refused(f"{path}: {text[:100]!r} is outside of the server's data root.", "Name it relative to that.")
    raise ConfigError(f"{path}: there is no {text[:100]!r} in the server's data root.", "Put it there first.")


def _space_file(text: str, settings: Settings) -> Path:
    """A search space file of the data root, or one that the server's own folder of spaces has."""
    if settings.allow_code:
        return Path(text)
    name = text.removeprefix("search_spaces/")
    if _PLAIN.fullmatch(name) and (settings.spaces / name).is_file():
        return _inside(name, settings.spaces, "space")
    found = _inside(text, settings.data_root, "space")
    if found.suffix not in (".yaml", ".yml"):
        raise Refused(f"space: {text[:100]!r} is no YAML file.", "Write the search space into the configuration.")
    return found
