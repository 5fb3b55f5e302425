"""Stage 2 with the true region in the SFCM's place: what a perfect map would be worth."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from spf.method.sfcm import ControlMap
from spf.miniature.painter import response_region
from spf.miniature.shards import Order
from spf.portraits.datamodule import PortraitBatch
from spf.stages.dual_path import DualPathAlignment


class OracleAlignment(DualPathAlignment):
    """`DualPathAlignment` on painted portraits, whose counterfactual difference is known."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._regions: dict[str, Tensor] = {}

    def control(self, *paths: Any) -> ControlMap:
        """The true region (B,h,w): 1 in every cell that the target touches."""
        estimate, batch = super().control(*paths), paths[-1]
        targeted = paths[2].target_tokens.any(1)[:, None, None]
        return replace(estimate, sfcm=self._true(batch, estimate.sfcm.shape[-1]).to(targeted.device) * targeted)

    def _true(self, batch: PortraitBatch, side: int) -> Tensor:
        order = Order.of(Path(self.trainer.datamodule.source))
        for name in batch.ids:
            if name not in self._regions:
                region = response_region(order.people(int(name)))
                self._regions[name] = F.adaptive_max_pool2d(region, side)[0]
        return torch.stack([self._regions[name] for name in batch.ids])
