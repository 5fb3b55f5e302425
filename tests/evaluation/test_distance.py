"""FID and KID as metrics: by the published network's file, and by anyone's extractor that keeps the contract."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spf.evaluation.distance import DistributionDistance, Fid, FidClean, custom_extractor, state_hash
from spf.evaluation.weights import WeightsAbsent, file_hash
from spf.text import Prompt
from tests.evaluation.inceptions import random_inception

HERE = "tests.evaluation.test_distance"


class Colours(nn.Module):
    """Six features: mean and spread of each channel."""

    num_features = 6
    name = "colours"
    preprocess_id = "none"

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, images: Tensor) -> Any:
        pixels = images.flatten(2).double() / 255
        return torch.cat([pixels.mean(2), pixels.std(2)], 1) * self.scale


class Nameless(Colours):
    name = None


def faulty(forward: Any) -> DistributionDistance:
    extractor = Colours()
    extractor.forward = forward
    return DistributionDistance(extractor)


def pictures(count: int, size: int = 16) -> Tensor:
    return torch.randint(256, (count, 3, size, size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def measured(metric: DistributionDistance, originals: Tensor, customised: Tensor) -> dict[str, float]:
    """As the measuring loop does it."""
    prompts = [Prompt("")] * len(originals)
    sides = [metric.encode(images, prompts, None) for images in (originals, customised)]
    assert metric.score(*sides, prompts) == [{}] * len(prompts)
    stacked = [torch.stack([encoding[whole.whole_of] for encoding in side])
               for side in sides for whole in list(metric.whole(1).values())[:1]]
    together = metric.whole(len(prompts))
    for whole in together.values():
        whole.update(torch.arange(len(prompts)), *stacked)
    return {key: float(whole.compute()) for key, whole in together.items()}


def test_anyones_extractor() -> None:
    metric = DistributionDistance(custom_extractor(f"{HERE}:Colours", scale=2.0), name="colours")
    assert [(c.key, c.group) for c in metric.columns] == [("fid_colours", "More"), ("kid_colours", "More")]
    images = pictures(8)
    encoding = metric.encode(images, [Prompt("")] * 8, None)[3]
    assert encoding["features"].dtype == torch.float32 and encoding["features"].untyped_storage().nbytes() == 24
    assert measured(metric, images, images)["fid_colours"] == pytest.approx(0, abs=1e-9)
    different = measured(metric, images, images // 2)
    assert different.keys() == {column.key for column in metric.columns}
    assert different["fid_colours"] > 0.01 and different["kid_colours"] > 0.01
    about = metric.describe()
    assert (about["network"], about["preprocess"], about["num_features"]) == ("colours", "none", 6)
    assert about["weights"] == state_hash(Colours(2.0)) != state_hash(Colours(1.0))


@pytest.mark.parametrize(("path", "reason"), [
    ("colours", "give one as module:Class"), ("no.such:Colours", "No module named"), (f"{HERE}:Colour", "no attribute"),
    (f"{HERE}:Path", "must be a torch.nn.Module"), (f"{HERE}:Nameless", "Nameless lacks name, of type str")])
def test_what_is_no_extractor(path: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        custom_extractor(path)


@pytest.mark.parametrize(("forward", "reason"), [
    (lambda images: torch.zeros(len(images), 6, 1), r"shape \(2, 6\).*\(2, 6, 1\)"),
    (lambda images: torch.zeros(len(images), 5), r"shape \(2, 6\).*\(2, 5\)"),
    (lambda images: torch.zeros(len(images), 6, dtype=torch.int64), "must give floats"),
    (lambda images: [torch.zeros(6) for _ in images], "must give floats")])
def test_features_that_are_none(forward: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=f"the extractor 'colours'.*{reason}"):
        faulty(forward).encode(pictures(2), [Prompt("")] * 2, None)


def test_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsAbsent, match="FID Inception v3.*6726825d.pth is absent"):
        Fid.published(tmp_path)
    random = random_inception(tmp_path)
    with pytest.raises(ValueError, match="not the published FID Inception v3"):
        Fid.published(tmp_path)
    monkeypatch.setattr(Fid, "weights_file", random)
    metric, clean, images = Fid.published(tmp_path), FidClean.published(tmp_path), pictures(3, 64)
    found = measured(metric, images[:2], images[1:])
    assert found.keys() == {"fid", "kid"} and found["fid"] > 0 and torch.tensor(list(found.values())).isfinite().all()
    one, other = (some.encode(images[:1], [Prompt("")], None)[0]["features"] for some in (metric, clean))
    assert one.shape == other.shape == (2048,) and one.isfinite().all() and (one - other).abs().max() > 1e-3
    assert clean.whole(5).keys() == {"fid_clean"}
    assert [(c.key, c.label, c.group, c.higher_is_better, c.decimals) for c in (*metric.columns, *clean.columns)] == [
        ("fid", "FID", "Preservation", False, 2), ("kid", "KID", "More", False, 4),
        ("fid_clean", "FID (clean)", "More", False, 2)]
    assert (metric.describe()["preprocess"], clean.describe()["preprocess"]) == ("tf_compat", "clean")
    assert metric.describe()["weights"] == file_hash(tmp_path / random.file)
