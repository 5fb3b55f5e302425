"""The metrics' networks in the miniature: the reader judge and the miniature's CLIP, behind the same metric classes.

They rank methods on painted portraits. Their numbers have nothing in common with those of the published networks.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spf.backbones import BASES
from spf.clip import CLIPS, Clip
from spf.evaluation.clip_score import ClipScore
from spf.evaluation.distance import DistributionDistance
from spf.evaluation.faces import Face
from spf.evaluation.identity import Identity
from spf.evaluation.perceptual import Lpips
from spf.evaluation.repaint import RepaintResidual
from spf.evaluation.segmentation import SegCons
from spf.evaluation.weights import file_hash
from spf.miniature.reader import Reader

HOME = Path(BASES["miniature"])
READER = HOME / "reader" / "model.safetensors"


class ReaderFeatures(nn.Module):
    """The reader's last feature map, averaged over its places: an extractor for FID and KID."""

    num_features = 128
    name = "miniature reader"
    preprocess_id = "bilinear, antialiased, to 128 x 128"

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self.reader = reader

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (B,3,H,W) -> (B,128)."""
        return stages(self.reader, _at_128(images / 255) * 2 - 1)[-1].mean((2, 3))


def stages(reader: Reader, images: Tensor) -> list[Tensor]:
    """The reader's feature maps of (B,3,128,128) in [-1,1]: 24 to 128 channels at 64 to 8 places a side."""
    maps = [reader.stem(images)]
    for down in reader.down:
        maps.append(down(maps[-1]))
    return maps


def _at_128(images: Tensor) -> Tensor:
    return images if images.shape[-2:] == (128, 128) else F.interpolate(images, (128, 128), mode="bilinear",
                                                                        antialias=True)


class ReaderDistance(nn.Module):
    """LPIPS' formula in the reader's feature maps, each map and channel weighing the same: from 0 to 1."""

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self.reader = reader

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """(B,3,H,W) in [-1,1] twice -> (B,)."""
        maps = zip(stages(self.reader, _at_128(a)), stages(self.reader, _at_128(b)), strict=True)
        apart = [(F.normalize(x, dim=1) - F.normalize(y, dim=1)).square().sum(1).mean((1, 2)) for x, y in maps]
        return torch.stack(apart).mean(0) / 2  # features are not negative, so two unit vectors are 2 apart at most


class MiniatureTowers:
    """The miniature's CLIP, as CLIP-I and CLIP-T ask it."""

    def __init__(self, clip: Clip) -> None:
        self.clip = clip

    def image(self, images: Tensor) -> Tensor:
        """(B,3,H,W) uint8 -> unit vectors (B,E)."""
        return self.clip.image(images.to(self.clip.model.device) / 255)

    def text(self, texts: Sequence[str]) -> Tensor:
        """B texts -> unit vectors (B,E)."""
        return self.clip.text(texts)

    def truncated(self, texts: Sequence[str]) -> list[bool]:
        """Of each text, whether its end is cut."""
        tokens = self.clip.tokenizer(list(texts), verbose=False).input_ids
        return [len(ids) > self.clip.tokenizer.model_max_length for ids in tokens]

    def describe(self) -> dict[str, Any]:
        """Network and preprocessing."""
        return {"network": "miniature CLIP", "weights": file_hash(Path(CLIPS["miniature"]) / "model.safetensors"),
                "preprocess": "bicubic, antialiased"}


def fid(folder: Path, device: torch.device) -> DistributionDistance:
    """FID and KID in the reader's features."""
    return DistributionDistance(ReaderFeatures(_reader(device)), file_hash(READER), device)


def lpips(folder: Path, device: torch.device) -> Lpips:
    """LPIPS in the reader's features."""
    return Lpips(ReaderDistance(_reader(device)), _about("LPIPS' formula, all weights equal"), device)


def identity(folder: Path, device: torch.device) -> Identity:
    """ID by what the reader reads of a person's face; it sees one in everything."""
    reader = _reader(device)
    return Identity(lambda image: Face(reader(_at_128(image[None].to(device) / 255)).identity[0], 0),
                    _about("the reader's identity factors, centred"))


def clip(folder: Path, device: torch.device) -> ClipScore:
    """CLIP-I and CLIP-T in the miniature's CLIP."""
    return ClipScore(MiniatureTowers(Clip.load("miniature").to(device)))


def segmentation(folder: Path, device: torch.device) -> SegCons:
    """Seg-Cons of the parts that the reader sees: skin, hair, eyes, ... each is a mask."""
    reader = _reader(device)

    def masks(image: Tensor) -> Tensor:
        parts = reader(_at_128(image[None].to(device) / 255)).parts[0]  # (K,R,R)
        return F.one_hot(parts.argmax(0), len(parts)).permute(2, 0, 1).bool()

    return SegCons(masks, _about("the reader's parts"))


def repaint(folder: Path, device: torch.device) -> RepaintResidual:
    """The repaint residual, and whether the target is read."""
    return RepaintResidual.shipped(HOME, device)


def _reader(device: torch.device) -> Reader:
    return Reader.load(HOME).to(device)


def _about(how: str) -> dict[str, Any]:
    return {"network": "miniature reader", "weights": file_hash(READER), "how": how}
