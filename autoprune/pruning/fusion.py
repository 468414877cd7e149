"""Which operations of a network can run as one: a convolution, its BatchNorm, a residual addition and a ReLU.

Found once for a model, on its ``torch.fx`` trace, and then used for every network sliced from it: names of layers stay
when channels leave. Each value in the middle of a chain has one reader, so nothing else misses it.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import fx, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["Program", "Step", "find_program"]

_RELUS = (functional.relu, functional.relu_, torch.relu, torch.relu_)
_SUMS = (operator.add, operator.iadd, torch.add)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True, eq=False)
class Step:
    """A chain (``conv``, ``norm`` or both are set, in this order, then ``added`` and ``relu``), or one operation."""

    node: fx.Node
    """The last operation; its value is the step's."""
    source: fx.Node | None = None
    """What the chain reads."""
    conv: str | None = None
    norm: str | None = None
    added: fx.Node | None = None
    relu: bool = False
    frees: tuple[fx.Node, ...] = ()
    """Values that no later step reads."""

    @property
    def reads(self) -> tuple[fx.Node, ...]:
        if self.source is None:
            return tuple(self.node.all_input_nodes)
        return (self.source,) if self.added is None else (self.source, self.added)


@dataclass(frozen=True, eq=False)
class Program:
    """The steps of a network in order, from its ``images`` to its ``output``."""

    steps: tuple[Step, ...]
    images: fx.Node
    output: fx.Node


def find_program(model: nn.Module) -> Program | None:
    """The model's chains, as it runs in eval mode; None where a trace cannot be relied on.

    That is: control flow that depends on the images, several inputs or outputs, a BatchNorm that is used twice, that
    normalises by the batch in eval mode, or is of an unknown kind. A trace also fixes what ``forward`` reads from
    Python attributes, so a program must be compared with the model before it is trusted.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if any(type(norm) not in _NORMS or norm.running_mean is None for norm in norms):
        return None
    graph = _trace(model)
    if graph is None:
        return None
    modules = dict(model.named_modules())
    called = [modules[str(node.target)] for node in graph.nodes if node.op == "call_module"]
    used = [module for module in called if isinstance(module, _BatchNorm)]
    images = [node for node in graph.nodes if node.op == "placeholder"]
    output = next(node for node in graph.nodes if node.op == "output").args[0]
    if len(images) != 1 or not isinstance(output, fx.Node) or len(set(used)) != len(used):
        return None
    return Program(_with_frees(_Chains(graph, modules).steps(), output), images[0], output)


def _trace(model: nn.Module) -> fx.Graph | None:
    training = {module: module.training for module in model.modules()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return fx.Tracer().trace(model.eval())
    except Exception:  # noqa: BLE001 - the model's own code runs on stand-ins for tensors, and may raise anything
        return None
    finally:
        for module, mode in training.items():
            module.training = mode


class _Chains:
    """Grows chains along the graph. A chain runs where its last operation stood, by when all that it reads is there."""

    def __init__(self, graph: fx.Graph, modules: Mapping[str, nn.Module]) -> None:
        self._graph = graph
        self._modules = modules
        self._order = {node: position for position, node in enumerate(graph.nodes)}
        self._chains: dict[fx.Node, Step] = {}
        self._inside: set[fx.Node] = set()

    def steps(self) -> list[Step]:
        for node in self._graph.nodes:
            chain = self._chain(node)
            if chain is not None:
                self._chains[node] = chain
        skipped = ("placeholder", "output")
        nodes = [node for node in self._graph.nodes if node.op not in skipped and node not in self._inside]
        return [self._chains.get(node) or Step(node) for node in nodes]

    def _chain(self, node: fx.Node) -> Step | None:
        module = self._modules[str(node.target)] if node.op == "call_module" else None
        if isinstance(module, nn.Module) and (module._forward_hooks or module._forward_pre_hooks):
            return None
        if type(module) is nn.Conv2d and module.padding_mode == "zeros":
            return Step(node, _input(node), conv=str(node.target))
        if type(module) in _NORMS:
            before = self._take(
                node.args[0], lambda chain: (chain.norm, chain.added, chain.relu) == (None, None, False)
            )
            return replace(before or Step(node, _input(node)), node=node, norm=str(node.target))
        if _is_relu(node, module):
            before = self._take(node.args[0], lambda chain: not chain.relu)
            return replace(before, node=node, relu=True) if before else None
        if _is_sum(node):
            first, second = sorted(node.all_input_nodes, key=self._order.__getitem__)
            before = self._take(second, lambda chain: chain.added is None and not chain.relu)
            return replace(before, node=node, added=first) if before else None
        return None

    def _take(self, node: object, fits: Callable[[Step], bool]) -> Step | None:
        """The chain that ends in ``node``, to be grown, if ``node`` has one reader."""
        chain = self._chains.get(node) if isinstance(node, fx.Node) else None
        if chain is None or len(chain.node.users) != 1 or not fits(chain):
            return None
        self._inside.add(chain.node)
        return chain


def _is_bare_convolution(chain: Step) -> bool:
    return chain.norm is None and chain.added is None and not chain.relu


def _input(node: fx.Node) -> fx.Node:
    return node.all_input_nodes[0]


def _is_relu(node: fx.Node, module: nn.Module | None) -> bool:
    if node.op == "call_method":
        return node.target in ("relu", "relu_")
    return type(module) is nn.ReLU or (node.op == "call_function" and node.target in _RELUS)


def _is_sum(node: fx.Node) -> bool:
    """Of two different values, without a factor."""
    known = node.target in ("add", "add_") if node.op == "call_method" else node.target in _SUMS
    return bool(known) and not node.kwargs and len(node.args) == 2 and len(node.all_input_nodes) == 2


def _with_frees(steps: list[Step], output: fx.Node) -> tuple[Step, ...]:
    last = {node: position for position, step in enumerate(steps) for node in step.reads}
    last.pop(output, None)
    return tuple(
        replace(step, frees=tuple(node for node in step.reads if last.get(node) == position))
        for position, step in enumerate(steps)
    )
