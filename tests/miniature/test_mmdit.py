"""The second miniature in two steps: an MM-DiT that a stock pipeline loads, and our code paints the same with."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusion3Pipeline

from spf.__main__ import main
from spf.backbones import Backbone, load_backbone
from spf.method.response import phrase_attention
from spf.miniature.people import base_text, draw_people, phrase
from spf.miniature.t5 import LENGTH
from spf.sampling import generate
from spf.text import Prompt


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mmdit")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", out / "cache")
        main(["miniature_mmdit", "--out", str(out), "--t5_steps", "2", "--transformer_steps", "2",
              "--portraits", "40"])
    return out / "weights"


@pytest.fixture(scope="module")
def backbone(weights: Path) -> Backbone:
    return load_backbone(weights)


def test_a_stock_pipeline_paints_what_we_paint(weights: Path, backbone: Backbone) -> None:
    person = draw_people(1, 1)[0]
    pipeline = StableDiffusion3Pipeline.from_pretrained(weights)
    pipeline.set_progress_bar_config(disable=True)
    latent = torch.randn(1, *backbone.latent_shape(), generator=torch.Generator().manual_seed(3))
    theirs = pipeline(base_text(person), num_inference_steps=3, guidance_scale=4.0, latents=latent,
                      max_sequence_length=LENGTH, output_type="pt").images
    ours = generate(backbone, [Prompt(base_text(person))], [3], steps=3, guidance_scale=4.0, progress=False)
    assert theirs.shape == (1, 3, 128, 128) and torch.allclose(theirs, ours, atol=1 / 255)


def test_it_ships_in_half_precision_beside_the_first_miniatures_vae_and_clip(weights: Path, backbone: Backbone) -> None:
    files = {file.parent.name: file.stat().st_size for file in weights.rglob("*.safetensors")}
    assert set(files) == {"transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3"}
    assert files["transformer"] < 5.5e6 and files["text_encoder_3"] < 1.3e6
    first = load_backbone("miniature")
    clips = [backbone.encoders["text_encoder_2"].text_model, first.encoders["text_encoder"]]
    for pair in ([backbone.vae, first.vae], clips):
        mine, theirs = (list(network.state_dict().values()) for network in pair)
        assert len(mine) == len(theirs) and all(map(torch.equal, mine, theirs))


def test_both_text_encoders_find_every_phrase_of_a_portrait(backbone: Backbone) -> None:
    person = draw_people(1, 2)[0]
    said = tuple(phrase(person, name) for name in ("subject", "hair", "skin", "clothing", "setting"))
    conditions = backbone.condition([Prompt(base_text(person), phrases=said)])
    clip = conditions.phrase_weights[:, :-LENGTH].sum(1)
    assert torch.allclose(clip, torch.full((1, 5), 0.5))  # Eq. 17: the other half is T5's
    assert torch.allclose(conditions.phrase_weights.sum(1), torch.ones(1, 5))
    x_t = torch.randn(1, *backbone.latent_shape(), generator=torch.Generator().manual_seed(0))
    records = backbone.denoise(x_t, torch.tensor([500.0]), conditions, capture=True).attention
    assert len(records) == 4
    for record in records:
        assert phrase_attention(record, conditions.phrase_weights).shape == (1, 5, 8, 8)
