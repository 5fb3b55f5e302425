"""AdaLoRA in a stage of ours: the weights of peft's own, step by step, the budget of its paper, and an exact resume."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from peft import AdaLoraConfig
from peft.tuners.adalora import AdaLoraModel
from torch import Tensor, nn
from torch.nn import functional as F

from spf.backbones import Backbone, load_backbone
from spf.miniature.shards import paint_portraits
from spf.portraits.datamodule import PortraitBatch, PortraitData
from spf.stages.fine_tuning import StandardFineTuning
from spf.stages.randomness import draw
from spf.text import Prompt
from spf.tuning import AdaLoRA
from spf.tuning.low_rank import added
from tests.tuning.learnt import learnt, pruned

STEPS, WARM, SETTLED, RATE, CLIP = 10, 2, 7, 1e-2, 0.5
OPTIONS: dict[str, Any] = {"target_rank": 2, "initial_rank": 4, "alpha": 6, "warmup": 0.2, "final": 0.3,
                           "every_n_steps": 2, "orthogonality": 0.1, "layers": "cross_attention"}
MATRICES = 16 * 4


class Diary(Callback):
    """What each step learns from, and how many values E are left after it."""

    def __init__(self) -> None:
        self.batches, self.left = list[PortraitBatch](), list[int]()

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: PortraitBatch, _: int) -> None:
        self.batches.append(batch)

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        self.left.append(left(module.backbone))


@dataclass
class Training:
    """A training, and where it began."""

    stage: StandardFineTuning
    first: dict[str, Tensor]
    diary: Diary
    checkpoints: Path


def left(backbone: Backbone) -> int:
    return sum(int((layer.lora_E["default"] != 0).sum()) for layer in added(backbone).values())


def weights(module: nn.Module) -> dict[str, Tensor]:
    """What learns, by its name in the denoiser."""
    return {name.split("denoiser.")[-1]: weight.detach().clone() for name, weight in module.named_parameters()
            if weight.requires_grad}


def stage_of(base: Path, **options: Any) -> StandardFineTuning:
    return StandardFineTuning(str(base), learning_rate=RATE, caption_dropout=0.2, tuning=AdaLoRA(**OPTIONS | options))


def fit(stage: StandardFineTuning, source: Path, ckpt: Path | None = None, steps: int = STEPS, **more: Any) -> None:
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(max_steps=steps, accelerator="cpu", gradient_clip_val=CLIP, **quiet, **more)
    trainer.fit(stage, PortraitData(str(source), resolution=64, train_batch_size=2, num_workers=0), ckpt_path=ckpt)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


@pytest.fixture(scope="module")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint_portraits(tmp_path_factory.mktemp("painted") / "portraits", 8, resolution=64)


@pytest.fixture(scope="module")
def training(tiny_sd15: Path, portraits: Path, tmp_path_factory: pytest.TempPathFactory) -> Training:
    """Ten steps: two at the whole budget, five in which it falls, three with the ranks settled."""
    stage, diary, folder = stage_of(tiny_sd15), Diary(), tmp_path_factory.mktemp("checkpoints")
    first = weights(stage)
    keep = ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)
    fit(stage, portraits, callbacks=[diary, keep])
    return Training(stage, first, diary, folder)


class WithLoss(nn.Module):
    """A UNet as peft expects a model: it returns its loss, to which AdaLoraModel adds the penalty itself."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.denoiser = unet

    def forward(self, x_t: Tensor, t: Tensor, text: Tensor, noise: Tensor) -> SimpleNamespace:
        return SimpleNamespace(loss=F.mse_loss(self.denoiser(x_t, t, text).sample, noise))


def test_the_weights_are_those_of_pefts_own_training(training: Training, tiny_sd15: Path) -> None:
    """Bit for bit, outside Lightning, by peft's model with its own penalty, schedule and allocator."""
    backbone = load_backbone(tiny_sd15)
    backbone.denoiser.to(memory_format=torch.channels_last)  # as in a stage: Adam makes much of the last bits
    model = AdaLoraModel(WithLoss(backbone.denoiser), AdaLoraConfig(
        init_r=4, target_r=2, lora_alpha=6, tinit=WARM, tfinal=STEPS - SETTLED, deltaT=2, total_step=STEPS,
        orth_reg_weight=0.1, target_modules=r".*attn2\.(to_q|to_k|to_v|to_out\.0)"), "default")
    assert weights(model).keys() == training.first.keys()
    backbone.denoiser.load_state_dict(training.first, strict=False)
    learning = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(learning, RATE, (0.9, 0.999), weight_decay=0.01)
    for step, batch in enumerate(training.diary.batches, 1):
        chance = draw(backbone.process, (4, 8, 8), batch.ids, 0, batch.epochs, 0.2)
        x_t = backbone.process.noised(backbone.encode(batch.image, chance.posterior), chance.noise, chance.t)
        texts = [Prompt(base, target, phrases) if kept else Prompt("") for base, target, phrases, kept in
                 zip(batch.base_text, batch.target_text, batch.phrases, chance.keep_text, strict=True)]
        model(x_t, chance.t, backbone.condition(texts).sequence, chance.noise).loss.backward()
        nn.utils.clip_grad_norm_(learning, CLIP)
        optimizer.step()
        model.update_and_allocate(step)
        optimizer.zero_grad()
    ours = weights(training.stage)
    assert [name for name, weight in weights(model).items() if not torch.equal(weight, ours[name])] == []
    moved = max(float((weight - training.first[name]).abs().max()) for name, weight in ours.items())
    assert moved > 0.05


