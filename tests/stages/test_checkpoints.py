from pathlib import Path

import pytest
import torch

from spf.backbones import Backbone
from spf.stages.checkpoints import PREFIX, AtomicCheckpointIO, load_customised


def save(backbone: Backbone, base: Path, path: Path) -> Path:
    weights = {PREFIX + name: value for name, value in backbone.denoiser.state_dict().items()}
    torch.save({"state_dict": weights, "hyper_parameters": {"base": str(base)}}, path)
    return path


def test_a_checkpoint_becomes_original_and_customised(backbone: Backbone, tiny_sd15: Path, tmp_path: Path) -> None:
    untouched = backbone.denoiser.conv_in.weight.detach().clone()
    torch.nn.init.ones_(backbone.denoiser.conv_in.weight)
    original, customised = load_customised(save(backbone, tiny_sd15, tmp_path / "c.ckpt"))
    assert torch.equal(original.denoiser.conv_in.weight, untouched)
    assert (customised.denoiser.conv_in.weight == 1).all() and customised.vae is original.vae


def test_an_exported_folder_needs_its_base(backbone: Backbone, tiny_sd15: Path, tmp_path: Path) -> None:
    torch.nn.init.ones_(backbone.denoiser.conv_in.weight)
    backbone.save(tmp_path / "exported")
    with pytest.raises(ValueError, match="--base"):
        load_customised(tmp_path / "exported")
    assert (load_customised(tmp_path / "exported", str(tiny_sd15))[1].denoiser.conv_in.weight == 1).all()


def test_weights_of_another_model_are_named(backbone: Backbone, tiny_sd15: Path, tmp_path: Path) -> None:
    backbone.denoiser.conv_in = torch.nn.Conv2d(4, 16, 3)
    with pytest.raises(ValueError, match="(?s)does not fit its base model.*conv_in.weight"):
        load_customised(save(backbone, tiny_sd15, tmp_path / "c.ckpt"))


def test_a_write_that_fails_keeps_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)

    def disk_full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("lightning.pytorch.plugins.io.TorchCheckpointIO.save_checkpoint", disk_full)
    with pytest.raises(OSError, match="No space left"):
        AtomicCheckpointIO().save_checkpoint({"step": 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
