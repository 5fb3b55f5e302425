"""Each metric of the suite beside the package it comes from, with one network that both sides share."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import lpips
import onnxruntime
import open_clip
import torch
from insightface.app import FaceAnalysis
from segment_anything import SamAutomaticMaskGenerator
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchvision import transforms

from metering import faces, networks, packages
from metering.portraits import Portraits
from spf.evaluation.clip_score import ClipScore, ClipScoreB32
from spf.evaluation.distance import DistributionDistance, FidClean
from spf.evaluation.encoding import Pair
from spf.evaluation.faces import InsightFaces
from spf.evaluation.hps import PADDED, Hps
from spf.evaluation.identity import Identity
from spf.evaluation.image_reward import ImageReward
from spf.evaluation.images import read_picture
from spf.evaluation.inception import InceptionFeatures
from spf.evaluation.metric import Metric
from spf.evaluation.mps import Mps
from spf.evaluation.open_clips import NORMALIZE, OpenClip
from spf.evaluation.perceptual import Lpips
from spf.evaluation.sam import SamMasks
from spf.evaluation.segmentation import SegCons


@dataclass(frozen=True)
class Contest:
    """``metric`` makes the suite's side anew, with nothing remembered; ``package`` is the other side, or None."""

    network: str
    metric: Callable[[], Metric]
    package: Callable[[Sequence[Pair]], packages.Numbers] | None = None
    by: str = "none to install"  # the package
    tolerance: float = 1e-4  # relative and absolute, of the numbers of both


Build = Callable[[bool, Portraits], Contest]
"""(whether the networks have their real size, portraits in whose folder files may be written) -> the contest."""


def fid(real: bool, portraits: Portraits) -> Contest:
    """FID and KID."""
    if not real:
        extractor = networks.TinyFeatures()
        return Contest("4 convolutions, d = 256", lambda: DistributionDistance(extractor, "random"),
                       partial(packages.by_torch_fidelity, extractor), "torch-fidelity")
    network, file = networks.inception(), portraits.folder / "inception.pth"
    torch.save(network.state_dict(), file)
    theirs = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(file))
    return Contest("Inception v3 of 2015, d = 2048",
                   lambda: DistributionDistance(InceptionFeatures(network, "tf_compat"), "random"),
                   partial(packages.by_torch_fidelity, lambda images: theirs(images)[0]), "torch-fidelity")


def fid_clean(real: bool, portraits: Portraits) -> Contest:
    """FID of Pillow's resize; clean-fid fails where SciPy is of today."""
    extractor = InceptionFeatures(networks.inception(), "clean") if real else networks.TinyFeatures()
    return Contest("Inception v3 of 2015" if real else "4 convolutions", lambda: FidClean(extractor, "random"))


def perceptual(real: bool, portraits: Portraits) -> Contest:
    """LPIPS; AlexNet is quick enough for a hurry."""
    torch.manual_seed(networks.SEED)
    with warnings.catch_warnings():  # lpips asks torchvision in words of the past
        warnings.simplefilter("ignore", UserWarning)
        network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval().requires_grad_(False)
    return Contest("AlexNet", lambda: Lpips(network, {"network": "random"}), partial(packages.by_lpips, network),
                   "lpips")


def identity(real: bool, portraits: Portraits) -> Contest:
    """ID, with a hand-built detector that costs nothing."""
    pack = faces.build_pack(portraits.folder / "faces", faces.REAL if real else faces.TINY)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    analysis = FaceAnalysis(str((portraits.folder / "faces" / pack.detector.file).parent), sess_options=options,
                            allowed_modules=["detection", "recognition"], providers=["CPUExecutionProvider"])
    analysis.prepare(-1, det_size=(640, 640))
    ours = InsightFaces.published(portraits.folder / "faces", torch.device("cpu"), pack)
    about = pack.describe(portraits.folder / "faces")
    return Contest("ResNet50 of ArcFace, no detector" if real else "ResNet of 4 blocks, no detector",
                   lambda: Identity(ours, about), partial(packages.by_insightface, analysis), "insightface")


def clip(name: str, kind: type[ClipScore], real: bool, portraits: Portraits) -> Contest:
    """CLIP-I and CLIP-T."""
    network = networks.clip(name, real)
    prepare = open_clip.image_transform(network.visual.image_size[0], is_train=False)
    return Contest(_clip_name(name, real), lambda: kind(OpenClip(network, name, "random")),
                   partial(packages.by_open_clip, network, prepare, kind.suffix), "open_clip")


def hps(real: bool, portraits: Portraits) -> Contest:
    """HPS v2.1, prepared as its published code does it; of square images, so that nothing is padded."""
    network = networks.clip("hpsv2_1", real)
    bicubic = transforms.Resize(network.visual.image_size[0], transforms.InterpolationMode.BICUBIC, antialias=True)
    prepare = transforms.Compose([transforms.ToTensor(), bicubic, NORMALIZE])
    return Contest(_clip_name("hpsv2_1", real), lambda: Hps(OpenClip(network, "HPS", "random", PADDED)),
                   partial(packages.by_hps, network, prepare), "open_clip")


def seg_cons(sam: str, real: bool, portraits: Portraits) -> Contest:
    """Seg-Cons by this SAM, where sizes are real."""
    image = read_picture(portraits.folder / "originals" / "000.png")
    network, search = networks.sam(sam if real else "tiny", image)
    masks = SamMasks(network, search)
    theirs = SamAutomaticMaskGenerator(network, search.points_per_side, search.points_per_batch)
    points = f"{search.points_per_side} x {search.points_per_side} points"
    return Contest(f"SAM {sam if real else 'of 12 narrow layers'}, {points}",
                   lambda: SegCons(masks, masks.about("SAM", "random")),
                   partial(packages.by_segment_anything, theirs), "segment-anything")


def mps(real: bool, portraits: Portraits) -> Contest:
    """MPS; its code is a repository, and wants other versions of everything."""
    network = networks.mps(real)
    return Contest("CLIP ViT-H/14 and 4 cross layers" if real else "tiny CLIP and 4 cross layers",
                   lambda: Mps(network))


def image_reward(real: bool, portraits: Portraits) -> Contest:
    """ImageReward; its package breaks on today's transformers."""
    network = networks.image_reward(real)
    return Contest("BLIP ViT-L/16" if real else "tiny BLIP", lambda: ImageReward(network))


def _clip_name(name: str, real: bool) -> str:
    return f"CLIP {networks.CLIPS[name].removesuffix('-quickgelu')}" if real else "tiny CLIP"


def contests(sam: str) -> Mapping[str, Build]:
    """By the metrics' names, those that are measured unless others are named; ``sam``: which one, at real sizes."""
    return {"fid": fid, "fid_clean": fid_clean, "lpips": perceptual, "id": identity,
            "clip": partial(clip, "clip", ClipScore), "clip_b32": partial(clip, "clip_b32", ClipScoreB32),
            "seg_cons": partial(seg_cons, sam), "hpsv2_1": hps, "mps": mps, "image_reward": image_reward}
