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
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
)

from spf.miniature.people import (
    ATTRIBUTES,
    CLAIMS,
    NUISANCE,
    PHRASES,
    TARGETS,
    Caption,
    Person,
    caption,
    contradicts,
    draw_people,
    is_true,
    target_index,
)
from spf.miniature.training import train
from spf.miniature.truth import REGIONS, Pictures, pictures

SEED, PAINTED, DECODED, BATCH = 202, 1200, 600, 12
MEAN, STD = (0.5, 0.5, 0.5), (0.3, 0.3, 0.3)
SHARP, SOFT = 20.0, 5.0  # of the softmax over patches, in the first and in the second round


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


def train_clip(folder: Path, vae: AutoencoderKL, tokenizer: CLIPTokenizer, steps: int = 800, second_round: int = 400,
               image_steps: int = 500) -> None:
    """Train both towers, then the image tower alone; save ``folder/clip`` and ``folder/text_encoder``.

    In the second round a text must lean further to the patches it speaks of to be near them: only then does gamma
    (Eq. 7) follow the places of two texts. After it the text tower, which the UNet reads, is fixed.
    """
    torch.manual_seed(SEED)
    clip = build_clip(tokenizer).train()
    clip.logit_scale.data.fill_(math.log(20))
    sizes = [*(len(values) for values in ATTRIBUTES.values()), 1 + len(TARGETS)]
    heads = nn.ModuleList(nn.Linear(clip.config.projection_dim, size) for size in sizes)
    pools = _pools(vae, min(1.0, (steps + image_steps) / 500))
    both = nn.ModuleDict({"clip": clip, "heads": heads})
    train("clip", both, lambda step: _loss(clip, heads, tokenizer, step, pools, SHARP), steps, 1e-3,
          folder / "checkpoints" / "clip.pt")
    train("clip, second round", both, lambda step: _loss(clip, heads, tokenizer, steps + step, pools, SOFT),
          second_round, 7e-4, folder / "checkpoints" / "clip_second.pt")
    save_clip(clip, tokenizer, folder)
    clip.text_model.requires_grad_(False)
    clip.text_projection.requires_grad_(False)
    before = steps + second_round
    train("clip's image tower", both, lambda step: _loss(clip, heads, tokenizer, before + step, pools, SOFT),
          image_steps, 1e-3, folder / "checkpoints" / "clip_image.pt")
    save_clip(clip, tokenizer, folder)


def _pools(vae: AutoencoderKL, share: float) -> list[tuple[int, Pictures]]:
    """Painted quadruples, and others that went through the VAE, each with the number of its first."""
    painted, decoded = max(BATCH, int(PAINTED * share)), max(BATCH, int(DECODED * share))
    return [(0, pictures(quadruples(painted, 0))), (painted, pictures(quadruples(decoded, 4 * painted), vae))]


