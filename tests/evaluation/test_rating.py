from pathlib import Path

import pytest
import torch

from spf.evaluation.image_reward import ImageReward
from spf.evaluation.mps import Mps
from spf.evaluation.rating import Rating
from spf.evaluation.weights import WeightsAbsent
from spf.text import Prompt
from tests.evaluation.clips import noise
from tests.evaluation.raters import Brightness

PROMPTS = [Prompt("a woman.", "a hat"), Prompt("a man."), Prompt("a girl", "glasses")]


class Plain(Rating):
    columns = ()

    def row(self, original: float, customised: float, truncated: bool) -> dict[str, float]:
        return {"before": original, "after": customised, "cut": truncated}


def test_both_sides_are_rated_by_the_full_text() -> None:
    metric, (before, after) = Plain(Brightness()), noise(6, 3, 5, 4).split(3)
    sides = [metric.encode(images, PROMPTS, None) for images in (before, after)]
    assert metric.of == "image and text"  # an original's encoding is another one for another target
    assert metric.network.texts == ["a woman, a hat", "a man", "a girl, glasses"]
    assert {one["score"].shape for side in sides for one in side} == {torch.Size([])}
    wanted = zip(*(images.float().mean((1, 2, 3)).tolist() for images in (before, after)), (True, False, True),
                 strict=True)
    assert metric.score(*sides, PROMPTS) == [{"before": o, "after": c, "cut": cut} for o, c, cut in wanted]
    assert metric.describe() == {"network": "brightness"}


@pytest.mark.parametrize(("kind", "file"), [(Mps, "MPS_overall_checkpoint_diffsynth.safetensors"),
                                            (ImageReward, "ImageReward.pt")])
def test_absent_weights_are_one_line(kind: type[Rating], file: str, tmp_path: Path,
                                     monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: str) -> str:
        raise OSError("no network")

    monkeypatch.setattr("spf.evaluation.weights.hf_hub_download", offline)
    with pytest.raises(WeightsAbsent, match=file) as absent:
        kind.published(tmp_path, torch.device("cpu"))
    assert "\n" not in str(absent.value)
