"""GPUs, builds of torch, and the kernels of our own."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from autoprune.api.doctor_packages import version_of
from autoprune.api.findings import Finding

__all__ = ["accelerators", "kernels"]

_SECONDS = 5.0


def accelerators(*, full: bool = False) -> Iterator[Finding]:
    """GPUs, and whether torch and torchvision fit them and each other. torch is imported where there is a GPU."""
    cards = _cards()
    built = _cuda_of("torch")
    yield Finding("gpu", "ok", "; ".join(cards) if cards else "none: trials run on the processor")
    if version_of("torch") is None:
        return  # said with the packages
    told = "none (a build for the processor)" if built is None else built
    if cards and built is None:
        hint = "Install torch for CUDA: https://pytorch.org/get-started/locally"
        yield Finding("cuda of torch", "problem", told, "a build of torch for CUDA", hint)
    elif built is not None and not cards:
        hint = "It works. A build for the processor is smaller: https://pytorch.org/get-started/locally"
        yield Finding("cuda of torch", "warning", f"{built}, and there is no GPU", "a build for the processor", hint)
    else:
        yield Finding("cuda of torch", "ok", told)
    if cards or full:
        yield from _seen_by_torch(len([card for card in cards if "MIG" not in card]), built)
    yield from _torchvision(built, full)


def _cards() -> list[str]:
    """One text a GPU, and one a slice of it (MIG), as the driver's program lists them."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return [path.name for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*"))]
    try:
        done = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    if done.returncode:
        return []
    return [re.sub(r"\s*\(UUID: .*", "", line).strip() for line in done.stdout.splitlines() if line.strip()]


def _cuda_of(package: str) -> str | None:
    """The CUDA version that a package was built for, read from its files: importing torch takes a second."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    try:
        text = (Path(spec.origin).parent / "version.py").read_text()
    except OSError:
        return None
    found = re.search(r"^cuda(?:\s*:[^=]*)?\s*=\s*['\"]([\d.]+)['\"]", text, re.MULTILINE)
    return found[1] if found else None


def _linked_to_cuda(package: str) -> bool:
    """Whether a package's library asks for CUDA's, as its file says: version numbers on PyPI do not."""
    spec = importlib.util.find_spec(package)
    libraries = Path(spec.origin).parent.glob("_C*.so") if spec is not None and spec.origin is not None else ()
    return any(sign in path.read_bytes() for path in libraries for sign in (b"libcudart", b"libc10_cuda"))


def _seen_by_torch(cards: int, built: str | None) -> Iterator[Finding]:
    import torch

    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if seen:
        names = ", ".join(torch.cuda.get_device_name(place) for place in range(seen))
        yield Finding("gpu of torch", "ok", f"{seen} of {cards}: {names}")
    elif cards and built is not None:
        hint = "Check the driver (nvidia-smi) and CUDA_VISIBLE_DEVICES."
        yield Finding("gpu of torch", "problem", "torch sees no GPU", f"{cards}", hint)
    else:
        yield Finding("gpu of torch", "ok", f"torch {torch.__version__} can be imported")


def _torchvision(built: str | None, full: bool) -> Iterator[Finding]:
    """Whether its operators load beside this torch. That is cured by declaring two of them."""
    if version_of("torchvision") is None:
        return
    linked = _linked_to_cuda("torchvision")
    told = "they load" if linked is (built is not None) else "they may not load"
    if linked and built is None:
        told = "linked to CUDA beside a torch for the processor: two are declared by name, which is all that is needed"
    if full:
        from autoprune.models.torchvision_shim import torchvision

        told += f"; {torchvision.__version__} can be imported"
    yield Finding("torchvision operators", "ok", told)


def kernels() -> Iterator[Finding]:
    """The kernels of our own: they are compiled now where they were not yet, which takes some seconds."""
    from autoprune.evaluators.native import build

    why = build.why_unavailable()
    if why is None:
        yield Finding("kernels", "ok", "our own kernels are compiled and load")
    else:
        hint = "Trials run on torch's kernels, small networks at about half the speed. Install a C++ compiler (g++)."
        yield Finding("kernels", "warning", f"none of our own: {why}", "compiled kernels", hint)
