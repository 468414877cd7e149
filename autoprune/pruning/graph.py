"""The channel graph of a module, and the walk that finds what a set of channels is coupled to.

torch-pruning's DependencyGraph traces the module through autograd and knows how channel numbers change through
concatenation, split, flatten and slicing. Its own group extraction walks lists of index tuples and re-derives all maps
for every group; the walk here reads the same graph with arrays, which takes seconds off a DenseNet, keeps every
(position, root channel) pair when several paths lead to one position, and continues past an operation that
torch-pruning cannot map, noting which channels are affected.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autoprune.errors import ConfigError
from autoprune.pruning import layers
from autoprune.pruning.cloning import clone

__all__ = ["FORWARD_ERRORS", "Graph", "Reach", "first_line"]

FORWARD_ERRORS = (
    RuntimeError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    NotImplementedError,
)
"""What a module's forward (or a tracer, on a module it does not understand) is expected to raise."""

_MAPPERS = ("concat", "split", "reshape", "unbind", "expand", "slice")


def first_line(error: Exception) -> str:
    """The error's type and the first line of its text."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0].rstrip('.')}" if text else type(error).__name__


@dataclass(eq=False)
class Reach:
    """What the channels of a root layer are coupled to."""

    root: Any
    channels: np.ndarray
    """(n,) int64: output channels of the root that the walk started from."""
    visits: dict[tuple[Any, str], np.ndarray] = field(default_factory=dict)
    """(node, side) -> codes ``position * stride + root channel``, sorted and unique."""
    stride: int = 1

    def pairs(self) -> Iterator[tuple[Any, str, np.ndarray, np.ndarray]]:
        """(node, side, positions, root channels)."""
        for (node, side), codes in self.visits.items():
            yield node, side, codes // self.stride, codes % self.stride


class Graph:
    """A traced copy of ``model``; the model itself is not touched.

    Raises ConfigError when the model does not run on the example input or cannot be traced at all.
    """

    def __init__(self, model: nn.Module, example_input: Tensor) -> None:
        with torch.inference_mode(False):
            self.model = _traceable(model)
        self.order: list[nn.Module] = []
        """Convolutions and linear layers in the order in which they first ran."""
        self.failed: dict[Any, str] = {}
        """Nodes whose index map is not known, and why."""
        self.output_nodes: set[Any] = set()
        self._outputs_of: dict[Any, nn.Module] = {}
        with _quiet(), torch.inference_mode(False), torch.enable_grad():
            self._graph = self._build(example_input.detach().clone())
        self.nodes: dict[Any, Any] = self._graph.module2node
        self.names: dict[Any, str] = {module: name for name, module in self.model.named_modules()}
        self.parameter_names: dict[Any, str] = dict(self._graph._param_to_name)

    def name(self, node: Any) -> str:
        """The layer's name in the model, or the operation's."""
        module = node.module
        if isinstance(module, nn.Parameter):
            return self.parameter_names.get(module, "parameter")
        return self.names.get(module) or _operation(str(module))

    def roots(self) -> list[Any]:
        """Nodes of the layers that make channels, in order of execution."""
        return [self.nodes[module] for module in self.order if module in self.nodes]

    def walk(self, root: Any, channels: np.ndarray) -> Reach:
        """Follow ``channels`` of the root's output to everything that must be cut with them."""
        stride = int(channels.max()) + 1
        reach = Reach(root, channels, stride=stride)
        start = self._graph.get_pruner_of_module(root.module).prune_out_channels
        stack = [(root, start, channels * stride + channels)]
        while stack:
            node, function, codes = stack.pop()
            key = (node, "in" if function.__name__ == "prune_in_channels" else "out")
            known = reach.visits.get(key)
            if known is not None and np.array_equal(known, codes):
                continue
            fresh = np.unique(codes) if known is None else np.setdiff1d(codes, known)
            if not len(fresh):
                continue
            reach.visits[key] = fresh if known is None else np.union1d(known, fresh)
            stack.extend(self._through_depthwise(node, key[1], fresh, stride))
            for dependency in node.dependencies:
                if dependency.is_triggered_by(function):
                    mapped = self._map(dependency, fresh, stride)
                    if len(mapped):
                        stack.append((dependency.target, dependency.handler, mapped))
        return reach

    def _map(self, dependency: Any, codes: np.ndarray, stride: int) -> np.ndarray:
        try:
            for mapping in dependency.index_mapping:
                codes = codes if mapping is None else _apply(mapping, codes, stride)
        except FORWARD_ERRORS as error:
            self.failed[dependency.source] = f"could not be followed ({first_line(error)})"
            return codes[:0]
        return codes

    def _through_depthwise(self, node: Any, side: str, codes: np.ndarray, stride: int) -> list[tuple[Any, Any, Any]]:
        """Depthwise with several filters a channel: torch-pruning sees unrelated sides, but they are coupled."""
        multiplier = layers.depth_multiplier(node.module)
        if multiplier < 2:
            return []
        pruner = self._graph.get_pruner_of_module(node.module)
        positions, roots = codes // stride, codes % stride
        if side == "out":
            return [(node, pruner.prune_in_channels, positions // multiplier * stride + roots)]
        spread = positions[:, None] * multiplier + np.arange(multiplier)
        return [(node, pruner.prune_out_channels, (spread * stride + roots[:, None]).ravel())]

    def _build(self, example_input: Tensor) -> Any:
        import torch_pruning as tp

        hooks = [module.register_forward_hook(self._record) for module in self.model.modules()]
        graph = tp.DependencyGraph()
        captured: list[Any] = []

        def capture(out: Any) -> Any:
            captured.append(out)
            return out

        try:
            with self._tolerant_mapping():
                graph.build_dependency(
                    self.model,
                    example_input,
                    forward_fn=lambda model, value: model(value),
                    output_transform=capture,
                    verbose=False,
                )
        except FORWARD_ERRORS as error:
            problem = "cannot be traced" if captured else "does not run on the example input"
            raise ConfigError(
                f"the model {problem}: {first_line(error)}.",
                f"The example input has shape {tuple(example_input.shape)}; the model must map it to tensors.",
            ) from error
        finally:
            for hook in hooks:
                hook.remove()
        functions = {out.grad_fn for out in tp.utils.flatten_as_list(captured[0]) if isinstance(out, Tensor)}
        makers = {self._outputs_of[function] for function in functions if function in self._outputs_of}
        self.output_nodes = {
            node
            for module, node in graph.module2node.items()
            if module in makers or node.grad_fn in functions or type(module).__name__ == "_OutputOp"
        }
        self._note_padding(graph)
        return graph

    def _record(self, module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.grad_fn is not None and not len(list(module.children())):
            self._outputs_of[output.grad_fn] = module
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd) and module not in self.order:
            self.order.append(module)

    @contextmanager
    def _tolerant_mapping(self) -> Iterator[None]:
        """Let the tracer carry on when it cannot map one operation; the node is noted in ``failed``."""
        from torch_pruning.dependency import index_mapping

        def tolerant(function: Any) -> Any:
            def wrapped(graph: Any, node: Any) -> None:
                try:
                    function(graph, node)
                except FORWARD_ERRORS as error:
                    self.failed[node] = f"could not be mapped ({first_line(error)})"

            return wrapped

        names = [f"update_{kind}_index_mapping" for kind in _MAPPERS]
        originals = {name: getattr(index_mapping, name) for name in names}
        try:
            for name, function in originals.items():
                setattr(index_mapping, name, tolerant(function))
            yield
        finally:
            for name, function in originals.items():
                setattr(index_mapping, name, function)

    def _note_padding(self, graph: Any) -> None:
        """Channels that meet a constant number of padded zeros cannot shrink ("option A" shortcuts)."""
        for node in graph.module2node.values():
            pad = getattr(node.grad_fn, "_saved_pad", None)
            metadata = getattr(node.grad_fn, "_input_metadata", None)
            if pad is None or not metadata or len(metadata[0].shape) < 3:
                continue
            first = 2 * (len(metadata[0].shape) - 2)  # pads are listed from the last dimension backwards
            if any(pad[first : first + 2]):
                self.failed[node] = "adds a fixed number of zero channels"


def _operation(text: str) -> str:
    """The operation's name out of torch-pruning's: ``_ElementWiseOp_7(AddBackward0)`` -> ``Add``."""
    kind, _, inside = text.partition("(")
    word, backward, _ = inside.partition("Backward")
    return word if backward else kind.strip("_").partition("_")[0].removesuffix("Op")


def _traceable(model: nn.Module) -> nn.Module:
    """A copy in eval mode in which every weight requires a gradient: the tracer follows autograd."""
    copied: nn.Module = clone(model).eval()
    for parameter in copied.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
    return copied


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _apply(mapping: Any, codes: np.ndarray, stride: int) -> np.ndarray:
    """torch-pruning's map from positions to positions, on arrays; unknown kinds are called as they are."""
    from torch_pruning.dependency import index_mapping as maps

    positions, roots = codes // stride, codes % stride
    if isinstance(mapping, maps._ConcatIndexMapping | maps._SplitIndexMapping):
        enters_part = mapping.reverse == isinstance(mapping, maps._ConcatIndexMapping)
        start = mapping.offset[0]
        if not enters_part:
            return codes + start * stride
        inside = (positions >= start) & (positions < mapping.offset[1])
        return codes[inside] - start * stride
    if isinstance(mapping, maps._FlattenIndexMapping):
        if mapping.reverse:
            return np.unique(positions // mapping._stride * stride + roots)
        spread = positions[:, None] * mapping._stride + np.arange(mapping._stride)
        return (spread * stride + roots[:, None]).ravel()
    return _call(mapping, positions, roots, stride)


def _call(mapping: Any, positions: np.ndarray, roots: np.ndarray, stride: int) -> np.ndarray:
    from torch_pruning._helpers import _HybridIndex

    pairs = [_HybridIndex(idx=int(p), root_idx=int(r)) for p, r in zip(positions, roots, strict=True)]
    mapped = [(int(pair.idx), pair.root_idx) for pair in mapping(pairs)]
    return np.array([p * stride + r for p, r in mapped if r is not None], dtype=np.int64)
