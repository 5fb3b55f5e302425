import math
from pathlib import Path

import torch

from spf.evaluation.blip import IMAGE_REWARD
from spf.evaluation.image_reward import ImageReward
from spf.text import Prompt
from tests.evaluation.clips import noise
from tests.evaluation.raters import TINY_REWARD, tiny_reward
from tests.evaluation.test_blip import as_published

PROMPTS = [Prompt("a woman", "a hat"), Prompt("a man with a red hat " * 6, "glasses"), Prompt("a man")]


def test_rows_hold_the_rewards_by_the_full_text(tmp_path: Path) -> None:
    network = tiny_reward(tmp_path)
    metric, images = ImageReward(network), noise(6, 3, 50, 40).split(3)
    sides = [metric.encode(side, PROMPTS, None) for side in images]
    texts = ["a woman, a hat", f"{('a man with a red hat ' * 6).strip()}, glasses", "a man"]
    originals, customised = ([float(score) for score in network(side, texts)] for side in images)
    assert metric.score(*sides, PROMPTS) == [
        {"image_reward": after, "image_reward_original": before, "prompt_truncated_image_reward": cut}
        for before, after, cut in zip(originals, customised, (0.0, 1.0, 0.0), strict=True)]
    assert metric.of == "image and text" and not metric.whole(3)


def test_published_weights_give_finite_numbers(tmp_path: Path) -> None:
    torch.save(as_published(tiny_reward(tmp_path)), tmp_path / "ImageReward.pt")

    class Tiny(ImageReward):
        rater = TINY_REWARD

    metric = Tiny.published(tmp_path, torch.device("cpu"))
    side = metric.encode(noise(3, 3, 40, 40), PROMPTS, None)
    rows = metric.score(side, side, PROMPTS)
    assert all(math.isfinite(value) for row in rows for value in row.values())
    assert [column.key for column in metric.columns] == ["image_reward"] and "image_reward" in rows[0]
    assert [weights.file for weights in ImageReward.files] == ["ImageReward.pt", "vocab.txt"]
    assert ImageReward.rater is IMAGE_REWARD
