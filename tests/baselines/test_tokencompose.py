"""TokenCompose's two terms on maps small enough for paper and pencil, and against its formulas written as loops."""

from collections.abc import Callable
from dataclasses import replace
from math import log

import pytest
import torch
from torch import Tensor

from spf.backbones import Backbone, load_backbone
from spf.baselines.tokencompose import groups, mask_at, phrase_tokens, pixel_loss, probabilities, token_loss
from spf.notation import AttentionRecord
from spf.text import Prompt
from tests.method.records import attending, random_record

Loss = Callable[..., Tensor]

GRID = (2, 2)
ONE_WORD = torch.tensor([[[0.0], [1.0], [0.0]]])  # (B,T,P): the token in the middle is the phrase
TWO_WORDS = torch.tensor([[[0.0], [0.5], [0.5]]])
CORNER = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])  # (B,P,h,w)


def layer(word: list[float], other: list[float] | None = None, name: str = "mid_block") -> AttentionRecord:
    """2x2 places and three tokens: what each place gives to the second, and to the third; the first has the rest."""
    columns = torch.tensor([word, other or [0.01] * 4]).T  # (N,2)
    attention = torch.cat([1 - columns.sum(1, keepdim=True), columns], 1)
    return replace(attending(attention[None], GRID), layer=name)


def of_heads(*heads: AttentionRecord) -> AttentionRecord:
    """Layers of one head each as one layer."""
    fields = ("text", "key", "value", "query", "context_key")
    return replace(heads[0], **{field: torch.cat([getattr(head, field) for head in heads], 1) for field in fields})


FIRST, EVEN = layer([0.8, 0.4, 0.4, 0.4]), layer([0.1] * 4)  # 0.8 of 2.0 lies in the corner, and a quarter


def test_a_token_s_attention_is_to_lie_in_its_mask() -> None:
    assert token_loss([FIRST], ONE_WORD, CORNER).tolist() == pytest.approx([(1 - 0.4) ** 2])
    assert token_loss([EVEN], ONE_WORD, CORNER).tolist() == pytest.approx([(1 - 0.25) ** 2])
    nearly = layer([0.9, 1e-9, 1e-9, 1e-9])
    assert token_loss([nearly], ONE_WORD, CORNER).item() == pytest.approx(0, abs=1e-12)


def test_heads_are_averaged_within_the_square() -> None:
    assert token_loss([of_heads(FIRST, EVEN)], ONE_WORD, CORNER).item() == pytest.approx((1 - (0.4 + 0.25) / 2) ** 2)


def test_tokens_and_phrases_are_averaged_and_layers_add_up() -> None:
    two = layer([0.8, 0.4, 0.4, 0.4], [0.1] * 4)
    squares = (1 - 0.4) ** 2, (1 - 0.25) ** 2
    assert token_loss([two], TWO_WORDS, CORNER).item() == pytest.approx(sum(squares) / 2)
    a_phrase_each = torch.eye(3)[None, :, 1:]
    assert token_loss([two], a_phrase_each, CORNER.expand(-1, 2, -1, -1)).item() == pytest.approx(sum(squares) / 2)
    assert token_loss([FIRST, EVEN], ONE_WORD, CORNER).item() == pytest.approx(sum(squares))


def bce(corner: float, others: float) -> float:
    """The mean over the four places, where the corner is to be 1 and the others 0."""
    return -(log(corner) + 3 * log(1 - others)) / 4


def test_a_phrase_s_map_is_to_be_its_mask() -> None:
    assert pixel_loss([FIRST], ONE_WORD, CORNER).tolist() == pytest.approx([bce(0.8, 0.4)])
    assert pixel_loss([of_heads(FIRST, EVEN)], ONE_WORD, CORNER).item() == pytest.approx(bce(0.45, 0.25))


def test_tokens_add_up_to_a_phrase_s_map() -> None:
    two = layer([0.6, 0.3, 0.3, 0.3], [0.2, 0.1, 0.1, 0.1])
    assert pixel_loss([two], TWO_WORDS, CORNER).item() == pytest.approx(bce(0.8, 0.4))


def test_a_group_s_layers_are_averaged_and_groups_add_up() -> None:
    assert pixel_loss([FIRST, EVEN], ONE_WORD, CORNER).item() == pytest.approx(bce(0.45, 0.25))
    coarse = replace(attending(torch.tensor([[[0.5, 0.25, 0.25]]]), (1, 1)), layer="up_blocks.0")
    assert pixel_loss([FIRST, coarse], ONE_WORD, CORNER).item() == pytest.approx(bce(0.8, 0.4) - log(0.25))
    assert token_loss([FIRST, coarse], ONE_WORD, CORNER).item() == pytest.approx((1 - 0.4) ** 2, abs=1e-6)


def test_probabilities_of_0_and_1_stay_finite() -> None:
    wrong = layer([1e-30, 1 - 1e-7, 0.5, 0.5], [1e-30] * 4)
    wrong.query.requires_grad_()
    loss = pixel_loss([wrong], ONE_WORD, CORNER)
    loss.backward()
    assert loss.isfinite() and loss > 3 and wrong.query.grad.isfinite().all()


def test_a_cell_that_is_touched_counts() -> None:
    fine = torch.zeros(1, 1, 8, 8)
    fine[0, 0, 3, 3] = 0.01
    assert mask_at(fine, (2, 2))[0, :, 0].tolist() == [1, 0, 0, 0]
    assert mask_at(fine, (1, 2))[0, :, 0].tolist() == [1, 0]


