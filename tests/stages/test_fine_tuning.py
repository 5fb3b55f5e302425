from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import distributed
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from spf.customised import load_lineage
from spf.notation import Tuning
from spf.portraits.datamodule import PortraitBatch, PortraitData
from spf.stages.fine_tuning import StandardFineTuning
from spf.stages.randomness import draw
from spf.text import Prompt
from spf.tuning import AdaLoRA, CrossAttention, LoRA


def trainer(folder: Path, steps: int, **more: Any) -> Trainer:
    return Trainer(max_steps=steps, default_root_dir=folder, logger=False, enable_progress_bar=False,
                   enable_checkpointing="callbacks" in more, enable_model_summary=False, accelerator="cpu", **more)


def data(source: Path) -> PortraitData:
    return PortraitData(str(source), resolution=64, train_batch_size=4, num_workers=0)


def test_ddp_sends_no_buffers(tiny_sd35: Path, tmp_path: Path) -> None:
    """None changes, and the table of places of Stable Diffusion 3.5 Medium takes 864 MiB."""
    stage = StandardFineTuning(str(tiny_sd35))
    stage.trainer = trainer(tmp_path, 1)
    stage.setup("fit")
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    try:
        wrapped = DistributedDataParallel(stage)
        assert list(stage.buffers()) and not wrapped.modules_buffers
    finally:
        distributed.destroy_process_group()


def loss(stage: StandardFineTuning, batch: PortraitBatch) -> torch.Tensor:
    stage.log = lambda *_, **__: None
    return stage.training_step(batch, 0)


def test_the_loss_is_equation_1(tiny_sd15: Path, batch: PortraitBatch) -> None:
    stage = StandardFineTuning(str(tiny_sd15), seed=5)
    chance = draw(stage.backbone.process, (4, 8, 8), batch.ids, 5, [0] * 4)
    x0 = stage.backbone.encode(batch.image, chance.posterior)
    alpha_bar = stage.backbone.process.alphas_cumprod[chance.t].view(-1, 1, 1, 1)
    x_t = alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * chance.noise
    texts = [f"{base}, {target}" for base, target in zip(batch.base_text, batch.target_text, strict=True)]
    tokens = stage.backbone.tokenizers["tokenizer"](texts, padding="max_length", truncation=True, return_tensors="pt")
    features = stage.backbone.encoders["text_encoder"](tokens.input_ids).last_hidden_state
    expected = F.mse_loss(stage.backbone.denoiser(x_t, chance.t, features).sample, chance.noise)
    assert torch.allclose(loss(stage, batch), expected, rtol=1e-4)


