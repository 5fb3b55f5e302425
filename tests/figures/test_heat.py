import torch

from spf.figures.heat import GREY, glowing, overlaid


def brightness(images: torch.Tensor) -> torch.Tensor:
    return (images * torch.tensor(GREY)[:, None, None]).sum(1)


def test_higher_is_brighter_all_the_way() -> None:
    ramp = brightness(glowing(torch.linspace(0, 1, 101)[None, None]))[0, 0]
    assert (ramp.diff() > 0).all() and ramp[0] < 0.05 and ramp[-1] > 0.9
    assert torch.equal(glowing(torch.tensor([[[-1.0, 2.0]]])), glowing(torch.tensor([[[0.0, 1.0]]])))


def test_the_overlay_is_brightest_where_the_map_is() -> None:
    maps = torch.zeros(2, 4, 4)
    maps[0, 1, 2] = maps[1, 3, 0] = 1
    seen = brightness(overlaid(torch.full((2, 3, 32, 32), 0.5), maps))
    spots = seen.flatten(1).argmax(1).tolist()
    assert [(spot // 32 // 8, spot % 32 // 8) for spot in spots] == [(1, 2), (3, 0)]


def test_the_portrait_is_seen_beneath() -> None:
    portraits = torch.rand(1, 3, 8, 8)
    seen = overlaid(portraits, torch.zeros(1, 2, 2))
    dark, light = brightness(portraits)[0].flatten().sort().indices[[0, -1]]
    assert seen.mean(1).flatten()[dark] < seen.mean(1).flatten()[light]
