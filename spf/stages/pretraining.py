"""Pretraining of the miniature's base model: Eq. 1 on painted portraits, with phrases read where they are true."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from spf.method.response import phrase_attention
from spf.miniature.painter import paint_with_parts
from spf.miniature.people import PHRASE_PARTS
from spf.miniature.shards import Order
from spf.miniature.truth import phrase_regions
from spf.notation import AttentionRecord, Conditions, Prediction
from spf.portraits.datamodule import PortraitBatch
from spf.stages.fine_tuning import StandardFineTuning
from spf.text import Prompt

MASK = 32  # px of the truth's masks


class GroundedPretraining(StandardFineTuning):
    """`StandardFineTuning` of random weights, in which each place learns to look at the words that speak of it.

    So little a world leaves a model free to read every word everywhere: without this term a UNet's phrase attention
    told parts apart with an AUROC of 0.38 to 0.66. The idea is TokenCompose's; the method takes maps that localise for
    granted. The portraits must be painted ones (`spf portraits paint`), whose masks are known, and show no target.

    Args:
        grounding: weight of the term.
        **options: those of `StandardFineTuning`.
    """

    captures = True

    def __init__(self, grounding: float = 0.03, **options: Any) -> None:
        super().__init__(**options)
        self._said: dict[str, tuple[Prompt, Tensor]] = {}

    def further_loss(self, batch: PortraitBatch, conditions: Conditions, prediction: Prediction) -> Tensor:
        masks = torch.stack([masks for _, masks in self._painted(batch.ids)]).to(self.device)
        words = conditions.phrase_weights > 0
        loss = torch.stack([grounding(record, words, masks) for record in prediction.attention]).mean()
        self.log("loss/grounding", loss, prog_bar=True, batch_size=len(batch.ids))
        return self.hparams["grounding"] * loss

    def _prompts(self, batch: PortraitBatch, keep: list[bool]) -> list[Prompt]:
        painted = zip(self._painted(batch.ids), keep, strict=True)
        return [prompt if kept else Prompt("") for (prompt, _), kept in painted]

    def _painted(self, names: list[str]) -> list[tuple[Prompt, Tensor]]:
        """Each portrait's caption and where its phrases are true (5,32,32), kept once made."""
        if new := [int(name) for name in names if name not in self._said]:
            order = Order.of(Path(self.trainer.datamodule.source))
            if order.targets:
                raise ValueError(f"{self.trainer.datamodule.source} shows {', '.join(order.targets)}, and the base "
                                 "model is to learn no target: paint with --targets []")
            people = [order.people(index)[0] for index in new]
            regions = phrase_regions(paint_with_parts(people, MASK)[1])  # (b,5,32,32)
            for index, person, region in zip(new, people, regions, strict=True):
                said = order.caption(person, index)
                rows = [list(PHRASE_PARTS).index(phrase) for phrase in said.names]
                masks = F.pad(region[rows], (0, 0, 0, 0, 0, len(PHRASE_PARTS) - len(rows)))
                self._said[f"{index:06d}"] = Prompt(said.text, phrases=said.phrases), masks
        return [self._said[name] for name in names]


def grounding(record: AttentionRecord, words: Tensor, masks: Tensor) -> Tensor:
    """Cross-entropy of a layer's attention to phrases, at each place, with the phrases that are true there.

    Args:
        record: one layer.
        words: (B,T,P) bool, the tokens of each phrase.
        masks: (B,P',R,R) in [0,1], where each phrase is true; P' >= P.
    """
    spoken = F.pad(words.float(), (0, 1), value=1.0)  # (B,T,P+1): the last column is all of the text
    attention = phrase_attention(record, spoken).flatten(2).transpose(1, 2)  # (B,N,P+1), the sum over tokens
    attention = attention[..., :-1] / attention[..., -1:]  # the model's softmax may be over the image too
    truth = F.adaptive_avg_pool2d(masks[:, :words.shape[-1]], record.grid).flatten(2).transpose(1, 2)  # (B,N,P)
    truth = truth * words.any(1)[:, None]
    truth = truth / truth.sum(-1, keepdim=True).clamp(min=1)  # phrases of one place share it
    return -(truth * (attention + 1e-4).log()).sum() / truth.sum().clamp(min=1)
