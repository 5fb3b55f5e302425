"""LPIPS: the distance of two images in a network's features, weighted as people see it (Zhang et al., CVPR 2018)."""

import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from spf.evaluation.metric import Encoding, Metric
from spf.evaluation.weights import Weights, file_hash, fill, read_weights
from spf.notation import Column
from spf.text import Prompt

Distance = Callable[[Tensor, Tensor], Tensor]
"""Images (B,3,H,W) in [-1,1] and as many others -> B distances: (B,), or (B,1,1,1) as the lpips package has them."""


class Lpips(Metric):
    """LPIPS v0.1 in AlexNet, the package's own default and its best forward metric; the paper names no network.

    d(a, b) = sum over layers of the mean over places of w . (a's unit features - b's)^2. Images keep their size.
    """

    columns = (Column("lpips", "LPIPS", "Preservation", False),)
    of = "pair"
    same_size = True
    net: ClassVar[str] = "alex"  # as the lpips package calls it
    weights: ClassVar[Weights] = Weights(
        "AlexNet (for LPIPS)", "alexnet-owt-7be5be79.pth",
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth", "BSD-3-Clause", 244, "7be5be79")

    def __init__(self, network: Distance, description: dict[str, Any], device: torch.device | str = "cpu") -> None:
        self.network, self.description, self.device = network, description, device

    @classmethod
    def published(cls, folder: Path, device: torch.device | str) -> "Lpips":
        """torchvision's published backbone from ``folder`` under the heads that the lpips package carries.

        Raises WeightsAbsent, or ValueError for a file that is another.
        """
        import lpips

        path = cls.weights.find(folder)
        with warnings.catch_warnings():  # lpips asks torchvision in words of the past
            warnings.simplefilter("ignore", UserWarning)
            network = lpips.LPIPS(net=cls.net, pnet_rand=True, verbose=False)
        fill_backbone(network.net, path)
        heads = Path(lpips.__file__).parent / "weights" / "v0.1" / f"{cls.net}.pth"
        return cls(network.to(device).eval().requires_grad_(False), {
            "network": f"LPIPS v0.1 {cls.net}", "weights": {path.name: file_hash(path), "heads": file_hash(heads)},
            "lpips": version("lpips")}, device)

    def encode(self, images: Tensor, prompts: Sequence[Prompt], originals: Tensor | None) -> list[Encoding]:
        """{"lpips": ()} of each pair. One pair at a time: VGG holds 2.5 GB of a pair of 1024 x 1024 pixels."""
        assert originals is not None, "LPIPS is of pairs"
        return [{"lpips": self._distance(original, image)}
                for original, image in zip(originals.split(1), images.split(1), strict=True)]

    def score(self, originals: Sequence[Encoding], customised: Sequence[Encoding],
              prompts: Sequence[Prompt]) -> list[dict[str, float]]:
        """The distances, 0 (the same image) and more."""
        return [{self.columns[0].key: float(encoding["lpips"])} for encoding in customised]

    def describe(self) -> dict[str, Any]:
        """Network, SHA-256 of its weights, preprocessing."""
        return {**self.description, "preprocess": "uint8 / 127.5 - 1, not resized"}

    def _distance(self, original: Tensor, image: Tensor) -> Tensor:
        a, b = (unit_range(some).to(self.device) for some in (original, image))
        return self.network(a, b).reshape(()).cpu()


class LpipsVgg(Lpips):
    """LPIPS in VGG-16, as losses use it and some papers report it."""

    columns = (Column("lpips_vgg", "LPIPS (VGG)", "More", False, 4),)
    net = "vgg"
    weights = Weights(
        "VGG-16 (for LPIPS)", "vgg16-397923af.pth", "https://download.pytorch.org/models/vgg16-397923af.pth",
        "BSD-3-Clause", 553, "397923af")


def unit_range(image: Tensor) -> Tensor:
    """uint8 -> [-1,1]: x / 127.5 - 1, which is rounded once when it is written so."""
    return (2 * image.float() - 255) / 255


def published_names(backbone: nn.Module) -> dict[str, str]:
    """{torchvision's name: lpips's}: ``features.3.weight`` is lpips's ``slice2.3.weight``."""
    return {f"features.{name.partition('.')[2]}": name for name in backbone.state_dict()}


def fill_backbone(backbone: nn.Module, path: Path) -> None:
    """Every weight of lpips's slices from torchvision's published file, whose classifier LPIPS does not read.

    Raises ValueError where a weight is missing, unexpected or of another shape.
    """
    names = published_names(backbone)
    fill(backbone, {names.get(key, key): value for key, value in read_weights(path).items()
                    if not key.startswith("classifier.")}, path)
