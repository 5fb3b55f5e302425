"""Portraits whose response region is known, and what the two models say of them at several timesteps."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from spf.backbones import Backbone
from spf.clip import Clip, cosine
from spf.method.response import mean_phrase_attention
from spf.miniature.painter import paint, paint_with_parts, response_region
from spf.miniature.people import PHRASE_PARTS, Person, base_text, draw_people, phrase, target_text
from spf.miniature.truth import phrase_regions
from spf.notation import Conditions
from spf.text import Prompt

TARGETS = ("hat", "glasses", "scarf", "beard")
TIMES = (100, 300, 500, 700, 900)
SEEDS = {"validation": 510_000, "test": 520_000, "fresh": 530_000}
CHUNK = 25  # portraits a forward pass


@dataclass(frozen=True)
class Scene:
    """n portraits of the away studio, their texts, and the truth on the latent grid (h,w)."""

    people: list[Person]
    prompts: list[Prompt]
    images: Tensor  # (n,3,R,R) in [0,1]
    latents: Tensor  # (n,C,h,w)
    truth: Tensor  # (n,h,w) in [0,1]: the share of each cell in which the target acts
    parts: Tensor  # (n,P,h,w) in [0,1]: where each phrase is true of the same person without the target

    @cached_property
    def overlap(self) -> Tensor:
        """The share of the response region that lies in each phrase's part: (n,P) in [0,1]; a gamma that knows."""
        return (self.parts * self.truth[:, None]).sum((2, 3)) / self.truth.sum((1, 2))[:, None].clamp(min=1e-6)

    def targets(self) -> list[str | None]:
        """Of each portrait."""
        return [person.target for person in self.people]


@torch.no_grad()
def draw_scene(backbone: Backbone, split: str, count: int) -> Scene:
    """People whom no training has seen, each with a target, as stage 2's portraits show them; targets in turn."""
    people = draw_people(count, SEEDS[split], TARGETS, studio="away", held_out=True)
    images = torch.cat([paint(people[i:i + CHUNK]) for i in range(0, count, CHUNK)])
    latents = torch.cat([backbone.encode(chunk) for chunk in images.split(CHUNK)])
    grid = latents.shape[-2:]
    parts = paint_with_parts([person.without_target() for person in people])[1]
    return Scene(people, [_prompt(person) for person in people], images, latents,
                 F.adaptive_avg_pool2d(response_region(people), grid),
                 F.adaptive_avg_pool2d(phrase_regions(parts), grid))


def _prompt(person: Person) -> Prompt:
    return Prompt(base_text(person), target_text(person.target), tuple(phrase(person, name) for name in PHRASE_PARTS))


@dataclass(frozen=True)
class Observation:
    """What any reading of Eq. 7 is made of, at one timestep, raw."""

    difference: Tensor  # (n,h,w) |epsilon_ref - epsilon_res|, the mean over channels
    attention: Tensor  # (n,P,h,w) A-bar, the mean attention to each phrase
    target_attention: Tensor  # (n,h,w) the same to the target's own tokens


@torch.no_grad()
def observe(original: Backbone, response: Backbone, scene: Scene, time: int) -> Observation:
    """The reference on base text and the response on base + target text, at the same x_t."""
    noise = torch.randn(scene.latents.shape, generator=torch.Generator().manual_seed(time))
    rows = torch.arange(len(scene.people)).split(CHUNK)
    seen = [_observe(original, response, [scene.prompts[i] for i in some], scene.latents[some], noise[some], time)
            for some in rows]
    return Observation(*(torch.cat(column) for column in zip(*seen, strict=True)))


def _observe(original: Backbone, response: Backbone, prompts: Sequence[Prompt], x0: Tensor, noise: Tensor,
             time: int) -> tuple[Tensor, Tensor, Tensor]:
    t = torch.full((len(prompts),), time)
    x_t = original.process.noised(x0, noise, t)
    full = response.condition(prompts)
    reference = original.denoise(x_t, t, original.condition([prompt.base for prompt in prompts]))
    answer = response.denoise(x_t, t, full, capture=True)
    spans = torch.cat([full.phrase_weights, target_weights(full)[..., None]], -1)  # (n,T,P+1)
    attention = mean_phrase_attention(answer.attention, spans, (x0.shape[-2], x0.shape[-1]))
    return (reference.output - answer.output).abs().mean(1), attention[:, :-1], attention[:, -1]


def target_weights(conditions: Conditions) -> Tensor:
    """1/|tokens of the target text| in its rows: (n,T)."""
    return conditions.target_tokens / conditions.target_tokens.sum(1, keepdim=True).clamp(min=1)


def pooled_gamma(clip: Clip, prompts: Sequence[Prompt]) -> Tensor:
    """gamma (n,P): the cosine of phrase and target text, both read alone."""
    said = clip.text([text for prompt in prompts for text in (*prompt.phrases, prompt.target_text)])
    said = said.unflatten(0, (len(prompts), -1))  # (n,P+1,E)
    return cosine(said[:, :-1], said[:, -1:])


@torch.no_grad()
def contextual_gamma(backbone: Backbone, prompts: Sequence[Prompt]) -> Tensor:
    """gamma (n,P): the cosine of the mean token features of phrase and target text as they stand in the prompt."""
    full = backbone.condition(prompts)
    phrases = full.phrase_weights.transpose(1, 2) @ full.sequence  # (n,P,E)
    return cosine(phrases, (target_weights(full)[:, None] @ full.sequence))
