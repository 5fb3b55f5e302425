"""The repaint residual: how far a portrait of the miniature world lies from anything that its painter could paint.

The reader judge reads the person, the person is painted again, and what differs is the residual. It falls when a
portrait is clean and rises with every blot, so it is the miniature's image quality; see ``spf.miniature.reader``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from spf.backbones import BASES
from spf.evaluation.metric import Encoding, Metric
from spf.evaluation.weights import file_hash
from spf.miniature.people import TARGETS, target_index
from spf.miniature.reader import Reader, repaint_residual
from spf.notation import Column
from spf.text import Prompt

RESOLUTION = 128  # at which the reader reads
NAMED = {wording: target_index(target) for target, wordings in TARGETS.items() for wording in wordings}
"""Target text -> index of the target that it names."""


class RepaintResidual(Metric):
    """Residual of the customised portrait, and whether the reader reads the target that the prompt asks for."""

    columns: ClassVar[tuple[Column, ...]] = (
        Column("repaint", "Repaint residual", "Overall", False, 3),
        Column("target_read", "Target read", "Responsiveness", True))

    def __init__(self, reader: Reader, weights: str) -> None:
        """``weights``: the SHA-256 of the reader's file, or what else they are ("random")."""
        self.reader, self.weights = reader, weights

    @classmethod
    def shipped(cls, folder: Path = Path(BASES["miniature"]), device: torch.device | str = "cpu") -> "RepaintResidual":
        """With the miniature's own reader, from ``folder/reader``. Raises FileNotFoundError where it is absent."""
        return cls(Reader.load(folder).to(device), file_hash(folder / "reader" / "model.safetensors"))

    def encode(self, images: Tensor, prompts: Sequence[Prompt], originals: Tensor | None) -> list[Encoding]:
        """What the reader sees: ``residual`` () float32 in [0,1], ``target`` () int64, 0 for none.

        Whatever their size, images are read and repainted at ``RESOLUTION``, so that residuals can be compared.
        """
        seen = images.to(next(self.reader.parameters()).device) / 255
        if seen.shape[-2:] != (RESOLUTION, RESOLUTION):
            seen = F.interpolate(seen, (RESOLUTION, RESOLUTION), mode="bilinear", antialias=True)
        people = self.reader.read(seen).people()
        residuals = repaint_residual(seen, people).cpu()
        return [{"residual": residual.clone(), "target": torch.tensor(target_index(person.target))}
                for residual, person in zip(residuals, people, strict=True)]

    def score(self, originals: Sequence[Encoding], customised: Sequence[Encoding],
              prompts: Sequence[Prompt]) -> list[dict[str, float]]:
        """``repaint`` of the customised, ``repaint_original``, and ``target_read`` where the text names a target."""
        return [{"repaint": float(after["residual"]), "repaint_original": float(before["residual"])}
                | _target_read(after, prompt)
                for before, after, prompt in zip(originals, customised, prompts, strict=True)]

    def describe(self) -> dict[str, Any]:
        """The reader, and the size at which it looks."""
        return {"network": "spf.miniature.reader.Reader", "weights": self.weights,
                "preprocess": f"bilinear, antialiased, to {RESOLUTION} x {RESOLUTION}"}


def _target_read(seen: Encoding, prompt: Prompt) -> dict[str, float]:
    asked = NAMED.get(prompt.target_text.strip())
    return {} if asked is None else {"target_read": float(int(seen["target"]) == asked)}
