import pytest
import torch

from spf.backbones import BASES
from spf.clip import Clip, cosine
from spf.miniature.painter import paint
from spf.miniature.people import base_text, draw_people


@pytest.fixture(scope="module")
def clip() -> Clip:
    return Clip.load(f"{BASES['miniature']}/clip")


def test_images_and_texts_are_unit_vectors_of_one_space(clip: Clip) -> None:
    seen, read = clip.image(torch.rand(3, 3, 96, 128)), clip.text(["a woman", "a man"])
    assert seen.shape[1] == read.shape[1]
    assert torch.allclose(torch.cat([seen, read]).norm(dim=1), torch.ones(5), atol=1e-5)


def test_a_text_is_the_same_alone_and_beside_a_longer_one(clip: Clip) -> None:
    assert torch.allclose(clip.text(["a woman"])[0], clip.text(["a woman", "a man with long hair, in a shirt"])[0],
                          atol=1e-5)


def test_gradients_reach_the_image_and_no_weight(clip: Clip) -> None:
    image = torch.rand(1, 3, 128, 128, requires_grad=True)
    cosine(clip.image(image), clip.text(["a woman"])).sum().backward()
    assert image.grad.abs().sum() > 0 and all(p.grad is None for p in clip.parameters())


def test_portraits_find_their_own_captions(clip: Clip) -> None:
    people = draw_people(24, 79, held_out=True)
    scores = clip.image(paint(people)) @ clip.text([base_text(p) for p in people]).T
    assert (scores.argmax(1) == torch.arange(24)).float().mean() > 0.8


def test_an_absent_clip_is_one_clear_error() -> None:
    with pytest.raises(FileNotFoundError, match="hf download openai/clip-vit-large-patch14"):
        Clip.load("models/nowhere")
