"""The one-step image in CLIP (Eq. 9, 10): decoded with gradient, as cheaply as one likes."""

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from spf.backbones import Backbone
from spf.clip import Clip
from spf.text import Prompt


class OneStepImages:
    """x_{t->0} as CLIP sees it.

    Args:
        backbone: whose VAE decodes.
        clip: the frozen CLIP.
        decoder: "vae"; "checkpointed", the VAE sample by sample and again in the backward pass (half the memory); or a
            folder or hub id of an AutoencoderTiny (SD1.5: madebyollin/taesd, MIT licence).
        share: of the batch that is decoded, the least noisy samples, at least one.
    """

    def __init__(self, backbone: Backbone, clip: Clip, decoder: str = "vae", share: float = 1.0) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"decoded_share is a share of the batch in (0, 1], not {share}")
        self.backbone, self.clip, self.decoder, self.share = backbone, clip, decoder, share
        self.tiny = None if decoder in ("vae", "checkpointed") else load_tiny_decoder(decoder)

    def to(self, device: torch.device) -> None:
        """CLIP and the tiny decoder follow the model."""
        for part in filter(None, (self.clip, self.tiny)):
            part.to(device)

    def chosen(self, times: Sequence[float], prompts: Sequence[Prompt]) -> list[int]:
        """Which samples are decoded: of those with a target text the least noisy, up to the share of the batch."""
        targeted = [row for row, prompt in enumerate(prompts) if prompt.target_text]
        return sorted(targeted, key=lambda row: times[row])[: max(1, round(self.share * len(prompts)))]

    def decoded(self, x0: Tensor) -> Tensor:
        """x_{t->0} (b,C,h,w) -> image (b,3,H,W), about [0,1]; not clamped, so that gradients flow everywhere."""
        if self.tiny is not None:
            return self.tiny.decode(x0).sample.float() / 2 + 0.5
        if self.decoder == "checkpointed" and torch.is_grad_enabled():
            # one by one, or the backward pass would hold the whole batch again
            return torch.cat([checkpoint(self.backbone.decode, row[None], use_reentrant=False) for row in x0])
        return self.backbone.decode(x0)

    def embedded(self, image: Tensor) -> Tensor:
        """tau_vision, (b,E) unit vectors in float32."""
        with torch.autocast(image.device.type, enabled=False):
            return self.clip.image(image)


def load_tiny_decoder(source: str) -> nn.Module:
    """A frozen AutoencoderTiny, in float32. Raises FileNotFoundError, with what to fetch, when it cannot be had."""
    try:
        return AutoencoderTiny.from_pretrained(source).float().eval().requires_grad_(False)
    except OSError as error:
        raise FileNotFoundError(
            f"the tiny decoder {source!r} is no folder here and cannot be fetched; where there is a network, run `hf "
            f"download madebyollin/taesd --local-dir {Path('models') / 'taesd'}` (MIT licence), then give that folder "
            "as model.init_args.decoder; or use \"vae\"") from error
