from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.nn import functional as F

from spf.baselines.masks import phrase_masks
from spf.baselines.objective import TERMS, AnyObjective
from spf.baselines.tokencompose import phrase_tokens
from spf.clip import Clip
from spf.customised import load_customised, load_lineage
from spf.method.alignment import fine_grained, text_consistent
from spf.method.enhancement import enhanced
from spf.method.objective import Objective, Step
from spf.method.sfcm import control_map
from spf.miniature.shards import paint_portraits
from spf.portraits.datamodule import PortraitBatch, PortraitData
from spf.stages.dual_path import DualPathAlignment
from spf.stages.fine_tuning import StandardFineTuning
from spf.stages.randomness import draw
from spf.stages.similarity import phrase_similarity
from spf.text import Prompt
from spf.tuning import AdaLoRA, CrossAttention, Full, LoRA, ParallelAdapter


def trainer(folder: Path, steps: int, **more: Any) -> Trainer:
    return Trainer(max_steps=steps, default_root_dir=folder, logger=False, enable_progress_bar=False,
                   enable_checkpointing="callbacks" in more, enable_model_summary=False, accelerator="cpu", **more)


def data(source: Path) -> PortraitData:
    return PortraitData(str(source), resolution=64, train_batch_size=4, num_workers=0)


def stage2(base: Path, start: Path | None = None, **options: Any) -> DualPathAlignment:
    stage = DualPathAlignment(None if start is None else str(start), base=str(base), **options)
    stage.log = lambda *_, **__: None
    return stage


def step(stage: DualPathAlignment, batch: PortraitBatch) -> dict[str, torch.Tensor]:
    return stage.training_step(batch, 0)


@pytest.fixture(params=["tiny_sd15", "tiny_sd35"])
def tiny(request: pytest.FixtureRequest) -> Path:
    """Each kind of backbone."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def stage1(tiny_sd15: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a stage 1 that has moved every weight."""
    stage = StandardFineTuning(str(tiny_sd15))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in stage.backbone.denoiser.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=generator)
    path = tmp_path_factory.mktemp("stage1") / "last.ckpt"
    state = {name: value for name, value in stage.state_dict().items() if name.startswith("backbone.denoiser.")}
    torch.save({"state_dict": state, "hyper_parameters": dict(stage.hparams)}, path)
    return path


def test_a_step_is_algorithm_1(tiny_sd15: Path, stage1: Path, batch: PortraitBatch) -> None:
    stage = stage2(tiny_sd15, stage1, seed=5)
    original, response = load_customised(stage1)
    chance = draw(original.process, (4, 8, 8), batch.ids, 5, [0] * 4)
    x0 = original.encode(batch.image, chance.posterior)
    x_t = original.process.noised(x0, chance.noise, chance.t)
    prompts = [Prompt(base, target) for base, target in zip(batch.base_text, batch.target_text, strict=True)]
    full, base = response.condition(prompts), original.condition([prompt.base for prompt in prompts])
    after = response.denoise(x_t, chance.t, full, capture=True)
    before = original.denoise(x_t, chance.t, base, capture=True)
    clip = Clip.load("miniature")
    keep = 1 - control_map(before, after, full, phrase_similarity(prompts, clip.text)).sfcm
    seen = clip.image(response.decode(original.process.one_step(after.output, x_t, chance.t)))
    expected = (F.mse_loss(after.output, chance.noise)
                + 0.2 * text_consistent(before.attention, after.attention, full.base_tokens, keep).mean()
                + 0.1 * fine_grained(before.attention, after.attention, keep).mean()
                + 0.6 * enhanced(seen, clip.image(batch.image), clip.text(batch.target_text)).mean())
    assert torch.allclose(step(stage, batch)["loss"], expected, rtol=1e-4)


