"""The FID Inception against torch-fidelity's and torchmetrics' with the same weights, and its two resizes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchmetrics.image.fid import NoTrainInceptionV3

from spf.evaluation.inception import WEIGHTS, FidInception, InceptionFeatures, clean, tf_compat
from tests.evaluation.inceptions import random_inception
from tests.evaluation.published import read_manifest


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inception")
    random_inception(folder)
    return folder / WEIGHTS.file


def pictures(*shape: int) -> Tensor:
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_the_published_keys_and_shapes() -> None:
    with torch.device("meta"):
        network = FidInception()
    manifest = read_manifest("inception")
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == manifest and len(manifest) == 566


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_features_are_torch_fidelitys_and_torchmetrics(weights: Path) -> None:
    ours = InceptionFeatures.published(weights, "tf_compat")
    theirs = FeatureExtractorInceptionV3("theirs", ["2048"], feature_extractor_weights_path=str(weights))
    torchmetrics = NoTrainInceptionV3("other", ["2048"], str(weights), antialias=False)
    for shape in ((2, 3, 97, 130), (1, 3, 512, 400)):
        images = pictures(*shape)
        features = ours(images)
        assert features.shape == (shape[0], ours.num_features) and features.std() > 0.01
        torch.testing.assert_close(features, theirs(images)[0], rtol=0, atol=1e-6)
        torch.testing.assert_close(features, torchmetrics(images), rtol=0, atol=1e-6)
    assert not ours.training and not any(weight.requires_grad for weight in ours.parameters())


def test_each_image_has_its_own_features(weights: Path) -> None:
    ours, images = InceptionFeatures.published(weights, "clean"), pictures(2, 3, 64, 64)
    both = ours(images)
    torch.testing.assert_close(ours(images[1:]), both[1:], rtol=0, atol=1e-5)
    assert (both[0] - both[1]).abs().max() > 1e-3


def test_tf_compat_of_a_ramp() -> None:
    ramp = (torch.arange(200) + 20).to(torch.uint8).expand(1, 3, 100, 200)
    resized = tf_compat(ramp) * 128 + 128
    place = torch.arange(299) * 200 / 299  # no half pixels; the last pixel has no neighbour
    expected = (place.clamp(max=199) + 20).expand(1, 3, 299, 299)
    torch.testing.assert_close(resized, expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(tf_compat(ramp.mT), (expected.mT - 128) / 128, rtol=0, atol=1e-5)
    half_pixels = F.interpolate(ramp.float(), (299, 299), mode="bilinear")
    assert (resized - half_pixels).abs().max() > 0.1
    whole = pictures(1, 3, 299, 299)
    assert torch.equal(tf_compat(whole), (whole.float() - 128) / 128)


def test_clean_is_pillows_resize_of_floats() -> None:
    images = pictures(2, 3, 400, 310)
    images[:, :, :200] = images[:, :, :200] // 128 * 255  # steep enough for bicubic to leave [0, 255]
    found = clean(images)
    for image, pixels in zip(images, found, strict=True):
        for channel, made in zip(image, pixels, strict=True):
            resized = Image.fromarray(channel.numpy()).convert("F").resize((299, 299), Image.Resampling.BICUBIC)
            assert torch.equal(made, (torch.from_numpy(np.array(resized)).clamp(0, 255) - 128) / 128)
    assert found.min() == -1 and found.max() == 127 / 128
    levels = found * 128 + 128
    assert (levels != levels.round()).any()


def test_a_file_that_does_not_fit(tmp_path: Path) -> None:
    with torch.device("meta"):
        keys = FidInception().state_dict()
    torch.save({key: torch.zeros(1) for key in keys if key != "fc.bias"}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="other.pth does not fit FidInception"):
        InceptionFeatures.published(tmp_path / "other.pth", "clean")
