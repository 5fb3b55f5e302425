import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh

from spf.__main__ import main
from spf.backbones import Backbone, load_backbone
from spf.customised import load_customised
from spf.stages.callbacks import SampleGrid
from spf.stages.dual_path import DualPathAlignment
from spf.stages.ema import Ema
from spf.stages.fine_tuning import StandardFineTuning
from spf.stages.sharding import shard
from spf.text import Prompt
from spf.tuning import LoRA
from tests.house import ROOT

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


def recipe(base: Path, portraits: Path, run: Path, steps: int) -> list[str]:
    """`spf fit` of SD3.5's own stage 1: bf16-mixed, checkpointed; clipped, and eight portraits a step."""
    changes = {"run": run, "model.base": base, "model.learning_rate": 1e-3, "data.source": portraits,
               "data.resolution": 64, "data.train_batch_size": 2, "data.global_batch_size": 8, "data.num_workers": 0,
               "trainer.max_steps": steps, "trainer.accelerator": "cpu", "trainer.gradient_clip_val": 0.5,
               "trainer.enable_progress_bar": "false", "checkpoint.every_n_train_steps": 1, "samples.every_n_steps": 0}
    return ["fit", "-c", "experiments/sd35m/stage1.yaml",
            *(part for key, value in changes.items() for part in (f"--{key}", str(value)))]


def fit_sharded(arguments: list[str], resumed: bool) -> None:
    """The same over two processes."""
    two = ["-c", "experiments/sd35m/fsdp.yaml", "--trainer.devices", "2",
           "--trainer.strategy.init_args.data_parallel_size", "2"]
    done = subprocess.run([sys.executable, "-m", "spf", *arguments, *two], capture_output=True, text=True, cwd=ROOT,
                          env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("resuming" in done.stdout) == resumed


def test_a_sharded_training_resumes_and_ends_where_one_process_does(
        tiny_sd35: Path, portraits: Path, tmp_path: Path) -> None:
    for steps in (1, 2):
        fit_sharded(recipe(tiny_sd35, portraits, tmp_path / "two", steps), resumed=steps == 2)
    main(recipe(tiny_sd35, portraits, tmp_path / "one", 2))
    files = [tmp_path / run / "checkpoints" / "last.ckpt" for run in ("one", "two")]
    one, two = (torch.load(file, weights_only=True) for file in files)
    assert one["state_dict"].keys() == two["state_dict"].keys() and two["global_step"] == 2
    first, second = (torch.cat([each["exp_avg"].flatten() for each in saved["optimizer_states"][0]["state"].values()])
                     for saved in (one, two))
    assert (first - second).norm() < 0.01 * first.norm() and first.dtype == second.dtype == torch.float32
    base, customised = load_customised(files[1])
    for name, weight in customised.denoiser.named_parameters():
        assert torch.equal(weight, two["state_dict"][f"backbone.denoiser.{name}"])
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
