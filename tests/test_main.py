"""The command line on a real SD 1.5, shrunk in width only: fit, resume, generate, export, and its words on mistakes."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusion3Pipeline, StableDiffusionPipeline
from PIL import Image

from spf.__main__ import main
from spf.backbones import load_backbone
from spf.miniature.shards import paint_portraits
from spf.sampling import initial_noise


@pytest.fixture(scope="module")
def run(tiny_sd15: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of `spf fit`."""
    folder = tmp_path_factory.mktemp("run")
    paint_portraits(folder / "portraits", 8, resolution=64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "cache")
        main(fit_arguments(tiny_sd15, folder, 2))
    return folder


def fit_arguments(base: Path, folder: Path, steps: int, kind: str = "sd15") -> list[str]:
    changes = {"run": folder / "run", "model.base": base, "model.learning_rate": 1e-3, "data.resolution": 64,
               "data.source": folder / "portraits", "data.train_batch_size": 4, "data.num_workers": 0,
               "trainer.max_steps": steps, "trainer.log_every_n_steps": 1, "samples.steps": 2,
               "samples.every_n_steps": 2, "ema.decay": 0.9, "checkpoint.every_n_train_steps": 1,
               "trainer.enable_progress_bar": "false"}
    return ["fit", "-c", f"experiments/{kind}/stage1.yaml",
            *(part for key, value in changes.items() for part in (f"--{key}", str(value)))]