def test_a_step_of_a_flow_trains_its_joint_attention(tiny_sd35: Path, batch: PortraitBatch) -> None:
    """From a response that has left its original: every term is there and finite, and so is each gradient."""
    stage = stage2(tiny_sd35)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in stage.backbone.denoiser.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=generator)
    seen = step(stage, batch)
    assert all(seen[name].isfinite().all() and (seen[name] > 0).all() for name in ("m_text", "m_fine", "enhanced"))
    assert seen["sfcm"].shape == (4, 8, 8) and 0 <= seen["sfcm"].min() <= seen["sfcm"].max() <= 1
    seen["loss"].backward()
    learning = {name: weight for name, weight in stage.backbone.denoiser.named_parameters() if weight.requires_grad}
    assert learning.keys() == set(stage.backbone.attention_parameters())
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in learning.values())
    assert sum(weight.grad.any() for weight in learning.values()) > 0.9 * len(learning)


def test_only_cross_attention_learns_and_the_reference_stays_bit_for_bit(
        tiny_sd15: Path, stage1: Path, portraits: Path, tmp_path: Path) -> None:
    stage = stage2(tiny_sd15, stage1, learning_rate=1e-3)
    before = {name: value.clone() for name, value in stage.state_dict().items()}
    reference = {name: value.clone() for name, value in stage.reference.state_dict().items()}
    trainer(tmp_path, 2).fit(stage, data(portraits))
    changed = {name for name, value in stage.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all(".attn2." in name for name in changed)
    assert all(torch.equal(value, reference[name]) for name, value in stage.reference.state_dict().items())


def test_what_is_frozen_is_neither_registered_nor_saved(
        tiny_sd15: Path, stage1: Path, portraits: Path, tmp_path: Path) -> None:
    stage = stage2(tiny_sd15, stage1)
    assert {name.split(".")[0] for name, _ in stage.named_modules() if name} == {"backbone"}
    fit = trainer(tmp_path, 1)
    fit.fit(stage, data(portraits))
    fit.save_checkpoint(tmp_path / "c.ckpt")
    assert all(".attn2." in name for name in torch.load(tmp_path / "c.ckpt", weights_only=True)["state_dict"])


@pytest.mark.parametrize("tuning", [
    CrossAttention(), Full(), ParallelAdapter(), LoRA(4, layers="cross_attention"),
    AdaLoRA(2, 4, final=0, every_n_steps=1)], ids=lambda kind: type(kind).__name__)
def test_a_checkpoint_becomes_the_trained_model_again(
        tiny_sd15: Path, stage1: Path, portraits: Path, batch: PortraitBatch, tmp_path: Path, tuning: Any) -> None:
    stage = stage2(tiny_sd15, stage1, learning_rate=1e-2, tuning=tuning)
    fit = trainer(tmp_path, 2)
    fit.fit(stage, data(portraits))
    fit.save_checkpoint(tmp_path / "c.ckpt")
    made = load_lineage(tmp_path / "c.ckpt")
    assert list(made.models) == ["original", "stage 1", "stage 2"] and made.clip == "miniature"
    x_t, t = torch.randn(2, 4, 8, 8), torch.tensor([10, 900])
    texts = [Prompt("a woman", "round glasses"), Prompt("")]
    expected, again = (model.denoise(x_t, t, model.condition(texts)).output
                       for model in (stage.backbone.eval(), made.models["stage 2"]))
    first = made.models["stage 1"]
    assert (expected - again).abs().max() < 1e-3 * expected.abs().max()  # the trained one is channels_last
    assert not torch.allclose(expected, first.denoise(x_t, t, first.condition(texts)).output)


def test_stage_2_goes_on_from_a_stage_1_of_low_rank(tiny_sd15: Path, portraits: Path, tmp_path: Path) -> None:
    """It starts from the merged weights, and finds them again by their hash."""
    stage1 = StandardFineTuning(str(tiny_sd15), learning_rate=1e-2, tuning=LoRA(3, 5))
    fit = trainer(tmp_path, 2)
    fit.fit(stage1, data(portraits))
    fit.save_checkpoint(tmp_path / "stage1.ckpt")
    stage, fit = stage2(tiny_sd15, tmp_path / "stage1.ckpt", tuning=LoRA(2, 2, "cross_attention")), trainer(tmp_path, 1)
    fit.fit(stage, data(portraits))
    fit.save_checkpoint(tmp_path / "stage2.ckpt")
    made = load_lineage(tmp_path / "stage2.ckpt")
    original, first, second = (model.denoiser.state_dict() for model in made.models.values())
    changed = {name for name, weight in second.items() if not torch.equal(weight, first[name])}
    assert changed and changed <= {f"{layer}.weight" for layer in made.low_rank.layers}
    assert {".attn2." in name for name in changed} == {True}
    assert any(".attn1." in name for name, weight in first.items() if not torch.equal(weight, original[name]))


def test_a_resumed_run_equals_the_uninterrupted_one(
        tiny_sd15: Path, stage1: Path, portraits: Path, tmp_path: Path) -> None:
    options = {"learning_rate": 1e-3, "caption_dropout": 0.3, "cache_latents": True, "decoded_share": 0.5}
    whole, resumed = (stage2(tiny_sd15, stage1, **options) for _ in range(2))
    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=2, save_top_k=-1)
    trainer(tmp_path, 4, callbacks=[keep]).fit(whole, data(portraits))
    trainer(tmp_path, 4).fit(resumed, data(portraits), ckpt_path=tmp_path / "step=2.ckpt")
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name


