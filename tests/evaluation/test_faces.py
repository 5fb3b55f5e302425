"""The face path through insightface itself, by hand-built ONNX networks under the published names."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor
from torch.nn import functional as F

from spf.evaluation.faces import ATTEMPTS, GREY, PACKS, InsightFaces, Pack
from spf.evaluation.identity import Identity
from spf.evaluation.weights import WeightsAbsent, file_hash
from spf.text import Prompt

TEMPLATE = torch.tensor([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655],
                         [70.7299, 92.2041]])  # of a face of 112 x 112
RED, BLUE = (255, 0, 0), (0, 0, 255)


# ---- hand-built networks ----


def save_onnx(path: Path, nodes: list[onnx.NodeProto], weights: dict[str, Tensor], side: int | str,
              outputs: dict[str, int]) -> None:
    graph = helper.make_graph(
        nodes, path.stem, [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width]) for name, width in outputs.items()],
        [numpy_helper.from_array(value.numpy(), name) for name, value in weights.items()])
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def save_recogniser(path: Path) -> dict[str, Tensor]:
    """Conv, ReLU, mean, Gemm; its weights are returned."""
    weights = {"conv": torch.randn(8, 3, 5, 5), "bias": torch.randn(8), "gemm": torch.randn(512, 8)}
    save_onnx(path, [
        helper.make_node("Conv", ["image", "conv", "bias"], ["seen"], kernel_shape=[5, 5], strides=[3, 3]),
        helper.make_node("Relu", ["seen"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "gemm"], ["embedding"], transB=1)], weights, 112, {"embedding": 512})
    return weights


def save_detector(path: Path) -> None:
    """SCRFD's nine outputs: a red cell of 8 pixels is a small face there, a blue one of 32 pixels a large one.

    Either has its landmarks where the cell lies in the middle of the template.
    """
    colours = {8: (1.0, -1.0, -1.0), 32: (-1.0, -1.0, 1.0)}
    nodes, weights = [], {"one": torch.tensor([-1, 1]), "box": torch.tensor([-1, 4]), "points": torch.tensor([-1, 10])}
    for stride in (8, 16, 32):
        nodes.append(helper.make_node("AveragePool", ["image"], [f"cell{stride}"], kernel_shape=[stride, stride],
                                      strides=[stride, stride]))
        found = torch.zeros(2, 3, 1, 1)  # by the first of the two anchors only
        found[0, :, 0, 0] = 20 * torch.tensor(colours.get(stride, (0.0, 0.0, 0.0)))
        weights |= {f"one_w{stride}": found, f"one_b{stride}": torch.tensor([-50.0, -50.0]),
                    f"box_w{stride}": torch.zeros(8, 3, 1, 1), f"box_b{stride}": torch.full((8,), 2.0),
                    f"points_w{stride}": torch.zeros(20, 3, 1, 1),
                    f"points_b{stride}": ((TEMPLATE - 56) / stride).flatten().repeat(2)}
        for name in ("one", "box", "points"):
            nodes.append(helper.make_node("Conv", [f"cell{stride}", f"{name}_w{stride}", f"{name}_b{stride}"],
                                          [f"{name}_map{stride}"]))
            nodes.append(helper.make_node("Sigmoid" if name == "one" else "Identity", [f"{name}_map{stride}"],
                                          [f"{name}_said{stride}"]))
            nodes.append(helper.make_node("Transpose", [f"{name}_said{stride}"], [f"{name}_last{stride}"],
                                          perm=[0, 2, 3, 1]))
            nodes.append(helper.make_node("Reshape", [f"{name}_last{stride}", name], [f"{name}{stride}"]))
    widths = {"one": 1, "box": 4, "points": 10}
    save_onnx(path, nodes, weights, "side",
              {f"{name}{stride}": width for name, width in widths.items() for stride in (8, 16, 32)})


@dataclass(frozen=True)
class Built:
    folder: Path
    pack: Pack  # with the hashes of what was built
    weights: dict[str, Tensor]  # of the recogniser

    def embedding(self, crop: Tensor) -> Tensor:
        """What the recogniser says of (3,112,112) uint8 RGB, in torch."""
        seen = F.conv2d(crop[None] / 127.5 - 1, self.weights["conv"], self.weights["bias"], stride=3)
        return F.normalize(seen.relu().mean((2, 3)) @ self.weights["gemm"].T)[0]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """buffalo_l, as its archive unpacks."""
    folder, pack = tmp_path_factory.mktemp("faces"), PACKS["buffalo_l"]
    torch.manual_seed(0)
    weights = save_recogniser(folder / pack.recogniser.file)
    save_detector(folder / pack.detector.file)
    hashed = [replace(one, sha256=file_hash(folder / one.file)) for one in (pack.detector, pack.recogniser)]
    return Built(folder, Pack(*hashed), weights)


def portrait(*squares: tuple[tuple[int, int, int], int, int, int]) -> Tensor:
    """(3,640,640) of quiet grey noise, with squares: colour, x, y, side."""
    image = torch.randint(100, 150, (3, 640, 640), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for colour, x, y, side in squares:
        image[:, y:y + side, x:x + side] = torch.tensor(colour, dtype=torch.uint8)[:, None, None]
    return image


# ---- the real networks' path ----


def test_the_largest_face_is_embedded_as_torch_does(built: Built) -> None:
    faces = InsightFaces.published(built.folder, torch.device("cpu"), built.pack)
    image = portrait((RED, 80, 160, 8), (BLUE, 320, 320, 32))
    found = faces(image)
    assert found is not None and found.tried == 0 and found.embedding.shape == (512,)
    crop = image[:, 264:376, 264:376]  # the landmarks are the template's, so that alignment only cuts
    torch.testing.assert_close(found.embedding, built.embedding(crop), rtol=0, atol=1e-5)
    small = faces(portrait((RED, 80, 160, 8)))
    assert small is not None
    expected = built.embedding(portrait((RED, 80, 160, 8))[:, 104:216, 24:136])
    torch.testing.assert_close(small.embedding, expected, rtol=0, atol=1e-5)
    assert faces(portrait()) is None
    sizes = {attempt.size for attempt in ATTEMPTS}
    assert {width for width, _ in faces.detector.resolution_sessions} == sizes, "every size was looked at"


def test_colours_keep_their_places(built: Built) -> None:
    faces = InsightFaces.published(built.folder, torch.device("cpu"), built.pack)
    red = faces(portrait((RED, 80, 160, 8)))
    assert red is not None and faces(portrait((BLUE, 80, 160, 8))) is None, "a blue cell of 8 pixels is no face"
    image = portrait((BLUE, 320, 320, 32))
    swapped = built.embedding(image.flip(0)[:, 264:376, 264:376])
    straight = faces(image)
    assert straight is not None and torch.dot(straight.embedding, swapped) < 0.999


def test_identity_by_published_networks(built: Built) -> None:
    metric = Identity.published(built.folder, "cpu", built.pack)
    images = torch.stack([portrait((RED, 80, 160, 8)), portrait((BLUE, 320, 320, 32)), portrait()])
    encodings = metric.encode(images, [Prompt("")] * 3, None)
    rows = metric.score([encodings[0]] * 3, encodings, [Prompt("")] * 3)
    assert rows[0]["id"] == pytest.approx(1) and -1 <= rows[1]["id"] < 0.999 and rows[2]["id"] == 0
    about = metric.describe()
    assert about["weights"] == {"det_10g.onnx": built.pack.detector.sha256,
                                "w600k_r50.onnx": built.pack.recogniser.sha256}
    assert "non-commercial" in about["licence"] and about["threshold"] == 0.5


def test_where_and_what_the_files_are(built: Built, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not the published SCRFD-10GF"):
        InsightFaces.published(built.folder, torch.device("cpu"))
    (tmp_path / "buffalo_l").mkdir()
    (tmp_path / "buffalo_l" / "buffalo_l").symlink_to(built.folder / "buffalo_l")
    assert built.pack.find(tmp_path)[1] == tmp_path / "buffalo_l" / "buffalo_l" / "w600k_r50.onnx"
    for pack in PACKS.values():
        assert all(len(one.sha256) == 64 for one in (pack.detector, pack.recogniser))
        with pytest.raises(WeightsAbsent, match="non-commercial research"):
            pack.find(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no insightface network for detection"):
        InsightFaces.published(built.folder, torch.device("cpu"), Pack(built.pack.recogniser, built.pack.recogniser))


def test_threads_and_devices(built: Built) -> None:
    faces = InsightFaces.published(built.folder, torch.device("cpu"), built.pack)
    options = faces.recogniser.session.get_session_options()
    assert options.intra_op_num_threads == torch.get_num_threads()
    with pytest.warns(UserWarning, match="onnxruntime-gpu"):  # nobody may think that the GPU is used
        InsightFaces.published(built.folder, torch.device("cuda:0"), built.pack)


# ---- attempts, by a detector that says what it is told to ----


@dataclass
class Told:
    """Finds nothing until its attempt ``until``, then ``boxes`` with their corners for landmarks."""

    until: int
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 5), np.float32))
    asked: list[tuple[tuple[int, ...], tuple[int, int]]] = field(default_factory=list)
    pixels: list[np.ndarray] = field(default_factory=list)

    def detect(self, pixels: np.ndarray, input_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        self.asked.append((pixels.shape, input_size))
        self.pixels.append(pixels)
        boxes = self.boxes if len(self.asked) > self.until else self.boxes[:0]
        return boxes, np.stack([boxes[:, :2]] * 5, 1)


class Landmarks:
    """Embeds a face as the place of its first landmark."""

    def get(self, pixels: np.ndarray, face: object) -> np.ndarray:
        assert pixels.shape == (40, 80, 3), "faces are cut from the picture itself, not from a padded one"
        return face.kps[0]


@pytest.mark.parametrize("until", range(5))
def test_attempts_and_the_largest_box(until: int) -> None:
    boxes = np.array([[30, 20, 40, 25, 0.9], [23, 14, 53, 34, 0.6], [10, 20, 30, 30, 0.8]], np.float32)
    told = Told(until, boxes)
    image = torch.zeros(3, 40, 80, dtype=torch.uint8)
    image[0] = 200
    face = InsightFaces(told, Landmarks())(image)
    plain, padded = (40, 80, 3), (60, 120, 3)
    order = [(plain, (640, 640)), (padded, (640, 640)), (plain, (320, 320)), (plain, (256, 256))]
    assert told.asked == order[:until + 1]
    assert told.pixels[0][0, 0].tolist() == [0, 0, 200], "insightface reads BGR"
    if until == len(ATTEMPTS):
        assert face is None
        return
    assert face is not None and face.tried == until
    corner = torch.tensor([3.0, 4.0] if until == 1 else [23.0, 14.0])  # in the picture's own pixels
    torch.testing.assert_close(face.embedding, F.normalize(corner, dim=0))
    if until >= 1:
        assert (told.pixels[1][[0, -1]] == GREY).all() and told.pixels[1][10, 20].tolist() == [0, 0, 200]
