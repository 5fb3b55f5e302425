"""ImageReward: how people would like a portrait, given its text (Xu et al., arXiv 2304.05977; paper, Fig. 5)."""

from typing import ClassVar

from spf.evaluation.blip import IMAGE_REWARD
from spf.evaluation.rating import Rating
from spf.evaluation.weights import Weights
from spf.notation import Column


class ImageReward(Rating):
    """The reward of the customised and the full text: standardised, unbounded, mostly between -2.3 and 2.

    Beside it ``image_reward_original``, the original's, and ``prompt_truncated_image_reward``: 1.0 where the full text
    has more than 35 tokens, so that its end, and the target there, was not read; else 0.0.
    """

    columns = (Column("image_reward", "ImageReward", "More", True),)
    rater = IMAGE_REWARD
    files: ClassVar[tuple[Weights, ...]] = (IMAGE_REWARD.weights, IMAGE_REWARD.vocabulary)

    def row(self, original: float, customised: float, truncated: bool) -> dict[str, float]:
        """The reward and what stands beside it."""
        return {"image_reward": customised, "image_reward_original": original,
                "prompt_truncated_image_reward": float(truncated)}