def test_fit_leaves_logs_samples_config_and_checkpoints(run: Path) -> None:
    names = {path.name for path in (run / "run").rglob("*")}
    assert {"config.yaml", "last.ckpt", "step_000000.png", "step_000002.png"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert not any(name.endswith(".partial") for name in names)


def test_the_same_command_resumes_in_the_same_directory(run: Path, tiny_sd15: Path, tmp_path: Path,
                                                        capsys: pytest.CaptureFixture[str],
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    main(fit_arguments(tiny_sd15, run, 2))
    assert "resuming from" in capsys.readouterr().out
    assert torch.load(run / "run" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 2
    assert not list((run / "run").glob("version_*"))


def test_a_damaged_last_checkpoint_is_passed_over(run: Path, tiny_sd15: Path, tmp_path: Path,
                                                  capsys: pytest.CaptureFixture[str],
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    shutil.copytree(run / "run", tmp_path / "run")
    last, whole = (tmp_path / "run" / "checkpoints" / name for name in ("last.ckpt", "epoch=0-step=2.ckpt"))
    last.write_bytes(whole.read_bytes()[:-1000])
    main([*fit_arguments(tiny_sd15, run, 2), "--run", str(tmp_path / "run")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"passing over {last}: it is incomplete or damaged", f"resuming from {whole}"]


def test_a_run_directory_holds_one_experiment(run: Path, tiny_sd15: Path) -> None:
    with pytest.raises(SystemExit, match="another learning_rate: give another --run"):
        main([*fit_arguments(tiny_sd15, run, 2), "--model.learning_rate", "1e-5"])


def test_the_last_checkpoint_is_the_last_step(run: Path, tiny_sd15: Path, monkeypatch: pytest.MonkeyPatch,
                                              tmp_path: Path) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    main([*fit_arguments(tiny_sd15, run, 3), "--run", str(tmp_path), "--checkpoint.every_n_train_steps", "2"])
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 3


def test_generate_shows_pairs_and_keeps_single_images(run: Path, tmp_path: Path,
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "pairs"
    main(["generate", "a woman in a brown jacket, a curtain background", "--target", "blonde hair", "--seed", "7",
          "--count", "2", "--steps", "2", "--checkpoint", str(run / "run/checkpoints/last.ckpt"), "--out", str(out)])
    assert str(out / "original_customised.png") in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == [
        "000_seed7_customised.png", "000_seed7_original.png", "001_seed8_customised.png", "001_seed8_original.png",
        "original_customised.png"]
    assert Image.open(out / "000_seed7_original.png").size == (64, 64)


def test_the_averaged_weights_are_exported_and_shown_for_the_asking(run: Path, tmp_path: Path) -> None:
    checkpoint = run / "run/checkpoints/last.ckpt"
    main(["export", str(checkpoint), str(tmp_path / "exported"), "--ema", "true"])
    saved = torch.load(checkpoint, weights_only=True)
    name = "conv_in.weight"
    exported = load_backbone(tmp_path / "exported").denoiser.get_parameter(name)
    assert torch.equal(exported, saved["ema"]["weights"][f"backbone.denoiser.{name}"])
    assert not torch.equal(exported, saved["state_dict"][f"backbone.denoiser.{name}"])
    for ema in ("true", "false"):
        main(["generate", "a woman", "--count", "1", "--steps", "2", "--checkpoint", str(checkpoint), "--ema", ema,
              "--out", str(tmp_path / ema)])
    pair = [(tmp_path / ema / "000_seed7_customised.png").read_bytes() for ema in ("true", "false")]
    assert pair[0] != pair[1]


def stock(folder: Path, lora: Path | None = None) -> np.ndarray:
    """The image that a stock pipeline makes as ``customised`` does: (H,W,3) in [0,1]."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    if lora:
        pipeline.load_lora_weights(lora)
    return pipeline("a woman, blonde hair", num_inference_steps=3, guidance_scale=7.5,
                    latents=initial_noise([7], (4, 8, 8)), output_type="np").images[0]


def customised(checkpoint: Path, folder: Path, *more: str) -> np.ndarray:
    main(["generate", "a woman", "--target", "blonde hair", "--count", "1", "--steps", "3", "--checkpoint",
          str(checkpoint), "--out", str(folder), *more])
    return np.asarray(Image.open(folder / "000_seed7_customised.png")) / 255


def test_an_export_gives_our_image_in_a_stock_pipeline(run: Path, tmp_path: Path) -> None:
    checkpoint = run / "run/checkpoints/last.ckpt"
    main(["export", str(checkpoint), str(tmp_path / "exported"), "--to", "diffusers"])
    assert np.abs(customised(checkpoint, tmp_path) - stock(tmp_path / "exported")).max() <= 1.5 / 255


def test_a_single_file_gives_our_image_in_a_stock_pipeline(run: Path, tiny_sd15: Path, tmp_path: Path) -> None:
    checkpoint, file = run / "run/checkpoints/last.ckpt", tmp_path / "model.safetensors"
    main(["export", str(checkpoint), str(file), "--to", "single_file"])
    pipeline = StableDiffusionPipeline.from_single_file(file, config=str(tiny_sd15), local_files_only=True)
    pipeline.save_pretrained(tmp_path / "read")
    image = customised(checkpoint, tmp_path)
    assert np.abs(image - stock(tmp_path / "read")).max() <= 1.5 / 255
    assert np.abs(image - stock(tiny_sd15)).max() > 5 / 255
    with pytest.raises(SystemExit, match=r"model\.safetensors is there; give another name or remove it"):
        main(["export", str(checkpoint), str(file), "--to", "single_file"])


def test_stable_diffusion_3_5_goes_the_same_way(run: Path, tiny_sd35: Path, tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    main([*fit_arguments(tiny_sd35, run, 2, "sd35m"), "--run", str(tmp_path / "run")])
    checkpoint, file = tmp_path / "run/checkpoints/last.ckpt", tmp_path / "model.safetensors"
    main(["export", str(checkpoint), str(file), "--to", "single_file"])
    original = StableDiffusion3Pipeline.from_pretrained(tiny_sd35)
    encoders = {name: original.components[name] for name in ("text_encoder", "text_encoder_2", "text_encoder_3")}
    read = StableDiffusion3Pipeline.from_single_file(file, config=str(tiny_sd35), local_files_only=True, **encoders)
    theirs, untaught = (pipeline("a woman, blonde hair", num_inference_steps=3, guidance_scale=7.5, output_type="np",
                                 latents=initial_noise([7], (16, 8, 8))).images[0] for pipeline in (read, original))
    image = customised(checkpoint, tmp_path)
    assert np.abs(image - theirs).max() <= 1.5 / 255 < 5 / 255 < np.abs(image - untaught).max()


def test_a_lora_is_exported_alone_or_merged(run: Path, tiny_sd15: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    main([*fit_arguments(tiny_sd15, run, 2), "--run", str(tmp_path / "lora"), "--model.learning_rate", "0.05",
          "--model.tuning", "LoRA", "--model.tuning.rank", "2", "--model.tuning.alpha", "5"])
    checkpoint, averaged = tmp_path / "lora/checkpoints/last.ckpt", ("--ema", "true")
    for layout, name in (("lora", "alone"), ("kohya", "kohya.safetensors"), ("diffusers", "merged")):
        main(["export", str(checkpoint), str(tmp_path / name), "--to", layout, *averaged])
    assert "alone: a LoRA, to be loaded on the model called 'original'" in capsys.readouterr().out
    image = customised(checkpoint, tmp_path, *averaged)
    for theirs in (stock(tiny_sd15, tmp_path / "alone"), stock(tiny_sd15, tmp_path / "kohya.safetensors"),
                   stock(tmp_path / "merged")):
        assert np.abs(image - theirs).max() <= 1.5 / 255
    assert np.abs(image - stock(tiny_sd15)).max() > 5 / 255
    assert np.abs(image - customised(checkpoint, tmp_path)).max() > 5 / 255


def test_a_model_without_a_lora_is_exported_whole(run: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"last\.ckpt holds no LoRA: .* or export the whole model by --to diffusers"):
        main(["export", str(run / "run/checkpoints/last.ckpt"), str(tmp_path / "lora"), "--to", "lora"])
    assert not list(tmp_path.iterdir())


def test_stage_2_goes_on_from_stage_1_and_shows_what_came_before(
        run: Path, tiny_sd15: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    command = [word.replace("stage1.yaml", "stage2.yaml") for word in fit_arguments(tiny_sd15, run, 2)]
    command += ["--run", str(tmp_path), "--model.start", str(run / "run/checkpoints/last.ckpt"), "--model.clip",
                "miniature", "--panels.every_n_steps", "2", "--model.tuning", "ParallelAdapter"]
    main(command)
    assert (tmp_path / "samples/step_000002.png").is_file() and (tmp_path / "panels/step_000002.png").is_file()
    checkpoint = str(tmp_path / "checkpoints/last.ckpt")
    main(["generate", "a woman in a brown jacket", "--target", "blonde hair", "--count", "1", "--steps", "2",
          "--checkpoint", checkpoint, "--out", str(tmp_path / "images")])
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == [
        "000_seed7_SFCM.png", "000_seed7_original.png", "000_seed7_stage_1.png", "000_seed7_stage_2.png",
        "original_customised.png"]
    with pytest.raises(SystemExit, match="no stock pipeline reads"):
        main(["export", checkpoint, str(tmp_path / "exported")])


@pytest.mark.parametrize(("arguments", "complaint"), [
    (["generate", "a woman", "--checkpoint", "nowhere.ckpt"], "nowhere.ckpt"),
    (["generate", "a woman", "--base", "models/nowhere"], "hf download"),
    (["portraits", "paint", "--targets", "[crown]", "--out", "unused"], "no target crown"),
])
def test_a_mistake_is_one_clear_line(arguments: list[str], complaint: str) -> None:
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert complaint in str(error.value) and str(error.value).startswith("spf: ")


def test_a_misspelt_key_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "-c", "experiments/sd15/stage1.yaml", "--model.learning_rat", "1"])
    assert "learning_rat" in capsys.readouterr().err
