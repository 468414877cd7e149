"""A perceptron with two hidden layers, its gradients, and Adam; parameters are one vector, so that updates are too."""

from __future__ import annotations

import numpy as np

__all__ = ["Adam", "Perceptron"]

_Layers = list[tuple[np.ndarray, np.ndarray]]


class Perceptron:
    """(N, inputs) -> (N, 1) float32: ReLU after each hidden layer; a sigmoid at the end where the output is a share."""

    def __init__(self, inputs: int, hidden: int, *, sigmoid: bool, rng: np.random.Generator) -> None:
        self._sizes = [(inputs, hidden), (hidden, hidden), (hidden, 1)]
        self._sigmoid = sigmoid
        parts = [
            rng.uniform(-1.0, 1.0, (rows + 1) * columns) / np.sqrt(rows) for rows, columns in self._sizes
        ]  # as torch initialises a linear layer: weights and bias within one over the root of the inputs
        self.parameters = np.concatenate(parts).astype(np.float32)
        self._layers = self._views(self.parameters)

    def _views(self, vector: np.ndarray) -> _Layers:
        """(weight (in, out), bias (out,)) of each layer, sharing the vector's memory."""
        layers, start = [], 0
        for rows, columns in self._sizes:
            weights = start + rows * columns
            layers.append((vector[start:weights].reshape(rows, columns), vector[weights : weights + columns]))
            start = weights + columns
        return layers

    def shrink_outputs(self, factor: float) -> None:
        """Scale the last layer's weights, and set its bias to 0: outputs begin near 0, or near a half."""
        weights, bias = self._layers[-1]
        weights *= np.float32(factor)
        bias[...] = 0.0

    def copy(self) -> Perceptron:
        twin = object.__new__(Perceptron)
        twin._sizes, twin._sigmoid = self._sizes, self._sigmoid
        twin.parameters = self.parameters.copy()
        twin._layers = twin._views(twin.parameters)
        return twin

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        return self.forward(inputs)[-1]

    def forward(self, inputs: np.ndarray) -> list[np.ndarray]:
        """The inputs and what comes out of each layer; the last is the output."""
        outputs = [inputs]
        for weight, bias in self._layers[:-1]:
            outputs.append(np.maximum(outputs[-1] @ weight + bias, np.float32(0.0)))
        weight, bias = self._layers[-1]
        last = outputs[-1] @ weight + bias
        outputs.append(np.float32(1.0) / (np.float32(1.0) + np.exp(-np.clip(last, -60, 60))) if self._sigmoid else last)
        return outputs

    def backward(self, outputs: list[np.ndarray], gradient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """From ``forward``'s list and d/d output (N, 1): d/d parameters, as one vector, and d/d inputs."""
        vector = np.empty_like(self.parameters)
        views = self._views(vector)
        if self._sigmoid:
            gradient = gradient * outputs[-1] * (1 - outputs[-1])
        for at in reversed(range(len(self._sizes))):
            weights, biases = views[at]
            weights[...] = outputs[at].T @ gradient
            biases[...] = gradient.sum(axis=0)
            gradient = gradient @ self._layers[at][0].T
            if at:
                gradient = gradient * (outputs[at] > 0)
        return vector, gradient


class Adam:
    """Kingma & Ba 2015, algorithm 1, on one parameter vector, in place."""

    def __init__(self, parameters: np.ndarray, rate: float) -> None:
        self._parameters, self._rate = parameters, rate
        self._mean, self._square = np.zeros_like(parameters), np.zeros_like(parameters)
        self.steps = 0

    @property
    def vectors(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Parameters and the moving averages of their gradients and squares; with ``steps``, all there is."""
        return self._parameters, self._mean, self._square

    def step(self, gradient: np.ndarray) -> None:
        self.steps += 1
        self._mean += np.float32(0.1) * (gradient - self._mean)
        self._square += np.float32(0.001) * (gradient * gradient - self._square)
        scale = np.sqrt(1 - 0.999**self.steps)
        rate = np.float32(self._rate * scale / (1 - 0.9**self.steps))
        self._parameters -= rate * self._mean / (np.sqrt(self._square) + np.float32(1e-8 * scale))
