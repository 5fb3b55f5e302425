"""SAM (Kirillov et al. 2023): the masks of everything in an image, for Seg-Cons.

Its automatic mask generator, with its own network, thresholds and functions, but in another order: candidates that
SAM itself doubts are dropped before they are enlarged, and duplicates before anything leaves the device. The masks
are the generator's own; they only come sooner.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from segment_anything import SamPredictor, sam_model_registry
from segment_anything.modeling import Sam
from segment_anything.utils.amg import batched_mask_to_box, build_point_grid, calculate_stability_score
from torch import Tensor
from torchvision.ops import nms

from spf.evaluation.segmentation import FastSegCons, SegCons
from spf.evaluation.weights import FOLDER, Weights, file_hash, fill, read_weights

SOURCE = "https://dl.fbaipublicfiles.com/segment_anything/"


@dataclass(frozen=True)
class Network:
    """A SAM: its published file, and what builds it without weights."""

    weights: Weights
    build: Callable[[], Sam]


# Meta states an MD5's first digits in the names; the SHA-256 are those on which others who pin these files agree.
SAMS = {
    "vit_h": Network(Weights("SAM ViT-H", "sam_vit_h_4b8939.pth", SOURCE + "sam_vit_h_4b8939.pth", "Apache-2.0", 2565,
                             "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e"),
                     sam_model_registry["vit_h"]),
    "vit_l": Network(Weights("SAM ViT-L", "sam_vit_l_0b3195.pth", SOURCE + "sam_vit_l_0b3195.pth", "Apache-2.0", 1250,
                             "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622"),
                     sam_model_registry["vit_l"]),
    "vit_b": Network(Weights("SAM ViT-B", "sam_vit_b_01ec64.pth", SOURCE + "sam_vit_b_01ec64.pth", "Apache-2.0", 375,
                             "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912"),
                     sam_model_registry["vit_b"]),
}
"""Published networks; the first is the generator's default."""


@dataclass(frozen=True)
class Search:
    """How masks are searched: the automatic generator's options, and their defaults."""

    points_per_side: int = 32  # one prompt each, three candidates a prompt
    points_per_batch: int = 64
    predicted_iou: float = 0.88  # a candidate must be above it by SAM's own estimate
    stability: float = 0.95  # and the IoU of its masks at logits +1 and -1 at least this
    nms: float = 0.7  # IoU of boxes from which the less sure of two candidates is a duplicate


FULL, FAST = Search(), Search(points_per_side=16)


class SamMasks:
    """An image -> what SAM sees in it, as ``spf.evaluation.segmentation`` wants it."""

    def __init__(self, sam: Sam, search: Search = FULL) -> None:
        self.sam, self.search = sam, search
        self.predictor = SamPredictor(sam)
        self.grid = build_point_grid(search.points_per_side)  # (P,2) x, y in [0,1]

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Tensor:
        """(3,H,W) uint8 RGB -> (n,H,W) bool on SAM's device, surest first; a blank image has n = 0."""
        high, wide = image.shape[1:]
        self.predictor.set_image(image.permute(1, 2, 0).cpu().numpy())
        points = self.predictor.transform.apply_coords(self.grid * (wide, high), (high, wide))
        batches = torch.as_tensor(points, device=self.sam.device).split(self.search.points_per_batch)
        found = [self._candidates(some) for some in batches]
        masks, scores = (torch.cat(parts) for parts in zip(*found, strict=True))
        return masks[nms(batched_mask_to_box(masks).float(), scores, self.search.nms)]

    def _candidates(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """What is seen at B points (B,2), without doubtful candidates: masks (k,H,W) bool, scores (k,)."""
        sam, seen = self.sam, self.predictor
        labels = torch.ones(len(points), 1, dtype=torch.int, device=points.device)  # 1: the point is inside
        sparse, dense = sam.prompt_encoder(points=(points[:, None], labels), boxes=None, masks=None)
        small, scores = sam.mask_decoder(
            image_embeddings=seen.features, image_pe=sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse, dense_prompt_embeddings=dense, multimask_output=True)  # (B,3,h,w), (B,3)
        sure = scores > self.search.predicted_iou
        logits = sam.postprocess_masks(small[sure][:, None], seen.input_size, seen.original_size)[:, 0]  # (k,H,W)
        stable = calculate_stability_score(logits, sam.mask_threshold, 1.0) >= self.search.stability
        return logits[stable] > sam.mask_threshold, scores[sure][stable]

    def about(self, network: str, sha256: str) -> dict[str, Any]:
        """What decides the masks, for ``SegCons``; ``sha256``: of the weights, or what else they are ("random")."""
        return {"network": network, "sha256": sha256, **asdict(self.search),
                "preprocess": f"longest side to {self.sam.image_encoder.img_size}, padded",
                "segment_anything": version("segment_anything"), "torchvision": version("torchvision")}


def load(network: Network, folder: Path, device: torch.device,
         search: Search = FULL) -> tuple[SamMasks, dict[str, Any]]:
    """From the published file, strictly, and what to say of it. Raises WeightsAbsent, or ValueError as ``fill``."""
    file = network.weights.find(folder)
    masks = SamMasks(fill(network.build(), read_weights(file), file).to(device), search)
    return masks, masks.about(network.weights.name, file_hash(file))


def published(folder: Path = FOLDER, device: torch.device | str = "cpu", network: str = "vit_h") -> SegCons:
    """Seg-Cons by the automatic generator's defaults; only ViT-H's numbers are comparable with each other."""
    return SegCons(*load(SAMS[network], folder, torch.device(device)))


def published_fast(folder: Path = FOLDER, device: torch.device | str = "cpu") -> FastSegCons:
    """Seg-Cons (fast): ViT-B and a quarter of the points."""
    return FastSegCons(*load(SAMS["vit_b"], folder, torch.device(device), FAST))
