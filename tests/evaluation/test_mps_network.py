from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPImageProcessorPil

from spf.evaluation.mps_network import CONDITION, MPS, THRESHOLD, MpsNetwork, near
from spf.evaluation.open_clips import CROPPED
from spf.evaluation.weights import WeightsAbsent
from tests.evaluation.clips import noise
from tests.evaluation.published import read_manifest
from tests.evaluation.raters import TINY_MPS, tiny_mps

TEXTS = ["a woman with long hair", "hat", "an old man, wearing a red jacket, in front of a house at night " * 6]
CPU = torch.device("cpu")


def one_by_one(network: MpsNetwork, image: Tensor, text: str, threshold: float) -> Tensor:
    """The formula for one image, in the order of its publication, by the parts that transformers' CLIP names."""
    clip = network.model
    words, condition = (clip.text_projection(clip.text_model(network.tokens([one])).last_hidden_state)
                        for one in (text, CONDITION))
    nearness = torch.einsum("bid,bjd->bij", words, condition).max(-1).values
    nearness = nearness / nearness.max()
    pixels = CROPPED.apply(image[None], 28)
    seen = clip.visual_projection(clip.vision_model(pixels, output_hidden_states=True).hidden_states[-1])
    looked = network.cross_model(seen, words, nearness > threshold)[:, 0]
    end = int((network.tokens([text])[0] == 49407).nonzero()[0])  # the first of the end tokens
    return clip.logit_scale.exp() * F.cosine_similarity(words[:, end], looked)[0]


def test_a_batch_is_rated_as_each_of_it_alone() -> None:
    network, images = tiny_mps(), noise(3, 3, 40, 30)
    together = network(images, TEXTS)
    alone = torch.cat([network(image[None], [text]) for image, text in zip(images, TEXTS, strict=True)])
    written = torch.stack([one_by_one(network, image, text, THRESHOLD)
                           for image, text in zip(images, TEXTS, strict=True)])
    assert torch.allclose(together, alone, atol=1e-5, rtol=0) and torch.allclose(together, written, atol=1e-5, rtol=0)
    assert together.isfinite().all() and together.std() > 1e-3


def test_the_threshold_decides_what_is_looked_at() -> None:
    network, image = tiny_mps(), noise(1, 3, 40, 30)
    weight = network.model.text_projection.weight
    weight.copy_(torch.outer(weight[:, 0], weight[0]))  # tokens on one line, some of them close to its middle
    words, _ = network._read([*TEXTS, CONDITION])
    strict, loose = (near(words[:-1], words[-1], threshold) for threshold in (THRESHOLD, 0.01))
    assert THRESHOLD == 0.3 and 0 < strict.sum() < loose.sum() and (loose | ~strict).all()
    differs = [text for text, a, b in zip(TEXTS, strict, loose, strict=True) if not torch.equal(a, b)][0]
    ratings = [one_by_one(network, image[0], differs, threshold) for threshold in (0.3, 0.01)]
    assert torch.allclose(network(image, [differs])[0], ratings[0], atol=1e-5, rtol=0)
    assert abs(ratings[0] - ratings[1]) > 1e-4


def test_every_row_keeps_a_token_whatever_its_mates() -> None:
    condition = torch.eye(4)[:2]
    lone = torch.tensor([[5.0, 0, 0, 0], [0.1, 0, 9, 0], [-3, -3, 0, 0]])  # one token is near, the others are not
    faint = lone * 1e-4  # by the batch's largest nearness nothing of it would be left
    away = -torch.rand(3, 4)
    kept = near(torch.stack([lone, faint, away]), condition)
    assert kept[0].tolist() == kept[1].tolist() == [True, False, False] and kept[2].any()


def test_texts_are_what_people_judge_by() -> None:
    assert CONDITION.endswith("things.") and len(CONDITION.split(", ")) == 22
    network = tiny_mps()
    tokens = network.tokens(["A woman,  with “quotes”", *TEXTS])
    plain = open_clip.tokenize(TEXTS)
    ends = (plain == 0).cumsum(1) > 0
    assert tokens.shape == (4, 77) and torch.equal(tokens[1:], torch.where(ends, 49407, plain))
    assert (tokens[:, -1] == 49407).all() and network.truncated(TEXTS) == [False, False, True]


def test_square_images_are_prepared_as_by_transformers() -> None:
    images = noise(2, 3, 300, 300)
    wanted = CLIPImageProcessorPil()(list(images), return_tensors="pt").pixel_values
    assert torch.allclose(CROPPED.apply(images, 224), wanted, atol=1e-5, rtol=0)


def test_the_full_size_is_the_published() -> None:
    network = MPS.network()
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == read_manifest("mps")
    text, vision = network.model.text_model, network.model.vision_model
    assert torch.equal(text.embeddings.position_ids[0], torch.arange(77)) and text.config.hidden_act == "gelu"
    assert torch.equal(vision.embeddings.position_ids[0], torch.arange(257)) and vision.config.hidden_act == "gelu"


@pytest.mark.parametrize("file", [MPS.weights.file, *MPS.weights.also])
def test_published_files_are_read_in_float32(file: str, tmp_path: Path) -> None:
    network = tiny_mps()
    with pytest.raises(WeightsAbsent, match="MPS overall"):
        TINY_MPS.load(tmp_path, CPU)
    tensors = {key: value.half().contiguous() for key, value in network.state_dict().items()}
    old = {f"model.{tower}_model.embeddings.position_ids": torch.arange(5)[None] for tower in ("text", "vision")}
    save_file(tensors | old, tmp_path / file)
    loaded = TINY_MPS.load(tmp_path, CPU)
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32}
    rotary = "cross_model.layers.3.1.fn.rotary_emb.inv_freq"
    assert torch.equal(loaded.state_dict()[rotary], network.state_dict()[rotary].half().float())
    images = noise(3, 3, 28, 28)
    assert torch.allclose(loaded(images, TEXTS), network(images, TEXTS), rtol=0.05, atol=0.01)  # of scores up to 3
    assert len(loaded.describe()["weights"]) == 64 and loaded.describe()["threshold"] == 0.3
    save_file({**tensors, "model.more": torch.ones(1)}, tmp_path / file)
    with pytest.raises(ValueError, match="does not fit MpsNetwork.*model.more"):
        TINY_MPS.load(tmp_path, CPU)
