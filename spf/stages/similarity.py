"""gamma of Eq. 7, and the control map of finished portraits."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spf.backbones import Backbone
from spf.clip import cosine
from spf.method.sfcm import control_map
from spf.text import Prompt, phrases

TIMES = (0.3, 0.5, 0.7)  # of T, at which a finished portrait is noised again


def phrase_similarity(prompts: Sequence[Prompt], embed: Callable[[Sequence[str]], Tensor]) -> Tensor:
    """The cosine of each phrase and the target text in CLIP, both read alone: (B,P), P >= 1, 0 where it only pads.

    ``embed`` makes unit vectors (P,E) of texts. Read within the sentence, a causal tower would let every phrase leak
    into the target, the more the nearer they stand.
    """
    rows = []
    for prompt in prompts:
        said = embed([*phrases(prompt), prompt.target_text])  # (P+1,E)
        rows.append(cosine(said[:-1], said[-1:]))
    padded = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return F.pad(padded, (0, max(0, 1 - padded.shape[1])))


@torch.no_grad()
def mean_sfcm(original: Backbone, customised: Backbone, image: Tensor, prompts: Sequence[Prompt],
              embed: Callable[[Sequence[str]], Tensor], seed: int = 0) -> Tensor:
    """The SFCM of finished portraits (B,3,H,W), the mean over some noise levels: (B,H,W) in [0,1]."""
    x0, process, maps = customised.encode(image), customised.process, []
    full, base = customised.condition(prompts), original.condition([prompt.base for prompt in prompts])
    similarity = phrase_similarity(prompts, embed)
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed)).to(x0)
    for share in TIMES:
        t = torch.full((len(x0),), int(share * process.steps), device=x0.device)
        x_t = process.noised(x0, noise, t)
        response = customised.denoise(x_t, t, full, capture=True)
        maps.append(control_map(original.denoise(x_t, t, base), response, full, similarity).sfcm)
    return F.interpolate(torch.stack(maps).mean(0)[:, None], image.shape[-2:], mode="bilinear")[:, 0]
