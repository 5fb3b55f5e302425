"""The stages without weights hold what the real ones do, and need nothing but a configuration."""

from pathlib import Path

import pytest
import torch

from spf.baselines.objective import AnyObjective
from spf.stages.dual_path import DualPathAlignment
from spf.stages.fine_tuning import StandardFineTuning
from spf.stages.weightless import WEIGHTLESS, NoMasks, NoPriors, WeightlessAlignment, portraits


def shapes(module: torch.nn.Module) -> dict[str, tuple]:
    return {name: (tuple(weight.shape), weight.dtype, weight.requires_grad) for name, weight in
            module.named_parameters()}


@pytest.mark.parametrize("real", [StandardFineTuning, DualPathAlignment])
def test_they_are_the_stages_they_stand_for(real: type[StandardFineTuning], tiny_sd15: Path) -> None:
    shape, module = WEIGHTLESS[real.__name__](base=str(tiny_sd15)), real(base=str(tiny_sd15))
    assert shapes(shape) == shapes(module)
    assert {weight.device.type for weight in shape.parameters()} == {"meta"}


def test_what_is_frozen_is_as_large(tiny_sd15: Path) -> None:
    shape, module = (kind(base=str(tiny_sd15)) for kind in (WeightlessAlignment, DualPathAlignment))
    reference, clip = shape.frozen
    assert shapes(reference) == shapes(module.reference) and shapes(clip) == shapes(module.images.clip)
    assert reference.vae is shape.backbone.vae and reference.denoiser is not shape.backbone.denoiser


def test_a_start_that_is_a_model_has_its_own_frozen_parts(tiny_sd15: Path) -> None:
    for start, shares in (("runs/nowhere/last.ckpt", True), (str(tiny_sd15), False)):
        module = WeightlessAlignment(base=str(tiny_sd15), start=start)
        assert (module.reference.vae is module.backbone.vae) == shares


def test_a_tiny_decoder_needs_no_file_and_no_image_term_no_clip(tiny_sd15: Path) -> None:
    decoded = WeightlessAlignment(base=str(tiny_sd15), decoder="madebyollin/taesd")
    assert len(decoded.frozen) == 3 and decoded.images.tiny.config.latent_channels == 4
    plain = WeightlessAlignment(base=str(tiny_sd15), objective=AnyObjective(m_text=0, m_fine=0, enhanced=0))
    assert plain.frozen == [plain.reference]


def test_priors_and_masks_have_the_shapes_of_real_ones(tiny_sd15: Path) -> None:
    objective = AnyObjective(prior_preservation=1, token=1)
    module = WeightlessAlignment(base=str(tiny_sd15), objective=objective, priors="nowhere", masks="nowhere")
    prompts, t, noise, x0 = NoPriors().beside(portraits(3, 64), module.backbone, 0)
    assert len(prompts) == len(t) == 3 and noise.shape == x0.shape == (3, 4, 8, 8)
    assert NoMasks().batch(["a", "b"], prompts[:2], 5).shape == (2, 6, 64, 64)


def test_portraits_all_have_a_target() -> None:
    batch = portraits(2, 64)
    assert len(batch) == 2 and batch.image.shape == (2, 3, 64, 64) and all(batch.target_text)
