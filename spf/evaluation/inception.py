"""The Inception v3 of FID, which is TensorFlow's of 2015 and not torchvision's, and the two ways to bring images to it.

The resize moves FID more than many a method does: a number is comparable only with those of the same one.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import inception as blocks

from spf.evaluation.weights import Weights, fill, read_weights

SIZE = 299
WEIGHTS = Weights(
    "FID Inception v3", "weights-inception-2015-12-05-6726825d.pth",
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    "Apache-2.0", 96, "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2")


class _TensorFlowPool:
    """A block whose last branch pools as TensorFlow does: the average is of pixels alone, not of the padding too."""

    pool = staticmethod(partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False))

    def _forward(self, x: Tensor) -> list[Tensor]:
        *branches, _ = super()._forward(x)
        return [*branches, self.branch_pool(self.pool(x))]


class _A(_TensorFlowPool, blocks.InceptionA):
    pass


class _C(_TensorFlowPool, blocks.InceptionC):
    pass


class _E(_TensorFlowPool, blocks.InceptionE):
    pass


class _LastE(_E):
    pool = staticmethod(partial(F.max_pool2d, kernel_size=3, stride=1, padding=1))  # as the network of 2015 has it


class FidInception(blocks.Inception3):
    """torchvision's Inception v3 with the pools of the TensorFlow network of 2015; its keys are torchvision's."""

    def __init__(self) -> None:
        super().__init__(num_classes=1008, aux_logits=False, init_weights=False, inception_blocks=[
            blocks.BasicConv2d, _A, blocks.InceptionB, _C, blocks.InceptionD, _E, blocks.InceptionAux])
        self.Mixed_7c = _LastE(2048)

    def forward(self, x: Tensor) -> Tensor:
        """Prepared images (B,3,299,299) -> (B,2048): all layers in their order, without dropout and classifier."""
        for layer in list(self.children())[:-2]:
            x = layer(x)
        return x.flatten(1)


class InceptionFeatures(nn.Module):
    """The extractor of FID: uint8 (B,3,H,W) of any size -> (B,2048) float32."""

    num_features = 2048
    name = "FID Inception v3"

    def __init__(self, network: FidInception, preprocess: str) -> None:
        super().__init__()
        self.network, self.preprocess_id = network, preprocess
        self.prepare = PREPROCESSES[preprocess]

    @classmethod
    def published(cls, path: Path, preprocess: str) -> "InceptionFeatures":
        """From the published file. Raises ValueError where it does not fit."""
        with torch.device("meta"):
            network = FidInception()
        return cls(fill(network, read_weights(path), path), preprocess).eval()

    def forward(self, images: Tensor) -> Tensor:
        """Mean activations of the last block."""
        return self.network(self.prepare(images))


def tf_compat(images: Tensor) -> Tensor:
    """(B,3,H,W) uint8 -> (B,3,299,299) in [-1,1): TensorFlow 1's bilinear resize, neither antialiased nor centred.

    So do torch-fidelity and the FIDs of most papers; equal to torch-fidelity's bit for bit.
    """
    return (_stretched(_stretched(images.float(), 3), 2) - 128) / 128


def _stretched(x: Tensor, axis: int) -> Tensor:
    """One axis resized: output i lies at i * length / 299, between the two pixels there."""
    length = x.shape[axis]
    place = torch.arange(SIZE, dtype=torch.float32, device=x.device) * (length / SIZE)
    before = place.long()
    one, next_one = x.index_select(axis, before), x.index_select(axis, (before + 1).clamp(max=length - 1))
    share = (place - before).view(-1, *[1] * (3 - axis))
    return one + (next_one - one) * share  # torch.lerp rounds otherwise


def clean(images: Tensor) -> Tensor:
    """(B,3,H,W) uint8 -> (B,3,299,299) in [-1,1): Pillow's antialiased bicubic resize of float channels, not rounded.

    clean-fid's (Parmar et al., CVPR 2022).
    """
    channels = images.flatten(0, 1).cpu().numpy().astype(np.float32)  # (B*3,H,W)
    resized = np.stack([Image.fromarray(one).resize((SIZE, SIZE), Image.Resampling.BICUBIC) for one in channels])
    pixels = torch.from_numpy(resized).clamp(0, 255).to(images.device)
    return (pixels.unflatten(0, images.shape[:2]) - 128) / 128


PREPROCESSES: Mapping[str, Callable[[Tensor], Tensor]] = {"tf_compat": tf_compat, "clean": clean}
"""By their ids in descriptions."""
