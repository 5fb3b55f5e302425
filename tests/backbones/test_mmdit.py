"""Stable Diffusion 3.5: its joint attention, its three text encoders, its folders."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from spf.backbones import load_backbone
from spf.backbones.mmdit import MMDiTBackbone, joined_rows
from spf.method.response import phrase_attention
from spf.text import Prompt, Tokens
from tests.backbones.original_sd35 import lay_out
from tests.sd35 import ABSENT
from tests.sd35 import tiny_sd35 as narrow_sd35

IMAGE_TOKENS, CLIP_TOKENS, T5_TOKENS = 16, 77, 256


@pytest.fixture
def backbone(tiny_sd35: Path) -> MMDiTBackbone:
    return load_backbone(tiny_sd35)


def seen_at(backbone: MMDiTBackbone, prompt: Prompt) -> tuple[Tensor, Tensor]:
    return torch.randn(1, *backbone.latent_shape(), generator=torch.Generator().manual_seed(0)), torch.tensor([512.5])


def test_the_joint_layers_in_forward_order(backbone: MMDiTBackbone, prompt: Prompt) -> None:
    order, names = [], list(backbone.projections())
    for name in names:
        backbone.denoiser.get_submodule(name).register_forward_hook(lambda *_, name=name: order.append(name))
    attention = backbone.denoise(*seen_at(backbone, prompt), backbone.condition([prompt]), capture=True).attention
    assert order == names == [f"transformer_blocks.{block}.attn" for block in range(3)]
    assert [record.layer for record in attention] == names and {record.grid for record in attention} == {(4, 4)}
    assert backbone.denoiser.transformer_blocks[0].attn2 is not None


@pytest.mark.parametrize("qk_norm", ["rms_norm", None])
def test_records_recompose_the_joint_attention(qk_norm: str | None, prompt: Prompt) -> None:
    """Of image and text, in every block: the dual one, a plain one, and the last, which answers the image alone."""
    torch.manual_seed(0)
    backbone, seen = narrow_sd35(t5=False, qk_norm=qk_norm), {}
    if qk_norm:
        randomise_norms(backbone)
    for name in [part for layer in backbone.projections() for part in (layer, f"{layer}.add_v_proj")]:
        module = backbone.denoiser.get_submodule(name)
        module.register_forward_hook(lambda module, args, output, name=name: seen.update({name: output}))
    records = backbone.denoise(*seen_at(backbone, prompt), backbone.condition([prompt]), capture=True).attention
    for record in records:
        layer = backbone.denoiser.get_submodule(record.layer)
        text_value = seen[f"{record.layer}.add_v_proj"].unflatten(-1, (layer.heads, -1)).transpose(1, 2)
        query, value = torch.cat([record.query, record.text], 2), torch.cat([record.value, text_value], 2)
        answer = functional.scaled_dot_product_attention(query, record.context_key, value).transpose(1, 2).flatten(2)
        image, text = seen[record.layer]
        assert torch.allclose(layer.to_out[0](answer[:, :IMAGE_TOKENS]), image, atol=1e-5)
        expected = answer[:, IMAGE_TOKENS:] if layer.context_pre_only else layer.to_add_out(answer[:, IMAGE_TOKENS:])
        assert torch.allclose(expected, text, atol=1e-5)
        assert torch.equal(record.context_key[:, :, :IMAGE_TOKENS], record.key)


def randomise_norms(backbone: MMDiTBackbone) -> None:
    """They begin as ones, and a query before its norm would then point the same way."""
    with torch.no_grad():
        for name, weight in backbone.denoiser.named_parameters():
            if ".norm_" in name and name.startswith("transformer_blocks"):
                weight.uniform_(0.5, 2)


def test_attention_parameters_are_those_of_the_joint_attention(backbone: MMDiTBackbone) -> None:
    names = {name.split(".attn.")[1].rsplit(".", 1)[0] for name in backbone.attention_parameters()}
    assert names == {"to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out",
                     "norm_q", "norm_k", "norm_added_q", "norm_added_k"}


def test_stage_two_trains_a_fifth_of_3_5_medium() -> None:
    with torch.device("meta"):
        transformer = SD3Transformer2DModel(
            num_layers=24, num_attention_heads=24, caption_projection_dim=1536, pos_embed_max_size=384,
            dual_attention_layers=tuple(range(13)), qk_norm="rms_norm")
    sizes = {name: weight.numel() for name, weight in transformer.named_parameters()}
    assert round(sum(sizes.values()) / 1e9, 3) == 2.243
    assert round(sum(size for name, size in sizes.items() if ".attn." in name) / 1e6, 1) == 450.9


@pytest.mark.parametrize("tiny", ["tiny_sd35", "tiny_sd35_without_t5"])
def test_text_is_read_as_the_stock_pipeline_reads_it(
    tiny: str, prompt: Prompt, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(tiny)
    backbone, pipeline = load_backbone(folder), StableDiffusion3Pipeline.from_pretrained(folder, **ABSENT[tiny])
    texts = [prompt, Prompt("")]
    full = [text.full_text for text in texts]
    sequence, _, pooled, _ = pipeline.encode_prompt(full, None, None, do_classifier_free_guidance=False)
    conditions = backbone.condition(texts)
    assert conditions.sequence.shape == (2, CLIP_TOKENS + T5_TOKENS, 96)
    assert torch.allclose(conditions.sequence, sequence, atol=1e-5)
    assert torch.allclose(conditions.pooled, pooled, atol=1e-6)
    assert conditions.sequence[:, CLIP_TOKENS:].any() == (tiny == "tiny_sd35")


def test_t5_does_not_compute_in_float16(backbone: MMDiTBackbone, prompt: Prompt) -> None:
    whole = backbone.condition([prompt]).sequence[:, CLIP_TOKENS:]
    with torch.autocast("cpu", torch.float16):
        assert torch.equal(backbone.condition([prompt]).sequence[:, CLIP_TOKENS:], whole)
    with torch.autocast("cpu", torch.bfloat16):
        assert not torch.equal(backbone.condition([prompt]).sequence[:, CLIP_TOKENS:], whole)


def test_the_table_of_places_is_shared_by_both_paths(backbone: MMDiTBackbone) -> None:
    """864 MiB of Stable Diffusion 3.5 Medium."""
    places = backbone.denoiser.pos_embed.pos_embed
    assert backbone.frozen_copy().denoiser.pos_embed.pos_embed is places


def words_of(backbone: MMDiTBackbone, tokenizer: str, prompt: Prompt, rows: Tensor) -> str:
    ids = backbone.tokenizers[tokenizer](prompt.full_text, padding="max_length", max_length=len(rows)).input_ids
    chosen = [token for token, inside in zip(ids, rows.tolist(), strict=True) if inside]
    return " ".join(backbone.tokenizers[tokenizer].decode(chosen).lower().replace(" ,", ",").split())


def test_base_target_and_phrases_stand_in_both_encoders(backbone: MMDiTBackbone, prompt: Prompt) -> None:
    conditions = backbone.condition([prompt])
    for tokenizer, (start, end) in {"tokenizer": (0, 77), "tokenizer_3": (77, 333)}.items():
        base, target = (rows[0, start:end] for rows in (conditions.base_tokens, conditions.target_tokens))
        assert words_of(backbone, tokenizer, prompt, base) == prompt.base_text.lower()
        assert words_of(backbone, tokenizer, prompt, target).replace(" ", "") == "blondehair"
        first = conditions.phrase_weights[0, start:end, 0]
        assert words_of(backbone, tokenizer, prompt, first > 0) == "a woman"
        assert torch.allclose(first[first > 0], 0.5 / (first > 0).sum())


def test_without_t5_phrases_are_clips_alone(tiny_sd35_without_t5: Path, prompt: Prompt) -> None:
    conditions = load_backbone(tiny_sd35_without_t5).condition([prompt])
    assert torch.allclose(conditions.phrase_weights.sum(1), torch.ones(1, conditions.phrase_weights.shape[-1]))
    for rows in (conditions.base_tokens, conditions.target_tokens, conditions.phrase_weights):
        assert rows.shape[1] == CLIP_TOKENS + T5_TOKENS and not rows[:, CLIP_TOKENS:].any()


def test_the_phrase_map_is_the_mean_of_both_encoders(backbone: MMDiTBackbone, prompt: Prompt) -> None:
    """Eq. 17, from the whole softmax over image and text."""
    conditions = backbone.condition([prompt])
    record = backbone.denoise(*seen_at(backbone, prompt), conditions, capture=True).attention[1]
    logits = record.query @ record.context_key.mT / record.query.shape[-1] ** 0.5
    attention = logits.softmax(-1).mean(1)[0]  # (N,S)
    maps = []
    for start, end in ((0, CLIP_TOKENS), (CLIP_TOKENS, CLIP_TOKENS + T5_TOKENS)):
        columns = start + conditions.phrase_weights[0, start:end, 1].nonzero().flatten()
        maps.append(attention[:, IMAGE_TOKENS + columns].mean(1))
    expected = (maps[0] + maps[1]).unflatten(0, (4, 4)) / 2
    assert torch.allclose(phrase_attention(record, conditions.phrase_weights)[0, 1], expected, atol=1e-6)


def test_an_encoder_that_lost_a_phrase_does_not_count() -> None:
    def tokens(weights: Sequence[float]) -> Tokens:
        none = torch.zeros(1, len(weights), dtype=torch.bool)
        return Tokens(none.long(), none, none, torch.tensor(weights).view(1, -1, 1))

    base, _, phrases = joined_rows([tokens([0.0, 0.0]), tokens([0.5, 0.5, 0.0])], 6)
    assert base.shape == (1, 6) and phrases[0, :, 0].tolist() == [0, 0, 0.5, 0.5, 0, 0]
    assert not joined_rows([tokens([0.0]), tokens([0.0])], 3)[2].any()


def test_checkpointing_changes_no_captured_gradient(backbone: MMDiTBackbone, prompt: Prompt) -> None:
    def gradients() -> dict[str, Tensor]:
        backbone.zero_grad()
        records = backbone.denoise(*seen_at(backbone, prompt), backbone.condition([prompt]), capture=True).attention
        sum(record.query.square().mean() + record.context_key.square().mean() for record in records).backward()
        weights = backbone.denoiser.named_parameters()
        return {name: weight.grad.clone() for name, weight in weights if weight.grad is not None}

    backbone.train()
    plain = gradients()
    backbone.enable_gradient_checkpointing()
    checkpointed = gradients()
    assert plain.keys() == checkpointed.keys() and plain
    assert all(torch.allclose(plain[name], checkpointed[name], atol=1e-6) for name in plain)


def test_sizes_are_multiples_of_a_patch(backbone: MMDiTBackbone) -> None:
    assert backbone.latent_shape() == (16, 8, 8) and backbone.latent_shape(128, 64) == (16, 16, 8)
    with pytest.raises(ValueError, match="multiples of 16 pixels"):
        backbone.latent_shape(72, 64)


def test_whole_times_may_be_integers(backbone: MMDiTBackbone, prompt: Prompt) -> None:
    (x_t, _), conditions = seen_at(backbone, prompt), backbone.condition([prompt])
    whole, same = (backbone.denoise(x_t, t, conditions).output for t in (torch.tensor([512]), torch.tensor([512.0])))
    assert torch.equal(whole, same)


def test_half_precision_end_to_end(backbone: MMDiTBackbone, prompt: Prompt) -> None:
    backbone.to(torch.bfloat16)
    x_t, t = seen_at(backbone, prompt)
    conditions = backbone.condition([prompt])
    output = backbone.denoise(x_t, t, conditions).output
    assert (output.dtype, conditions.sequence.dtype) == (torch.bfloat16, torch.bfloat16) and output.isfinite().all()


@pytest.mark.parametrize("t5", [True, False])
def test_the_index_says_which_parts_there_are(t5: bool, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue("tiny_sd35" if t5 else "tiny_sd35_without_t5")
    index = json.loads((folder / "model_index.json").read_text())
    assert (index["text_encoder_3"], index["tokenizer_3"]) == (
        (["transformers", "T5EncoderModel"], ["transformers", "T5Tokenizer"]) if t5 else ([None, None], [None, None]))
    assert ("text_encoder_3" in load_backbone(folder).encoders) == t5 == (folder / "tokenizer_3").is_dir()


def test_a_random_denoiser_needs_only_its_configuration(tiny_sd35_without_t5: Path) -> None:
    torch.manual_seed(3)
    first = MMDiTBackbone.from_folder(tiny_sd35_without_t5, random_denoiser=True).denoiser.state_dict()
    torch.manual_seed(3)
    again = MMDiTBackbone.from_folder(tiny_sd35_without_t5, random_denoiser=True).denoiser.state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)


@pytest.fixture
def original(tiny_sd35_without_t5: Path, tmp_path: Path) -> Path:
    """An original single file in the folder of its base model."""
    return lay_out(tiny_sd35_without_t5, tmp_path / "base")


def test_an_original_file_is_read_with_what_lies_around_it(original: Path, tiny_sd35_without_t5: Path) -> None:
    loaded, folder, weights = load_backbone(original), load_backbone(tiny_sd35_without_t5), load_file(original)
    assert torch.equal(loaded.denoiser.pos_embed.pos_embed, weights["model.diffusion_model.pos_embed"])
    assert torch.equal(loaded.vae.decoder.conv_in.weight, weights["first_stage_model.decoder.conv_in.weight"])
    assert loaded.tokenizers.keys() == folder.tokenizers.keys() and loaded.scheduler.config == folder.scheduler.config
    for name, weight in folder.encoders.state_dict().items():
        assert torch.equal(loaded.encoders.get_parameter(name), weight)


def test_scale_and_shift_stand_in_the_order_of_the_original(original: Path) -> None:
    """Shift first; where diffusers has scale first, the halves change places."""
    norm = "joint_blocks.{}.context_block.adaLN_modulation.1.bias"
    weights = {name: load_file(original)[f"model.diffusion_model.{name}"]
               for name in ("final_layer.adaLN_modulation.1.bias", norm.format(1), norm.format(2))}
    model = load_backbone(original).denoiser
    last = model.transformer_blocks[2].norm1_context.linear.bias
    for ours, name in ((model.norm_out.linear.bias, "final_layer.adaLN_modulation.1.bias"), (last, norm.format(2))):
        shift, scale = weights[name].chunk(2)
        assert torch.equal(ours, torch.cat([scale, shift])) and not torch.equal(shift, scale)
    assert torch.equal(model.transformer_blocks[1].norm1_context.linear.bias, weights[norm.format(1)])


def test_a_vae_that_the_file_has_not_is_the_folders(original: Path, tiny_sd35_without_t5: Path) -> None:
    shutil.copytree(tiny_sd35_without_t5 / "vae", original.parent / "vae", dirs_exist_ok=True)
    weights = {name: weight for name, weight in load_file(original).items() if not name.startswith("first_stage_")}
    save_file(weights | {"text_encoders.clip_l.transformer.text_model.x": torch.ones(1)}, original)
    expected = load_backbone(tiny_sd35_without_t5).vae.state_dict()
    assert all(torch.equal(weight, expected[name]) for name, weight in load_backbone(original).vae.state_dict().items())


@pytest.mark.parametrize("absent", ["model_index.json", "transformer/config.json", "vae/config.json", "scheduler",
                                    "text_encoder_2", "tokenizer"])
def test_an_original_file_without_its_surroundings_says_what_is_missing(absent: str, original: Path) -> None:
    (original.parent / absent).rename(original.parent / "elsewhere")
    with pytest.raises(FileNotFoundError, match=rf"original\.safetensors is no whole model, and .*/{absent}, of what"
                                                r".*: put the file into the folder of its base model \(`hf download "):
        load_backbone(original)


@pytest.mark.parametrize(("name", "weight", "complaint"), [
    ("model.diffusion_model.joint_blocks.1.x_block.attn.proj.bias", None, "lacks the weight joint_blocks.1.x_block"),
    ("first_stage_model.encoder.conv_in.bias", None, r"encoder\.conv_in\.bias is missing"),
    ("model.diffusion_model.final_layer.linear.bias", torch.ones(3), r"proj_out\.bias has shape \(3,\), not \(64,\)"),
    ("model.diffusion_model.joint_blocks.1.x_block.attn2.qkv.weight", torch.ones(96, 32), "lacks .*attn2.qkv.bias"),
])
def test_an_original_file_with_other_weights_is_refused(name: str, weight: Tensor | None, complaint: str,
                                                        original: Path) -> None:
    weights = load_file(original)
    weights.pop(name, None)
    save_file(weights | ({} if weight is None else {name: weight}), original)
    with pytest.raises(ValueError, match=rf"original\.safetensors.*{complaint}"):
        load_backbone(original)
