"""Reading weights that others saved, safely and with errors that say what does not fit."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from autoprune.errors import ConfigError

__all__ = ["load_into", "load_state", "state_digest"]

_WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "state_dict_ema",
    "model_ema",
)
_PREFIXES = ("module.", "_orig_mod.")
_SHOWN = 4

# What torch.load raises on files that are cut, overwritten or not its own; its message is passed on.
_UNREADABLE = (RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError, OSError)


def load_state(path: str | Path) -> dict[str, Tensor]:
    """Parameter and buffer names -> tensors on the CPU, from a ``torch.save`` or a safetensors file.

    Nothing in the file is executed (``weights_only=True``). The usual wrappers (``{"state_dict": ...}``, ``model``,
    ``net``...) are opened, and the prefixes of DataParallel, AveragedModel and torch.compile removed. Raises
    ConfigError when the file is missing, unreadable, not a state dict, quantised, or holds values that are not finite.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise ConfigError(f"checkpoint {path} {what}.", "Check base.checkpoint, relative to the folder you are in.")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    _refuse_quantised(content, path)
    state = _without_prefixes(_unwrapped(content, path))
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise ConfigError(
                f"checkpoint {path}: {bad} of {tensor.numel()} values of {name!r} are not finite.",
                "The training that wrote it diverged; use an earlier checkpoint.",
            )
    return state


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ConfigError(f"checkpoint {path} cannot be read as safetensors: {error}.", _DAMAGED) from None


_DAMAGED = "The file is damaged or incomplete: copy or download it again."
_SAVE_STATE = "Save the weights alone: torch.save(model.state_dict(), path), or safetensors."


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported global" in str(error) or "Unsupported class" in str(error):
            raise ConfigError(
                f"checkpoint {path} holds Python objects (a whole model, say), expected weights only.",
                _SAVE_STATE,
            ) from None
        raise ConfigError(f"checkpoint {path} is not a file that torch.save wrote.", _DAMAGED) from None
    except _UNREADABLE as error:
        if "TorchScript" in str(error):
            raise ConfigError(
                f"checkpoint {path} is a TorchScript archive, expected weights only.", _SAVE_STATE
            ) from None
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ConfigError(f"checkpoint {path} cannot be read: {reason}.", _DAMAGED) from None


def _refuse_quantised(content: Any, path: Path) -> None:
    """Integer weights with scales, or packed ones, belong to a network that was quantised: it cannot be cut."""
    if not isinstance(content, Mapping):
        return
    for name, value in content.items():
        packed = "_packed_params" in str(name)
        if packed or (isinstance(value, Tensor) and (value.is_quantized or _is_integer_weight(str(name), value))):
            what = "packed" if packed or not isinstance(value, Tensor) else str(value.dtype)
            raise ConfigError(
                f"checkpoint {path} is of a quantised model: {str(name)!r} is {what}.",
                "Prune with the floating point weights, then quantise the pruned model.",
            )
        if isinstance(value, Mapping):
            _refuse_quantised(value, path)


def _is_integer_weight(name: str, value: Tensor) -> bool:
    return name.endswith("weight") and value.dtype in (torch.int8, torch.uint8)


def _unwrapped(content: Any, path: Path) -> dict[str, Tensor]:
    while isinstance(content, Mapping):
        if content and all(isinstance(value, Tensor) for value in content.values()):
            return {str(name): tensor.detach() for name, tensor in content.items()}
        inner = [content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)]
        if not inner:
            keys = ", ".join(repr(str(key)) for key in list(content)[:8]) or "nothing"
            raise ConfigError(
                f"checkpoint {path} holds no state dict: found {keys}; expected one of {', '.join(_WRAPPERS)}.",
                _SAVE_STATE,
            )
        content = inner[0]
    raise ConfigError(f"checkpoint {path} holds a {type(content).__name__}, expected a state dict.", _SAVE_STATE)


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    if "n_averaged" in state and len(state) > 1:  # torch.optim.swa_utils.AveragedModel counts beside the weights
        state = {name: tensor for name, tensor in state.items() if name != "n_averaged"}
    for _ in range(4):  # DataParallel around torch.compile, or the other way round
        for prefix in _PREFIXES:
            if all(name.startswith(prefix) for name in state):
                state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def load_into(model: nn.Module, path: str | Path) -> None:
    """Load a checkpoint into ``model``, in place. Raises ConfigError that names what does not fit.

    Every parameter and buffer must be there with its shape; only ``num_batches_tracked``, which old files and frozen
    BatchNorms lack, may be missing or left over. Half precision weights become the model's own type.
    """
    state = load_state(path)
    wanted = model.state_dict()
    wrong = [name for name in wanted if name in state and state[name].shape != wanted[name].shape]
    missing = [name for name in wanted if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in wanted and not name.endswith("num_batches_tracked")]
    if wrong and not missing and not unexpected:
        _check_classes(state, wanted, wrong, path)
    if wrong or missing or unexpected:
        parts = [
            _listed("with another shape", [f"{n}: {_dims(state[n])} instead of {_dims(wanted[n])}" for n in wrong]),
            _listed("missing", missing),
            _listed("unexpected", unexpected),
        ]
        raise ConfigError(
            f"checkpoint {path} does not fit the model ({type(model).__name__}, {len(wanted)} tensors): "
            + "; ".join(part for part in parts if part)
            + ".",
            "Choose the model (and its args) that the checkpoint was trained with.",
        )
    model.load_state_dict(state, strict=False)


def _check_classes(
    state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], wrong: Sequence[str], path: str | Path
) -> None:
    """All that differs is the number of outputs of the last layer: the data sets differ."""
    last = [name for name in wanted if wanted[name].ndim >= 2][-1]
    owner = last.rpartition(".")[0]
    if last not in wrong or any(name.rpartition(".")[0] != owner for name in wrong):
        return
    if state[last].shape[1:] != wanted[last].shape[1:]:
        return
    raise ConfigError(
        f"checkpoint {path} has {state[last].shape[0]} classes, the data set {wanted[last].shape[0]} "
        f"({last}: {_dims(state[last])} instead of {_dims(wanted[last])}).",
        "Choose the data set it was trained on, or train its last layer on this one first.",
    )


def _listed(what: str, names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} {what} ({', '.join(names[:_SHOWN])}{more})"


def _dims(tensor: Tensor) -> str:
    return "x".join(str(size) for size in tensor.shape) or "scalar"


def state_digest(state: Mapping[str, Tensor]) -> str:
    """16 hexadecimal digits of SHA-256 over names, dtypes, shapes and bytes; the order of the names does not matter.

    >>> one = {"a": torch.zeros(2), "b": torch.ones(1)}
    >>> state_digest(one) == state_digest(dict(reversed(one.items())))
    True
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
