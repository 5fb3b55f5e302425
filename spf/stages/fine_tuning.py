"""Stage 1: standard fine-tuning. It teaches the target attribute, and pollutes everything else (paper, Sec. 3.1)."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Literal

import torch
from diffusers.optimization import get_scheduler
from lightning import LightningModule
from torch import Tensor
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from spf.backbones import Backbone, load_backbone
from spf.notation import Conditions, Prediction, Tuning
from spf.portraits.datamodule import PortraitBatch
from spf.stages.randomness import draw
from spf.stages.remembered import OncePerPortrait
from spf.stages.resume import rewind
from spf.stages.sharding import shard
from spf.text import Prompt
from spf.tuning import Full


class StandardFineTuning(LightningModule):
    """The denoiser learns epsilon (or v) on base + target text, Eq. 1.

    Args:
        base: the original model: a name in ``spf.backbones.BASES``, a diffusers folder, a hub id or a single file.
        denoiser: "pretrained" weights of the base, or "random" ones of its configuration, to pretrain it.
        learning_rate: the paper's 1e-5.
        lr_scheduler: as diffusers names them; steps are optimizer steps, whatever the number of devices.
        lr_warmup_steps: for "constant_with_warmup" and "cosine".
        weight_decay: of AdamW with betas (0.9, 0.999).
        caption_dropout: share of samples trained on the empty text, for classifier-free guidance.
        gradient_checkpointing: trade time for memory (non-reentrant).
        cache_latents: keep each portrait's latent (the posterior's mode) in memory, so that it is encoded once.
        cache_texts: read each text once, where the text encoders are loaded: they stay on the CPU. For portraits whose
            texts fit ``spf.backbones.remembered.MOST_BYTES``.
        frozen_dtype: of the matrices that do not learn (VAE, encoders, frozen ones of a denoiser); "bfloat16" halves
            their memory, changes no bit of a step, and needs the trainer's precision bf16-mixed.
        seed: of noise, timesteps and dropout, together with the epoch and the sample's id.
        tuning: which weights learn; None is `Full`.

    Raises ValueError for a tuning that leaves random weights as they are.
    """

    captures = False  # whether `further_loss` reads the attention
    samples_each = 1  # what the denoiser learns from in a step, for each portrait

    def __init__(
        self,
        base: str = "miniature",
        denoiser: Literal["pretrained", "random"] = "pretrained",
        learning_rate: float = 1e-5,
        lr_scheduler: Literal["constant", "constant_with_warmup", "cosine"] = "constant",
        lr_warmup_steps: int = 0,
        weight_decay: float = 0.01,
        caption_dropout: float = 0.0,
        gradient_checkpointing: bool = False,
        cache_latents: bool = False,
        cache_texts: bool = False,
        frozen_dtype: Literal["float32", "bfloat16"] = "float32",
        seed: int = 0,
        tuning: Tuning | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["tuning", "objective"])
        self.tuning = tuning or Full()
        self.hparams["tuning"] = {"name": type(self.tuning).__name__, **asdict(self.tuning)}
        if denoiser == "random" and self.tuning != Full():
            raise ValueError(f"a random denoiser learns all its weights: model.tuning is to be Full, not {self.tuning}")
        self.strict_loading = False  # checkpoints hold what learns; on_load_checkpoint checks that all of it is there
        self.backbone = self._initial()
        self.backbone.train().denoiser.requires_grad_(True).to(memory_format=torch.channels_last)
        if gradient_checkpointing:
            self.backbone.enable_gradient_checkpointing()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.tuning.apply(self.backbone)
        self._held(self.backbone)
        self._latents = OncePerPortrait(lambda images: self.backbone.encode(images))

    def _initial(self) -> Backbone:
        """The model before the first step."""
        with torch.random.fork_rng():
            torch.manual_seed(self.hparams["seed"])
            return load_backbone(self.hparams["base"], random_denoiser=self.hparams["denoiser"] == "random")

    def earlier(self) -> dict[str, Callable[[], Backbone]]:
        """The models that the current one is shown beside, by name."""
        return {"original": lambda: self._beside(self._initial())}

    def _beside(self, model: Backbone) -> Backbone:
        """An earlier model, frozen; all but its denoiser is the current one's, and on the device already."""
        model.requires_grad_(False).share(self.backbone)
        model.hold_frozen(getattr(torch, self.hparams["frozen_dtype"]))
        return model

    def _held(self, model: Backbone) -> Backbone:
        """The model, its frozen weights and text encoders as the options have them."""
        held = getattr(torch, self.hparams["frozen_dtype"])
        model.hold_frozen(held)
        if self.hparams["cache_texts"]:
            model.remember_texts(held)
        return model

    def computing(self) -> torch.autocast:
        """The context in which the models run outside of a step: without it, held weights do not fit the others."""
        held = self.hparams["frozen_dtype"]
        return torch.autocast(self.device.type, getattr(torch, held), enabled=held != "float32")

    def setup(self, stage: str) -> None:
        """Raises ValueError for weights held in a precision that the trainer does not compute in."""
        held, precision = self.hparams["frozen_dtype"], self.trainer.precision
        if held == "bfloat16" and precision != "bf16-mixed":
            raise ValueError(f"model.frozen_dtype {held} needs trainer.precision bf16-mixed, not {precision}")
        # no buffer ever changes; DDP would send all of them (0.9 GB of SD 3.5) before each step
        ignore = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
        ignore(self, [name for name, _ in self.named_buffers()])

    def configure_model(self) -> None:
        """Shard the denoiser where the trainer's strategy is ``ModelParallelStrategy``.

        Raises ValueError where only a part of it learns: that fits on each device.
        """
        if self.device_mesh is None:
            return
        if self.tuning != Full():
            raise ValueError(f"only a denoiser that learns as a whole is sharded: train {self.tuning} with "
                             "trainer.strategy ddp")
        shard(self.backbone, self.device_mesh, self.trainer.precision)

    def on_train_start(self) -> None:
        """From here the tuning knows how long it has."""
        self.tuning.begin(self.backbone, int(self.trainer.estimated_stepping_batches))

    def training_step(self, batch: PortraitBatch, batch_index: int) -> Tensor:
        prompts, _, t, noise, x0 = self.drawn(batch)
        conditions = self.backbone.condition(prompts)
        # ---- Eq. 1: L_diff = || epsilon - epsilon_theta(x_t, t, tau_text([y_base, y_tar])) ||^2 ----
        x_t = self.backbone.process.noised(x0, noise, t)
        prediction = self.backbone.denoise(x_t, t, conditions, capture=self.captures)
        loss = F.mse_loss(prediction.output.float(), self.backbone.process.target(x0, noise, t))
        self.log("loss/diffusion", loss, prog_bar=True, batch_size=len(batch.ids))
        return loss + self.further_loss(batch, conditions, prediction) + self.penalty()

    def further_loss(self, batch: PortraitBatch, conditions: Conditions, prediction: Prediction) -> Tensor | float:
        """What a training asks beside Eq. 1: here nothing."""
        return 0.0

    def penalty(self) -> Tensor | float:
        """What the tuning adds to the loss, logged where there is such a thing."""
        penalty = self.tuning.penalty(self.backbone)
        if isinstance(penalty, Tensor):
            self.log("loss/penalty", penalty, batch_size=1)
        return penalty

    def optimizer_step(self, *step: Any, **options: Any) -> None:
        """Lightning's, and then the tuning's own: before anything is saved, while the gradients are there."""
        super().optimizer_step(*step, **options)
        self.tuning.after_step(self.backbone, self.global_step + 1)

    def drawn(self, batch: PortraitBatch) -> tuple[list[Prompt], list[float], Tensor, Tensor, Tensor]:
        """What chance and the data give a step: B prompts, t as numbers and as (B,), noise and x_0 (B,C,h,w)."""
        *chance, posterior = self.chance(batch)
        return *chance, self._encode(batch, posterior)

    def chance(self, batch: PortraitBatch) -> tuple[list[Prompt], list[float], Tensor, Tensor, Tensor]:
        """What chance gives a step: B prompts, t as numbers and as (B,), noise and that of the posterior (B,C,h,w)."""
        h = self.hparams
        shape = self.backbone.latent_shape(*batch.image.shape[-2:])
        chance = draw(self.backbone.process, shape, batch.ids, h["seed"], batch.epochs, h["caption_dropout"])
        t, noise = (x.to(self.device, non_blocking=True) for x in (chance.t, chance.noise))
        return self._prompts(batch, chance.keep_text), chance.t.tolist(), t, noise, chance.posterior

    def _prompts(self, batch: PortraitBatch, keep: list[bool]) -> list[Prompt]:
        texts = zip(batch.base_text, batch.target_text, batch.phrases, keep, strict=True)
        return [Prompt(base, target, phrases) if kept else Prompt("") for base, target, phrases, kept in texts]

    def _encode(self, batch: PortraitBatch, posterior: Tensor) -> Tensor:
        if not self.hparams["cache_latents"]:
            return self.backbone.encode(batch.image, posterior.to(self.device, non_blocking=True))
        return self._latents(batch.ids, batch.image)

    def configure_optimizers(self) -> dict[str, Any]:
        h = self.hparams
        learn = [weight for weight in self.backbone.denoiser.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(
            learn, h["learning_rate"], (0.9, 0.999), weight_decay=h["weight_decay"],
            fused=not self.trainer.gradient_clip_val)  # Lightning clips no gradients of a fused optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = get_scheduler(h["lr_scheduler"], optimizer, num_warmup_steps=h["lr_warmup_steps"],
                                 num_training_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        saved = checkpoint["state_dict"]  # of a sharded model empty on all ranks but the first
        checkpoint["state_dict"] = {name: saved[name] for name in self._trainable() if saved}
        checkpoint["tuning"] = self.tuning.state(self.backbone)
        checkpoint["samples_each"] = self.samples_each

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        saved = checkpoint.get("state_dict")  # a strategy that shards has taken it out, and loaded it
        missing = [] if saved is None else [name for name in self._trainable() if name not in saved]
        if missing:
            raise ValueError(f"the checkpoint lacks {len(missing)} trained weights, {missing[0]} among them: it "
                             f"belongs to another base model than {self.hparams['base']!r}, or another tuning")
        if state := checkpoint.get("tuning"):
            self.tuning.load_state(self.backbone, state)
        if self._trainer is not None:
            rewind(checkpoint, self._trainer)

    def _trainable(self) -> list[str]:
        return [name for name, weight in self.named_parameters() if weight.requires_grad]
