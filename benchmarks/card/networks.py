"""What each network of the miniature can do, on people whom no training has seen."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from spf.backbones import Backbone
from spf.clip import Clip
from spf.miniature.canvas import PARTS
from spf.miniature.painter import paint, paint_with_parts, response_region
from spf.miniature.people import (
    ATTRIBUTES,
    CLAIMS,
    PHRASES,
    TARGETS,
    Person,
    draw_people,
    target_text,
)
from spf.miniature.reader import BOUNDS, Reader, Reading, factor_errors, repaint_residual
from spf.miniature.vae import psnr

SEED = 90_000
PHRASE_OF = {attribute: name for name, attributes in CLAIMS.items() for attribute in attributes}
SEEN = [name for name in ATTRIBUTES if name != "gender"]
"""The attributes that can be seen; woman and man are painted alike, apart from what they tend to wear."""


def mean(shares: Mapping[Any, float]) -> float:
    """Of the values."""
    return sum(shares.values()) / len(shares)


def everyone(count: int, seed: int) -> list[Person]:
    """People from both studios, with and without targets."""
    targets = (None, *TARGETS)
    return [*draw_people(count // 2, SEED + seed, targets, held_out=True),
            *draw_people(count // 2, SEED + seed, targets, "away", held_out=True)]


@torch.no_grad()
def decoded(backbone: Backbone, image: Tensor) -> Tensor:
    """Portraits as the VAE gives them back."""
    return torch.cat([backbone.decode(backbone.encode(some)) for some in image.split(16)])


def vae_psnr(backbone: Backbone, count: int) -> float:
    """Mean dB over people with and without targets, from both studios."""
    image = paint(everyone(count, 0))
    return float(psnr(decoded(backbone, image) * 2 - 1, image * 2 - 1))


def clip_by_target(clip: Clip, backbone: Backbone, each: int) -> tuple[dict[str, float], float]:
    """After the VAE: the share of each target that its phrase alone finds among all targets' phrases; and the share of
    pairs in which the phrase is nearer to the portrait with the target than to the same portrait without."""
    names = list(TARGETS)
    people = draw_people(each * len(names), SEED + 2, tuple(names), held_out=True)
    texts = clip.text([target_text(name) for name in names])
    having, lacking = (clip.image(decoded(backbone, paint(some))) @ texts.T
                       for some in (people, [p.without_target() for p in people]))
    wanted = torch.arange(len(people)) % len(names)
    right = (having.argmax(1) == wanted).float().view(each, -1).mean(0)
    pairs = (having > lacking)[torch.arange(len(people)), wanted]
    return dict(zip(names, right.tolist(), strict=True)), float(pairs.float().mean())


def clip_by_phrase(clip: Clip, images: Tensor, people: Sequence[Person]) -> dict[str, float]:
    """The share of images whose base phrase is nearest among those that differ from it in one attribute alone."""
    seen, right = clip.image(images), dict.fromkeys(SEEN, 0.0)
    for attribute in SEEN:
        wording, values = PHRASES[PHRASE_OF[attribute]][0], ATTRIBUTES[attribute]
        for row, person in enumerate(people):
            texts = clip.text([wording.format(**{**person.attributes, attribute: value}) for value in values])
            right[attribute] += values[int((seen[row] @ texts.T).argmax())] == person.attributes[attribute]
    return {attribute: share / len(people) for attribute, share in right.items()}


def as_the_text_says(reader: Reader, images: Tensor, people: Sequence[Person]) -> dict[str, float]:
    """The share of images in which the reader sees each attribute as the text has it."""
    read = reader.read(images).people()
    return {name: sum(a.attributes[name] == b.attributes[name] for a, b in zip(read, people, strict=True)) / len(people)
            for name in SEEN}


def dressed(reader: Reader, originals: Tensor, backbone: Backbone, target: str) -> Tensor:
    """Generated portraits (B,3,R,R) on which a target is painted where the reader sees the person, and decoded.

    Of "old" and "armour" much of the picture is then painted, of "pencil" all of it.
    """
    people = [replace(person, target=target) for person in reader.read(originals).people()]
    region = response_region(people, originals.shape[-1])[:, None]
    return decoded(backbone, torch.lerp(originals, paint(people, originals.shape[-1]), region))


def with_targets(reader: Reader, originals: Tensor, backbone: Backbone) -> dict[str, float]:
    """The share of each target that the reader sees on generated originals, and of none on the originals alone."""
    shares = {"None": [p.target for p in reader.read(originals).people()].count(None) / len(originals)}
    for name in TARGETS:
        people = reader.read(dressed(reader, originals, backbone, name)).people()
        shares[name] = [person.target for person in people].count(name) / len(people)
    return shares


def reader_accuracy(reader: Reader, backbone: Backbone, each: int) -> dict[str, dict[str, float]]:
    """On VAE reconstructions: accuracy by attribute (where no target hides it), by target, and the mean error of each
    continuous factor as a share of its range."""
    people = everyone(2 * each * (1 + len(TARGETS)), 4)
    read = reader.read(decoded(backbone, paint(people))).people()
    shown = [[person.visible_labels()[k] >= 0 for person in people] for k in range(len(ATTRIBUTES))]
    attributes = {name: _share([p for p, s in zip(read, shown[k], strict=True) if s],
                               [p for p, s in zip(people, shown[k], strict=True) if s], name)
                  for k, name in enumerate(ATTRIBUTES) if name in SEEN}
    targets = {str(name): _share(*zip(*((a, b) for a, b in zip(read, people, strict=True) if b.target == name),
                                      strict=True), "target") for name in (None, *TARGETS)}
    errors = {name: float(error.mean()) for name, error in factor_errors(people, read).items() if name in BOUNDS}
    return {"attributes": attributes, "targets": targets, "errors": errors}


def _share(read: Sequence[Person], people: Sequence[Person], name: str) -> float:
    pairs = [({**a.attributes, "target": a.target}[name], {**b.attributes, "target": b.target}[name])
             for a, b in zip(read, people, strict=True)]
    return sum(a == b for a, b in pairs) / len(pairs)


def identity_auc(reader: Reader, backbone: Backbone, count: int) -> float:
    """Verification: pairs of one person in another dress, light, crop and studio, against pairs of two people."""
    first = draw_people(count, SEED + 5, held_out=True)
    others = draw_people(count, SEED + 6, (None, *TARGETS), "away", held_out=True)
    again = [replace(other, identity=person.identity) for person, other in zip(first, others, strict=True)]
    a, b = (reader.read(decoded(backbone, paint(people))).identity for people in (first, again))
    same = torch.eye(count, dtype=torch.int)
    return float(binary_auroc((a @ b.T).flatten(), same.flatten()))


def part_miou(reader: Reader, backbone: Backbone, count: int) -> dict[str, float]:
    """Intersection over union of each part on VAE reconstructions, over all pixels of all portraits."""
    people = everyone(count, 7)
    image, parts = paint_with_parts(people)
    truth = torch.stack([parts[name] for name in PARTS], 1).argmax(1)
    found = reader.read(decoded(backbone, image)).parts.argmax(1)
    return {name: float(((truth == k) & (found == k)).sum() / ((truth == k) | (found == k)).sum())
            for k, name in enumerate(PARTS)}


def residuals(reader: Reader, backbone: Backbone, samples: Tensor, people: Sequence[Person]) -> dict[str, float]:
    """Mean distance to the nearest paintable portrait of painted, decoded and generated portraits."""
    painted = paint(people)
    rows = {"painted": painted, "decoded": decoded(backbone, painted), "generated": samples}
    readings: dict[str, Reading] = {name: reader.read(image) for name, image in rows.items()}
    return {name: float(repaint_residual(image, readings[name].people()).mean()) for name, image in rows.items()}


