"""LPIPS against the package's own with the same weights, from files in torchvision's published form."""

from dataclasses import replace
from pathlib import Path

import lpips
import pytest
import torch
import torchvision
from torch import Tensor
from torchmetrics.functional.image.lpips import _LPIPS

from spf.evaluation.perceptual import Lpips, LpipsVgg, published_names, unit_range
from spf.evaluation.store import Store
from spf.evaluation.weights import WeightsAbsent, file_hash
from spf.text import Prompt
from tests.evaluation.published import read_manifest

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torchvision")  # lpips asks it in words of the past
METRICS = {Lpips: "alexnet", LpipsVgg: "vgg16"}  # torchvision's and lpips's name of the backbone


def random_file(metric: type[Lpips], weights: dict[str, Tensor], folder: Path) -> type[Lpips]:
    """The metric with other weights under the published name, whose hash is then the published one."""
    path = folder / metric.weights.file
    torch.save(weights, path)

    class Random(metric):
        weights = replace(metric.weights, sha256=file_hash(path)[:8])

    return Random


def random_weights(name: str) -> dict[str, Tensor]:
    """The published keys and shapes; of the classifier, which LPIPS does not read, only what is small."""
    shapes = {key: shape for key, shape in read_manifest(name).items() if torch.Size(shape).numel() < 2**22}
    return {key: torch.randn(shape) / torch.Size(shape[1:]).numel() ** 0.5 for key, shape in shapes.items()}


def distances(metric: Lpips, a: Tensor, b: Tensor) -> Tensor:
    rows = metric.score([], metric.encode(b, [Prompt("")] * len(b), a), [Prompt("")] * len(b))
    return torch.tensor([row[metric.columns[0].key] for row in rows])


@pytest.fixture
def pictures() -> Tensor:
    """(2,3,3,64,64): pairs that differ little, and more, and not at all."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randint(256, (3, 3, 64, 64), generator=generator, dtype=torch.uint8)
    b = a.clone()
    b[0, :, :8] = 0
    b[1] = a[2]
    return torch.stack([a, b])


@pytest.mark.parametrize("metric", METRICS)
def test_the_published_keys_and_shapes(metric: type[Lpips]) -> None:
    manifest = read_manifest(METRICS[metric])
    with torch.device("meta"):
        whole = torchvision.models.get_model(METRICS[metric], weights=None)
        backbone = getattr(lpips.pretrained_networks, METRICS[metric])(pretrained=False)
    assert metric.weights.source == torchvision.models.get_model_weights(METRICS[metric]).IMAGENET1K_V1.url
    assert metric.weights.source.endswith(f"/{metric.weights.file}") and metric.weights.sha256 in metric.weights.file
    assert {key: tuple(value.shape) for key, value in whole.state_dict().items()} == manifest
    read = {name: tuple(backbone.state_dict()[own].shape) for name, own in published_names(backbone).items()}
    assert read == {key: shape for key, shape in manifest.items() if key.startswith("features.")}


def test_it_is_the_packages_own_and_torchmetrics(tmp_path: Path, pictures: Tensor,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    alexnet = torchvision.models.alexnet(weights=None)
    metric = random_file(Lpips, alexnet.state_dict(), tmp_path).published(tmp_path, "cpu")
    found = distances(metric, *pictures)
    monkeypatch.setattr(torchvision.models, "alexnet", lambda **_: alexnet)  # lpips takes its layers from this one
    reference = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    other = _LPIPS(net="alex", pnet_rand=True)
    other.net.load_state_dict(reference.net.state_dict())
    a, b = pictures.float() / 127.5 - 1
    with torch.no_grad():
        torch.testing.assert_close(found, reference(a, b).flatten(), rtol=0, atol=1e-6)
        torch.testing.assert_close(found, other(a, b).flatten(), rtol=0, atol=1e-5)
    assert found[1] > found[0] > 0 and found[2] == 0
    torch.testing.assert_close(distances(metric, *pictures.flip(0)), found, rtol=0, atol=1e-7)
    assert metric.describe()["weights"]["alexnet-owt-7be5be79.pth"] == file_hash(tmp_path / Lpips.weights.file)


def test_vgg_from_its_published_form(tmp_path: Path, pictures: Tensor) -> None:
    torch.manual_seed(0)
    weights = random_weights("vgg16")
    metric = random_file(LpipsVgg, weights, tmp_path).published(tmp_path, "cpu")
    last = metric.network.net.slice5[-2]
    assert torch.equal(last.weight, weights["features.28.weight"]) and not last.weight.requires_grad
    found = distances(metric, *pictures)
    assert found.isfinite().all() and found[0] > 0 and found[2] == 0
    assert [column.key for column in metric.columns] == ["lpips_vgg"]


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_the_shipped_heads(net: str) -> None:
    heads = torch.load(Path(lpips.__file__).parent / f"weights/v0.1/{net}.pth", map_location="cpu", weights_only=True)
    channels = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}[net]
    assert {key: tuple(value.shape) for key, value in heads.items()} == {
        f"lin{layer}.model.1.weight": (1, width, 1, 1) for layer, width in enumerate(channels)}
    assert all(value.min() >= 0 for value in heads.values())


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsAbsent, match="alexnet-owt-7be5be79.pth is absent"):
        Lpips.published(tmp_path, "cpu")
    weights = random_weights("alexnet")
    random_file(Lpips, weights, tmp_path)
    with pytest.raises(ValueError, match="not the published AlexNet"):
        Lpips.published(tmp_path, "cpu")
    faults = {"Missing key": {key: value for key, value in weights.items() if key != "features.8.bias"},
              "Unexpected key": weights | {"features.12.weight": torch.zeros(1)},
              "size mismatch": weights | {"features.0.bias": torch.zeros(32)}}
    for fault, changed in faults.items():
        with pytest.raises(ValueError, match=fault):
            random_file(Lpips, changed, tmp_path).published(tmp_path, "cpu")


def test_bytes_reach_the_network_exactly() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(unit_range(levels), (levels.double() / 127.5 - 1).float())
    assert unit_range(levels[[0, 255]]).tolist() == [-1.0, 1.0]


def test_any_distance_of_pairs(tmp_path: Path, pictures: Tensor) -> None:
    metric = Lpips(lambda a, b: (a - b).flatten(1).abs().amax(1), {"network": "largest difference"})
    encodings = metric.encode(pictures[1], [Prompt("")] * 3, pictures[0])
    store = Store(tmp_path)
    store.put("key", encodings)
    assert store.get("key", 3) == encodings
    assert encodings[2]["lpips"] == 0 and encodings[0]["lpips"].shape == ()
    assert metric.describe()["network"] == "largest difference"
