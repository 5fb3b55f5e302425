"""HPS v2: how people would like a portrait, given its text (Wu et al., arXiv 2306.09341; paper, Table 1).

A CLIP ViT-H/14 fine-tuned on people's choices; the score is its plain cosine, without the logit scale. The paper's mean
of 0.30 is out of reach of v2.0, whose own tables end at 0.28, and its authors' next paper names v2.1: so v2.1 is HPSv2
here, and v2.0, with which it cannot be compared, stands in More.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import open_clip
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from spf.evaluation.clip_score import Cosines, Read, cosine
from spf.evaluation.open_clips import NORMALIZE, Preprocess, PublishedClip
from spf.evaluation.weights import Weights
from spf.notation import Column
from spf.text import Prompt


def pad(images: Tensor, size: int) -> Tensor:
    """HPS's preprocessing: as floats, longest side to ``size`` by bicubic, zeros around it, then CLIP's normalisation.

    As in its published code (tgxs002/HPSv2 @866735e): bicubic's overshoot stays, an odd rest goes to the right and
    below. Antialiasing is torchvision's default since 0.17; the published code does not name it.
    """
    height, width = images.shape[-2:]
    scale = size / max(height, width)
    inner = [max(1, round(side * scale)) for side in (height, width)]
    pixels = F.resize(images.float().div(255), inner, InterpolationMode.BICUBIC, antialias=True)
    below, right = size - inner[0], size - inner[1]
    return NORMALIZE(F.pad(pixels, [right // 2, below // 2, right - right // 2, below - below // 2]))


PADDED = Preprocess("float bicubic of the longest side, antialiased, zeros around it", pad)


def _published(version: str, file: str, sha256: str) -> PublishedClip:
    return PublishedClip(Weights(f"HPS {version} (CLIP ViT-H/14)", file, "xswu/HPSv2", "Apache-2.0", 1972, sha256),
                         open_clip.get_model_config("ViT-H-14"), PADDED)


HPS_2_1 = _published("v2.1", "HPS_v2.1_compressed.pt",
                     "c57a38fb4a2f7e7c15bf00da2ea377cdf165448b4dd1052a484c215a998c9837")
HPS_2_0 = _published("v2.0", "HPS_v2_compressed.pt",
                     "07cb0d20626232204ca3a6ec53ff5984e7e53212a8a7b0e0ec2bac1bdaf125a1")


class Hps(Cosines):
    """HPS v2.1: the cosine of the customised and the full text [base, target], raw.

    The full text, for people's choices were made between images of one whole text, and it is what the model was asked
    for. Beside it, by the key and an ending:

        _original    the original's cosine with the full text
        _drift       the customised's cosine with the base text, less the original's (PureCC's, arXiv 2603.07561)
        _truncated   1.0 where the end of the full text, and so of the target, was cut, else 0.0
    """

    columns = (Column("hpsv2_1", "HPSv2", "Overall", True, 3),)
    clip = HPS_2_1
    by_full_text = True
    key: ClassVar[str] = "hpsv2_1"

    def asked(self, prompt: Prompt) -> Sequence[str]:
        """The full text."""
        return (prompt.full_text,)

    def row(self, original: Tensor, customised: Tensor, prompt: Prompt, read: Mapping[str, Read]) -> dict[str, float]:
        """HPS and what stands beside it."""
        full, base = read[prompt.full_text], read[prompt.base_text].vector
        return {self.key: cosine(customised, full.vector), f"{self.key}_original": cosine(original, full.vector),
                f"{self.key}_drift": cosine(customised, base) - cosine(original, base),
                f"{self.key}_truncated": float(full.truncated)}


class HpsV20(Hps):
    """HPS v2.0."""

    columns = (Column("hpsv2_0", "HPS v2.0", "More", True, 3),)
    clip = HPS_2_0
    key = "hpsv2_0"