def save_clip(clip: CLIPModel, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write ``folder/clip``, as transformers reads it, and ``folder/text_encoder``, its text tower.

    The latter has the projection too, which Stable Diffusion 3.5 reads and 1.5 does without.
    """
    clip.save_pretrained(folder / "clip")
    tokenizer.save_pretrained(folder / "clip")
    size = clip.config.vision_config.image_size
    (folder / "clip" / "preprocessor_config.json").write_text(json.dumps({
        "image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": size},
        "crop_size": {"height": size, "width": size}, "image_mean": MEAN, "image_std": STD}, indent=2))
    text_tower(clip).save_pretrained(folder / "text_encoder")


def text_tower(clip: CLIPModel) -> CLIPTextModelWithProjection:
    """Its text half alone."""
    tower = CLIPTextModelWithProjection(clip.config.text_config)
    tower.text_model.load_state_dict(clip.text_model.state_dict())
    tower.text_projection.load_state_dict(clip.text_projection.state_dict())
    return tower


def _loss(clip: CLIPModel, heads: nn.ModuleList, tokenizer: CLIPTokenizer, step: int,
          pools: list[tuple[int, Pictures]], sharp: float) -> tuple[Tensor, dict[str, float]]:
    """Contrast, naming, and where: half of the portraits went through the VAE; every target is a caption alone.

    ``heads`` name each attribute from a portrait's, a patch's and a caption's embedding alike, and are dropped
    afterwards. By contrast alone 22 % of the targets were known by their phrase after 700 steps.
    """
    rng = np.random.default_rng([SEED, step])
    people, images, regions = _draw(rng, pools)
    captions = [*(mixed_caption(person, rng) for person in people), *bank(people, rng)]
    claims, labels = np.stack([c.claims for c in captions]), np.stack([p.visible_labels() for p in people])
    truth, false = (torch.from_numpy(f(claims, labels)) for f in (is_true, contradicts))
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):  # a CPU's flash backward takes thrice
        vision = clip.get_image_features((images - 0.5) / 0.3)
        patches = clip.visual_projection(clip.vision_model.post_layernorm(vision.last_hidden_state[:, 1:]))
        read = clip.get_text_features(**tokens(tokenizer, [c.text for c in captions])).pooler_output.float()
    seen, patches = vision.pooler_output.float(), patches.float()
    logits = clip.logit_scale.exp().clamp(max=50) * cosines(seen, read)
    contrast = contrastive(logits, truth, false) + contrastive(logits.T, truth.T, false.T)
    named = naming(heads, seen, labels) + naming(heads, read, claims)
    named = named + naming(heads, patches.flatten(0, 1), patch_labels(labels, regions))
    pointing = where(patches, read, regions, [c.names for c in captions], truth, sharp)
    return contrast + named + pointing, {"contrast": contrast.item(), "naming": named.item(),
                                          "where": pointing.item()}


def _draw(rng: np.random.Generator, pools: list[tuple[int, Pictures]]) -> tuple[list[Person], Tensor, Tensor]:
    """BATCH quadruples of each pool, a little shifted: people, images (B,3,R,R), regions (B,6,h,w)."""
    people: list[Person] = []
    images, regions = [], []
    for first, pool in pools:
        chosen = rng.choice(len(pool) // 4, BATCH, replace=False)
        people += [person for i in chosen for person in quadruples(1, 4 * (first + int(i)))]
        rows = torch.from_numpy((4 * chosen[:, None] + np.arange(4)).ravel())
        images.append(pool.image[rows].float() / 255)
        regions.append(pool.regions[rows].float())
    dx, dy = rng.integers(0, 9, 2)
    size = images[0].shape[-1]
    shifted = F.pad(torch.cat(images), [4] * 4, mode="replicate")[..., dy:dy + size, dx:dx + size]
    return people, shifted, torch.cat(regions)


def naming(heads: nn.ModuleList, embedding: Tensor, labels: np.ndarray) -> Tensor:
    """Mean cross-entropy of every attribute from embeddings (B,E); labels (B,9), -1 where there is none."""
    scaled, wanted = 10 * F.normalize(embedding, dim=-1), torch.from_numpy(labels)
    losses = [F.cross_entropy(head(scaled), wanted[:, k], ignore_index=-1) for k, head in enumerate(heads)]
    return torch.stack(losses).nanmean()


def patch_labels(labels: np.ndarray, regions: Tensor) -> np.ndarray:
    """What each patch shows: labels (B,9) and regions (B,6,h,w) -> (B*h*w,9), -1 where it shows no such thing."""
    covered = (regions > 0.4).flatten(2).numpy()  # (B,6,N)
    owner = {attribute: REGIONS.index(name) for name, attributes in CLAIMS.items() for attribute in attributes}
    columns = [*(owner[name] for name in ATTRIBUTES), REGIONS.index("target")]
    shown = [np.where(covered[:, region], labels[:, k, None], -1) for k, region in enumerate(columns)]
    return np.stack(shown, -1).reshape(-1, len(columns))


def where(patches: Tensor, read: Tensor, regions: Tensor, names: list[tuple[str, ...]], truth: Tensor,
          sharp: float) -> Tensor:
    """Each text points at the patches it speaks of, in every portrait of which it is true.

    ``patches`` (I,N,E), ``read`` (J,E), ``regions`` (I,6,h,w), ``truth`` (I,J). Cross-entropy of a softmax over the N
    patches' cosines, ``sharp`` times; texts of one place so grow alike, which is what gamma (Eq. 7) reads.
    """
    speaks = torch.tensor([[name in own for name in REGIONS] for own in names], dtype=torch.float32)  # (J,6)
    wanted = torch.einsum("irn,jr->ijn", regions.flatten(2), speaks).clamp(max=1)
    mass = wanted.sum(-1)
    pairs = truth & (mass > 0.5)
    logits = sharp * F.normalize(patches, dim=-1) @ F.normalize(read, dim=-1).T  # (I,N,J)
    loss = -(wanted * logits.transpose(1, 2).log_softmax(-1)).sum(-1) / mass.clamp(min=0.5)
    return loss[pairs].mean()


def contrastive(logits: Tensor, truth: Tensor, false: Tensor) -> Tensor:
    """InfoNCE that knows the truth: each true pair against the false ones of its row, averaged by row.

    ``logits``, ``truth``, ``false`` (I,J). A short caption is true of many portraits: those are no negatives; nor is
    a caption that speaks of what a target hides.
    """
    against = logits.masked_fill(~false, -1e4).logsumexp(1, keepdim=True)
    loss = F.softplus(against - logits) * truth
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
        alone.append(Caption((str(rng.choice(wordings)),), ("target",), claims))
    singles = [caption(people[i], rng, (str(rng.choice(list(PHRASES))),)) for i in rng.choice(len(people), 64)]
    return alone + singles


def tokens(tokenizer: CLIPTokenizer, texts: list[str]) -> dict[str, Tensor]:
    """Padded to the longest text: the causal tower reads nothing behind EOT."""
    return dict(tokenizer(texts, padding=True, truncation=True, return_tensors="pt"))


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """All cosines: (I, D), (J, D) -> (I, J)."""
    return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T
