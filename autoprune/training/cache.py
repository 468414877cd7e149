"""Trained networks on disk: one safetensors file each, whose own header carries the digest of what is in it.

One file, and not weights with a description beside them: it is replaced as a whole, so two processes that train the
same network at once can only leave one of two good files.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from autoprune.data.cache import cache_dir
from autoprune.errors import ConfigError, StoreError
from autoprune.files import Damaged, read_sealed, replacing, sealing, set_aside
from autoprune.training.loop import Trainer

__all__ = ["TrainedCache", "read"]


@dataclass(frozen=True)
class TrainedCache:
    """One folder of the cache: ``<key>.safetensors`` for what is trained, ``<key>.partial.pt`` for what was cut."""

    folder: str
    what: str
    """As a message calls what is kept: ``base model``."""

    def path(self, key: str) -> Path:
        """Where the trained network is, or will be."""
        return cache_dir(self.folder) / f"{key}.safetensors"

    def _progress_path(self, key: str) -> Path:
        return cache_dir(self.folder) / f"{key}.partial.pt"

    def save(self, key: str, model: nn.Module, record: Mapping[str, Any]) -> None:
        """Write the weights and a JSON record of how they came about."""
        state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
        text = json.dumps(record, sort_keys=True)
        with replacing(self.path(key)) as temporary:
            try:
                save_file(state, temporary, metadata={"record": text, "sha256": _sha256(state, text)})
            except SafetensorError as error:  # its name for a full disk, among others
                raise OSError(str(error)) from None

    def load(self, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Weights and record, or None when there are none. A damaged file is warned of and set aside."""
        path = self.path(key)
        if not path.is_file():
            return None
        try:
            return read(path)
        except ConfigError as error:
            set_aside(path, f"the cached {self.what}", error.message, "It is trained again.")
        return None

    def save_progress(self, key: str, trainer: Trainer, seconds: float) -> None:
        """Write what a killed training needs to go on.

        Where that fails it warns: a full disk is no reason to lose the training, and may have room the next time.
        """
        content = io.BytesIO()  # torch.save into a file aborts the process when the disk is full
        torch.save({"trainer": trainer.state(), "seconds": seconds}, content)
        try:
            with sealing(self._progress_path(key)) as temporary:
                temporary.write_bytes(content.getbuffer())
        except StoreError as error:
            warnings.warn(f"the training goes on, but what it has so far is not saved: {error}", stacklevel=2)

    def load_progress(self, key: str, trainer: Trainer) -> float:
        """Put the trainer where the last ``save_progress`` was; the seconds spent until then, 0 when there was none.

        A damaged file is warned of and set aside. Raises ConfigError for one that does not fit the trainer.
        """
        path = self._progress_path(key)
        if not path.is_file():
            return 0.0
        try:
            content = torch.load(io.BytesIO(read_sealed(path)), map_location=trainer.device, weights_only=True)
            trainer.load_state(content["trainer"])
            return float(content["seconds"])
        except Damaged as error:
            set_aside(path, "the unfinished training", error.message, "It begins anew.")
            return 0.0
        except (RuntimeError, EOFError, OSError, KeyError, ValueError, TypeError, pickle.UnpicklingError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(
                f"the unfinished training {path} cannot be continued: {reason}.", "Delete the file to start anew."
            ) from None

    def discard_progress(self, key: str) -> None:
        self._progress_path(key).unlink(missing_ok=True)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and record of a file that a cache wrote. Raises ConfigError, without naming the file, when it is damaged
    or was written by something else."""
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        text = metadata["record"]
        if _sha256(state, text) == metadata["sha256"]:
            return state, json.loads(text)
        reason = "its SHA-256 does not match"
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        reason = f"it cannot be read ({error})"
    raise ConfigError(reason)


def _sha256(state: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(state):
        tensor = state[name]
        digest.update(f"|{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
