"""What a user of each package would write: from the files of pairs to the numbers, in the package's documented way.

Images are read one after the other and batched as the suite batches them. Each function returns {key of the suite's
number: a number for each pair, or the one of all pairs}.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import lpips
import numpy as np
import open_clip
import torch
from PIL import Image
from scipy.optimize import linear_sum_assignment
from segment_anything import SamAutomaticMaskGenerator
from torch import Tensor, nn
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

from spf.evaluation.encoding import Pair
from spf.evaluation.measuring import CHUNK

Numbers = dict[str, list[float]]
Files = Sequence[Path]
Prepare = Callable[[Image.Image], Tensor]
"""An image -> (3,S,S) as a network takes it."""


def by_lpips(network: nn.Module, pairs: Sequence[Pair]) -> Numbers:
    """README of lpips: ``im2tensor(load_image(path))``, one pair after the other."""
    with torch.no_grad():
        return {"lpips": [float(network(*(lpips.im2tensor(lpips.load_image(str(file)))
                                          for file in (pair.original, pair.customised)))) for pair in pairs]}


def by_torch_fidelity(extract: Callable[[Tensor], Tensor], pairs: Sequence[Pair]) -> Numbers:
    """FID and KID from its own features and functions; KID of one subset, which is all pairs."""
    def features(files: Files) -> Tensor:
        with torch.no_grad():
            return torch.cat([extract(torch.stack([_bytes(file) for file in some])) for some in _batches(files)])

    sides = [features(files) for files in _sides(pairs)]
    fid = fid_statistics_to_metric(*map(fid_features_to_statistics, sides), verbose=False)
    kid = kid_features_to_metric(*sides, kid_subsets=1, kid_subset_size=len(pairs), verbose=False)
    return {"fid": [fid[KEY_METRIC_FID]], "kid": [float(kid[KEY_METRIC_KID_MEAN])]}


def by_open_clip(network: open_clip.CLIP, prepare: Prepare, suffix: str, pairs: Sequence[Pair]) -> Numbers:
    """README of open_clip: ``encode_image`` and ``encode_text``, then cosines; keys of CLIP-I and CLIP-T end so."""
    originals, customised = (_images(network, prepare, files) for files in _sides(pairs))
    target, full, base = (_texts(network, texts) for texts in (
        [pair.prompt.target_text for pair in pairs], [pair.prompt.full_text for pair in pairs],
        [pair.prompt.base_text for pair in pairs]))
    found = {"clip_i": originals * customised, "clip_t": customised * target, "clip_t_full": customised * full,
             "clip_t_gain": (customised - originals) * target, "clip_t_drift": (customised - originals) * base}
    return {key + suffix: products.sum(1).tolist() for key, products in found.items()}


def by_hps(network: open_clip.CLIP, prepare: Prepare, pairs: Sequence[Pair]) -> Numbers:
    """HPSv2's ``score`` of both sides: cosines with the full text, and what its authors' drift needs besides."""
    originals, customised = (_images(network, prepare, files) for files in _sides(pairs))
    full, base = (_texts(network, texts) for texts in ([pair.prompt.full_text for pair in pairs],
                                                       [pair.prompt.base_text for pair in pairs]))
    found = {"hpsv2_1": customised * full, "hpsv2_1_original": originals * full,
             "hpsv2_1_drift": (customised - originals) * base}
    return {key: products.sum(1).tolist() for key, products in found.items()}


@torch.no_grad()
def _images(network: open_clip.CLIP, prepare: Prepare, files: Files) -> Tensor:
    return torch.cat([network.encode_image(torch.stack([prepare(Image.open(file)) for file in some]), normalize=True)
                      for some in _batches(files)])


@torch.no_grad()
def _texts(network: open_clip.CLIP, texts: Sequence[str]) -> Tensor:
    return torch.cat([network.encode_text(open_clip.tokenize(some), normalize=True) for some in _batches(texts)])


def by_segment_anything(generator: SamAutomaticMaskGenerator, pairs: Sequence[Pair]) -> Numbers:
    """``SamAutomaticMaskGenerator.generate`` of each image, then the best one-to-one matching of both sides."""
    def masks(file: Path) -> np.ndarray:
        image = np.array(Image.open(file))
        found = [one for one in generator.generate(image) if 0.001 <= one["area"] / image[..., 0].size <= 0.95]
        return np.array([one["segmentation"].ravel() for one in found], np.float32).reshape(-1, image[..., 0].size)

    return {"seg_cons": [_matched(masks(pair.original), masks(pair.customised)) for pair in pairs]}


def _matched(one: np.ndarray, other: np.ndarray) -> float:
    both = one @ other.T
    iou = both / (one.sum(1)[:, None] + other.sum(1) - both)
    return 200 * iou[linear_sum_assignment(iou, maximize=True)].sum() / (len(one) + len(other))


def by_insightface(analysis: Any, pairs: Sequence[Pair]) -> Numbers:
    """``FaceAnalysis.get`` of each image, the largest face's ``normed_embedding``."""
    def embedding(file: Path) -> np.ndarray:
        faces = analysis.get(cv2.imread(str(file)))
        return max(faces, key=lambda face: (face.bbox[2:] - face.bbox[:2]).prod()).normed_embedding

    return {"id": [float(embedding(pair.original) @ embedding(pair.customised)) for pair in pairs]}


def _sides(pairs: Sequence[Pair]) -> tuple[Files, Files]:
    return [pair.original for pair in pairs], [pair.customised for pair in pairs]


def _batches(items: Sequence[Any]) -> list[Sequence[Any]]:
    return [items[start:start + CHUNK] for start in range(0, len(items), CHUNK)]


def _bytes(file: Path) -> Tensor:
    return torch.from_numpy(np.array(Image.open(file).convert("RGB"))).permute(2, 0, 1)
