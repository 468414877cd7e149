"""The kernels as a shared library: compiled once a machine, kept in the cache folder, loaded with ctypes.

Without a compiler, on another kind of processor, or with ``AUTOPRUNE_NATIVE=0`` there is no library, and
``why_unavailable`` says why; nothing else of autoprune needs it.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

from autoprune.data.cache import cache_dir
from autoprune.errors import ConfigError, StoreError
from autoprune.files import Damaged, check_sealed, sealing, set_aside

__all__ = ["Library", "load_library", "why_unavailable"]

_SOURCE = Path(__file__).with_name("kernels.cpp")
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC")
_COMPILE_SECONDS = 120
_COMPILERS = ("c++", "g++", "clang++")
_LOG = logging.getLogger(__name__)

Library = ctypes.CDLL


class _Unavailable(Exception):
    """Says why there is no library."""


def load_library() -> Library | None:
    """The compiled kernels, or None. The first call in a new cache folder takes the compiler's few seconds."""
    return _loaded()[0]


def why_unavailable() -> str | None:
    """Why ``load_library`` gives None, in one sentence; None where it gives a library."""
    return _loaded()[1]


def _loaded() -> tuple[Library | None, str | None]:
    read = ("AUTOPRUNE_NATIVE", "AUTOPRUNE_HOME", "CXX", "PATH")
    return _load_once(tuple(os.environ.get(name) for name in read))


@lru_cache(maxsize=8)
def _load_once(environment: tuple[str | None, ...]) -> tuple[Library | None, str | None]:
    """Once for each environment that the answer depends on: a failing compiler is not asked for every candidate."""
    if environment[0] == "0":
        return None, "AUTOPRUNE_NATIVE=0 turns the native kernels off"
    try:
        return _open(_built()), None
    except (_Unavailable, ConfigError, StoreError) as error:
        _LOG.debug("no native kernels: %s", error)
        return None, str(error)


def _built() -> Path:
    compiler = _compiler()
    digest = hashlib.sha256()
    sources = [path.read_text() for path in sorted((_SOURCE, *_SOURCE.parent.glob("*.h")))]
    for part in (*sources, *_FLAGS, compiler, _version(compiler), platform.machine(), _processor()):
        digest.update(part.encode() + b"\0")
    path = cache_dir("native") / f"kernels-{digest.hexdigest()[:16]}.so"
    if not _is_whole(path):
        with sealing(path) as temporary:  # workers may race: each puts a whole file in place
            _run(compiler, *_FLAGS, "-o", str(temporary), str(_SOURCE))
    return path


def _is_whole(path: Path) -> bool:
    """A library with a flipped byte would compute something else, or crash the worker."""
    if not path.is_file():
        return False
    try:
        check_sealed(path)
    except (Damaged, OSError) as error:
        set_aside(path, "the compiled library", error, "It is compiled again.")
        return False
    return True


def _open(path: Path) -> Library:
    try:
        library = ctypes.CDLL(str(path))
        library.memory_bytes.restype = library.lanes.restype = ctypes.c_int64
    except (OSError, AttributeError) as error:
        raise _Unavailable(f"{path} cannot be loaded: {error}") from None
    return library


def _compiler() -> str:
    wanted = os.environ.get("CXX")
    for name in (wanted,) if wanted else _COMPILERS:
        found = shutil.which(name)
        if found:
            return found
    raise _Unavailable(f"no C++ compiler: none of {', '.join((wanted,) if wanted else _COMPILERS)} is on the PATH")


def _version(compiler: str) -> str:
    return _run(compiler, "--version")


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMPILE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _Unavailable(f"{command[0]} does not run: {error}") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        raise _Unavailable(f"{command[0]} fails: {said[0].strip() if said else f'exit status {done.returncode}'}")
    return done.stdout


def _processor() -> str:
    """What ``-march=native`` looks at: the processor's name and abilities."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    lines = {line.split(":")[0].strip(): line for line in text.splitlines()}
    return "\n".join(lines.get(key, "") for key in ("model name", "flags", "Features"))
