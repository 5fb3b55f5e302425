"""The miniature's CLIP. It stands for a general model: it sees both studios, every target, decoded portraits."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer, CLIPVisionConfig

from spf.miniature.painter import paint
from spf.miniature.people import (
    ATTRIBUTES,
    NUISANCE,
    PHRASES,
    TARGETS,
    Caption,
    Person,
    caption,
    draw_people,
    is_true,
    target_index,
)
from spf.miniature.training import train

SEED, FRESH, DECODED, POOL = 202, 8, 16, 512
MEAN, STD = (0.5, 0.5, 0.5), (0.3, 0.3, 0.3)


def build_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    """Text tower 128 wide and 3 layers deep, image tower 192 wide and 4 deep on 16 px patches, 128-d joint space."""
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id}
    text = CLIPTextConfig(vocab_size=len(tokenizer), hidden_size=128, intermediate_size=384, projection_dim=128,
                          num_hidden_layers=3, num_attention_heads=4,
                          max_position_embeddings=tokenizer.model_max_length, **ends)
    vision = CLIPVisionConfig(hidden_size=192, intermediate_size=512, projection_dim=128, num_hidden_layers=4,
                              num_attention_heads=6, image_size=128, patch_size=16)
    return CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=128))


def train_clip(folder: Path, vae: AutoencoderKL, tokenizer: CLIPTokenizer, steps: int = 650,
               image_steps: int = 500) -> None:
    """Train both towers, then the image tower alone; save ``folder/clip`` and ``folder/text_encoder``.

    After ``steps`` the text tower, which the UNet reads, is fixed.
    """
    torch.manual_seed(SEED)
    clip = build_clip(tokenizer).train()
    clip.logit_scale.data.fill_(math.log(20))
    sizes = [*(len(values) for values in ATTRIBUTES.values()), 1 + len(TARGETS)]
    heads = nn.ModuleList(nn.Linear(clip.config.projection_dim, size) for size in sizes)
    pool = _decoded_pool(vae, min(POOL, max(DECODED, steps)))
    both = nn.ModuleDict({"clip": clip, "heads": heads})
    train("clip", both, lambda step: _loss(clip, heads, tokenizer, step, pool), steps, 1e-3,
          folder / "checkpoints" / "clip.pt")
    clip.text_model.requires_grad_(False)
    train("clip's image tower", both, lambda step: _loss(clip, heads, tokenizer, steps + step, pool), image_steps, 1e-3,
          folder / "checkpoints" / "clip_image.pt")
    clip.eval().save_pretrained(folder / "clip")
    tokenizer.save_pretrained(folder / "clip")
    size = clip.config.vision_config.image_size
    (folder / "clip" / "preprocessor_config.json").write_text(json.dumps({
        "image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": size},
        "crop_size": {"height": size, "width": size}, "image_mean": MEAN, "image_std": STD}, indent=2))
    CLIPTextModel.from_pretrained(folder / "clip").save_pretrained(folder / "text_encoder")


def _loss(clip: CLIPModel, heads: nn.ModuleList, tokenizer: CLIPTokenizer, step: int,
          pool: Tensor) -> tuple[Tensor, dict[str, float]]:
    """A third of the portraits are freshly painted, the rest went through the VAE; every target is a caption alone.

    ``heads`` name each attribute from a portrait's and from a caption's embedding alike, and are dropped afterwards:
    contrast alone knew 22 % of the targets by their phrase after 700 steps, with heads 47 % after 650.
    """
    rng = np.random.default_rng([SEED, step])
    fresh = quadruples(FRESH, 4 * (POOL + FRESH * step))
    chosen = rng.choice(len(pool) // 4, DECODED, replace=False)
    people = [*fresh, *(p for i in chosen for p in quadruples(1, 4 * int(i)))]
    images = torch.cat([paint(fresh), *(pool[4 * i: 4 * i + 4].float() / 255 for i in chosen)])  # (96, 3, 128, 128)
    captions = [*(mixed_caption(person, rng) for person in people), *bank(people, rng)]
    claims, labels = np.stack([c.claims for c in captions]), np.stack([p.labels() for p in people])
    truth = torch.from_numpy(is_true(claims, labels))
    with torch.autocast("cpu", torch.bfloat16):
        seen = clip.get_image_features((images - 0.5) / 0.3).pooler_output
        read = clip.get_text_features(**tokens(tokenizer, [c.text for c in captions])).pooler_output
    logits = clip.logit_scale.exp().clamp(max=50) * cosines(seen.float(), read.float())
    loss = contrastive(logits, truth) + contrastive(logits.T, truth.T)
    naming = _naming(heads, seen.float(), labels) + _naming(heads, read.float(), claims)
    return loss + naming, {"contrast": float(loss), "naming": float(naming)}


def _naming(heads: nn.ModuleList, embedding: Tensor, labels: np.ndarray) -> Tensor:
    """Mean cross-entropy of every attribute from embeddings (B,E); labels (B,9), -1 where there is none."""
    scaled, wanted = 10 * F.normalize(embedding, dim=-1), torch.from_numpy(labels)
    losses = [F.cross_entropy(head(scaled), wanted[:, k], ignore_index=-1) for k, head in enumerate(heads)]
    return torch.stack(losses).nanmean()


def contrastive(logits: Tensor, truth: Tensor) -> Tensor:
    """InfoNCE that knows the truth: each true pair against the false ones of its row, averaged by row.

    ``logits`` (I, J); ``truth`` (I, J) bool. A short caption is true of many portraits: those are no negatives.
    """
    false = logits.masked_fill(truth, -1e4).logsumexp(1, keepdim=True)
    loss = F.softplus(false - logits) * truth
    rows = truth.sum(1).clamp(min=1)
    return (loss.sum(1) / rows)[truth.any(1)].mean()


def quadruples(count: int, first: int) -> list[Person]:
    """``4 * count`` people: each one with and without a target, at home and away, as hard negatives."""
    names = list(TARGETS)
    people: list[Person] = []
    for i in range(first // 4, first // 4 + count):
        home = draw_people(1, SEED, (names[i % len(names)],), start=i)[0]
        rng = np.random.default_rng([SEED, i, 1])
        moved = {name: float(rng.uniform(*bounds)) for name, bounds in NUISANCE["away"].items()}
        away = replace(home, nuisance=moved, studio="away")
        people += [home, home.without_target(), away, away.without_target()]
    return people


def mixed_caption(person: Person, rng: np.random.Generator) -> Caption:
    """Full 40 %, base only 20 %, target alone 20 %, one to three phrases in random order 20 %."""
    kind = rng.random()
    if kind < 0.4:
        return caption(person, rng, ("subject", *rng.permutation([n for n in PHRASES if n != "subject"])), True)
    if kind < 0.6 or (kind < 0.8 and person.target is None):
        return caption(person, rng)
    if kind < 0.8:
        return caption(person, rng, (), True)
    return caption(person, rng, tuple(rng.permutation(list(PHRASES))[: rng.integers(1, 4)]), bool(rng.random() < 0.5))


def bank(people: list[Person], rng: np.random.Generator) -> list[Caption]:
    """Every target alone, and single base phrases of some of the people."""
    nothing = np.full(len(ATTRIBUTES) + 1, -1)
    alone = []
    for name, wordings in TARGETS.items():
        claims = nothing.copy()
        claims[-1] = target_index(name)
        alone.append(Caption(str(rng.choice(wordings)), claims))
    singles = [caption(people[i], rng, (str(rng.choice(list(PHRASES))),)) for i in rng.choice(len(people), 64)]
    return alone + singles


def tokens(tokenizer: CLIPTokenizer, texts: list[str]) -> dict[str, Tensor]:
    """Padded to the longest text: the causal tower reads nothing behind EOT."""
    return dict(tokenizer(texts, padding=True, truncation=True, return_tensors="pt"))


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """All cosines: (I, D), (J, D) -> (I, J)."""
    return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T


@torch.no_grad()
def _decoded_pool(vae: AutoencoderKL, count: int) -> Tensor:
    """``count`` quadruples encoded and decoded by the VAE: (4 * count, 3, 128, 128) uint8."""
    decoded = []
    for i in range(0, count, 8):
        image = paint(quadruples(min(8, count - i), 4 * i)) * 2 - 1
        with torch.autocast("cpu", torch.bfloat16):
            decoded.append(vae.decode(vae.encode(image).latent_dist.mode()).sample.float())
    return ((torch.cat(decoded).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)

