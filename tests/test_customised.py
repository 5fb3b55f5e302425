from pathlib import Path
from typing import Any

import pytest
import torch

from spf.backbones import Backbone
from spf.customised import PREFIX, load_customised, training_of


def save(backbone: Backbone, base: Path, path: Path, **more: Any) -> Path:
    weights = {PREFIX + name: value for name, value in backbone.denoiser.state_dict().items()}
    torch.save({"state_dict": weights, "hyper_parameters": {"base": str(base)}, **more}, path)
    return path


def test_a_checkpoint_becomes_original_and_customised(backbone: Backbone, tiny_sd15: Path, tmp_path: Path) -> None:
    untouched = backbone.denoiser.conv_in.weight.detach().clone()
    torch.nn.init.ones_(backbone.denoiser.conv_in.weight)
    original, customised = load_customised(save(backbone, tiny_sd15, tmp_path / "c.ckpt"))
    assert torch.equal(original.denoiser.conv_in.weight, untouched)
    assert (customised.denoiser.conv_in.weight == 1).all() and customised.vae is original.vae


def test_the_averaged_weights_are_had_for_the_asking(backbone: Backbone, tiny_sd15: Path, tmp_path: Path) -> None:
    averaged = {PREFIX + name: torch.full_like(value, 2) for name, value in backbone.denoiser.state_dict().items()}
    path = save(backbone, tiny_sd15, tmp_path / "c.ckpt", ema={"updates": 1, "weights": averaged})
    assert (load_customised(path, ema=True)[1].denoiser.conv_in.weight == 2).all()
    assert torch.equal(load_customised(path)[1].denoiser.conv_in.weight, backbone.denoiser.conv_in.weight)


def test_where_there_are_none_it_says_so(backbone: Backbone, tiny_sd15: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"c\.ckpt holds no averaged weights: .* without --ema\.decay"):
        load_customised(save(backbone, tiny_sd15, tmp_path / "c.ckpt"), ema=True)
    with pytest.raises(ValueError, match="only those hold averaged weights"):
        load_customised(tiny_sd15, "miniature", ema=True)


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


def test_a_ckpt_of_another_trainer_is_refused_with_the_way_to_convert_it(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "global_step": 470_000}, tmp_path / "v1-5.ckpt")
    torch.save({"state_dict": {}, "callbacks": Path("code")}, tmp_path / "v1-4.ckpt")
    for name in ("v1-5", "v1-4"):
        with pytest.raises(ValueError, match=rf"can run code.*python -c .*{name}\.safetensors"):
            load_customised(tmp_path / f"{name}.ckpt")


def test_absent_and_damaged_files_are_told_apart(backbone: Backbone, tiny_sd15: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        load_customised(tmp_path / "c.ckpt")
    path = save(backbone, tiny_sd15, tmp_path / "c.ckpt")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="damaged"):
        load_customised(path)


def test_what_a_result_says_of_a_training(tmp_path: Path) -> None:
    def saved(name: str, samples: int, each: dict[str, int], **made: Any) -> Path:
        torch.save({"global_step": 5, "hyper_parameters": {"base": "miniature", **made}, **each,
                    "PortraitData": {"samples_seen": samples}}, tmp_path / name)
        return tmp_path / name

    first = saved("stage1.ckpt", 80, {}, start=None, seed=1, learning_rate=0.1, tuning={"name": "Full"})
    assert training_of(first) == {"step": 5, "samples": 80, "seed": 1, "learning_rate": 0.1, "tuning": {"name": "Full"}}
    second = saved("stage2.ckpt", 40, {"samples_each": 2}, start=str(first), objective={"m_fine": 1.0}, sfcm=False)
    assert training_of(second) == {"step": 5, "samples": 160, "objective": {"m_fine": 1.0}, "sfcm": False}
