from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spf.evaluation.blip import DEVIATION, IMAGE_REWARD, LENGTH, MEAN, RewardNetwork, bert_tokenizer, head, translated
from spf.evaluation.open_clips import CROPPED
from spf.evaluation.weights import WeightsAbsent
from tests.evaluation.clips import noise
from tests.evaluation.published import read_manifest
from tests.evaluation.raters import TINY_REWARD, WORDS, tiny_reward, write_vocabulary

TEXTS = ["A woman with glasses", "a hat", "a red man, " * 20]
UNUSED = {"blip.vision_proj.weight", "blip.vision_proj.bias", "blip.text_proj.weight", "blip.text_proj.bias",
          "blip.text_encoder.embeddings.position_ids"}


# ---- one image and one text, by plain matrices; Salesforce's BLIP as it is described ----


def normed(x: Tensor, layer: nn.LayerNorm, eps: float) -> Tensor:
    x = x - x.mean(-1, keepdim=True)
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * layer.weight + layer.bias


def attended(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    parts = zip(*(x.chunk(heads, -1) for x in (query, key, value)), strict=True)
    return torch.cat([(q @ k.T / q.shape[-1]**0.5).softmax(-1) @ v for q, k, v in parts], -1)


def plain_vision(network: RewardNetwork, pixels: Tensor) -> Tensor:
    vision = network.visual_encoder
    kernel = vision.embeddings.patch_embedding
    patches = pixels.unfold(1, 16, 16).unfold(2, 16, 16).permute(1, 2, 0, 3, 4).flatten(2).flatten(0, 1)  # (N,3*16*16)
    x = torch.cat([vision.embeddings.class_embedding[0], patches @ kernel.weight.flatten(1).T + kernel.bias])
    x = x + vision.embeddings.position_embedding[0]
    for block in vision.encoder.layers:
        h = block.self_attn.qkv(normed(x, block.layer_norm1, 1e-6)).chunk(3, -1)
        x = x + block.self_attn.projection(attended(*h, 2))
        x = x + block.mlp.fc2(F.gelu(block.mlp.fc1(normed(x, block.layer_norm2, 1e-6))))
    return normed(x, vision.post_layernorm, 1e-6)


def plain_text(network: RewardNetwork, ids: Tensor, seen: Tensor) -> Tensor:
    """``ids`` without padding."""
    table = network.text_encoder.embeddings
    x = table.word_embeddings.weight[ids] + table.position_embeddings.weight[:len(ids)]
    x = normed(x, table.LayerNorm, 1e-12)
    for layer in network.text_encoder.encoder.layer:
        for part, context in ((layer.attention, None), (layer.crossattention, seen)):
            other, own = x if context is None else context, part.self
            h = part.output.dense(attended(own.query(x), own.key(other), own.value(other), 2))
            x = normed(x + h, part.output.LayerNorm, 1e-12)
        h = layer.output.dense(F.gelu(layer.intermediate.dense(x)))
        x = normed(x + h, layer.output.LayerNorm, 1e-12)
    return x[0]


def test_rewards_are_what_plain_matrices_make_of_them(tmp_path: Path) -> None:
    network, images = tiny_reward(tmp_path), noise(3, 3, 50, 40)
    ids, mask = network.tokens(TEXTS)
    assert mask.sum(1).tolist() == [7, 4, LENGTH]
    read = [plain_text(network, row[:length], plain_vision(network, CROPPED.apply(image[None], 32)[0]))
            for image, row, length in zip(images, ids, mask.sum(1), strict=True)]
    wanted = (network.mlp(torch.stack(read))[:, 0] - 0.16717362830052426) / 1.0333394966054072
    assert torch.allclose(network(images, TEXTS), wanted, atol=1e-5, rtol=0)
    alone = torch.cat([network(image[None], [text]) for image, text in zip(images, TEXTS, strict=True)])
    assert torch.allclose(network(images, TEXTS), alone, atol=1e-5, rtol=0)
    assert wanted.std() > 0.01 and (MEAN, DEVIATION) == (0.16717362830052426, 1.0333394966054072)


def test_the_head_is_one_affine_map() -> None:
    layers = head(16).double().eval().requires_grad_(False)
    product, offset = torch.eye(16).double(), torch.zeros(16).double()
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    for layer in linear:
        product, offset = layer.weight @ product, layer.weight @ offset + layer.bias
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(0)).double()
    assert torch.allclose(layers(x), x @ product.T + offset, atol=1e-12)
    assert [layer.out_features for layer in linear] == [1024, 128, 64, 16, 1]
    assert {type(layer) for layer in layers} == {nn.Linear, nn.Dropout}


