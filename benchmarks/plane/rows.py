"""The models that are compared, and what the judge says of each."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from plane.album import Album, fingerprint
from plane.judge import Judge, Judgement
from plane.triples import Triple, prompts
from spf.backbones import Backbone
from spf.miniature.reader import Reader

STAGE1, PAINTED, FULL_TEXT = "stage 1", "painted", "original, full text"
SHARES = (0.25, 0.5, 0.75)
"""Of the way from the original weights to stage 1's: the weight interpolations."""


@dataclass
class Row:
    """A point of the plane. ``kind``: "stage 1", "painted", "free" (what costs nothing), "row" (what is examined)."""

    name: str
    kind: str
    portraits: Tensor  # (n,3,R,R)
    judged: Judgement
    about: dict[str, object] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """The numbers of each triple, as JSON."""
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / (re.sub(r"[^\w.-]+", "_", self.name) + ".json")
        file.write_text(json.dumps({"name": self.name, "kind": self.kind, **self.about, **self.judged.numbers()}))


class Bench:
    """Measures models on the same triples, against the same originals."""

    def __init__(self, original: Backbone, reader: Reader, triples: Sequence[Triple], album: Album) -> None:
        self.original, self.album, self.triples = original, album, triples
        self.prompts, self.seeds = prompts(triples), [triple.seed for triple in triples]
        self.targets = [triple.target for triple in triples]
        self.originals = album.portraits(original, [prompt.base for prompt in self.prompts], self.seeds)
        self.judge = Judge(reader, self.originals, self.targets)

    def row(self, name: str, model: Backbone, kind: str = "row") -> Row:
        """A model given the full text."""
        portraits = self.album.portraits(model, self.prompts, self.seeds)
        about = {"weights": fingerprint(model), "sampling": asdict(self.album.sampling), "targets": self.targets,
                 "seeds": self.seeds}
        return Row(name, kind, portraits, self.judge.judge(portraits), about)

    def painted(self) -> Row:
        """What would be ideal."""
        portraits = self.judge.painted(self.original)
        return Row(PAINTED, "painted", portraits, self.judge.judge(portraits), {"targets": self.targets})


def interpolated(original: Backbone, tuned: Backbone, share: float) -> Backbone:
    """A model ``share`` of the way from the original's weights to the tuned one's."""
    between = original.frozen_copy()
    ends = (original.denoiser.state_dict(), tuned.denoiser.state_dict())
    between.denoiser.load_state_dict({name: torch.lerp(value, ends[1][name], share)
                                      for name, value in ends[0].items()})
    return between
