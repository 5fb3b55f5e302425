import torch
from diffusers import AutoencoderKL

from spf.miniature.painter import paint
from spf.miniature.people import TARGETS, draw_people
from spf.miniature.truth import GRID, REGIONS, pictures, through
from spf.miniature.vae import build_vae


def test_pictures_come_with_the_places_of_phrases_and_target() -> None:
    people = draw_people(6, 0, ("hat", None))
    pool = pictures(people, chunk=4)
    assert len(pool) == 6 and pool.regions.shape == (6, len(REGIONS), GRID, GRID)
    assert (pool.image.float() / 255 - paint(people)).abs().max() < 0.003
    regions = dict(zip(REGIONS, pool.regions.float().transpose(0, 1), strict=True))
    assert (regions["target"][1::2] == 0).all() and (regions["target"][::2].amax((1, 2)) > 0.7).all()
    up, down = regions["setting"][:, 0].mean(), regions["setting"][:, -1].mean()
    assert up > 0.8 and regions["clothing"][:, -1].mean() > 0.5 > down
    assert (regions["subject"] >= regions["skin"] - 1e-3).all()


def test_through_the_vae_a_portrait_stays_an_image() -> None:
    torch.manual_seed(0)
    vae: AutoencoderKL = build_vae().eval()
    image = paint(draw_people(2, 0, tuple(TARGETS)))
    seen = through(vae, image)
    assert seen.shape == image.shape and 0 <= seen.min() and seen.max() <= 1 and not torch.allclose(seen, image)