def test_texts_are_read_as_bert_reads_them(tmp_path: Path) -> None:
    network = tiny_reward(tmp_path)
    ids, mask = network.tokens(TEXTS)
    words = [[WORDS[number] for number in row] for row in ids.tolist()]
    assert words[0] == ["[CLS]", "a", "woman", "with", "glass", "##es", "[SEP]"] + ["[PAD]"] * 28
    assert ids.shape == mask.shape == (3, 35) and LENGTH == 35 and torch.equal(mask, (ids != 0).long())
    assert words[2][:2] == ["[CLS]", "a"] and words[2][-1] == "[SEP]"
    assert network.truncated(TEXTS) == [False, False, True]
    assert network.truncated(["a " * 33, "a " * 34]) == [False, True]
    odd = write_vocabulary(tmp_path)
    odd.write_text("\n".join((*WORDS, "\u2028", "\x85", "end")) + "\n", encoding="utf-8")  # no ends of lines here
    assert bert_tokenizer(odd).convert_tokens_to_ids("end") == len(WORDS) + 2


def test_published_keys_are_the_network_s_both_ways() -> None:
    published = read_manifest("image_reward")
    own = {key: tuple(value.shape) for key, value in IMAGE_REWARD.network().state_dict().items()}
    assert translated(published) == own
    sources = {next(iter(translated({key: None})), ""): key for key in published}
    assert {sources[key] for key in own} | UNUSED == published.keys()
    assert len(own) + len(UNUSED) == len(published)


def test_the_full_size_has_blip_s_constants() -> None:
    network = IMAGE_REWARD.network()
    text, vision = network.text_encoder.config, network.visual_encoder.config
    assert (text.layer_norm_eps, vision.layer_norm_eps) == (1e-12, 1e-6)
    assert text.hidden_act == vision.hidden_act == "gelu" and text.num_attention_heads == 12
    assert torch.equal(network.text_encoder.embeddings.position_ids[0], torch.arange(512))
    assert network.visual_encoder.post_layernorm.eps == 1e-6


def as_published(network: RewardNetwork) -> dict[str, Tensor]:
    """A network's tensors by the published names, and what else the file holds."""
    own = network.state_dict()
    sources = {translated_key: key for key in _tiny_keys() for translated_key in translated({key: None})}
    return {sources[key]: value for key, value in own.items()} | {key: torch.ones(2) for key in UNUSED}


def offline(*args: str) -> str:
    raise OSError("no network")


def _tiny_keys() -> list[str]:
    """The published keys of the first two layers."""
    deeper = tuple(f"{part}.{n}." for part in ("blocks", "layer") for n in range(2, 24))
    return [key for key in read_manifest("image_reward") if not any(part in key for part in deeper)]


def test_published_files_are_read_strictly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spf.evaluation.weights.hf_hub_download", offline)
    cpu, network = torch.device("cpu"), tiny_reward(tmp_path)
    (tmp_path / "vocab.txt").unlink()
    with pytest.raises(WeightsAbsent, match="ImageReward.pt"):
        TINY_REWARD.load(tmp_path, cpu)
    published = as_published(network)
    torch.save(published, tmp_path / "ImageReward.pt")
    with pytest.raises(WeightsAbsent, match="vocab.txt"):
        TINY_REWARD.load(tmp_path, cpu)
    write_vocabulary(tmp_path)
    loaded = TINY_REWARD.load(tmp_path, cpu)
    images = noise(3, 3, 50, 40)
    assert torch.equal(loaded(images, TEXTS), network(images, TEXTS)) and loaded(images, TEXTS).isfinite().all()
    assert len(loaded.describe()["weights"]) == 64 and not loaded.training
    with pytest.raises(ValueError, match="is not the published bert-base-uncased"):
        replace(TINY_REWARD, vocabulary=IMAGE_REWARD.vocabulary).load(tmp_path, cpu)
    published.pop("mlp.layers.7.bias")
    torch.save(published, tmp_path / "ImageReward.pt")
    with pytest.raises(ValueError, match="does not fit RewardNetwork.*mlp.7.bias"):
        TINY_REWARD.load(tmp_path, cpu)
