"""Hand-built face networks in ONNX, as insightface loads its own: nobody publishes theirs without a download.

The recogniser has the layers of ArcFace's ResNet (its normalisations folded, as in the published file) and random
weights. The detector has SCRFD's outputs and none of its work: a red place is a face.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from spf.evaluation.faces import PACKS, Pack
from spf.evaluation.weights import file_hash

REAL, TINY = ((64, 128, 256, 512), (3, 4, 14, 3)), ((8, 16, 32, 64), (1, 1, 1, 1))
"""Widths and depths of the recogniser's stages: of the published one, and of one for a hurry."""
LANDMARKS = np.array([[38.3, 51.7], [73.5, 51.5], [56.0, 71.7], [41.5, 92.4], [70.7, 92.2]]) - 56
"""Of a face of 112 pixels, from its middle."""
STRIDES, SEES = (8, 16, 32), 32  # of SCRFD; the one that sees red places
DRAW = np.random.default_rng(0)


def build_pack(folder: Path, shape: tuple[tuple[int, ...], tuple[int, ...]]) -> Pack:
    """buffalo_l in ``folder``, as its archive unpacks; the pack has the hashes of what was built."""
    pack = PACKS["buffalo_l"]
    _recogniser(folder / pack.recogniser.file, *shape)
    _detector(folder / pack.detector.file)
    return Pack(*(replace(one, sha256=file_hash(folder / one.file)) for one in (pack.detector, pack.recogniser)))


class _Graph:
    """Nodes and weights, one after the other."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, kind: str, *inputs: str | np.ndarray, **options: object) -> str:
        """A node; arrays among its inputs become weights. Its output's name."""
        name = f"{kind}{len(self.nodes)}"
        given = [one if isinstance(one, str) else f"{name}_{place}" for place, one in enumerate(inputs)]
        self.weights += [numpy_helper.from_array(one, called) for one, called in zip(inputs, given, strict=True)
                         if not isinstance(one, str)]
        self.nodes.append(helper.make_node(kind, given, [name], **options))
        return name

    def conv(self, x: str, fan_in: int, width: int, size: int = 3, stride: int = 1, gain: float = 1.0) -> str:
        """A random convolution."""
        spread = gain * (2 / (fan_in * size**2)) ** 0.5
        kernel = DRAW.normal(0, spread, (width, fan_in, size, size)).astype(np.float32)
        return self.add("Conv", x, kernel, kernel_shape=[size, size], strides=[stride, stride], pads=[size // 2] * 4)

    def prelu(self, x: str, width: int) -> str:
        """A quarter of what is negative stays."""
        return self.add("PRelu", x, np.full((width, 1, 1), 0.25, np.float32))

    def save(self, path: Path, side: int | str, outputs: dict[str, int]) -> None:
        """With an input ``image`` (1,3,side,side), and outputs (n,width)."""
        path.parent.mkdir(parents=True, exist_ok=True)
        graph = helper.make_graph(
            self.nodes, path.stem, [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, side, side])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width]) for name, width in outputs.items()],
            self.weights)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def _recogniser(path: Path, widths: tuple[int, ...], depths: tuple[int, ...]) -> None:
    graph, before = _Graph(), widths[0]
    x = graph.prelu(graph.conv("image", 3, before), before)
    for width, depth in zip(widths, depths, strict=True):
        for block in range(depth):
            stride = 1 if block else 2
            short = x if block else graph.conv(x, before, width, 1, stride)
            inner = graph.prelu(graph.conv(x, before, width), width)
            x = graph.add("Add", graph.conv(inner, width, width, stride=stride, gain=0.3), short)
            before = width
    places = before * 7 * 7
    dense = DRAW.normal(0, places**-0.5, (512, places)).astype(np.float32)
    graph.save(path, 112, {graph.add("Gemm", graph.add("Flatten", x), dense, transB=1): 512})


def _detector(path: Path) -> None:
    """Scores, boxes and landmarks at each stride, of two anchors each, of which the first may see something."""
    graph, outputs = _Graph(), {}
    for kind, width in (("scores", 1), ("boxes", 4), ("landmarks", 10)):
        for stride in STRIDES:
            cell = graph.add("AveragePool", "image", kernel_shape=[stride] * 2, strides=[stride] * 2)
            kernel = np.zeros((2 * width, 3, 1, 1), np.float32)
            if kind == "scores":
                kernel[0, :, 0, 0] = np.array([20, -20, -20]) * (stride == SEES)
            bias = {"scores": [-50.0, -50.0], "boxes": [4.0] * 8, "landmarks": [*(LANDMARKS / stride).flatten()] * 2}
            said = graph.add("Conv", cell, kernel, np.array(bias[kind], np.float32))
            said = graph.add("Sigmoid", said) if kind == "scores" else said
            last = graph.add("Transpose", said, perm=[0, 2, 3, 1])
            outputs[graph.add("Reshape", last, np.array([-1, width], np.int64))] = width
    graph.save(path, "side", outputs)
