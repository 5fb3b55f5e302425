import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from spf.backbones import Backbone, load_backbone
from spf.evaluation.weights import WeightsAbsent
from spf.figures.asked import Asked
from spf.figures.insertion import ADAPTER, ENCODER, image_insertion, insertion, with_adapter
from tests.figures.looking import places, read

WIDTH, EMBEDDING = 64, 16  # of the tiny SD 1.5's text features, of the image encoder


@pytest.fixture(scope="session")
def adapter(tiny_sd15: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An IP-Adapter in its published files and names, random."""
    folder, generator = tmp_path_factory.mktemp("ip-adapter"), torch.Generator().manual_seed(0)
    unet = load_backbone(tiny_sd15).denoiser
    layers = [name.removesuffix(".processor") for name in unet.attn_processors if "attn2" in name]
    shapes = {f"ip_adapter.{2 * number + 1}.{part}.weight": (unet.get_submodule(name).inner_dim, WIDTH)
              for number, name in enumerate(layers) for part in ("to_k_ip", "to_v_ip")}
    shapes |= {"image_proj.proj.weight": (4 * WIDTH, EMBEDDING), "image_proj.proj.bias": (4 * WIDTH,),
               "image_proj.norm.weight": (WIDTH,), "image_proj.norm.bias": (WIDTH,)}
    (folder / ADAPTER).parent.mkdir(parents=True)
    save_file({key: 0.5 * torch.randn(shape, generator=generator) for key, shape in shapes.items()}, folder / ADAPTER)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        CLIPVisionModelWithProjection(CLIPVisionConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, projection_dim=EMBEDDING,
            image_size=224, patch_size=32)).save_pretrained(folder / ENCODER)
    return folder


def test_an_image_that_counts_nothing_leaves_the_original(backbone: Backbone, adapter: Path) -> None:
    asked = Asked.of("a woman", "a hat", 7, 2, 2, 7.5)
    images = [Image.new("RGB", (80, 60), colour) for colour in ("red", "blue")]
    pipeline = with_adapter(backbone, adapter)
    pipeline.set_ip_adapter_scale(0.0)
    assert (image_insertion(pipeline, images[0], asked) - asked.base.by(backbone)).abs().max() < 1e-4
    pipeline.set_ip_adapter_scale(1.0)
    red, blue = (image_insertion(pipeline, image, asked) for image in images)
    assert (red - blue).abs().max() > 1e-3 and (red - asked.base.by(backbone)).abs().max() > 1e-3


def test_the_figure_has_its_three_columns(tiny_sd15: Path, adapter: Path, tmp_path: Path) -> None:
    Image.new("RGB", (80, 60), "red").save(tmp_path / "reference.png")
    page = read(insertion("a woman", "a hat", tmp_path / "reference.png", base=str(tiny_sd15), adapter=adapter, count=1,
                          steps=2, out=tmp_path / "page.png"))
    names = ("original", "text_insertion", "image_insertion")
    images = [read(tmp_path / "page" / f"000_seed7_{name}.png") / 255 for name in names]
    assert [places(page, image)[0][1] for image in images] == [6, 76, 146]


def test_without_the_weights_one_line_says_so(stage1: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "reference.png")
    page = read(insertion("a woman", "a hat", tmp_path / "reference.png", str(stage1),
                          adapter=tmp_path / "nowhere", count=1, steps=2, out=tmp_path / "page.png"))
    said = [line for line in capsys.readouterr().out.splitlines() if "left out" in line]
    assert len(said) == 1 and "hf download h94/IP-Adapter" in said[0] and "Apache-2.0" in said[0]
    assert page.shape[2] == 6 + 2 * 70


def test_an_adapter_of_another_model_is_refused(backbone: Backbone, adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsAbsent, match="image_encoder"):
        shutil.copytree(adapter, tmp_path / "half", ignore=shutil.ignore_patterns("image_encoder"))
        with_adapter(backbone, tmp_path / "half")
    shutil.copytree(adapter, tmp_path / "other")
    wide = {key: torch.cat([value, value], -1) if "_ip" in key else value
            for key, value in load_file(adapter / ADAPTER).items()}
    save_file(wide, tmp_path / "other" / ADAPTER)
    with pytest.raises(ValueError, match="made for SD 1.5"):
        with_adapter(backbone, tmp_path / "other")
