"""Faces by insightface: the largest one that SCRFD finds, aligned by its five landmarks and embedded by ArcFace."""

import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from spf.evaluation.weights import Weights, file_hash

RELEASE = "https://github.com/deepinsight/insightface/releases/download/v0.7"
LICENCE = "for non-commercial research only"
THRESHOLD = 0.5  # of the detector's confidence
GREY = 128


@dataclass(frozen=True)
class Pack:
    """A detector and a recogniser that are published in one archive."""

    detector: Weights
    recogniser: Weights

    def find(self, folder: Path) -> tuple[Path, Path]:
        """Both files, in the archive's folder or one deeper (antelopev2.zip holds a folder of its own).

        Raises WeightsAbsent, or ValueError for a file with another hash.
        """
        return self.detector.find(folder), self.recogniser.find(folder)

    def describe(self, folder: Path) -> dict[str, Any]:
        """What decides an embedding, for JSON. Raises as ``find``."""
        import cv2
        import insightface

        return {"network": [self.detector.name, self.recogniser.name], "licence": self.recogniser.licence,
                "weights": {path.name: file_hash(path) for path in self.find(folder)}, "threshold": THRESHOLD,
                "attempts": [asdict(attempt) for attempt in ATTEMPTS], "face": "largest box",
                "preprocess": "five landmarks to 112 x 112, x / 127.5 - 1", "insightface": insightface.__version__,
                "opencv": cv2.__version__}


def _published(file: str, name: str, megabytes: int, sha256: str) -> Weights:
    return Weights(name, file, f"{RELEASE}/{Path(file).parent}.zip", LICENCE, megabytes, sha256,
                   (f"{Path(file).parent}/{file}",))  # as an archive lies that holds a folder of its own


SCRFD_SHA256 = "5838f7fe053675b1c7a08b633df49e7af5495cee0493c7dcf6697200b85b5b91"
PACKS = {
    "buffalo_l": Pack(
        _published("buffalo_l/det_10g.onnx", "SCRFD-10GF face detector", 326, SCRFD_SHA256),
        _published("buffalo_l/w600k_r50.onnx", "ArcFace ResNet50@WebFace600K", 326,
                   "4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43")),
    "antelopev2": Pack(
        _published("antelopev2/scrfd_10g_bnkps.onnx", "SCRFD-10GF face detector", 407, SCRFD_SHA256),
        _published("antelopev2/glintr100.onnx", "ArcFace ResNet100@Glint360K", 407,
                   "4ab1d6435d639628a6f3e5008dd4f929edf4c4124b1a7169e1048f9fef534cdf")),
}
"""insightface's default, and the one of InstantID's and PuLID's kind of paper; the detector is the same."""


@dataclass(frozen=True)
class Attempt:
    """One way to look for faces."""

    size: int  # of the square that the detector sees
    margin: float = 0.0  # grey added on every side, as a share of it


ATTEMPTS = (Attempt(640), Attempt(640, margin=0.25), Attempt(320), Attempt(256))
"""One after the other until a face is found: a portrait that a face fills is missed at full size."""


@dataclass(frozen=True)
class Face:
    """A face as a recogniser sees it."""

    embedding: Tensor  # (E,) unit
    tried: int  # which attempt found it, from 0


@dataclass(frozen=True)
class InsightFaces:
    """(3,H,W) uint8 RGB -> its largest face, or None. The networks are insightface's own, and take BGR (H,W,3)."""

    detector: Any  # ``detect(pixels, input_size=(w, h))`` -> boxes (n,5) x0 y0 x1 y1 confidence, landmarks (n,5,2)
    recogniser: Any  # ``get(pixels, face)`` -> (E,), of a face whose ``kps`` are its landmarks

    @classmethod
    def published(cls, folder: Path, device: torch.device, pack: Pack = PACKS["buffalo_l"]) -> "InsightFaces":
        """From ``folder``, by onnxruntime on ``device``.

        Raises WeightsAbsent, or ValueError for a file that is another. Warns where onnxruntime cannot use the device.
        """
        detector, recogniser = pack.find(folder)
        found = cls(_network(detector, "detection", device), _network(recogniser, "recognition", device))
        found.detector.prepare(0, det_thresh=THRESHOLD)
        return found

    def __call__(self, image: Tensor) -> Face | None:
        """By the first of ``ATTEMPTS`` that finds any face."""
        pixels = np.ascontiguousarray(image.flip(0).permute(1, 2, 0).numpy())  # (H,W,3) BGR
        for tried, attempt in enumerate(ATTEMPTS):
            landmarks = self._largest(pixels, attempt)
            if landmarks is not None:
                return Face(self._embedding(pixels, landmarks), tried)
        return None

    def _largest(self, pixels: np.ndarray, attempt: Attempt) -> np.ndarray | None:
        """The landmarks (5,2) of the largest box, x and y in ``pixels``."""
        y, x = (round(attempt.margin * side) for side in pixels.shape[:2])
        padded = np.pad(pixels, ((y, y), (x, x), (0, 0)), constant_values=GREY)
        # without a size, insightface 2 looks at two sizes and finds other faces than its forerunners
        boxes, landmarks = self.detector.detect(padded, input_size=(attempt.size, attempt.size))
        if not len(boxes):
            return None
        areas = (boxes[:, 2:4] - boxes[:, :2]).prod(1)
        return landmarks[areas.argmax()] - np.array([x, y], dtype=landmarks.dtype)

    def _embedding(self, pixels: np.ndarray, landmarks: np.ndarray) -> Tensor:
        """(E,) unit."""
        with warnings.catch_warnings():  # insightface asks scikit-image in words of the past
            warnings.simplefilter("ignore", FutureWarning)
            embedding = self.recogniser.get(pixels, SimpleNamespace(kps=landmarks))
        return F.normalize(torch.from_numpy(embedding).float(), dim=0)


def _network(path: Path, task: str, device: torch.device) -> Any:
    from insightface.model_zoo import get_model
    from onnxruntime import SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()  # else every rank takes all cores
    options.log_severity_level = 3  # errors
    providers = _providers(device)
    network = get_model(str(path), providers=[*providers.items()], sess_options=options)
    if network is None or network.taskname != task:
        raise ValueError(f"{path} is no insightface network for {task}")
    used = network.session.get_providers()[0]
    if used != next(iter(providers)):
        warnings.warn(f"faces are embedded by {used}, not on {device}: for a GPU, onnxruntime-gpu must be installed in "
                      "place of onnxruntime; it takes longer", stacklevel=3)
    return network


def _providers(device: torch.device) -> dict[str, dict[str, Any]]:
    """onnxruntime's providers and their options, best first; a rank must name its own GPU."""
    cpu: dict[str, dict[str, Any]] = {"CPUExecutionProvider": {}}
    if device.type != "cuda":
        return cpu
    index = torch.cuda.current_device() if device.index is None else device.index
    exact = {"use_tf32": 0, "cudnn_conv_algo_search": "HEURISTIC"}  # the same numbers every time, in full float32
    return {"CUDAExecutionProvider": {"device_id": index, **exact}} | cpu