def test_the_down_path_is_left_alone() -> None:
    down = layer([0.1] * 4, name="down_blocks.0.attentions.0.transformer_blocks.0.attn2")
    for loss in (token_loss, pixel_loss):
        assert torch.equal(loss([down, FIRST], ONE_WORD, CORNER), loss([FIRST], ONE_WORD, CORNER))


def looped(records: list[AttentionRecord], tokens: Tensor, masks: Tensor) -> tuple[float, float]:
    """(L_token, L_pixel) of one sample (T,P), (P,R,R), a noun, a layer, a head and a token at a time."""
    nouns = [i for i in range(len(masks)) if masks[i].any() and tokens[:, i].any()]
    token, pixel = 0.0, 0.0
    for group in groups(records):
        maps = []
        for record in group:
            logits = record.query[0] @ record.context_key[0].mT / record.query.shape[-1] ** 0.5
            attention = logits.softmax(-1)[..., -len(tokens):]  # (H,N,T)
            maps.append(attention.mean(0))
            for i in nouns:
                mask, own = mask_at(masks[None], record.grid)[0, :, i], tokens[:, i].nonzero().flatten().tolist()
                for k in own:
                    inside = [float((head[:, k] * mask).sum() / head[:, k].sum()) for head in attention]
                    token += (1 - sum(inside) / len(inside)) ** 2 / len(own) / len(nouns)
        mean = torch.stack(maps).mean(0)  # (N,T)
        for i in nouns:
            mask, seen = mask_at(masks[None], group[0].grid)[0, :, i], mean[:, tokens[:, i] > 0].sum(1)
            pixel -= float((mask * seen.log() + (1 - mask) * (1 - seen).log()).mean()) / len(nouns)
    return token, pixel


@pytest.mark.parametrize("joint", [False, True], ids=["unet", "joint"])
def test_both_are_the_loops_of_the_formulas_sample_by_sample(joint: bool) -> None:
    torch.manual_seed(0)
    records = [random_record(3, grid=grid, joint=joint) for grid in ((4, 4), (2, 2), (4, 4))]
    tokens = torch.tensor([[0, 0, 0], [0.5, 0, 0], [0.5, 0, 0], [0, 1, 0], [0, 0, 1]]).repeat(3, 1, 1)
    tokens[1, :, 1] = 0  # a phrase that truncation removed
    masks = (torch.rand(3, 3, 8, 8) > 0.95).float()
    masks[2, 0] = 0  # and one without a mask
    token, pixel = token_loss(records, tokens, masks), pixel_loss(records, tokens, masks)
    for row in range(3):
        alone = [replace(one, query=one.query[[row]], context_key=one.context_key[[row]]) for one in records]
        assert (token[row].item(), pixel[row].item()) == pytest.approx(looped(alone, tokens[row], masks[row]), rel=1e-5)


@pytest.mark.parametrize("loss", [token_loss, pixel_loss])
def test_a_sample_without_a_usable_phrase_costs_nothing(loss: Loss) -> None:
    record = random_record(3)
    record.query.requires_grad_()
    tokens, masks = torch.zeros(3, 5, 2), torch.ones(3, 2, 4, 4).tril()
    tokens[0, 1, 0] = tokens[1, 1, 0] = 1
    masks[1, 0] = 0  # the second has words and no mask, the third masks and no words
    costs = loss([record], tokens, masks)
    costs.sum().backward()
    assert costs[0] > 0 and costs[1:].tolist() == [0, 0]
    assert record.query.grad.isfinite().all() and not record.query.grad[1:].any()


def test_probabilities_are_exact_whatever_the_precision_around() -> None:
    record = random_record()
    with torch.autocast("cpu", torch.bfloat16):
        within = all_of(record)
    for one, other in zip(within, all_of(record), strict=True):
        assert one.dtype == torch.float32 and torch.equal(one, other)
    assert torch.allclose(within[0].sum(-1), torch.ones(2, 2, 12))


def all_of(record: AttentionRecord) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities and both losses, of two phrases of a token each."""
    tokens, masks = torch.eye(5)[None, :, 1:3].expand(2, -1, -1), torch.ones(2, 2, 3, 4).tril()
    return probabilities(record, 5), token_loss([record], tokens, masks), pixel_loss([record], tokens, masks)


def seen(backbone: Backbone, prompt: Prompt) -> list[list[AttentionRecord]]:
    x_t = torch.randn(1, *backbone.latent_shape())
    return groups(backbone.denoise(x_t, torch.tensor([500]), backbone.condition([prompt]), capture=True).attention)


def test_the_groups_of_sd15_and_of_the_miniature(backbone: Backbone, prompt: Prompt) -> None:
    """SD1.5's mid 8, up 16, up 32 and up 64, here an eighth as fine."""
    assert [(group[0].grid, len(group)) for group in seen(backbone, prompt)] == [
        ((1, 1), 1), ((2, 2), 3), ((4, 4), 3), ((8, 8), 3)]
    assert [(group[0].grid, len(group)) for group in seen(load_backbone("miniature"), prompt)] == [
        ((8, 8), 2), ((16, 16), 2)]


def test_the_target_text_is_the_last_phrase(backbone: Backbone, prompt: Prompt) -> None:
    full = backbone.condition([prompt, prompt.base, Prompt("")])
    tokens = phrase_tokens(full)
    assert torch.equal(tokens[..., :-1], full.phrase_weights)
    assert torch.equal(tokens[..., -1] > 0, full.target_tokens)
    assert tokens[..., -1].sum(1).tolist() == pytest.approx([1, 0, 0])
