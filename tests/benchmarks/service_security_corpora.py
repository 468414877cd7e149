"""What ``service_security.py`` sends."""

from __future__ import annotations

import itertools
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = [
    "BAD_JSON",
    "YAML_ATTACKS",
    "evil_checkpoints",
    "foreign_headers",
    "imports",
    "injections",
    "traversals",
]


# --- checkpoints -----------------------------------------------------------------------------------------------------


class _Evil:
    """Touches a file when it is unpickled."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> Any:
        return self.call, self.arguments


def evil_checkpoints(folder: Path, marker: Path) -> list[Path]:
    """30 files: five ways to run code, each alone, in a dictionary and inside of a state dict, in two containers."""
    import builtins
    import os
    import subprocess

    import torch

    touch = f"open({str(marker)!r}, 'w').close()"
    calls = [
        _Evil(os.system, f"touch {marker}"),
        _Evil(builtins.eval, touch),
        _Evil(builtins.exec, touch),
        _Evil(subprocess.check_call, ["touch", str(marker)]),
        _Evil(Path.touch, marker),
    ]
    shapes: list[Callable[[Any], Any]] = [
        lambda evil: evil,
        lambda evil: {"state_dict": evil, "epoch": 1},
        lambda evil: OrderedDict([("conv.weight", torch.zeros(1)), ("conv.bias", evil)]),
    ]
    files = []
    for number, (call, shape) in enumerate(itertools.product(calls, shapes)):
        plain, zipped = folder / f"{number}.pkl.pt", folder / f"{number}.zip.pt"
        plain.write_bytes(pickle.dumps(shape(call)))
        torch.save(shape(call), zipped)
        files += [plain, zipped]
    return files


# --- YAML ------------------------------------------------------------------------------------------------------------

YAML_ATTACKS = [
    "a: !!python/object/apply:os.system ['touch /tmp/owned']",
    "!!python/object/apply:subprocess.check_output [['touch', '/tmp/owned']]",
    "!!python/name:os.system",
    "a: !!python/module:os",
    "a: !!python/object/new:subprocess.Popen [[touch, /tmp/owned]]",
    "a: !!python/tuple [1, 2]",
    "a: !ruby/object:Gem::Installer {}",
    "a: &a [x]\nb: *a",
    "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "\n".join(f"{b}: &{b} [{','.join(['*' + a] * 9)}]" for a, b in itertools.pairwise("abcdefghi")),
    "a: &a [*a]",
    "<<: {a: 1}\n<<: {b: 2}",
    "a: " + "[" * 40 + "]" * 40,
    "- " * 100_000,
    "{a: " * 50_000,
    "[" * 200_000,
    "a: 1:" + "59:" * 50_000 + "1",
    "a: " + "9" * 200_000,
    "? [a, b]\n: 1",
    "a: \x00",
    "a: !!timestamp soon",
    "a: !!bool soon",
    "a: !!binary '***'",
    "%TAG ! tag:evil,2020:\n---\na: !x 1",
    "a: 1\n---\nb: 2",
    "a: " + "'" * 99_999,
]


# --- paths -----------------------------------------------------------------------------------------------------------


def traversals() -> list[str]:
    """300 ways to leave a folder; ``SECRET`` stands for a file outside of the data root."""
    targets = ["secret.txt", "etc/passwd", "a.db", "tokens"]
    ups = [
        "../",
        "..\\",
        "%2e%2e/",
        "%2e%2e%2f",
        "..%2f",
        "%252e%252e%252f",
        "..%5c",
        "....//",
        "..;/",
        "%c0%ae%c0%ae/",
    ]
    found = [up * depth + target for up in ups for depth in (1, 2, 5, 12) for target in targets]
    starts = [
        "SECRET",
        "/etc/passwd",
        "//etc/passwd",
        "file:///etc/passwd",
        "~/secret.txt",
        "~root/x",
        "link",
        "./link",
    ]
    starts += ["C:\\Windows\\win.ini", "\\\\host\\share", "/proc/self/environ", "/dev/zero", "data/../secret.txt"]
    ends = ["", "%00", "\x00.yaml", "#x", "?x", ".yaml", "/.", "/", "%20", "::$DATA"]
    found += [start + end for start in starts for end in ends]
    found += [
        "..",
        ".",
        "",
        " ",
        "link/../secret.txt",
        "link//x",
        "./../secret.txt",
        "a/../../secret.txt",
        "%",
        "%zz",
        "\u2025/\u2025/x",
        "\uff0e\uff0e/x",
    ]
    found = [text for text in dict.fromkeys(found) if text not in ("", ".")]  # these mean the root itself
    return found[:300]


# --- SQL -------------------------------------------------------------------------------------------------------------


def injections() -> list[str]:
    """200 of the usual strings."""
    heads = ["'", '"', "s'", "number", "top1", "macs", "1", ")", "s\\'", "\u02bc"]
    tails = [
        " OR '1'='1",
        " OR 1=1--",
        "; DROP TABLE trials;--",
        " UNION SELECT config FROM searches--",
        " UNION ALL SELECT NULL,NULL,NULL--",
        "/**/OR/**/1=1",
        " AND (SELECT count(*) FROM searches) > 0",
        ") OR (1=1",
        "||(SELECT name FROM searches LIMIT 1)",
        " COLLATE NOCASE",
        ";ATTACH DATABASE '/tmp/owned.db' AS x;--",
        " AND randomblob(100000000)",
        "' ; PRAGMA writable_schema=1;--",
        " LIMIT -1",
        " DESC, (SELECT 1)",
        "%27 OR 1=1",
        "\x00' OR 1=1",
        " LIKE '%'",
        "' AND load_extension('x')--",
        " -- -",
    ]
    return [head + tail for head in heads for tail in tails]


# --- headers ---------------------------------------------------------------------------------------------------------


def foreign_headers(host: str) -> list[dict[str, str]]:
    """Of pages of other sites, and of pages that were rebound to this address."""
    port = host.rpartition(":")[2]
    hosts = [
        "evil.example",
        f"evil.example:{port}",
        f"127.0.0.1.evil.example:{port}",
        f"localhost.evil:{port}",
        "192.0.2.7",
    ]
    origins = [
        "http://evil.example",
        "https://evil.example",
        "null",
        "http://127.0.0.1:1",
        f"http://{host}.evil.example",
    ]
    origins += [f"http://evil.example:{port}", "file://", f"ftp://{host}", f"http://evil@{host}", ""]
    sites = [{"sec-fetch-site": site} for site in ("cross-site", "same-site")]
    return [{"host": name} for name in hosts] + [{"origin": name} for name in origins] + sites


# --- JSON ------------------------------------------------------------------------------------------------------------

BAD_JSON = [
    b'{"name": NaN}',
    b'{"trials": NaN}',
    b'{"trials": Infinity}',
    b'{"trials": 1e999}',
    b'{"name": "n", "seed": -1e999}',
    b'{"seed": ' + b"9" * 5000 + b"}",
    b'{"trials": ' + b"9" * 400_000 + b"}",
    b"[" * 100_000,
    b'{"a":' * 80_000,
    b"[" * 100_000 + b"]" * 100_000,
    b'{"format": {"a": ' + b"[" * 50_000 + b"]" * 50_000 + b"}}",
    b'{"name": "n"',
    b"",
    b"null",
    b'"text"',
    b"\xff\xfe",
    b'{"name": "\\ud800"}',
    b'{"name": "n", "name": "m", "trials": 0, "format": "x"}',
]


# --- configurations --------------------------------------------------------------------------------------------------


def imports(config: Callable[..., dict[str, Any]]) -> list[dict[str, Any]]:
    """Configurations that name code, files, stores or machines."""
    names = [
        "os:system",
        "os.path:join",
        "../x.py:make",
        "pkg.module:Class",
        "http://evil.example/x",
        "x;y",
        "a b",
        "/x",
    ]
    found = [
        config(space={"model": {"kind": kind, "name": name}})
        for name in names
        for kind in ("builtin", "timm", "torchvision")
    ]
    found += [config(space={"model": {"kind": "builtin", "name": "resnet8", "args": {"x": name}}}) for name in names]
    found += [config(space={"model": {"kind": "builtin", "name": "resnet8", "args": {name: 1}}}) for name in names]
    for path in ("net.py", "/tmp/net.py", "../net.py"):
        found.append(config(space={"model": {"kind": "file", "path": path, "factory": "make"}}))
        found.append(config(space={"data": {"kind": "file", "path": path, "factory": "make"}}))
    found += [
        config(space={"data": {"kind": "function", "name": "f"}}),
        config(space={"model": {"kind": "module", "type": "N", "digest": "d", "inputs": [[1, 3, 8, 8]]}}),
        config(space={"model": {"kind": "timm", "name": "hf-hub:evil/model"}}),
        config(
            space={"model": {"kind": "timm", "name": "resnet18", "args": {"pretrained_cfg": {"url": "http://x/y"}}}}
        ),
        config(space={"model": {"kind": "timm", "name": "resnet18", "args": {"checkpoint_path": "/tmp/x"}}}),
        config(space={"data": {"kind": "cifar10", "download": True}}),
        config(executor={"kind": "ray", "address": "evil.example:6379"}),
        config(executor={"kind": "ray", "address": "auto"}),
        config(store="sqlite:////tmp/owned.db"),
        config(store="postgresql://evil.example/x"),
        config(name="../../x"),
        config(name="a/b"),
        config(evaluator={"weights": {"kind": "inherit", "criterion": "os:system"}}),
        config(controller={"kind": "os:system"}),
    ]
    return found
