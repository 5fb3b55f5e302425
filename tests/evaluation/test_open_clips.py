from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.transformer import QuickGELU
from safetensors.torch import save_file
from torch.nn import functional as F
from torchvision.transforms.functional import to_pil_image

from spf.backbones.clip_bpe import clip_tokenizer
from spf.evaluation.open_clips import VIT_B_32, VIT_L_14, OpenClip, PublishedClip, crop
from spf.evaluation.weights import Weights, WeightsAbsent, file_hash
from tests.evaluation.clips import SIZE, TINY, noise, tiny_network, twin
from tests.evaluation.published import read_manifest

CAPTIONS = ["a woman in a brown jacket", "Una señora and her 2 dogs, 35mm!", " ".join(["a man with red hair,"] * 30)]
PUBLISHED = PublishedClip(Weights("tiny", "below/tiny.safetensors", "nobody/tiny", "MIT", 1), TINY)


@pytest.fixture(scope="module")
def clip() -> OpenClip:
    return OpenClip(tiny_network(), "tiny", "random")


def test_images_and_texts_are_seen_as_transformers_sees_them(clip: OpenClip) -> None:
    other, images = twin(clip.network), noise(3, 3, 40, 30)
    seen = F.normalize(other.get_image_features(crop(images, SIZE)).pooler_output, dim=-1)
    read = F.normalize(other.get_text_features(clip.tokens(CAPTIONS)).pooler_output, dim=-1)
    assert torch.allclose(clip.image(images), seen, atol=1e-5, rtol=0)
    assert torch.allclose(clip.text(CAPTIONS), read, atol=1e-5, rtol=0)


def test_tokens_are_those_of_the_stages(clip: OpenClip) -> None:
    ours = clip.tokens(CAPTIONS)
    theirs = clip_tokenizer()(CAPTIONS, padding="max_length", truncation=True, return_tensors="pt").input_ids
    until_end = torch.arange(77) <= ours.argmax(1, keepdim=True)
    assert torch.equal(ours * until_end, theirs * until_end)


def test_long_captions_differ_and_keep_their_end_token(clip: OpenClip) -> None:
    captions = [" ".join(["a woman"] * 60), " ".join(["the man"] * 60)]
    assert clip.tokens(captions)[:, 76].tolist() == [49407, 49407]
    assert (clip.text(captions[:1]) - clip.text(captions[1:])).abs().max() > 1e-2


def test_a_caption_is_truncated_from_76_words_on(clip: OpenClip) -> None:
    assert clip.truncated(["cat " * 75, "cat " * 76, ""]) == [False, True, False]


@pytest.mark.parametrize("shape", [(512, 512), (768, 512), (100, 150)])
def test_the_crop_is_open_clips_to_the_bit(shape: tuple[int, int]) -> None:
    images = noise(2, 3, *shape)
    theirs = open_clip.image_transform(224, is_train=False)
    assert torch.equal(crop(images, 224), torch.stack([theirs(to_pil_image(image)) for image in images]))


@pytest.mark.parametrize(("name", "published"), [("vit_l_14", VIT_L_14), ("vit_b_32", VIT_B_32)])
def test_openais_weights_fit_a_network_with_quick_gelu(name: str, published: PublishedClip) -> None:
    network = published.network()
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == read_manifest(name)
    assert all(isinstance(tower.resblocks[0].mlp.gelu, QuickGELU)
               for tower in (network.visual.transformer, network.transformer))


def test_a_published_file_fills_the_network(clip: OpenClip, tmp_path: Path) -> None:
    file = tmp_path / PUBLISHED.weights.file
    file.parent.mkdir()
    save_file(clip.network.state_dict(), file)
    loaded, images = PUBLISHED.load(tmp_path, torch.device("cpu")), noise(2, 3, 32, 32)
    assert torch.equal(loaded.image(images), clip.image(images))
    assert torch.equal(loaded.text(CAPTIONS), clip.text(CAPTIONS))
    assert loaded.describe()["weights"] == file_hash(file) and loaded.describe()["network"] == "tiny"


def test_a_file_that_does_not_fit_and_one_that_is_absent(clip: OpenClip, tmp_path: Path) -> None:
    file = tmp_path / PUBLISHED.weights.file
    with pytest.raises(WeightsAbsent, match="tiny.safetensors is absent"):
        PUBLISHED.load(tmp_path, torch.device("cpu"))
    file.parent.mkdir()
    save_file({key: value for key, value in clip.network.state_dict().items() if key != "visual.proj"}, file)
    with pytest.raises(ValueError, match="visual.proj"):
        PUBLISHED.load(tmp_path, torch.device("cpu"))
    with pytest.raises(ValueError, match="is not the published tiny"):
        replace(PUBLISHED, weights=replace(PUBLISHED.weights, sha256="0" * 64)).load(tmp_path, torch.device("cpu"))
