"""What a metric must say of itself, and what it need not."""

import pytest

from spf.evaluation.metric import Metric
from tests.evaluation.fakes import Apart


def test_a_metric_is_one_that_says_all() -> None:
    assert Metric.__abstractmethods__ == {"encode", "score", "describe"}
    with pytest.raises(TypeError, match="abstract"):
        type("Silent", (Metric,), {})()


def test_it_is_of_images_of_any_size_unless_it_says_otherwise() -> None:
    assert (Metric.of, Metric.same_size) == ("image", False)
    assert Apart().whole(5) == {}, "a number of each pair needs none of all"
