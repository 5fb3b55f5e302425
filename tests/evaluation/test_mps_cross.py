import cmath

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from spf.evaluation.mps_cross import CrossModel, Rotary
from tests.evaluation.published import read_manifest

WIDTH, HEADS, HEAD = 12, 3, 4


def cross_model(layers: int = 1) -> CrossModel:
    model = CrossModel(WIDTH, layers, HEADS, HEAD).requires_grad_(False)
    draw = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        weight.add_(0.3 * torch.randn(weight.shape, generator=draw))
    return model


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- one image (N,E), one text (T,E), one token, one head at a time ----


def norm(x: Tensor, weight: Tensor) -> Tensor:
    return (x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt() * weight


def swiglu(x: Tensor) -> Tensor:
    half = len(x) // 2
    return torch.stack([x[i] * x[half + i] * torch.sigmoid(x[half + i]) for i in range(half)])


def weighted(query: Tensor, keys: list[Tensor], values: list[Tensor]) -> Tensor:
    shares = torch.stack([query @ key / HEAD**0.5 for key in keys]).exp()
    return sum(share / shares.sum() * value for share, value in zip(shares, values, strict=True))


def turned(x: Tensor, place: int, frequencies: Tensor) -> Tensor:
    """Each half's numbers are the real and imaginary parts of numbers that turn."""
    half = HEAD // 2
    parts = [complex(x[i], x[half + i]) * cmath.exp(1j * place * float(frequencies[i])) for i in range(half)]
    return torch.tensor([z.real for z in parts] + [z.imag for z in parts])


def naive(model: CrossModel, image: Tensor, text: Tensor, mask: Tensor) -> Tensor:
    (cross, parallel), = model.layers
    cross, parallel = cross.fn, parallel.fn
    looked = []
    seen = [cross.to_kv.weight @ token for token, keep in zip(text, mask, strict=True) if keep]
    for x in image:
        h = norm(x, cross.norm.weight)
        queries = (cross.to_q.weight @ h).split(HEAD)
        heads = [weighted(query, [kv[:HEAD] for kv in seen], [kv[HEAD:] for kv in seen]) for query in queries]
        fed = cross.ff[2].weight @ swiglu(cross.ff[0].weight @ h)
        looked.append(x + cross.to_out.weight @ torch.cat(heads) + fed)
    frequencies = parallel.rotary_emb.inv_freq
    parts = [(parallel.fused_attn_ff_proj.weight @ norm(x, parallel.norm.weight)).split(parallel.parts)
             for x in looked]
    keys = [turned(key, place, frequencies) for place, (_, key, _, _) in enumerate(parts)]
    values = [value for _, _, value, _ in parts]
    rows = []
    for place, (x, (queries, _, _, hidden)) in enumerate(zip(looked, parts, strict=True)):
        heads = [weighted(turned(query, place, frequencies), keys, values) for query in queries.split(HEAD)]
        rows.append(x + parallel.attn_out.weight @ torch.cat(heads) + parallel.ff_out[1].weight @ swiglu(hidden))
    return torch.stack(rows)


def test_a_layer_is_what_loops_make_of_it() -> None:
    model, image, text = cross_model(), random(2, 6, WIDTH, seed=1), random(2, 5, WIDTH, seed=2)
    mask = torch.tensor([[True, False, True, True, False], [False, False, False, False, True]])
    rows = model(image, text, mask)
    for row, *given in zip(rows, image, text, mask, strict=True):
        assert torch.allclose(row, naive(model, *given), atol=1e-5, rtol=0)


def test_masked_text_is_not_seen_and_one_token_is_enough() -> None:
    model, image, text = cross_model(4), random(2, 6, WIDTH, seed=1), random(2, 5, WIDTH, seed=2)
    mask = torch.zeros(2, 5, dtype=torch.bool)
    mask[:, 3] = True
    changed = torch.where(mask[..., None], text, 100.0)
    rows = model(image, text, mask)
    assert rows.isfinite().all() and torch.equal(rows, model(image, changed, mask))
    assert not torch.allclose(rows, model(image, text, ~mask), atol=1e-3)


def test_places_turn_by_the_frequencies_that_were_loaded() -> None:
    rotary = Rotary(64)
    assert rotary.inv_freq[0] == 1 and rotary.inv_freq[-1] == pytest.approx(10000 ** (-62 / 64))
    x = random(1, 257, 64, seed=0)
    exact = rotary(x)
    assert torch.equal(exact[:, 0], x[:, 0]) and torch.allclose(exact.norm(dim=-1), x.norm(dim=-1), atol=1e-5)
    rotary.inv_freq = rotary.inv_freq.half().float()
    angle = F.cosine_similarity(rotary(x).unflatten(-1, (2, 32)), exact.unflatten(-1, (2, 32)), dim=-2).acos()
    assert 0.03 < angle[:, 256].nan_to_num().max() < 0.05  # what recomputing them would change


def test_the_full_size_has_118_5_million_parameters_by_the_published_names() -> None:
    with torch.device("meta"):
        model = CrossModel(1024, 4, 16, 64)
    count = sum(weight.numel() for weight in model.parameters())
    assert round(count / 1e6, 1) == 118.5
    published = {key: shape for key, shape in read_manifest("mps").items() if key.startswith("cross_model.")}
    assert {f"cross_model.{key}": tuple(value.shape) for key, value in model.state_dict().items()} == published