def test_the_loss_of_a_flow_is_equation_13(tiny_sd35: Path, batch: PortraitBatch) -> None:
    """And the gradient of a step is finite, and there for every weight."""
    stage = StandardFineTuning(str(tiny_sd35), seed=5)
    backbone = stage.backbone
    chance = draw(backbone.process, (16, 8, 8), batch.ids, 5, [0] * 4)
    x0, sigma = backbone.encode(batch.image, chance.posterior), (chance.t / 1000).view(-1, 1, 1, 1)
    texts = [Prompt(*both) for both in zip(batch.base_text, batch.target_text, strict=True)]
    conditions = backbone.condition(texts)
    velocity = backbone.denoiser((1 - sigma) * x0 + sigma * chance.noise, conditions.sequence, conditions.pooled,
                                 chance.t).sample
    stepped = loss(stage, batch)
    assert torch.allclose(stepped, F.mse_loss(velocity, chance.noise - x0), rtol=1e-4)
    stepped.backward()
    gradients = [weight.grad for weight in backbone.denoiser.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_only_the_denoiser_learns(tiny_sd15: Path, portraits: Path, tmp_path: Path) -> None:
    stage = StandardFineTuning(str(tiny_sd15), learning_rate=1e-3)
    before = {name: value.clone() for name, value in stage.state_dict().items()}
    trainer(tmp_path, 2).fit(stage, data(portraits))
    changed = {name for name, value in stage.state_dict().items() if not torch.equal(value, before[name])}
    learnt = {name for name, _ in stage.named_parameters() if name.startswith("backbone.denoiser.")}
    assert changed <= learnt and len(changed) > 0.95 * len(learnt)


def test_it_learns(tiny_sd15: Path, batch: PortraitBatch) -> None:
    stage = StandardFineTuning(str(tiny_sd15))
    optimizer = torch.optim.AdamW(stage.backbone.denoiser.parameters(), 1e-3)
    losses = []
    for _ in range(12):
        losses.append(loss(stage, batch))
        losses[-1].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("tuning", [None, LoRA(3, 60)])
def test_gradient_checkpointing_changes_no_gradient(tiny_sd15: Path, batch: PortraitBatch,
                                                    tuning: Tuning | None) -> None:
    gradients = []
    for checkpointing in (False, True):
        stage = StandardFineTuning(str(tiny_sd15), gradient_checkpointing=checkpointing, tuning=tuning).train()
        loss(stage, batch).backward()
        learning = [weight for weight in stage.backbone.denoiser.parameters() if weight.requires_grad]
        gradients.append(torch.cat([weight.grad.flatten() for weight in learning]))
    assert torch.allclose(*gradients, atol=1e-6) and gradients[0].abs().sum() > 0


def test_cached_latents_are_the_posterior_mode_and_made_once(tiny_sd15: Path, batch: PortraitBatch,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    stage = StandardFineTuning(str(tiny_sd15), cache_latents=True)
    encoded: list[int] = []
    encode = stage.backbone.encode
    monkeypatch.setattr(stage.backbone, "encode", lambda image: encoded.append(len(image)) or encode(image))
    first, second = (stage._encode(batch, torch.zeros(4, 4, 8, 8)) for _ in range(2))
    assert encoded == [4] and torch.equal(first, second) and torch.equal(first, encode(batch.image))


def test_caption_dropout_empties_whole_texts(tiny_sd15: Path, batch: PortraitBatch) -> None:
    stage = StandardFineTuning(str(tiny_sd15))
    kept, dropped = stage._prompts(batch, [True, False, True, True])[:2]
    assert kept == Prompt(batch.base_text[0], batch.target_text[0]) and dropped == Prompt("")


def test_a_tuning_acts_once_an_optimizer_step_while_its_gradients_are_there(
        tiny_sd15: Path, portraits: Path, tmp_path: Path) -> None:
    """And before that step is saved."""
    class Diary(CrossAttention):
        said: ClassVar[list[Any]] = []

        def begin(self, backbone: Any, steps: int) -> None:
            self.said.append(steps)

        def after_step(self, backbone: Any, step: int) -> None:
            learning = [weight for weight in backbone.denoiser.parameters() if weight.requires_grad]
            assert all(weight.grad is not None for weight in learning) and learning[0].grad.any()
            with torch.no_grad():
                learning[0].fill_(step)
            self.said.append(step)

    stage = StandardFineTuning(str(tiny_sd15), tuning=Diary())
    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    trainer(tmp_path, 2, accumulate_grad_batches=2, callbacks=[keep]).fit(stage, data(portraits))
    assert Diary.said == [2, 1, 2]
    saved = torch.load(tmp_path / "step=1.ckpt", weights_only=True)["state_dict"]
    assert (next(iter(saved.values())) == 1).all()


@pytest.mark.parametrize("tuning", [LoRA(4, 6), AdaLoRA(2, 4, final=0, every_n_steps=1), CrossAttention()],
                         ids=lambda kind: type(kind).__name__)
def test_a_checkpoint_becomes_the_trained_model_again(
        tiny_sd15: Path, portraits: Path, tmp_path: Path, tuning: Tuning) -> None:
    stage = StandardFineTuning(str(tiny_sd15), learning_rate=1e-2, tuning=tuning)
    fit = trainer(tmp_path, 2)
    fit.fit(stage, data(portraits))
    fit.save_checkpoint(tmp_path / "c.ckpt")
    made = load_lineage(tmp_path / "c.ckpt")
    assert list(made.models) == ["original", "customised"] and made.clip is None and made.exportable
    assert (made.low_rank is None) == isinstance(tuning, CrossAttention)
    x_t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    t, texts = torch.tensor([10, 900]), [Prompt("a woman", "round glasses"), Prompt("")]
    with torch.no_grad():
        first, again, learnt = (model.denoise(x_t, t, model.condition(texts)).output
                                for model in (*made.models.values(), stage.backbone.eval()))
    assert (again - learnt).abs().max() < 0.01 * (again - first).abs().max()
    assert made.models["customised"].state_dict().keys() == made.models["original"].state_dict().keys()


def test_the_penalty_is_added_and_logged(tiny_sd15: Path, batch: PortraitBatch) -> None:
    stages = [StandardFineTuning(str(tiny_sd15), tuning=AdaLoRA(orthogonality=weight)) for weight in (0.0, 0.5)]
    without, with_penalty = (loss(stage, batch) for stage in stages)
    said: dict[str, float] = {}
    stages[1].log = lambda name, value, **_: said.update({name: float(value.detach())})
    stages[1].training_step(batch, 0)
    assert said["loss/penalty"] > 0.5 and torch.isclose(with_penalty - without, torch.tensor(said["loss/penalty"]))
    assert said["loss/diffusion"] == pytest.approx(float(without.detach()), rel=1e-5)


def test_random_weights_all_learn(tiny_sd15: Path) -> None:
    with pytest.raises(ValueError, match="a random denoiser learns all its weights"):
        StandardFineTuning(str(tiny_sd15), denoiser="random", tuning=LoRA())


def test_random_weights_come_from_the_seed(tiny_sd15: Path) -> None:
    stages = [StandardFineTuning(str(tiny_sd15), denoiser="random", seed=seed) for seed in (1, 1, 2)]
    first, same, other = (stage.backbone.denoiser.conv_in.weight for stage in stages)
    assert torch.equal(first, same) and not torch.equal(first, other)


@pytest.mark.parametrize("tiny", ["tiny_sd15", "tiny_sd35"])
@pytest.mark.parametrize("tuning", [None, LoRA(2, 2)], ids=["Full", "LoRA"])
def test_held_weights_change_no_bit_of_a_step(
        tiny: str, tuning: Tuning | None, batch: PortraitBatch, request: pytest.FixtureRequest) -> None:
    """The step rounds them to bfloat16 anyway; what learns, and its gradients, stay in float32."""
    base, losses = str(request.getfixturevalue(tiny)), []
    for held in ("float32", "bfloat16"):
        stage = StandardFineTuning(base, tuning=tuning, seed=5, frozen_dtype=held)
        with torch.autocast("cpu", torch.bfloat16):
            losses.append(loss(stage, batch))
    assert torch.equal(*losses)
    learning = [weight for weight in stage.backbone.denoiser.parameters() if weight.requires_grad]
    losses[1].backward()
    assert {weight.dtype for weight in learning} == {weight.grad.dtype for weight in learning} == {torch.float32}
    assert stage.backbone.vae.encoder.conv_in.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("held", ["float32", "bfloat16"])
def test_texts_are_read_once_in_a_training(
        tiny_sd35: Path, portraits: Path, batch: PortraitBatch, tmp_path: Path, held: str) -> None:
    """A step is that of texts read in float32, or in what the trainer computes in; dropped captions are one text."""
    cached, plain = (StandardFineTuning(str(tiny_sd35), frozen_dtype=held, cache_texts=cache, caption_dropout=0.5)
                     for cache in (True, False))
    with torch.autocast("cpu", torch.bfloat16, enabled=held == "bfloat16"):
        assert torch.allclose(loss(cached, batch), loss(plain, batch), rtol=1e-3)
    said: list[tuple[int, ...]] = []
    cached.backbone.encoders["text_encoder_3"].register_forward_pre_hook(
        lambda _, given: said.append(tuple(given[0].flatten().tolist())))
    source = data(portraits)
    del cached.log
    trainer(tmp_path, 8, precision={"float32": "32-true", "bfloat16": "bf16-mixed"}[held]).fit(cached, source)
    texts = {(row["base_text"], row["target_text"]) for row in source.portraits.table}
    assert 2 < len(said) <= len(texts) + 1 and len(said) == len(set(said))
    kept = cached.backbone.condition([Prompt("")]).sequence
    assert kept.dtype == getattr(torch, held) and "encoders" not in str(cached.state_dict().keys())


def test_held_weights_need_a_trainer_that_computes_in_their_precision(
        tiny_sd15: Path, portraits: Path, tmp_path: Path) -> None:
    stage = StandardFineTuning(str(tiny_sd15), frozen_dtype="bfloat16")
    with pytest.raises(ValueError, match=r"frozen_dtype bfloat16 needs trainer\.precision bf16-mixed, not 32-true"):
        trainer(tmp_path, 1).fit(stage, data(portraits))


def test_a_resumed_run_equals_the_uninterrupted_one(tiny_sd15: Path, portraits: Path, tmp_path: Path) -> None:
    options = {"learning_rate": 1e-3, "lr_scheduler": "cosine", "caption_dropout": 0.2}
    whole, resumed = (StandardFineTuning(str(tiny_sd15), **options) for _ in range(2))
    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=4, save_top_k=-1)
    trainer(tmp_path, 8, callbacks=[keep]).fit(whole, data(portraits))
    # the portraits are four batches: step 4 ends the first epoch
    trainer(tmp_path, 8).fit(resumed, data(portraits), ckpt_path=tmp_path / "step=4.ckpt")
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name


def test_checkpoints_hold_what_learns_and_say_what_they_miss(tiny_sd15: Path, portraits: Path, tmp_path: Path) -> None:
    stage = StandardFineTuning(str(tiny_sd15))
    fit = trainer(tmp_path, 1)
    fit.fit(stage, data(portraits))
    fit.save_checkpoint(tmp_path / "c.ckpt")
    checkpoint = torch.load(tmp_path / "c.ckpt", weights_only=True)
    assert all(name.startswith("backbone.denoiser.") for name in checkpoint["state_dict"])
    del checkpoint["state_dict"]["backbone.denoiser.conv_in.weight"]
    with pytest.raises(ValueError, match="conv_in.weight among them"):
        stage.on_load_checkpoint(checkpoint)
