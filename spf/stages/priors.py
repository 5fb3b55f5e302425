"""Portraits by the original model, which prior preservation goes on teaching (DreamBooth, Ruiz et al. 2023)."""

from pathlib import Path

import torch
from torch import Tensor

from spf.backbones import Backbone
from spf.files import read_json
from spf.portraits.batches import PortraitBatch, Portraits
from spf.portraits.formats import PortraitError
from spf.portraits.reader import read_portraits
from spf.stages.randomness import chosen, draw
from spf.text import Prompt


class Priors:
    """One prior beside each portrait of a batch: which, its noise and its t follow from (seed, epoch, portrait).

    Their latents (the posterior's mode) are kept in memory.

    Args:
        source: folder that `spf triples` made, or any other portraits with base texts.
        base_hash: of the original; a folder that says which model made it must name this one.

    Raises PortraitError for a source that cannot be read, ValueError for one that another model made.
    """

    def __init__(self, source: str, base_hash: str) -> None:
        try:
            self.table = read_portraits(source)
        except PortraitError as error:
            raise PortraitError(f"model.priors: {error}\n`spf triples --out {source}` makes the original's.") from error
        manifest = Path(source) / "manifest.json"
        if manifest.is_file() and read_json(manifest).get("base_sha256", base_hash) != base_hash:
            raise ValueError(f"the portraits in model.priors {source} are by another model than model.base: make them "
                             "with that one, by `spf triples --base`")
        self._texts = self.table.select_columns(["base_text", "phrases"])
        self._latents: dict[int, Tensor] = {}

    def beside(self, batch: PortraitBatch, backbone: Backbone,
               seed: int) -> tuple[list[Prompt], Tensor, Tensor, Tensor]:
        """For B portraits: B prompts of base text alone, t (B,), noise and x_0 (B,C,h,w), on the backbone's device."""
        shape = backbone.latent_shape(*batch.image.shape[-2:])
        own = [f"{name}/prior" for name in batch.ids]  # other draws than the portrait's
        chance = draw(backbone.process, shape, own, seed, batch.epochs)
        rows = chosen(len(self.table), batch.ids, seed, batch.epochs)
        x0 = torch.stack([self._latent(row, batch.image.shape[-1], backbone) for row in rows])
        said = [self._texts[row] for row in rows]
        prompts = [Prompt(one["base_text"], "", tuple(one["phrases"])) for one in said]
        return prompts, *(value.to(backbone.device, non_blocking=True) for value in (chance.t, chance.noise, x0))

    def _latent(self, row: int, resolution: int, backbone: Backbone) -> Tensor:
        """Encoded alone: in a batch its bits would depend on the others, and a resumed run would differ."""
        if row not in self._latents:
            image = Portraits(self.table, resolution)[row]["image"].to(backbone.device)
            self._latents[row] = backbone.encode(image[None])[0].cpu()
        return self._latents[row]
