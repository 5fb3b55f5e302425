import torch

from spf.backbones import load_backbone
from spf.miniature.painter import paint
from spf.miniature.people import TARGETS, draw_people
from spf.miniature.vae import build_vae, psnr


def test_the_layout_is_f8_with_16_channels() -> None:
    vae = build_vae()
    assert vae.encode(torch.zeros(1, 3, 128, 128)).latent_dist.mean.shape == (1, 16, 16, 16)


def test_psnr_by_hand() -> None:
    image = torch.zeros(2, 3, 4, 4)
    assert torch.isclose(psnr(image + 0.2, image), torch.tensor(20.0))


def test_the_shipped_vae_keeps_people_it_never_saw_and_unit_latents() -> None:
    backbone = load_backbone("miniature")
    image = paint(draw_people(26, 77, (None, *TARGETS), held_out=True))
    latent = backbone.encode(image)
    with torch.no_grad():
        decoded = backbone.decode(latent)
    assert psnr(decoded * 2 - 1, image * 2 - 1) > 24
    assert 0.8 < latent.std() < 1.2
