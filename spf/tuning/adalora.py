"""AdaLoRA: changes of low rank whose ranks go where they are worth most, on peft (Zhang et al. 2023; Table 1)."""

from dataclasses import dataclass
from typing import Any

import torch
from peft import AdaLoraConfig
from peft.tuners.adalora import AdaLoraLayer, RankAllocator
from torch import Tensor, nn

from spf.backbones import Backbone
from spf.notation import LowRank, Tuning
from spf.tuning.low_rank import ADAPTER, Layers, add, added, fold, projections

UNPLANNED = 1
"""peft wants the number of optimizer steps with its layers; a training tells it only when it begins."""


@dataclass(frozen=True)
class AdaLoRA(Tuning):
    """Each projection's weight W becomes W + B diag(E) A * alpha / initial_rank; all three learn, E starts at zero.

    The budget is how many values E are left in all layers together: ``initial_rank`` a layer at first, then falling by
    the cube to ``target_rank`` a layer. Again and again the least important ones are set to zero, wherever they are;
    importance is the smoothed |w dL/dw| of a value, its row of A and its column of B, times how much that varies.

    Args:
        target_rank: ranks a layer in the end, on average.
        initial_rank: of each layer at first.
        alpha: the scale is alpha / initial_rank for good; none: the initial rank, so that the scale is 1.
        warmup: share of the optimizer steps before the budget falls.
        final: share of the optimizer steps after it has fallen, in which the ranks are settled.
        every_n_steps: how often ranks are taken away in between.
        orthogonality: weight of the penalty that keeps the rows of A and the columns of B orthonormal; unweighted it
            begins at 0.5 to 0.9 times the square root of the rank, where L_diff is about 0.1.
        layers: "attention", or "cross_attention".

    Raises ValueError where the budget does not fall, or shares leave no time for it.
    """

    target_rank: int = 8
    initial_rank: int = 12
    alpha: float | None = None
    warmup: float = 0.1
    final: float = 0.3
    every_n_steps: int = 10
    orthogonality: float = 0.1
    layers: Layers = "attention"

    def __post_init__(self) -> None:
        if not 0 < self.target_rank < self.initial_rank:
            raise ValueError(f"AdaLoRA's target_rank lies between 0 and its initial_rank, {self.initial_rank}: not "
                             f"{self.target_rank}")
        if min(self.warmup, self.final) < 0 or self.warmup + self.final >= 1:
            raise ValueError(f"AdaLoRA's warmup and final are shares of the steps with room between them, not "
                             f"{self.warmup:g} and {self.final:g}")
        if self.every_n_steps < 1 or self._alpha <= 0 or self.orthogonality < 0:
            raise ValueError("AdaLoRA needs a positive every_n_steps and alpha, and no negative orthogonality")

    @property
    def _alpha(self) -> float:
        return self.initial_rank if self.alpha is None else self.alpha

    def apply(self, backbone: Backbone) -> list[nn.Parameter]:
        plan = AdaLoraConfig(init_r=self.initial_rank, target_r=self.target_rank, deltaT=self.every_n_steps,
                             lora_alpha=self._alpha, orth_reg_weight=self.orthogonality, total_step=UNPLANNED,
                             target_modules=projections(backbone, self.layers))
        learning = add(backbone, plan)
        # with the denoiser, as peft's own configuration: a copy of it has its own
        backbone.denoiser.rank_allocator = RankAllocator(backbone.denoiser, plan, ADAPTER)
        return learning

    def load_state(self, backbone: Backbone, state: dict[str, Any]) -> None:
        allocator = backbone.denoiser.rank_allocator
        allocator.peft_config.total_step, allocator.peft_config.rank_pattern = state["steps"], state["kept"]
        allocator.exp_avg_ipt, allocator.exp_avg_unc = dict(state["importance"]), dict(state["uncertainty"])
        allocator.ipt = dict(state["importance"])  # of the last gradient alone: by its keys peft knows what has begun

    def begin(self, backbone: Backbone, steps: int) -> None:
        """Raises ValueError where the budget has no step to fall in, or was planned for another number of steps."""
        allocator = backbone.denoiser.rank_allocator
        plan = allocator.peft_config
        if plan.total_step not in (UNPLANNED, steps):
            raise ValueError(f"AdaLoRA's budget was planned for {plan.total_step:,} optimizer steps, and now there are "
                             f"{steps:,}: resume with --trainer.max_steps {plan.total_step}, or give a new --run")
        plan.total_step, plan.tinit, plan.tfinal = steps, round(self.warmup * steps), round(self.final * steps)
        if steps - plan.tfinal <= max(plan.tinit, 1):
            raise ValueError(f"AdaLoRA's budget cannot fall within {steps} optimizer steps: train longer")
        for smoothed in (allocator.exp_avg_ipt, allocator.exp_avg_unc):
            smoothed.update({name: value.to(backbone.device) for name, value in smoothed.items()})

    def penalty(self, backbone: Backbone) -> Tensor:
        """The weighted mean of ||A A^T - I|| and ||B^T B - I|| over all layers, in float32."""
        with torch.autocast(backbone.device.type, enabled=False):
            pairs = [(layer.lora_A[ADAPTER], layer.lora_B[ADAPTER].T) for layer in added(backbone).values()]
            products = torch.stack([rows @ rows.T for pair in pairs for rows in pair])  # (2 layers,r,r)
            distances = (products - torch.eye(self.initial_rank, device=backbone.device)).norm(dim=(1, 2))
            return self.orthogonality * distances.mean()

    def after_step(self, backbone: Backbone, step: int) -> None:
        denoiser, allocator = backbone.denoiser, backbone.denoiser.rank_allocator
        plan = allocator.peft_config
        settled = plan.total_step - plan.tfinal
        if step > settled:  # the optimizer moves what was taken away
            allocator.mask_using_rank_pattern(denoiser, plan.rank_pattern)
        elif step == settled or _finite(denoiser):
            _, kept = allocator.update_and_allocate(denoiser, step, force_mask=step == settled)
            plan.rank_pattern = kept or plan.rank_pattern
        if step == settled:
            allocator.reset_ipt()

    def state(self, backbone: Backbone) -> dict[str, Any]:
        allocator = backbone.denoiser.rank_allocator
        return {"steps": allocator.peft_config.total_step, "kept": allocator.peft_config.rank_pattern,
                "importance": allocator.exp_avg_ipt, "uncertainty": allocator.exp_avg_unc}

    def merge(self, backbone: Backbone) -> LowRank:
        """As a LoRA of the ranks that are left; a layer that has lost all of them is not in it."""
        layers = {name: kept for name, layer in added(backbone).items() if len((kept := _kept(layer))[0])}
        del backbone.denoiser.rank_allocator
        return fold(backbone, LowRank(layers, self._alpha))


def _finite(denoiser: nn.Module) -> bool:
    """Whether all gradients are. Those of a loss scaled for half precision may not be; their step is then not made."""
    return bool(nn.utils.get_total_norm(
        [weight.grad for weight in denoiser.parameters() if weight.grad is not None]).isfinite())


@torch.no_grad()
def _kept(layer: AdaLoraLayer) -> tuple[Tensor, Tensor]:
    """Down (r,in) and up (out,r) of the r values E that are not zero, for a LoRA's scale of alpha / r."""
    A, E, B = (part[ADAPTER] for part in (layer.lora_A, layer.lora_E, layer.lora_B))
    kept = E[:, 0] != 0
    # peft's scale is that of the initial rank, which ranknum keeps, and of a small number that it adds to it
    return E[kept] * A[kept], B[:, kept] * (kept.sum() / (layer.ranknum[ADAPTER] + 1e-5))
