"""``spf portraits masks``: masks of phrases, by SAM from boxes, before a training that asks for them (TokenCompose).

The boxes come from a detector of your choice; TokenCompose's is GroundingDINO, both thresholds 0.25, asked for a
caption's nouns, and its SAM is SAM-HQ ViT-H. What is written is what ``spf.baselines.masks`` reads.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from segment_anything import SamPredictor
from torch import Tensor
from tqdm import tqdm

from spf.baselines.masks import mask_file
from spf.evaluation.sam import SAMS, load
from spf.evaluation.weights import FOLDER
from spf.files import read_json, whole
from spf.portraits.reader import decode_portrait, read_portraits

Box = Sequence[float]
"""Left, top, right, bottom in pixels of the upright portrait."""


def mask_portraits(source: Path, boxes: Path, out: Path = Path("runs/masks"),
                   network: Literal["vit_h", "vit_l", "vit_b"] = "vit_h", weights: Path = FOLDER) -> Path:
    """Write a PNG for each phrase of a portrait that has boxes: what SAM sees in them; what is there is not made again.

    Args:
        source: the training portraits: tar shards, parquet, or a folder with metadata.
        boxes: JSON, {id of the portrait: {phrase, or "target": [[left, top, right, bottom], ...]}}, in pixels.
        out: folder of the masks, for --model.masks.
        network: which SAM.
        weights: folder of its published file.

    Raises FileNotFoundError for absent weights, ValueError for boxes that are none, or of portraits that are not there.
    """
    asked = read_boxes(boxes)
    table = read_portraits(source)
    known = enumerate(table.select_columns(["id", "problem"]))
    rows = {row["id"]: number for number, row in known if not row["problem"]}
    if strange := sorted(asked.keys() - rows.keys()):
        raise ValueError(f"{boxes} has boxes of {strange[0]!r}, which is no portrait of {source}: use their ids")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sam = load(SAMS[network], weights, device)[0].predictor
    for name, by_phrase in tqdm(asked.items(), unit="portrait", desc="masks by SAM"):
        missing = {mask_file(out, name, phrase): some for phrase, some in by_phrase.items()}
        missing = {file: some for file, some in missing.items() if not file.is_file()}
        if missing:
            sam.set_image(np.array(decode_portrait(table[rows[name]]["image"])))
        for file, some in missing.items():
            _save(boxed(sam, some), file)
    print(f"masks of {len(asked)} portraits are in {out}")
    return out


def read_boxes(file: Path) -> dict[str, dict[str, list[Box]]]:
    """By portrait and phrase. Raises ValueError, naming both, where what stands there is no list of boxes."""
    content = read_json(file)
    if not isinstance(content, dict) or not all(isinstance(phrases, dict) for phrases in content.values()):
        raise ValueError(f"{file} is to be {{id: {{phrase: [[left, top, right, bottom], ...]}}}}")
    for name, phrases in content.items():
        for phrase, boxes in phrases.items():
            if not isinstance(boxes, list) or not boxes or not all(map(_is_box, boxes)):
                raise ValueError(f"{file}: {phrase!r} of {name!r} has no boxes as [[left, top, right, bottom], ...] in "
                                 "pixels; leave it out where nothing was detected")
    return content


def boxed(sam: SamPredictor, boxes: Sequence[Box]) -> Tensor:
    """(H,W) bool: what SAM sees in any of the boxes of the image that it is set to, one mask a box."""
    corners = torch.as_tensor(boxes, dtype=torch.float, device=sam.device)  # (n,4)
    corners = sam.transform.apply_boxes_torch(corners, sam.original_size)
    return sam.predict_torch(None, None, corners, multimask_output=False)[0][:, 0].any(0)


def _is_box(box: object) -> bool:
    return (isinstance(box, list) and len(box) == 4 and all(isinstance(edge, int | float) for edge in box)
            and box[0] < box[2] and box[1] < box[3])


def _save(mask: Tensor, file: Path) -> None:
    with whole(file) as partial:
        Image.fromarray(mask.cpu().numpy().astype(np.uint8) * 255).save(partial, format="PNG")
