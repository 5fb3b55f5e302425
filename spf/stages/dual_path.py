"""Stage 2: dual-path alignment (paper, Sec. 3.2 to 3.4, Algorithm 1). The original comes back beside the target."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from spf.backbones import Backbone
from spf.baselines.masks import phrase_masks, shares_supervised
from spf.baselines.objective import PAPER, AnyObjective
from spf.baselines.tokencompose import phrase_tokens
from spf.clip import Clip
from spf.customised import start_models, weights_hash
from spf.method.objective import Step
from spf.method.sfcm import ControlMap, control_map
from spf.notation import Conditions, Prediction, Tuning
from spf.portraits.datamodule import PortraitBatch
from spf.stages.fine_tuning import StandardFineTuning
from spf.stages.one_step import OneStepImages
from spf.stages.priors import Priors
from spf.stages.remembered import OncePerPortrait, OncePerText
from spf.stages.similarity import phrase_similarity
from spf.text import Prompt
from spf.tuning import CrossAttention

ABSENT = {"masks": "objective.token and objective.pixel need model.masks: \"painted\", or a folder of PNGs",
          "priors": "objective.prior_preservation needs model.priors: a folder that `spf triples` made"}


@dataclass(frozen=True)
class Look:
    """What stage 2 sees in some portraits, for pictures."""

    prompts: list[Prompt]
    times: list[float]
    control: ControlMap
    one_step_image: Tensor  # (B,3,H,W)


class DualPathAlignment(StandardFineTuning):
    """The tuned model on base + target text (response) learns beside the frozen original on base text (reference).

    Args:
        start: where the response starts: a checkpoint of stage 1, or whatever ``load_backbone`` reads; None is the
            original itself ("only stage 2" of Table 6, and the baselines that train).
        clip: a name in ``spf.clip.CLIPS``, a transformers folder or a hub id.
        tuning: which weights learn; None is `CrossAttention`.
        objective: the weights of the terms, Eq. 12.
        sfcm: false aligns everywhere, Eq. 3 and 4 ("w/o SFCM" of Table 1).
        decoder: of the one-step image: "vae", "checkpointed", or a folder or hub id of an AutoencoderTiny.
        decoded_share: share of each batch whose one-step image is decoded, the least noisy samples.
        masks: where phrases are, for TokenCompose's terms: "painted", or a folder of PNGs (``spf.baselines.masks``).
        priors: portraits by the original, for prior preservation: a folder that `spf triples` made.
        **options: those of `StandardFineTuning`; the paper's learning rate is 5e-5. ``cache_latents`` keeps CLIP's
            embedding of each portrait too.
    """

    def __init__(self, start: str | None = None, clip: str = "miniature", tuning: Tuning | None = None,
                 objective: AnyObjective = PAPER, sfcm: bool = True, decoder: str = "vae", decoded_share: float = 1.0,
                 masks: str | None = None, priors: str | None = None, **options: Any) -> None:
        super().__init__(tuning=tuning or CrossAttention(), **options)
        self._held(self.reference)
        if not objective.diffusion:
            raise ValueError("objective.diffusion must have a weight: only L_diff reaches the last layers' weights")
        for need, given in (("masks", masks), ("priors", priors)):
            if objective.needs(need) and given is None:
                raise ValueError(ABSENT[need])
        self.objective = objective
        sees = objective.needs("alignment", "image")
        self.hparams.update(objective=asdict(objective), clip=clip if sees else None)
        self._frozen += (self._one_step_images(clip, decoder, decoded_share) if sees else None,)
        self._priors = self._read_priors(priors) if objective.needs("priors") else None
        self._texts = OncePerText(lambda texts: self.images.clip.text(texts))
        self._portraits = OncePerPortrait(lambda images: self.images.embedded(images))

    @property
    def samples_each(self) -> int:
        """A prior beside each portrait, or its base text beside its full text, is one more."""
        return 1 + self.objective.needs("priors") + self.objective.needs("base_text")

    def _initial(self) -> Backbone:
        h = self.hparams
        if h["denoiser"] != "pretrained":
            raise ValueError("stage 2 has no use for a random denoiser: it aligns with the original")
        original, response = start_models(h["base"], h["start"])
        self.hashes = {"base": weights_hash(original.denoiser), "start": weights_hash(response.denoiser)}
        original.requires_grad_(False).eval().denoiser.to(memory_format=torch.channels_last)
        # in a tuple, which torch does not register: no state_dict, no optimizer, no DDP or FSDP ever sees it
        self._frozen: tuple[Any, ...] = (original,)
        return response

    def _one_step_images(self, clip: str, decoder: str, share: float) -> OneStepImages:
        return OneStepImages(self.backbone, Clip.load(clip), decoder, share)

    def _read_priors(self, source: str) -> Priors:
        return Priors(source, self.hashes["base"])

    @property
    def reference(self) -> Backbone:
        """The original model: frozen, in eval."""
        return self._frozen[0]

    @property
    def images(self) -> OneStepImages | None:
        """The one-step images, and the frozen CLIP; None where no term needs alignment or image."""
        return self._frozen[1]

    def earlier(self) -> dict[str, Callable[[], Backbone]]:
        h = self.hparams

        def stage1() -> Backbone:
            return self._beside(start_models(h["base"], h["start"])[1])

        return {"original": lambda: self.reference, **({"stage 1": stage1} if h["start"] else {})}

    def configure_model(self) -> None:
        """Raises ValueError where the denoiser would be sharded."""
        if self.device_mesh is not None:
            raise ValueError("stage 2 is not sharded, of which only attention learns: give trainer.strategy ddp")

    def on_fit_start(self) -> None:
        """What is not registered follows the model to its device."""
        self.reference.to(self.device)
        if self.hparams["frozen_dtype"] == "float32":
            self.reference.denoiser.to(self.backbone.dtype)  # where the trainer's precision is less
        if self.images:
            self.images.to(self.device)
        if self.objective.needs("masks"):
            self._masks = phrase_masks(self.hparams["masks"], self.trainer.datamodule.source)
            shares = shares_supervised(self._masks, self.trainer.datamodule.portraits.table)
            if self.trainer.is_global_zero:
                print(f"masks: {shares}", flush=True)

    def training_step(self, batch: PortraitBatch, batch_index: int) -> dict[str, Tensor]:
        """Algorithm 1, lines 19 to 43; numbers on the right are its lines. What no term needs is not done."""
        prompts, times, t, noise, x0 = self.drawn(batch)  # 19, 20
        process, needs = self.backbone.process, self.objective.needs
        x_t = process.noised(x0, noise, t)  # 21
        full = self.backbone.condition(prompts)
        response = self.backbone.denoise(x_t, t, full, capture=needs("alignment", "masks"))  # 23
        step = Step(response.output, process.target(x0, noise, t), response=response.attention)
        if needs("alignment", "base_text"):
            reference = self.refer(x_t, t, prompts)  # 22
            step.reference, step.reference_output = reference.attention, reference.output  # 34
        if needs("alignment"):
            step.sfcm = self.control(reference, response, full, prompts, batch).sfcm  # 24-31
            step.base_tokens = full.base_tokens
        self._fill_for_other_methods(step, batch, prompts, full, x_t, t)
        if needs("image") and (rows := self.images.chosen(times, prompts)):
            estimate = process.one_step(response.output, x_t, t)[rows]  # 38
            step.one_step_image = self.images.embedded(self.images.decoded(estimate))  # 39
            step.portrait = self._portrait(batch, rows)
            step.target_text = self._texts([prompts[row].target_text for row in rows])
        terms = self.objective(step)  # 35, 36, 40, 41
        loss = self.objective.total(terms) + self.penalty()  # 43
        self._log(terms)
        return {"loss": loss, **report(t, terms, step.sfcm)}

    def _fill_for_other_methods(self, step: Step, batch: PortraitBatch, prompts: list[Prompt], full: Conditions,
                                x_t: Tensor, t: Tensor) -> None:
        """What only the terms of ``spf.baselines`` read."""
        model, needs = self.backbone, self.objective.needs
        if needs("masks"):
            step.phrase_tokens = phrase_tokens(full)
            step.masks = self._masks.batch(batch.ids, prompts, full.phrase_weights.shape[-1]).to(self.device)
        if needs("base_text"):
            step.base_output = model.denoise(x_t, t, model.condition([prompt.base for prompt in prompts])).output
        if needs("priors"):
            said, t, noise, x0 = self._priors.beside(batch, model, self.hparams["seed"])
            step.prior_output = model.denoise(model.process.noised(x0, noise, t), t, model.condition(said)).output
            step.prior_target = model.process.target(x0, noise, t)

    @torch.no_grad()
    def refer(self, x_t: Tensor, t: Tensor, prompts: list[Prompt]) -> Prediction:
        """The reference path: the original on base text, at the response's x_t and t."""
        base = self.reference.condition([prompt.base for prompt in prompts])
        return self.reference.denoise(x_t, t, base, capture=self.objective.needs("alignment"))

    def control(self, reference: Prediction, response: Prediction, full: Conditions, prompts: list[Prompt],
                batch: PortraitBatch) -> ControlMap:
        """The SFCM of a batch, or none; a benchmark puts another map in its place."""
        made = control_map(reference, response, full, phrase_similarity(prompts, self._texts))
        return made if self.hparams["sfcm"] else replace(made, sfcm=torch.zeros_like(made.sfcm))

    @torch.no_grad()
    def look(self, batch: PortraitBatch) -> Look:
        """The maps and one-step images of some portraits, at the times and noises that training would draw for them."""
        prompts, times, t, noise = self.chance(batch)[:4]
        # not from the cache, nor into it: a picture must not change what is learnt
        x_t = self.backbone.process.noised(self.backbone.encode(batch.image), noise, t)
        full = self.backbone.condition(prompts)
        response = self.backbone.denoise(x_t, t, full, capture=True)
        control = self.control(self.refer(x_t, t, prompts), response, full, prompts, batch)
        estimate = self.backbone.process.one_step(response.output, x_t, t)
        return Look(prompts, times, control, self.images.decoded(estimate))

    def _portrait(self, batch: PortraitBatch, rows: list[int]) -> Tensor:
        if self.hparams["cache_latents"]:
            return self._portraits(batch.ids, batch.image)[rows]
        return self.images.embedded(batch.image[rows])

    def _log(self, terms: dict[str, Tensor]) -> None:
        means = {name: term.detach().mean() for name, term in terms.items()}
        for name, mean in means.items():
            weight = getattr(self.objective, name)
            self.log(f"loss/{name}", mean, prog_bar=name == "diffusion", batch_size=1)
            self.log(f"weighted/{name}", weight * mean, batch_size=1)
            self.log(f"over_diffusion/{name}", weight * mean / means.get("diffusion", mean), batch_size=1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """With the hashes of what it began with, without which the rest means nothing."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["hashes"] = self.hashes

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raises ValueError where base or start are not what they were, or the checkpoint is of stage 1."""
        if "hashes" not in checkpoint:
            raise ValueError("the checkpoint is of stage 1: give it as model.start, not to resume from")
        for part, before in checkpoint["hashes"].items():
            if before != self.hashes[part]:
                raise ValueError(f"the {part} {self.hparams[part]} has other weights than the checkpoint was trained "
                                 f"with: give the {part} of then, or a new --run")
        super().on_load_checkpoint(checkpoint)


def report(t: Tensor, terms: dict[str, Tensor], sfcm: Tensor | None) -> dict[str, Tensor]:
    """What callbacks may look at after a step: t and each term (B,), the SFCM (B,h,w) where there is one."""
    seen = {"t": t, **terms} | ({} if sfcm is None else {"sfcm": sfcm})
    return {name: value.detach() for name, value in seen.items()}
