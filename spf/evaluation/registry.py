"""Every metric at its place in the tables: a line each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import getfile
from pathlib import Path

import torch

from spf.evaluation import inception, miniature, sam
from spf.evaluation.clip_score import ClipScore, ClipScoreB32
from spf.evaluation.distance import DistributionDistance, Fid, FidClean, custom_extractor, state_hash
from spf.evaluation.faces import PACKS
from spf.evaluation.hps import Hps, HpsV20
from spf.evaluation.identity import Identity
from spf.evaluation.image_reward import ImageReward
from spf.evaluation.metric import Metric
from spf.evaluation.mps import Mps
from spf.evaluation.perceptual import Lpips, LpipsVgg
from spf.evaluation.repaint import RepaintResidual
from spf.evaluation.segmentation import FastSegCons, SegCons
from spf.evaluation.weights import Weights, WeightsAbsent, file_hash
from spf.notation import Column

Load = Callable[[Path, torch.device], Metric]
"""Folder of the published weights, device -> the metric; raises WeightsAbsent."""


@dataclass(frozen=True)
class Entry:
    """A metric, and by which networks it can be measured."""

    kind: type[Metric] | Metric
    published: Load | None
    miniature: Load | None = None
    files: tuple[Weights, ...] = ()  # what the published networks are read from
    asked: bool = True  # whether it is measured unless others are named

    @property
    def columns(self) -> tuple[Column, ...]:
        """What it prints."""
        return self.kind.columns

    def load(self, networks: str, folder: Path, device: torch.device) -> Metric:
        """With the ``published`` or the ``miniature``'s network. Raises WeightsAbsent where there is none."""
        load: Load | None = getattr(self, networks)
        if load is None:
            raise WeightsAbsent(f"{self.columns[0].label}: the {networks} networks have none for it")
        return load(folder, device)


FACES = PACKS["buffalo_l"]

METRICS: Mapping[str, Entry] = {
    "fid": Entry(Fid, Fid.published, miniature.fid, (inception.WEIGHTS,)),
    "fid_clean": Entry(FidClean, FidClean.published, None, (inception.WEIGHTS,)),
    "lpips": Entry(Lpips, Lpips.published, miniature.lpips, (Lpips.weights,)),
    "lpips_vgg": Entry(LpipsVgg, LpipsVgg.published, None, (LpipsVgg.weights,), asked=False),
    "id": Entry(Identity, Identity.published, miniature.identity, (FACES.detector, FACES.recogniser)),
    "clip": Entry(ClipScore, ClipScore.published, miniature.clip, (ClipScore.clip.weights,)),
    "clip_b32": Entry(ClipScoreB32, ClipScoreB32.published, None, (ClipScoreB32.clip.weights,)),
    "seg_cons": Entry(SegCons, sam.published, miniature.segmentation, (sam.SAMS["vit_h"].weights,)),
    "seg_cons_fast": Entry(FastSegCons, sam.published_fast, None, (sam.SAMS["vit_b"].weights,), asked=False),
    "hpsv2_1": Entry(Hps, Hps.published, None, (Hps.clip.weights,)),
    "hpsv2_0": Entry(HpsV20, HpsV20.published, None, (HpsV20.clip.weights,), asked=False),
    "mps": Entry(Mps, Mps.published, None, (Mps.rater.weights,)),
    "image_reward": Entry(ImageReward, ImageReward.published, None, ImageReward.files),
    "repaint": Entry(RepaintResidual, None, miniature.repaint),
}
"""By name, in the order of the paper's columns within each group."""


def asked(networks: str, reads: str = "full_text") -> list[str]:
    """What is measured unless other names are given: the paper's eight, and what else these networks have.

    What judges by the full text has nothing to say of portraits that were made of the base text alone.
    """
    paper = {"fid", "lpips", "id", "clip", "seg_cons", "hpsv2_1", "mps"}
    fair = {name: entry for name, entry in METRICS.items() if reads == "full_text" or not entry.kind.by_full_text}
    return [name for name, entry in fair.items() if entry.asked and (name in paper or getattr(entry, networks))]


def metric_entry(name: str) -> Entry:
    """By its name; or FID and KID in a user's own feature extractor, which "module:Class" names.

    Raises ValueError for an unknown name, or an extractor that breaks ``DistributionDistance``'s contract.
    """
    if name in METRICS:
        return METRICS[name]
    if ":" not in name:
        raise ValueError(f"no metric {name!r}; there are {', '.join(METRICS)}; or module:Class for FID")

    def load(folder: Path, device: torch.device) -> Metric:
        extractor = custom_extractor(name)
        made_by = f"{name}, weights {state_hash(extractor)}, code {file_hash(Path(getfile(type(extractor))))}"
        return DistributionDistance(extractor, made_by, device, name.rpartition(":")[2].lower())

    return Entry(load(Path(), torch.device("cpu")), load, load)
