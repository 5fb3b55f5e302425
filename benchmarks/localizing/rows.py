"""The rows of the table: maps that all claim to show where the target belongs."""

from dataclasses import dataclass

import torch
from torch import Tensor

from localizing.readings import Reading
from localizing.scenes import Observation, Scene

M, SFCM, PERMUTED = "M alone", "SFCM", "gamma permuted over phrases"


@dataclass(frozen=True)
class Gammas:
    """The cosines of phrases and target text (n,P), both readings of them."""

    pooled: Tensor
    contextual: Tensor

    def of(self, reading: Reading) -> Tensor:
        """The one that the reading asks for."""
        return getattr(self, reading.gamma)


def control_maps(reading: Reading, seen: Observation, scene: Scene, gammas: Gammas) -> dict[str, Tensor]:
    """Every row's map (n,h,w) at one timestep; all are smoothed and normalised alike, but the truth itself."""
    cosines = gammas.of(reading)
    phrases, gamma = reading.phrase_maps(seen.attention), reading.rescaled(cosines.clamp(0, 1))
    parts, known = reading.phrase_maps(scene.parts), reading.rescaled(scene.overlap.clamp(0, 1))
    moved = permuted(cosines)
    return {
        M: reading.weight(seen.difference),
        SFCM: reading.sfcm(seen.difference, seen.attention, cosines),
        "target's own attention": reading.weight(seen.target_attention),
        PERMUTED: reading.sfcm(seen.difference, seen.attention, moved),
        "centre": reading.weight(centre(seen.difference)),
        "oracle: gamma is the overlap": reading.control(seen.difference, phrases, known),
        "oracle: phrase map is the part": reading.control(seen.difference, parts, gamma),
        "oracle: both": reading.control(seen.difference, parts, known),
        "oracle: the region": scene.truth,
    }


def permuted(gamma: Tensor) -> Tensor:
    """(n,P): each prompt's values at other phrases, none where it was; the i-th prompt's always alike."""
    count = gamma.shape[1]
    steps = 1 + torch.arange(len(gamma)) % max(1, count - 1)  # (n,) the turns 1 to P-1, in turn
    return gamma.gather(1, (torch.arange(count) + steps[:, None]) % count)


def centre(like: Tensor) -> Tensor:
    """A round hill in the middle of (n,h,w), 1 at its top and 0 at the corners."""
    down, across = (torch.linspace(-1, 1, side) for side in like.shape[-2:])
    return (1 - (down[:, None] ** 2 + across**2).sqrt() / 2**0.5).expand_as(like)
