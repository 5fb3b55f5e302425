import torch

from spf.backbones import Backbone
from spf.clip import Clip
from spf.stages.similarity import mean_sfcm, phrase_similarity
from spf.text import Prompt


def test_it_is_the_cosine_of_each_phrase_with_the_target() -> None:
    vectors = {"a woman": [1.0, 0.0], "a hat": [0.6, 0.8], "a red hat": [0.0, 1.0]}

    def embed(texts: list[str]) -> torch.Tensor:
        return torch.tensor([vectors[text] for text in texts])

    prompts = [Prompt("a woman, a hat", "a red hat", ("a woman", "a hat")), Prompt("a hat", "a red hat", ("a hat",))]
    assert torch.allclose(phrase_similarity(prompts, embed), torch.tensor([[0.0, 0.8], [0.8, 0.0]]))


def test_prompts_without_phrases_have_one_empty_column() -> None:
    assert phrase_similarity([Prompt(""), Prompt("")], lambda texts: torch.ones(len(texts), 2)).tolist() == [[0], [0]]


def test_the_map_of_finished_portraits_is_as_large_as_they_are(backbone: Backbone) -> None:
    customised = backbone.frozen_copy()
    torch.nn.init.normal_(customised.denoiser.conv_out.weight)
    prompts = [Prompt("a woman in a red shirt", "a hat"), Prompt("a woman in a red shirt")]
    maps = mean_sfcm(backbone, customised, torch.rand(2, 3, 64, 64), prompts, Clip.load("miniature").text)
    assert maps.shape == (2, 64, 64) and 0 <= maps.min() and maps.max() <= 1
    assert maps[0].any() and not maps[1].any()  # without a target there is nothing to find
