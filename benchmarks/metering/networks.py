"""The networks, with random weights: of the published architectures, or tiny ones for a hurry.

A tiny SAM is still the slowest of all, as the real one is, so that the whole is made of about the same parts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import open_clip
import torch
from segment_anything import sam_model_registry
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import Tensor, nn
from transformers import BertTokenizer, BlipTextConfig, BlipVisionConfig, CLIPConfig

from spf.evaluation.blip import IMAGE_REWARD, RewardNetwork
from spf.evaluation.inception import FidInception
from spf.evaluation.mps_network import MPS, MpsNetwork
from spf.evaluation.sam import FULL, SamMasks, Search

SEED = 0
CLIPS: Mapping[str, str] = {"clip": "ViT-L-14-quickgelu", "clip_b32": "ViT-B-32-quickgelu", "hpsv2_1": "ViT-H-14"}
"""open_clip's names of the published architectures."""
TINY_CLIP: dict[str, Any] = {
    "embed_dim": 64, "quick_gelu": True,
    "vision_cfg": {"image_size": 64, "layers": 4, "width": 192, "head_width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}}
TINY_LAYERS = {"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 4,
               "hidden_act": "gelu"}
TINY_TEXT = TINY_LAYERS | {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2}
KEPT = 1 / 3  # of SAM's candidates, those it is sure of


@dataclass(frozen=True)
class Rater:
    """What a rating's network is built from."""

    mps: CLIPConfig
    vision: BlipVisionConfig
    text: BlipTextConfig


REAL_RATER = Rater(MPS.config, IMAGE_REWARD.vision, IMAGE_REWARD.text)
TINY_RATER = Rater(
    CLIPConfig(projection_dim=64, text_config=TINY_TEXT | {"projection_dim": 64},
               vision_config=TINY_LAYERS | {"image_size": 64, "patch_size": 8, "projection_dim": 64}),
    BlipVisionConfig(**TINY_LAYERS, image_size=64, patch_size=8),
    BlipTextConfig(**TINY_TEXT, encoder_hidden_size=192, max_position_embeddings=48, is_decoder=True))


def inception() -> FidInception:
    """FID's, of activations that neither vanish nor explode."""
    torch.manual_seed(SEED)
    network = FidInception()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    return network.eval().requires_grad_(False)


class TinyFeatures(nn.Module):
    """An extractor as FID wants it, of a few convolutions."""

    num_features, name, preprocess_id = 256, "tiny", "not resized"

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(SEED)
        widths = (3, 32, 64, 128, self.num_features)
        self.layers = nn.Sequential(*(layer for before, after in zip(widths, widths[1:], strict=False) for layer in (
            nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU())))

    def forward(self, images: Tensor) -> Tensor:
        """(B,3,H,W) uint8 -> (B,256)."""
        return self.layers(images / 127.5 - 1).mean((2, 3))


def clip(name: str, real: bool) -> open_clip.CLIP:
    """By the metric's name."""
    torch.manual_seed(SEED)
    network = open_clip.CLIP(**open_clip.get_model_config(CLIPS[name]) if real else TINY_CLIP)
    return network.eval().requires_grad_(False)


def mps(real: bool) -> MpsNetwork:
    """As published, or tiny."""
    torch.manual_seed(SEED)
    if real:
        return MpsNetwork(REAL_RATER.mps).eval().requires_grad_(False)
    return MpsNetwork(TINY_RATER.mps, heads=2, head_width=32).eval().requires_grad_(False)


def image_reward(real: bool) -> RewardNetwork:
    """As published, or tiny; it knows no word, and reads as many."""
    torch.manual_seed(SEED)
    tokenizer = BertTokenizer({token: index for index, token in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]",
                                                                           "[MASK]"))})
    rater = REAL_RATER if real else TINY_RATER
    return RewardNetwork(rater.vision, rater.text, tokenizer).eval().requires_grad_(False)


def sam(name: str, image: Tensor) -> tuple[Sam, Search]:
    """``vit_h``, ``vit_l``, ``vit_b`` or ``tiny``, and its search; ``image`` (3,H,W) uint8 is what it is tuned on.

    A random SAM is sure of nothing and sees the whole image at each point. So that there is as much to do as with a
    trained one, its masks are made small and firm, and of KEPT of its candidates it is sure.
    """
    torch.manual_seed(SEED)
    network = (_tiny_sam() if name == "tiny" else sam_model_registry[name]()).eval().requires_grad_(False)
    search = FULL if name != "tiny" else replace(FULL, points_per_side=10)
    nn.init.normal_(network.image_encoder.pos_embed, std=4.0)
    for called, weight in network.mask_decoder.transformer.named_parameters():
        weight.data *= 6 if called.endswith("proj.weight") else 1
    for mlp in network.mask_decoder.output_hypernetworks_mlps:
        mlp.layers[-1].weight.data *= 1000
        mlp.layers[-1].bias.data[:] = -1000
    surety = network.mask_decoder.iou_prediction_head.layers[-1]
    surety.weight.data *= 4
    surety.bias.data += search.predicted_iou - _surety(network, image).quantile(1 - KEPT)
    return network, search


def _surety(network: Sam, image: Tensor) -> Tensor:
    """What it estimates at some points."""
    masks = SamMasks(network, Search(points_per_side=8))
    estimates: list[Tensor] = []
    hook = network.mask_decoder.register_forward_hook(lambda *called: estimates.append(called[-1][1].flatten()))
    masks(image)
    hook.remove()
    return torch.cat(estimates)


def _tiny_sam() -> Sam:
    encoder = ImageEncoderViT(
        img_size=128, embed_dim=384, depth=12, num_heads=6, out_chans=64, use_rel_pos=True, window_size=7,
        global_attn_indexes=(5, 11), norm_layer=partial(nn.LayerNorm, eps=1e-6))
    prompts = PromptEncoder(embed_dim=64, image_embedding_size=(8, 8), input_image_size=(128, 128), mask_in_chans=4)
    decoder = MaskDecoder(
        transformer_dim=64, transformer=TwoWayTransformer(depth=2, embedding_dim=64, num_heads=2, mlp_dim=64),
        iou_head_hidden_dim=16)
    return Sam(encoder, prompts, decoder)