def test_the_budget_falls_by_the_cube_to_the_target(training: Training) -> None:
    whole, target = 4 * MATRICES, 2 * MATRICES
    due = {step: int((whole - target) * (1 - (step - WARM) / (SETTLED - WARM)) ** 3 + target) for step in (4, 6)}
    counted = dict(enumerate(training.diary.left, 1))
    assert {step: counted[step] for step in due} == due and due[4] > due[6] > target
    assert counted[WARM] == whole
    assert [counted[step] for step in range(SETTLED, STEPS + 1)] == [target] * 4


def test_ranks_are_shared_out_unevenly(training: Training) -> None:
    ranks = [int((layer.lora_E["default"] != 0).sum()) for layer in added(training.stage.backbone).values()]
    assert sum(ranks) == 2 * MATRICES and len(set(ranks)) > 2


@pytest.mark.parametrize("step", [1, 4, SETTLED, 8])
def test_a_resumed_run_equals_the_uninterrupted_one(training: Training, tiny_sd15: Path, portraits: Path,
                                                    step: int) -> None:
    """Amid the warm-up, while ranks go, at the step that settles them, and after it."""
    resumed = stage_of(tiny_sd15)
    fit(resumed, portraits, training.checkpoints / f"step={step}.ckpt", enable_checkpointing=False)
    ours, whole = weights(resumed), weights(training.stage)
    assert [name for name, weight in whole.items() if not torch.equal(weight, ours[name])] == []
    states = [stage.tuning.state(stage.backbone) for stage in (training.stage, resumed)]
    assert states[0] == states[1] and states[0]["kept"]


def test_a_resume_for_another_number_of_steps_is_refused(training: Training, tiny_sd15: Path, portraits: Path) -> None:
    with pytest.raises(ValueError, match="planned for 10 optimizer steps, and now there are 20: resume with"):
        fit(stage_of(tiny_sd15), portraits, training.checkpoints / "step=4.ckpt", 20, enable_checkpointing=False)


def test_the_penalty_is_the_mean_distance_from_orthonormal(backbone: Backbone) -> None:
    tuning = AdaLoRA(2, 3, orthogonality=0.5)
    learnt(tuning, backbone)
    distances = [torch.linalg.matrix_norm(matrix @ matrix.T - torch.eye(3)) for layer in added(backbone).values()
                 for matrix in (layer.lora_A["default"], layer.lora_B["default"].T)]
    assert len(distances) == 2 * 128
    assert torch.allclose(tuning.penalty(backbone), 0.5 * sum(distances) / len(distances), rtol=1e-5)
    for layer in added(backbone).values():
        nn.init.orthogonal_(layer.lora_A["default"])
        nn.init.orthogonal_(layer.lora_B["default"])
    assert tuning.penalty(backbone) < 1e-5
    tuning.penalty(backbone).backward()
    assert all(weight.grad.isfinite().all() for weight in backbone.denoiser.parameters() if weight.grad is not None)


def test_a_gradient_that_overflowed_says_nothing(backbone: Backbone) -> None:
    tuning = AdaLoRA(2, 3, warmup=0, every_n_steps=1)
    learning = tuning.apply(backbone)
    tuning.begin(backbone, 10)
    for weight in learning:
        weight.grad = torch.randn_like(weight)
    tuning.after_step(backbone, 1)
    before = tuning.state(backbone)
    learning[5].grad[0, 0] = float("inf")
    tuning.after_step(backbone, 2)
    after = tuning.state(backbone)
    assert after["kept"] == before["kept"]
    assert all(torch.equal(value, before["importance"][name]) for name, value in after["importance"].items())


def test_what_is_left_is_a_lora_and_layers_without_ranks_are_not_in_it(backbone: Backbone) -> None:
    tuning = AdaLoRA(2, 3, alpha=5)
    layers = added(pruned(backbone, tuning))
    deltas = {name: layer.get_delta_weight("default").detach() for name, layer in layers.items()}
    low_rank = tuning.merge(backbone)
    assert {name: len(down) for name, (down, _) in low_rank.layers.items()} == {
        name: 3 - number % 4 for number, name in enumerate(deltas) if number % 4 < 3}
    assert all(torch.allclose(low_rank.change(name), deltas[name], atol=1e-6) for name in low_rank.layers)
    assert not any(delta.any() for name, delta in deltas.items() if name not in low_rank.layers)


def test_a_training_too_short_for_a_budget_is_refused(backbone: Backbone) -> None:
    tuning = AdaLoRA(2, 3)
    tuning.apply(backbone)
    with pytest.raises(ValueError, match="cannot fall within 1 optimizer steps: train longer"):
        tuning.begin(backbone, 1)


@pytest.mark.parametrize(("options", "complaint"), [
    ({"target_rank": 4, "initial_rank": 4}, "between 0 and its initial_rank, 4: not 4"),
    ({"target_rank": 0}, "between 0 and its initial_rank, 12: not 0"),
    ({"warmup": 0.5, "final": 0.5}, "with room between them, not 0.5 and 0.5"),
    ({"final": -0.1}, "with room between them"),
    ({"every_n_steps": 0}, "positive every_n_steps"),
    ({"alpha": 0.0}, "positive every_n_steps and alpha"),
    ({"orthogonality": -1.0}, "no negative orthogonality"),
])
def test_options_without_a_meaning_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        AdaLoRA(**options)
