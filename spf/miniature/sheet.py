"""Contact sheets of the painted world, and the world printed: what it fixes once and for all."""

from dataclasses import replace
from pathlib import Path

import torch

from spf.miniature.painter import paint, response_region
from spf.miniature.people import ATTRIBUTES, IDENTITY, NUISANCE, TARGETS, draw_people, target_text
from spf.pictures import labelled_grid, save_png


def world(out: Path = Path("runs/world"), seed: int = 0, resolution: int = 128) -> None:
    """Print the painted world and paint its contact sheets: people, both studios, every target and its true region.

    Args:
        out: folder of ``people.png``, ``away.png`` and ``targets.png``.
        seed: who is painted.
        resolution: of each portrait, in pixels.
    """
    for name, values in ATTRIBUTES.items():
        print(f"{name}: {', '.join(values)}")
    print(f"identity: {', '.join(IDENTITY)}\nnuisance: {', '.join(NUISANCE['home'])}")
    print("targets: " + ", ".join(f"{name} ({target_text(name)!r})" for name in TARGETS))
    for studio in ("home", "away"):
        page = paint(draw_people(48, seed, studio=studio), resolution).unflatten(0, (6, 8))
        print(save_png(labelled_grid(page), out / f"{studio}.png"))
    print(save_png(_targets(seed, resolution), out / "targets.png"))


def _targets(seed: int, resolution: int) -> torch.Tensor:
    """Three people without and with every target, and the true response region of each."""
    faces = draw_people(3, seed + 1)
    rows = []
    for target in TARGETS:
        worn = [replace(person, target=target) for person in faces]
        plain, customised, region = paint(faces, resolution), paint(worn, resolution), response_region(worn, resolution)
        shown = zip(plain, customised, region, strict=True)
        rows.append(torch.stack([image for a, b, r in shown for image in (a, b, r.expand(3, -1, -1))]))
    return labelled_grid(torch.stack(rows), ("original", "target", "true region") * 3,
                         [target_text(name) for name in TARGETS])
