"""ID: whether the customised portrait still shows the same person, as a face recogniser sees it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from spf.evaluation.faces import PACKS, Face, InsightFaces, Pack
from spf.evaluation.metric import Encoding, Metric
from spf.notation import Column
from spf.text import Prompt

Embed = Callable[[Tensor], Face | None]
"""(3,H,W) uint8 RGB on the CPU -> the face that counts, or None where no face is found."""


class Identity(Metric):
    """The cosine of both faces' embeddings, in [-1,1], not clipped.

    A customisation that destroys the face gets 0 in ``id``; ``id_detected`` is the mean without such pairs and
    ``face_found`` their share. A pair whose original has no face says nothing of identity: it only counts as
    ``id_ref_missing``.
    """

    columns = (Column("id", "ID", "Preservation", True), Column("id_detected", "ID (faces found)", "More", True),
               Column("face_found", "Face rate", "More", True))

    def __init__(self, embed: Embed, description: dict[str, Any]) -> None:
        self.embed, self.description = embed, description

    @classmethod
    def published(cls, folder: Path, device: torch.device | str, pack: Pack = PACKS["buffalo_l"]) -> "Identity":
        """By insightface's networks from ``folder``. Raises WeightsAbsent, or ValueError for a file that is another."""
        return cls(InsightFaces.published(folder, torch.device(device), pack), pack.describe(folder))

    def encode(self, images: Tensor, prompts: Sequence[Prompt], originals: Tensor | None) -> list[Encoding]:
        """{"embedding": (E,), "step": which attempt found the face}, or {"step": -1} where none did."""
        return [self._encode(image) for image in images]

    def score(self, originals: Sequence[Encoding], customised: Sequence[Encoding],
              prompts: Sequence[Prompt]) -> list[dict[str, float]]:
        """A row for each pair; ``id_ref_missing`` is 1 where the original has no face."""
        return [_row(original, image) for original, image in zip(originals, customised, strict=True)]

    def describe(self) -> dict[str, Any]:
        """Networks, SHA-256 of their weights, preprocessing, thresholds, attempts, versions."""
        return self.description

    def _encode(self, image: Tensor) -> Encoding:
        face = self.embed(image)
        if face is None:
            return {"step": torch.tensor(-1)}
        return {"embedding": face.embedding.cpu(), "step": torch.tensor(face.tried)}


def _row(original: Encoding, image: Encoding) -> dict[str, float]:
    if "embedding" not in original:
        return {"id_ref_missing": 1.0}
    if "embedding" not in image:
        return {"id": 0.0, "face_found": 0.0, "id_ref_missing": 0.0}
    same = float(F.cosine_similarity(original["embedding"].double(), image["embedding"].double(), dim=0))
    return {"id": same, "id_detected": same, "face_found": 1.0, "id_ref_missing": 0.0}