def test_what_it_began_with_is_checked_by_hash(
        tiny_sd15: Path, stage1: Path, portraits: Path, tmp_path: Path) -> None:
    fit, stage = trainer(tmp_path, 1), stage2(tiny_sd15, stage1, tuning=Full())
    fit.fit(stage, data(portraits))
    fit.save_checkpoint(tmp_path / "c.ckpt")
    other = stage2(tiny_sd15, tuning=Full())  # starts from the original itself
    with pytest.raises(ValueError, match="the start None has other weights .* give the start of then"):
        trainer(tmp_path, 2).fit(other, data(portraits), ckpt_path=tmp_path / "c.ckpt")
    checkpoint = torch.load(tmp_path / "c.ckpt", weights_only=True)
    with pytest.raises(ValueError, match="the base .* has other weights"):
        stage.on_load_checkpoint({**checkpoint, "hashes": {"base": "another"}})
    with pytest.raises(ValueError, match="of stage 1: give it as model.start"):
        stage.on_load_checkpoint(torch.load(stage1, weights_only=True))
    checkpoint["hyper_parameters"]["start"] = None
    torch.save(checkpoint, tmp_path / "moved.ckpt")
    with pytest.raises(ValueError, match="its start has other weights than at its training; say with --start"):
        load_customised(tmp_path / "moved.ckpt")
    assert load_lineage(tmp_path / "moved.ckpt", start=str(stage1)).models.keys() == {"original", "stage 1", "stage 2"}


