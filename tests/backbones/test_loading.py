"""Bases are found or the reader is told how to get them; no weight is ever made up."""

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from spf.backbones import BASES, load_backbone
from spf.backbones.loading import base_folder, load_weights

FILES = {
    UNet2DConditionModel: "unet/diffusion_pytorch_model.safetensors",
    CLIPTextModel: "text_encoder/model.safetensors",
}


@pytest.fixture(params=list(FILES))
def kind_and_file(request: pytest.FixtureRequest, tiny_sd15: Path, tmp_path: Path) -> tuple[type, Path]:
    shutil.copytree(tiny_sd15 / Path(FILES[request.param]).parent, tmp_path / Path(FILES[request.param]).parent)
    return request.param, tmp_path / FILES[request.param]


def rewrite(file: Path, **changes: Tensor | None) -> str:
    """Change weights of a file: the first key is dropped for None."""
    weights = load_file(file)
    first = sorted(weights)[0]
    for key, value in changes.items():
        weights.pop(first) if value is None else weights.update({first if key == "first" else key: value})
    save_file(weights, file, metadata={"format": "pt"})
    return first


def test_a_missing_weight_is_named(kind_and_file: tuple[type, Path]) -> None:
    kind, file = kind_and_file
    first = rewrite(file, gone=None)
    with pytest.raises(ValueError, match=f"{file.parent}: .*{first} is missing.*Download"):
        load_weights(kind, file.parent)


def test_an_unexpected_weight_is_named(kind_and_file: tuple[type, Path]) -> None:
    kind, file = kind_and_file
    rewrite(file, surprise=torch.ones(1))
    with pytest.raises(ValueError, match="surprise is unexpected"):
        load_weights(kind, file.parent)


def test_a_wrong_shape_is_named(kind_and_file: tuple[type, Path]) -> None:
    kind, file = kind_and_file
    first = rewrite(file, first=torch.ones(7))
    with pytest.raises(ValueError, match=rf"{first} has shape \(7,\), not \("):
        load_weights(kind, file.parent)


def test_position_ids_of_older_writers_are_harmless(tiny_sd15: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_sd15 / "text_encoder", tmp_path / "text_encoder")
    weights = {f"text_model.{key}": value for key, value in load_file(folder / "model.safetensors").items()}
    weights["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    loaded = load_weights(CLIPTextModel, folder).state_dict()
    assert all(torch.equal(loaded[key], weights[f"text_model.{key}"]) for key in loaded)


def test_a_text_towers_projection_may_lie_there_and_may_not_be_missed(tiny_sd35: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_sd35 / "text_encoder", tmp_path / "text_encoder")
    projected = load_weights(CLIPTextModelWithProjection, folder)
    tower = load_weights(CLIPTextModel, folder)  # has no use for it
    assert all(map(torch.equal, tower.state_dict().values(), projected.text_model.state_dict().values()))
    weights = load_file(folder / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="text_projection.weight is missing"):
        load_weights(CLIPTextModelWithProjection, folder)


def test_attention_names_of_the_first_vae_are_read(tiny_sd15: Path, tmp_path: Path) -> None:
    """The VAE of SD 1.5 on the hub was saved before diffusers renamed its attention."""
    folder = shutil.copytree(tiny_sd15 / "vae", tmp_path / "vae")
    file, old = folder / "diffusion_pytorch_model.safetensors", {}
    for key, value in load_file(file).items():
        for new, name in (("to_q.", "query."), ("to_k.", "key."), ("to_v.", "value."), ("to_out.0.", "proj_attn.")):
            key = key.replace(new, name)
        old[key] = value
    save_file(old, file, metadata={"format": "pt"})
    expected = load_weights(AutoencoderKL, tiny_sd15 / "vae").state_dict()
    loaded = load_weights(AutoencoderKL, folder).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in loaded.items())


def test_loading_is_silent(tiny_sd15: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_weights(CLIPTextModel, tiny_sd15 / "text_encoder")
    assert not caplog.records


@pytest.mark.parametrize("kind", list(FILES))
def test_bin_weights_are_read(kind: type, tiny_sd15: Path, tmp_path: Path) -> None:
    source = tiny_sd15 / FILES[kind]
    shutil.copy(source.parent / "config.json", tmp_path)
    name = "pytorch_model.bin" if kind is CLIPTextModel else "diffusion_pytorch_model.bin"
    weights = {key: value.half() for key, value in load_file(source).items()}
    torch.save(weights, tmp_path / name)
    loaded = load_weights(kind, tmp_path).state_dict()
    assert {value.dtype for value in loaded.values()} == {torch.float32}
    assert all(torch.equal(value, weights[key].float()) for key, value in loaded.items())


def test_a_long_list_of_faults_is_cut(tiny_sd15: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_sd15 / "unet", tmp_path / "unet")
    save_file({"x": torch.ones(1)}, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"is missing and \d+ more\. Download"):
        load_weights(UNet2DConditionModel, folder)


def test_absent_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"unet/config\.json is missing"):
        load_weights(UNet2DConditionModel, tmp_path / "unet")
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    with pytest.raises(FileNotFoundError, match="no readable weights"):
        load_weights(UNet2DConditionModel, tmp_path)


@pytest.mark.parametrize("base", ["sd15", "realistic-vision", "someone/something"])
def test_an_unreachable_hub_model_says_how_to_get_it(base: str) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        load_backbone(base)
    identity = BASES.get(base, base)
    for part in (identity, "CreativeML OpenRAIL-M", f"hf download {identity} --local-dir models/"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_gated_hub_model_says_how_to_be_let_in() -> None:
    with pytest.raises(FileNotFoundError, match="AI Community License: accept it .*`hf auth login`") as caught:
        load_backbone("sd35m")
    assert "hf download stabilityai/stable-diffusion-3.5-medium --local-dir models/" in str(caught.value)
    assert "OpenRAIL" not in str(caught.value)


def test_an_absent_folder_says_what_would_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="hf download stable-diffusion-v1-5/stable-diffusion-v1-5"):
        base_folder(str(tmp_path / "nowhere"))


def test_an_absent_miniature_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(BASES, "miniature", str(tmp_path / "weights"))
    with pytest.raises(FileNotFoundError, match="make miniature"):
        load_backbone("miniature")


def test_folders_of_other_things_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no model_index.json"):
        load_backbone(tmp_path)
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(ValueError, match="holds a FluxPipeline; backbones exist for StableDiffusionPipeline"):
        load_backbone(tmp_path)


def test_a_file_is_read_as_a_single_file_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"model\.safetensors cannot be read: .*header"):
        load_backbone(tmp_path / "model.safetensors")


@pytest.mark.parametrize("name", ["model.ckpt", "model.bin"])
def test_a_pickle_is_refused_unread(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(ValueError, match=rf"{name} is a pickle, which can run code.*`python -c \".*model\.safetensors"):
        load_backbone(tmp_path / name)
