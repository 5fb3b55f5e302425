"""What the method is tested with: attention records and steps, at random or with an attention that is given."""

import torch
from torch import Tensor
from torch.nn import functional

from spf.method.objective import Step
from spf.notation import AttentionRecord

PHRASE_TOKENS = torch.tensor([[0, 0], [0.5, 0], [0.5, 0], [0, 1], [0, 0]])
"""(T,P): a phrase of two tokens, and a target text of one."""


def random_record(batch: int = 2, heads: int = 2, tokens: int = 5, width: int = 4, grid: tuple[int, int] = (3, 4),
                  joint: bool = False) -> AttentionRecord:
    """From torch's global seed. As of a UNet, where Q is key, value and query; ``joint`` is as of an MM-DiT."""
    places = grid[0] * grid[1]
    text, image = torch.randn(batch, heads, tokens, width), torch.randn(batch, heads, places, width)
    if not joint:
        return AttentionRecord("layer", grid, text, image.clone(), image.clone(), image.clone(), text.clone())
    key, value, context_text = (torch.randn_like(of) for of in (image, image, text))
    return AttentionRecord("layer", grid, text, key, value, image, torch.cat([key, context_text], 2))


def attending(attention: Tensor, grid: tuple[int, int]) -> AttentionRecord:
    """A record of one head in which place n attends to token t by attention (B,N,T) > 0, rows summing to 1."""
    batch, places, tokens = attention.shape
    query = torch.eye(places).expand(batch, 1, -1, -1)
    keys = attention.log().mT[:, None] * places**0.5  # (B,1,T,N): query @ keys^T / sqrt(N) = log attention
    return AttentionRecord("layer", grid, keys, query, query, query, keys)


def random_step(batch: int = 3, joint: bool = False) -> Step:
    """All that any term may need; two layers of different grids, the SFCM strictly between 0 and 1."""
    reference, response = (tuple(random_record(batch, grid=grid, joint=joint) for grid in ((4, 4), (2, 2)))
                           for _ in range(2))
    output, target = torch.randn(2, batch, 4, 8, 8)
    one_step_image, portrait, target_text = functional.normalize(torch.randn(3, batch, 6), dim=-1)
    base_tokens = torch.tensor([False, True, True, True, False]).expand(batch, -1)
    sfcm, masks = 0.1 + 0.8 * torch.rand(batch, 8, 8), (torch.rand(batch, 2, 8, 8) > 0.9).float()
    masks[:, :, 0, 0] = 1
    prior_output, prior_target, base_output, reference_output = torch.randn(4, batch, 4, 8, 8)
    return Step(output, target, reference, response, base_tokens, sfcm, one_step_image, portrait, target_text,
                PHRASE_TOKENS.expand(batch, -1, -1), masks, prior_output, prior_target, base_output, reference_output)
