"""FID and KID as metrics of a suite: features of each image, of which all pairs together make a number."""

import hashlib
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from spf.evaluation.fid import FrechetDistance
from spf.evaluation.inception import WEIGHTS, InceptionFeatures
from spf.evaluation.kid import SEED, SUBSET_SIZE, SUBSETS, KernelDistance
from spf.evaluation.metric import Encoding, Metric
from spf.evaluation.summed import SummedMetric
from spf.evaluation.weights import FOLDER, Weights, file_hash
from spf.notation import Column
from spf.text import Prompt

CONTRACT = {"num_features": int, "name": str, "preprocess_id": str}
"""What a feature extractor says of itself."""


class DistributionDistance(Metric):
    """FID, and KID beside it, in the features of any extractor.

    An extractor is a module that takes uint8 (B,3,H,W) of any size to (B,num_features) float, resizing and normalising
    by itself, and has the attributes of ``CONTRACT``. ``name`` sets its columns apart: "dino" makes ``fid_dino`` and
    ``kid_dino``. ``weights``: SHA-256 of the extractor's file, or what else they are called; default: of its state.
    """

    columns: tuple[Column, ...] = (Column("fid", "FID", "Preservation", False), Column("kid", "KID", "More", False, 4))

    def __init__(self, extractor: nn.Module, weights: str = "", device: torch.device | str = "cpu",
                 name: str = "") -> None:
        """Raises ValueError for an extractor that breaks the contract."""
        self.extractor = keeps_contract(extractor).to(device).eval().requires_grad_(False)
        self.weights, self.device = weights or state_hash(extractor), device
        if name:
            self.columns = (Column(f"fid_{name}", f"FID ({name})", "More", False),
                            Column(f"kid_{name}", f"KID ({name})", "More", False, 4))

    @torch.no_grad()
    def encode(self, images: Tensor, prompts: Sequence[Prompt], originals: Tensor | None) -> list[Encoding]:
        """{"features": (d,) float32} of each image. Raises ValueError for features that are not (B,d) and finite."""
        features = self.extractor(images.to(self.device))
        about, due = self.extractor.name, (len(images), self.extractor.num_features)
        if not isinstance(features, Tensor) or tuple(features.shape) != due or not features.is_floating_point():
            found = f"{features.dtype} {tuple(features.shape)}" if isinstance(features, Tensor) else type(features)
            raise ValueError(f"the extractor {about!r} must give floats of shape {due}, images by num_features; it "
                             f"gave {found}")
        return [{"features": row.clone()} for row in features.float().cpu()]

    def score(self, originals: Sequence[Encoding], customised: Sequence[Encoding],
              prompts: Sequence[Prompt]) -> list[dict[str, float]]:
        """Nothing of a pair alone."""
        return [{} for _ in customised]

    def whole(self, count: int) -> dict[str, SummedMetric]:
        """A ``FrechetDistance`` for a column fid..., a ``KernelDistance`` of ``count`` pairs for a column kid..."""
        width = self.extractor.num_features
        return {column.key: FrechetDistance(width) if column.key.startswith("fid") else KernelDistance(count, width)
                for column in self.columns}

    def describe(self) -> dict[str, Any]:
        """Extractor, SHA-256 of its weights, preprocessing, and the libraries that resize and compute."""
        kid = {"kid": {"subsets": SUBSETS, "subset_size": SUBSET_SIZE, "seed": SEED}}
        return {"network": self.extractor.name, "weights": self.weights, "preprocess": self.extractor.preprocess_id,
                "num_features": self.extractor.num_features, "torch": version("torch"), "pillow": version("pillow"),
                **(kid if any(column.key.startswith("kid") for column in self.columns) else {})}


class Fid(DistributionDistance):
    """FID and KID in the Inception of 2015, images resized as TensorFlow 1 did: what most papers print."""

    weights_file: ClassVar[Weights] = WEIGHTS
    preprocess: ClassVar[str] = "tf_compat"

    @classmethod
    def published(cls, folder: Path = FOLDER, device: torch.device | str = "cpu") -> "Fid":
        """With the published weights. Raises WeightsAbsent, or ValueError for a file that is another."""
        path = cls.weights_file.find(folder)
        return cls(InceptionFeatures.published(path, cls.preprocess), file_hash(path), device)


class FidClean(Fid):
    """FID with clean-fid's antialiased resize."""

    columns = (Column("fid_clean", "FID (clean)", "More", False),)
    preprocess = "clean"


def custom_extractor(path: str, **options: Any) -> nn.Module:
    """A user's own extractor: ``Class(**options)`` of ``module``, from "module:Class".

    Raises ValueError where there is none, or where it breaks the contract of ``DistributionDistance``.
    """
    module, _, name = path.partition(":")
    try:
        made = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"no feature extractor {path!r} ({error}): give one as module:Class") from error
    return keeps_contract(made(**options))


def keeps_contract(extractor: Any) -> nn.Module:
    """The extractor, if it is one. Raises ValueError that says what it lacks."""
    kind = type(extractor).__name__
    if not isinstance(extractor, nn.Module):
        raise ValueError(f"a feature extractor must be a torch.nn.Module, and {kind} is none")
    for attribute, of in CONTRACT.items():
        if not isinstance(getattr(extractor, attribute, None), of):
            raise ValueError(f"the feature extractor {kind} lacks {attribute}, of type {of.__name__}: it needs "
                             f"{', '.join(CONTRACT)} and forward(uint8 images (B,3,H,W)) -> (B,num_features)")
    return extractor


def state_hash(network: nn.Module) -> str:
    """SHA-256 of the names and bytes of all weights and buffers."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