def test_what_no_term_needs_is_not_done(tiny_sd15: Path, batch: PortraitBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("not needed")

    monkeypatch.setattr(Clip, "load", fail)
    stage = stage2(tiny_sd15, objective=Objective(m_text=0, m_fine=0, enhanced=0))
    for name in ("refer", "control"):
        monkeypatch.setattr(stage, name, fail)
    assert stage.images is None and stage.hparams["clip"] is None
    alone = StandardFineTuning(str(tiny_sd15))
    alone.log = stage.log
    assert torch.allclose(step(stage, batch)["loss"], alone.training_step(batch, 0), rtol=1e-5)


def test_an_objective_without_diffusion_is_refused(tiny_sd15: Path) -> None:
    with pytest.raises(ValueError, match=r"objective\.diffusion must have a weight"):
        stage2(tiny_sd15, objective=Objective(diffusion=0))


def test_dropped_captions_are_aligned_everywhere_and_not_enhanced(tiny_sd15: Path, stage1: Path,
                                                                 batch: PortraitBatch) -> None:
    seen = step(stage2(tiny_sd15, stage1, caption_dropout=1.0), batch)
    assert not seen["sfcm"].any() and seen["m_fine"].all() and not seen["m_text"].any() and "enhanced" not in seen


@pytest.mark.parametrize("tuning", [CrossAttention(), Full()], ids=lambda kind: type(kind).__name__)
def test_held_weights_change_no_bit_of_a_step(tiny: Path, tuning: Any, batch: PortraitBatch) -> None:
    """Nor are the paths another where they are equal: no soft map of rounding, whatever learns."""
    seen = []
    for held in ("float32", "bfloat16"):
        stage = stage2(tiny, seed=5, frozen_dtype=held, tuning=tuning)
        with torch.autocast("cpu", torch.bfloat16):
            seen.append(step(stage, batch))
            prompts, _, t, noise, x0 = stage.drawn(batch)
            x_t, base = stage.backbone.process.noised(x0, noise, t), [prompt.base for prompt in prompts]
            response = stage.backbone.denoise(x_t, t, stage.backbone.condition(base)).output
            assert torch.equal(response, stage.refer(x_t, t, prompts).output)
    assert stage.reference.denoiser.dtype == torch.bfloat16 and seen[0]["m_fine"].isfinite().all()
    assert all(torch.equal(seen[0][name], seen[1][name]) for name in seen[0])


def test_both_paths_remember_their_texts(tiny: Path, batch: PortraitBatch) -> None:
    stages = [stage2(tiny, cache_texts=cache) for cache in (False, True)]
    assert torch.allclose(*(step(stage, batch)["loss"] for stage in stages), rtol=1e-4)
    for encoder in stages[1].backbone.encoders.values():
        encoder.register_forward_pre_hook(lambda *_: pytest.fail("each text has been read"))
    assert stages[1].reference.encoders is stages[1].backbone.encoders
    step(stages[1], batch)


def test_held_weights_leave_checkpoints_resume_and_export_as_they_are(
        tiny: Path, portraits: Path, tmp_path: Path) -> None:
    """What learns is saved in float32; all else of the exported model is the base's, in full precision."""
    options = {"frozen_dtype": "bfloat16", "learning_rate": 1e-3, "gradient_checkpointing": True}
    whole, resumed = (stage2(tiny, **options) for _ in range(2))
    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    trainer(tmp_path, 2, callbacks=[keep], precision="bf16-mixed").fit(whole, data(portraits))
    trainer(tmp_path, 2, precision="bf16-mixed").fit(resumed, data(portraits), ckpt_path=tmp_path / "step=1.ckpt")
    trained = {name: weight for name, weight in whole.named_parameters() if weight.requires_grad}
    assert all(torch.equal(weight, resumed.get_parameter(name)) for name, weight in trained.items())
    original, customised = load_customised(tmp_path / "step=2.ckpt")  # finds the base by its hash
    base = original.state_dict()
    for name, weight in customised.state_dict().items():
        learnt = trained.get(f"backbone.{name}")
        assert weight.dtype == base[name].dtype and torch.equal(weight, base[name] if learnt is None else learnt), name
    assert {weight.dtype for weight in customised.parameters()} == {torch.float32}


def test_a_tuning_acts_once_an_optimizer_step(tiny_sd15: Path, portraits: Path, tmp_path: Path) -> None:
    class Diary(CrossAttention):
        steps: ClassVar[list[int]] = []

        def after_step(self, backbone: Any, step: int) -> None:
            self.steps.append(step)

    trainer(tmp_path, 2, accumulate_grad_batches=2).fit(stage2(tiny_sd15, tuning=Diary()), data(portraits))
    assert Diary.steps == [1, 2]


def test_gradient_checkpointing_changes_no_gradient(tiny_sd15: Path, stage1: Path, batch: PortraitBatch) -> None:
    gradients = []
    for options in ({}, {"gradient_checkpointing": True, "decoder": "checkpointed"}):
        stage = stage2(tiny_sd15, stage1, **options).train()
        step(stage, batch)["loss"].backward()
        learn = [weight for weight in stage.backbone.denoiser.parameters() if weight.requires_grad]
        gradients.append(torch.cat([weight.grad.flatten() for weight in learn]))
    plain, checkpointed = gradients
    assert (plain - checkpointed).norm() < 1e-4 * plain.norm()


def test_a_look_shows_the_maps_and_images_of_the_batch(tiny_sd15: Path, stage1: Path, batch: PortraitBatch) -> None:
    stage = stage2(tiny_sd15, stage1, cache_latents=True)
    look = stage.look(batch)
    assert not stage._latents.kept  # a picture changes nothing that is learnt
    assert look.one_step_image.shape == batch.image.shape and look.control.sfcm.shape == (4, 8, 8)
    assert torch.allclose(look.control.sfcm, step(stage, batch)["sfcm"])


def test_without_sfcm_it_aligns_everywhere(tiny_sd15: Path, stage1: Path, batch: PortraitBatch) -> None:
    """Eq. 3 and 4: 1 - SFCM is 1 at every place."""
    stage, plain = stage2(tiny_sd15, stage1), stage2(tiny_sd15, stage1, sfcm=False)
    seen = step(plain, batch)
    assert not seen["sfcm"].any() and step(stage, batch)["sfcm"].any()
    assert (seen["m_text"] > step(stage, batch)["m_text"]).all() and not plain.look(batch).control.sfcm.any()
    assert plain.look(batch).control.soft_map.any()


# ---- other methods, as terms beside L_diff ----

NEUTRAL = AnyObjective(m_text=0, m_fine=0, enhanced=0)
BASELINES = {
    "tokencompose": AnyObjective(m_text=0, m_fine=0, enhanced=0, token=1e-3, pixel=5e-5),
    "prior preservation": AnyObjective(m_text=0, m_fine=0, enhanced=0, prior_preservation=1.0),
    "output preservation": AnyObjective(m_text=0, m_fine=0, enhanced=0, output_preservation=1.0),
}
every_baseline = pytest.mark.parametrize("name", BASELINES)


@pytest.fixture(scope="module")
def priors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Portraits that stand for the original's own."""
    return paint_portraits(tmp_path_factory.mktemp("priors") / "p", 4, "home", (), resolution=64)


def baseline(name: str, base: Path, priors: Path, /, **options: Any) -> DualPathAlignment:
    options = {"tuning": Full(), "learning_rate": 1e-3, "masks": "painted", "priors": str(priors), **options}
    return stage2(base, objective=BASELINES[name], **options)


@every_baseline
def test_a_baseline_trains_the_whole_denoiser_and_needs_no_clip(
        name: str, tiny_sd15: Path, portraits: Path, priors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(Clip, "load", lambda *_: pytest.fail("no term needs CLIP"))
    stage, seen = baseline(name, tiny_sd15, priors), {}
    stage.log = lambda key, value, **_: seen.setdefault(key, []).append(float(value))
    before = {key: value.clone() for key, value in stage.backbone.denoiser.state_dict().items()}
    reference = {key: value.clone() for key, value in stage.reference.state_dict().items()}
    fit = trainer(tmp_path, 3)
    fit.fit(stage, data(portraits))
    terms = [key for key in seen if key.startswith("loss/")]
    assert terms == [f"loss/{term.name}" for term in BASELINES[name].terms]
    assert all(len(seen[key]) == 3 and torch.tensor(seen[key]).isfinite().all() for key in terms)
    after = stage.backbone.denoiser.state_dict()
    assert all(not torch.equal(after[key], value) for key, value in before.items() if value.any())
    assert all(torch.equal(value, reference[key]) for key, value in stage.reference.state_dict().items())
    said = "masks: 100% of samples are supervised, 100% of phrases and targets have a mask (16 portraits looked at)"
    assert (said in capsys.readouterr().out) == (name == "tokencompose")
    fit.save_checkpoint(tmp_path / "c.ckpt")
    made = load_lineage(tmp_path / "c.ckpt")
    assert list(made.models) == ["original", "customised"] and made.clip is None and made.exportable


@every_baseline
def test_a_baseline_s_loss_is_its_terms_beside_the_diffusion_loss(
        name: str, tiny_sd15: Path, portraits: Path, priors: Path, batch: PortraitBatch) -> None:
    stage, alone = baseline(name, tiny_sd15, priors), stage2(tiny_sd15, objective=NEUTRAL, tuning=Full())
    batch.ids = [f"{row:06d}" for row in range(4)]
    stage._masks = phrase_masks("painted", str(portraits))
    seen, plain = step(stage, batch), step(alone, batch)
    assert torch.equal(seen["diffusion"], plain["diffusion"])
    added = sum(getattr(BASELINES[name], term.name) * seen[term.name].mean() for term in BASELINES[name].terms[1:])
    assert torch.allclose(seen["loss"], plain["loss"] + added)
    assert added > 0 or name == "output preservation"  # where the model still is the original


def test_output_preservation_compares_both_models_on_the_base_text(
        tiny_sd15: Path, stage1: Path, priors: Path, batch: PortraitBatch) -> None:
    untouched, moved = (baseline("output preservation", tiny_sd15, priors, start=start) for start in (None, stage1))
    assert step(untouched, batch)["output_preservation"].max() < 1e-10
    original, response = load_customised(stage1)
    chance = draw(original.process, (4, 8, 8), batch.ids, 0, [0] * 4)
    x_t = original.process.noised(original.encode(batch.image, chance.posterior), chance.noise, chance.t)
    outputs = [model.denoise(x_t, chance.t, model.condition([Prompt(base) for base in batch.base_text])).output
               for model in (original, response)]
    expected = (outputs[0] - outputs[1]).square().mean((1, 2, 3))
    assert torch.allclose(step(moved, batch)["output_preservation"], expected, rtol=1e-3)


def test_prior_preservation_is_the_diffusion_loss_of_the_priors(
        tiny_sd15: Path, priors: Path, batch: PortraitBatch) -> None:
    stage = baseline("prior preservation", tiny_sd15, priors, seed=2)
    prompts, t, noise, x0 = stage._priors.beside(batch, stage.backbone, 2)
    output = stage.backbone.denoise(stage.backbone.process.noised(x0, noise, t), t, stage.backbone.condition(prompts))
    expected = (output.output - noise).square().mean((1, 2, 3))
    assert torch.allclose(step(stage, batch)["prior_preservation"], expected, rtol=1e-4)


def test_tokencompose_reads_the_response_on_the_full_text(
        tiny_sd15: Path, portraits: Path, priors: Path, batch: PortraitBatch) -> None:
    stage = baseline("tokencompose", tiny_sd15, priors, caption_dropout=0.5)
    batch.ids = [f"{row:06d}" for row in range(4)]
    stage._masks = phrase_masks("painted", str(portraits))
    prompts, _, t, noise, x0 = stage.drawn(batch)
    full = stage.backbone.condition(prompts)
    seen = stage.backbone.denoise(stage.backbone.process.noised(x0, noise, t), t, full, capture=True).attention
    held = Step(torch.zeros(()), torch.zeros(()), response=seen, phrase_tokens=phrase_tokens(full),
                masks=stage._masks.batch(batch.ids, prompts, full.phrase_weights.shape[-1]))
    found, kept = step(stage, batch), torch.tensor([bool(prompt.base_text) for prompt in prompts])
    for name in ("token", "pixel"):
        assert torch.allclose(found[name], TERMS[name].compute(held), rtol=1e-4)
        assert torch.equal(found[name] > 0, kept)  # a dropped caption supervises nothing
    assert kept.any() and not kept.all()


def test_a_resumed_run_meets_the_same_priors(tiny_sd15: Path, portraits: Path, priors: Path, tmp_path: Path) -> None:
    whole, resumed = (baseline("prior preservation", tiny_sd15, priors) for _ in range(2))
    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    trainer(tmp_path, 2, callbacks=[keep]).fit(whole, data(portraits))
    trainer(tmp_path, 2).fit(resumed, data(portraits), ckpt_path=tmp_path / "step=1.ckpt")
    assert all(torch.equal(weight, resumed.state_dict()[key]) for key, weight in whole.state_dict().items())


@pytest.mark.parametrize(("name", "absent"), [("tokencompose", "masks"), ("prior preservation", "priors")])
def test_a_term_without_what_it_needs_is_refused(name: str, absent: str, tiny_sd15: Path, priors: Path) -> None:
    with pytest.raises(ValueError, match=rf"objective\.\w+.* needs? model\.{absent}: "):
        baseline(name, tiny_sd15, priors, **{absent: None})
