import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from lightning import Trainer
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh

from spf.backbones import Backbone, load_backbone
from spf.customised import load_customised
from spf.portraits.datamodule import PortraitData
from spf.stages.callbacks import SampleGrid
from spf.stages.dual_path import DualPathAlignment
from spf.stages.ema import Ema
from spf.stages.fine_tuning import StandardFineTuning
from spf.stages.sharding import shard
from spf.text import Prompt
from spf.tuning import LoRA

PROMPTS = [Prompt("a woman in a brown jacket", "blonde hair"), Prompt("a man")]


def step(backbone: Backbone, row: int) -> torch.Tensor:
    """A loss that reads the output and what was captured of one of two portraits, after its backward pass."""
    generator = torch.Generator().manual_seed(0)
    x_t, t = torch.randn(2, *backbone.latent_shape(), generator=generator), backbone.process.times(2, generator)
    rows = slice(row, row + 1)
    seen = backbone.denoise(x_t[rows], t[rows], backbone.condition(PROMPTS[rows]), capture=True)
    loss = seen.output.square().mean() + seen.attention[-1].query.square().mean()
    loss.backward()
    return loss.detach()


def two_processes(rank: int, base: Path, folder: Path) -> None:
    """What each of the two runs, on its own portrait."""
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    whole, sharded = load_backbone(base), load_backbone(base)
    shard(sharded, init_device_mesh("cpu", (2, 1), mesh_dim_names=("data_parallel", "tensor_parallel")), "32-true")
    held = sum(weight.to_local().numel() for weight in sharded.denoiser.parameters())
    assert held < 0.7 * sum(weight.numel() for weight in whole.denoiser.parameters())
    losses = [step(whole, 0), step(whole, 1)]
    assert torch.allclose(step(sharded, rank), losses[rank], rtol=1e-5)
    for (name, weight), shared in zip(whole.denoiser.named_parameters(), sharded.denoiser.parameters(), strict=True):
        assert (weight.grad is None) == (shared.grad is None), name
        if weight.grad is not None:
            mean = weight.grad / 2
            assert (shared.grad.full_tensor() - mean).norm() <= 1e-3 * mean.norm() + 1e-7, name
    (folder / str(rank)).touch()
    distributed.destroy_process_group()


def test_two_processes_find_the_loss_and_gradients_of_one(tiny_sd35: Path, tmp_path: Path,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    """And what they capture carries them."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.multiprocessing.spawn(two_processes, (tiny_sd35, tmp_path), nprocs=2)
    assert (tmp_path / "0").exists() and (tmp_path / "1").exists()


def fit_sharded(base: Path, portraits: Path, run: Path, steps: int) -> None:
    """A `spf fit` of two processes."""
    strategy = {"class_path": "lightning.pytorch.strategies.ModelParallelStrategy",
                "init_args": {"data_parallel_size": 2, "tensor_parallel_size": 1, "save_distributed_checkpoint": False}}
    model = {"class_path": "StandardFineTuning", "init_args": {"base": str(base), "learning_rate": 1e-3}}
    trainer = {"max_steps": steps, "devices": 2, "accelerator": "cpu", "enable_model_summary": False,
               "enable_progress_bar": False, "strategy": strategy}
    config = {"run": str(run), "model": model, "trainer": trainer, "checkpoint": {"every_n_train_steps": 1},
              "data": {"source": str(portraits), "resolution": 64, "num_workers": 0, "train_batch_size": 2}}
    file = run.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(config))
    done = subprocess.run([sys.executable, "-m", "spf", "fit", "-c", str(file)], capture_output=True, text=True,
                          env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("resuming" in done.stdout) == (steps == 2)


def test_a_sharded_training_resumes_and_ends_where_one_process_does(
        tiny_sd35: Path, portraits: Path, tmp_path: Path) -> None:
    for steps in (1, 2):
        fit_sharded(tiny_sd35, portraits, tmp_path / "two", steps)
    alone = Trainer(max_steps=2, default_root_dir=tmp_path, logger=False, enable_progress_bar=False, accelerator="cpu",
                    enable_checkpointing=False, enable_model_summary=False)
    stage = StandardFineTuning(str(tiny_sd35), learning_rate=1e-3)
    alone.fit(stage, PortraitData(str(portraits), 64, 4, num_workers=0))
    alone.save_checkpoint(tmp_path / "one.ckpt")
    last = tmp_path / "two" / "checkpoints" / "last.ckpt"
    one, two = (torch.load(file, weights_only=True) for file in (tmp_path / "one.ckpt", last))
    assert one["state_dict"].keys() == two["state_dict"].keys() and two["global_step"] == 2
    for first, second in zip(*(saved["optimizer_states"][0]["state"].values() for saved in (one, two)), strict=True):
        assert torch.allclose(first["exp_avg"], second["exp_avg"], atol=1e-5) and second["step"] == 2
    base, customised = load_customised(last)
    for name, weight in customised.denoiser.named_parameters():
        assert torch.equal(weight, two["state_dict"][f"backbone.denoiser.{name}"])
        assert (weight - one["state_dict"][f"backbone.denoiser.{name}"]).abs().max() < 1e-3  # of steps that add to 2e-3
    assert not torch.equal(base.denoiser.proj_out.weight, customised.denoiser.proj_out.weight)


def test_what_cannot_be_sharded_is_refused(tiny_sd15: Path) -> None:
    adapted, stage2 = StandardFineTuning(str(tiny_sd15), tuning=LoRA(2)), DualPathAlignment(base=str(tiny_sd15))
    for stage, why in ((adapted, r"only a denoiser that learns as a whole .* train LoRA"), (stage2, "stage 2 is not")):
        stage.configure_model()  # of another strategy
        stage._device_mesh = object()
        with pytest.raises(ValueError, match=why):
            stage.configure_model()
    with pytest.raises(ValueError, match="needs trainer.precision 32-true or bf16-mixed, not bf16-true"):
        shard(adapted.backbone, None, "bf16-true")
    for callback, remedy in ((SampleGrid(["a woman"]), "--samples.every_n_steps 0"), (Ema(0.9), "--ema.decay 0")):
        with pytest.raises(ValueError, match=remedy):
            callback.setup(None, adapted, "fit")
