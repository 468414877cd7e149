"""A launch file or a search space file to a validated configuration, with every mistake at once.

A message names file and line, the dotted key, what was given and what is expected; an unknown key lists the nearest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from autoprune.config.reading import Document, KeyPath, parse_value, read_yaml
from autoprune.config.schema import SearchConfig, SpaceConfig
from autoprune.errors import ConfigError, did_you_mean

__all__ = ["load_search", "load_search_document", "load_space", "load_with_space"]

_M = TypeVar("_M", bound=BaseModel)


def load_search(source: str | Path | Mapping[str, Any] | SearchConfig, overrides: Sequence[str] = ()) -> SearchConfig:
    """A launch file, a mapping of the same shape, or a config, with ``KEY=VALUE`` overrides applied on top.

    ``space`` may be a mapping or the path of a search space file, relative to the current folder or the launch file.
    Raises ConfigError that lists every mistake.
    """
    return load_with_space(SearchConfig, source, overrides)


def load_search_document(document: Document, find_space: Callable[[str], Path]) -> SearchConfig:
    """A launch file's content; ``find_space`` says which file a ``space:`` that is a path means, or refuses it.

    Raises ConfigError that lists every mistake.
    """
    if isinstance(document.data.get("space"), str):
        document.graft(("space",), read_yaml(find_space(document.data["space"])))
    return _validated(SearchConfig, document)


def load_with_space(
    model: type[_M], source: str | Path | Mapping[str, Any] | BaseModel, overrides: Sequence[str] = ()
) -> _M:
    """``load_search`` for any configuration with a key ``space``."""
    if isinstance(source, BaseModel):
        if not overrides and isinstance(source, model):
            return source
        given = {"store": source.store} if isinstance(source, SearchConfig) else {}
        source = {**source.model_dump(mode="json"), **given}  # the dump lacks the password of a URL
    document = Document(_copied(source)) if isinstance(source, Mapping) else read_yaml(Path(source))
    folder = Path.cwd() if isinstance(source, Mapping) else Path(source).resolve().parent
    settings = [_setting(text) for text in overrides]
    # An override of `space` itself comes before its file is read, one of `space.data.root` after it.
    _apply(document, [item for item in settings if len(item[0]) == 1])
    if isinstance(document.data.get("space"), str):
        document.graft(("space",), read_yaml(_located(document.data["space"], folder)))
    _apply(document, [item for item in settings if len(item[0]) > 1])
    return _validated(model, document)


def load_space(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> SpaceConfig:
    """A search space file, or a mapping of the same shape. Raises ConfigError that lists every mistake."""
    document = Document(_copied(source)) if isinstance(source, Mapping) else read_yaml(Path(source))
    _apply(document, [_setting(text) for text in overrides])
    return _validated(SpaceConfig, document)


def _copied(source: Any) -> Any:
    if isinstance(source, Mapping):
        return {key: _copied(value) for key, value in source.items()}
    if isinstance(source, list | tuple):
        return [_copied(value) for value in source]
    return source


def _located(path: str, folder: Path) -> Path:
    """The first of: as given, beside the launch file, beside its folder (``launch/`` next to ``search_spaces/``)."""
    choices = [Path(path), folder / path, folder.parent / path]
    for choice in choices:
        if choice.is_file():
            return choice
    tried = ", ".join(dict.fromkeys(str(choice) for choice in choices))
    raise ConfigError(
        f"space: there is no search space file {path!r} (tried {tried}).", "Give the path of a YAML file."
    )


def _setting(text: str) -> tuple[list[str], Any]:
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"--set {text!r}: expected KEY=VALUE.", "For example --set limits.trials=200.")
    return parts, parse_value(value, f"--set {key.strip()}")


def _apply(document: Document, settings: Iterable[tuple[list[str], Any]]) -> None:
    for parts, value in settings:
        target = document.data
        path: KeyPath = ()
        for part in parts[:-1]:
            key = _step(target, part, parts)
            if isinstance(target, dict) and target.get(key) is None:
                target[key] = {}
            target = target[key]
            path = (*path, key)
        last = _step(target, parts[-1], parts)
        target[last] = value
        document.places[(*path, last)] = f"--set {'.'.join(parts)}"


def _step(target: Any, part: str, parts: list[str]) -> Any:
    """The key or list index that ``part`` names inside ``target``."""
    if isinstance(target, dict):
        return part
    if isinstance(target, list) and part.isdigit() and int(part) < len(target):
        return int(part)
    raise ConfigError(f"--set {'.'.join(parts)}: {part!r} does not name something inside a {type(target).__name__}.")


def _validated(model: type[_M], document: Document) -> _M:
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        lines = [_explained(model, document, item) for item in error.errors(include_url=False)]
    mistakes = "1 mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
    raise ConfigError(f"{mistakes} in the configuration:\n" + "\n".join(f"  {line}" for line in lines))


def _explained(model: type[BaseModel], document: Document, item: Any) -> str:
    location: KeyPath = item["loc"]
    path, fields = _walk(model, location)
    place = document.place(path)
    prefix = f"{place}: " if place else ""
    dotted = ".".join(str(part) for part in path)
    if item["type"] == "extra_forbidden":
        return f"{prefix}unknown key {dotted!r}. {did_you_mean(str(path[-1]), fields)}"
    if item["type"] == "missing":
        return f"{prefix}{dotted!r} is required and missing."
    if item["type"] == "union_tag_invalid":
        tags = [tag.strip(" '") for tag in item["ctx"]["expected_tags"].split(",")]
        key = item["ctx"]["discriminator"].strip("'")
        return f"{prefix}{dotted}.{key} is {item['ctx']['tag']!r}. {did_you_mean(item['ctx']['tag'], tags)}"
    if item["type"] == "union_tag_not_found":
        return f"{prefix}{dotted} needs a key {item['ctx']['discriminator']} that says which one."
    message = item["msg"].removeprefix("Value error, ")
    got = item.get("input")
    shown = f" (got {got!r})" if isinstance(got, str | int | float | bool | None) else ""
    return f"{prefix}{dotted}: {message}{shown}" if dotted else f"{prefix}{message}"


def _walk(model: type[BaseModel], location: KeyPath) -> tuple[KeyPath, list[str]]:
    """The location as the user wrote it (without the tags of unions), and the keys known where it ends."""
    path: list[str | int] = []
    models: list[type[BaseModel]] = [model]
    known: list[str] = []
    names_next = False  # inside a mapping, whose keys are the user's own
    for part in location:
        tagged = [item for item in models if _kind_is(item, part)]
        if tagged and len(models) > 1:
            models = tagged
            continue
        path.append(part)
        if isinstance(part, int):
            continue
        if names_next:
            names_next = False
            continue
        known = [name for item in models for name in item.model_fields]
        fields = [item.model_fields[part] for item in models if part in item.model_fields]
        names_next = any(get_origin(field.annotation) is dict for field in fields)
        models = [found for field in fields for found in _models_in(field)]
    return tuple(path), known


def _kind_is(model: type[BaseModel], tag: str | int) -> bool:
    tags = (model.model_fields[key].annotation for key in ("kind", "name") if key in model.model_fields)
    return any(tag in get_args(annotation) for annotation in tags)


def _models_in(field: FieldInfo) -> list[type[BaseModel]]:
    found: list[type[BaseModel]] = []
    queue: list[Any] = [field.annotation]
    while queue:
        item = queue.pop(0)
        if isinstance(item, type) and issubclass(item, BaseModel):
            found.append(item)
        else:
            queue.extend(get_args(item))
    return found
