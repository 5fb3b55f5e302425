import io
import json
from pathlib import Path

import datasets
import lightning
import pytest
import torch
from lightning.fabric.utilities import move_data_to_device
from PIL import Image

from spf.portraits.datamodule import PortraitBatch, PortraitData, Portraits, collate
from spf.portraits.reader import PortraitError, read_portraits


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten portraits, taller than wide: portrait n is grey n, under a white top edge and over a white bottom edge."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "portraits"
    folder.mkdir()
    rows = [
        {"file_name": f"{n}.png", "base_text": f"portrait {n}", "phrases": ["portrait"] * (n % 2)} for n in range(10)
    ]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for n in range(10):
        canvas = Image.new("RGB", (40, 60), "white")
        canvas.paste((n, n, n), (0, 10, 40, 50))
        canvas.save(folder / f"{n}.png")
    return folder


def data(source: Path, **options) -> PortraitData:
    module = PortraitData(str(source), **({"resolution": 20, "train_batch_size": 4, "num_workers": 0} | options))
    module.prepare_data()
    module.setup("fit")
    return module


def epoch_ids(loader: torch.utils.data.DataLoader, epoch: int) -> list[str]:
    loader.sampler.set_epoch(epoch)
    return [name for batch in loader for name in batch.ids]


def test_row_is_the_centre_of_the_portrait(source: Path):
    row = Portraits(read_portraits(source), resolution=20)[3]
    assert (row["base_text"], row["target_text"], row["phrases"], row["id"]) == (
        "portrait 3",
        "",
        ("portrait",),
        "3.png",
    )
    assert row["image"].shape == (3, 20, 20) and row["image"].dtype == torch.float32
    assert row["image"][:, 10, 10].tolist() == pytest.approx([3 / 255] * 3)  # the resize keeps flat colours
    assert row["image"][:, 1:-1].max() < 0.5  # the white edges are cut off


@pytest.mark.parametrize("size", [(64, 20), (20, 64), (7, 9), (33, 33)])
def test_every_shape_of_image_fits(source: Path, size: tuple[int, int]):
    file = io.BytesIO()
    Image.effect_noise(size, 200).save(file, "PNG")
    (source / "0.png").write_bytes(file.getvalue())
    image = Portraits(read_portraits(source), resolution=32)[0]["image"]
    assert image.shape == (3, 32, 32)
    assert 0 <= image.min() <= image.max() <= 1


def test_batches(source: Path):
    batches = list(data(source).train_dataloader())
    assert [len(batch) for batch in batches] == [4, 4]
    for batch in batches:
        assert batch.image.shape == (4, 3, 20, 20)
        for name, image, text, target, phrases in zip(
            batch.ids, batch.image, batch.base_text, batch.target_text, batch.phrases, strict=True
        ):
            number = int(name.removesuffix(".png"))
            assert image[0, 10, 10] == pytest.approx(number / 255)
            assert (text, target, phrases) == (f"portrait {number}", "", ("portrait",) * (number % 2))


def test_order_depends_on_seed_and_epoch_alone(source: Path):
    loader, again, other = (data(source, seed=seed).train_dataloader() for seed in (1, 1, 2))
    assert epoch_ids(loader, 0) == epoch_ids(again, 0) == epoch_ids(loader, 0)
    assert epoch_ids(loader, 0) != epoch_ids(loader, 1)
    assert epoch_ids(loader, 0) != epoch_ids(other, 0)


def test_workers_change_nothing_and_stay_alive(source: Path):
    alone, workers = data(source).train_dataloader(), data(source, num_workers=1).train_dataloader()
    assert workers.persistent_workers
    assert epoch_ids(workers, 1) == epoch_ids(alone, 1)


def test_limit_takes_the_first_portraits(source: Path):
    assert sorted(epoch_ids(data(source, limit=4).train_dataloader(), 0)) == ["0.png", "1.png", "2.png", "3.png"]
    assert len(data(source, limit=99).portraits) == 10


def test_fewer_portraits_than_a_step_is_an_error(source: Path):
    with pytest.raises(PortraitError, match="10 portraits are fewer than one step takes, train_batch_size 11 on 1 dev"):
        data(source, train_batch_size=11).train_dataloader()


def test_columns_and_required_targets_reach_the_reader(source: Path):
    assert data(source, columns={"target_text": "base_text"}).portraits[2]["target_text"] == "portrait 2"
    with pytest.raises(PortraitError, match="'0.png' has no target text"):
        data(source, require_target=True)


def test_a_bad_image_stops_training_or_is_replaced(source: Path, capsys: pytest.CaptureFixture):
    for bad in ("3.png", "4.png", "9.png"):
        (source / bad).write_bytes(b"junk")
    with pytest.raises(PortraitError, match="3.png: the image cannot be decoded"):
        data(source).portraits[3]
    with pytest.raises(PortraitError, match="cannot be decoded"):
        list(data(source, num_workers=1).train_dataloader())
    portraits = data(source, on_bad_image="replace").portraits
    capsys.readouterr()
    assert [portraits[index]["id"] for index in (2, 3, 4, 9)] == ["2.png", "5.png", "5.png", "0.png"]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and "3.png: the image" in lines[0] and "next portrait takes its place" in lines[0]


def test_a_source_of_bad_images_cannot_be_replaced(source: Path):
    for file in source.glob("*.png"):
        file.write_bytes(b"junk")
    with pytest.raises(PortraitError):
        data(source, on_bad_image="replace").portraits[0]


def test_batch_moves_and_keeps_its_texts():
    rows = [{"image": torch.rand(3, 8, 8), "base_text": "a", "target_text": "b", "phrases": ("c",), "id": "1"}]
    batch = collate(rows)
    moved = move_data_to_device(batch, torch.device("meta"))  # what Lightning does with every batch
    assert isinstance(moved, PortraitBatch) and moved.image.is_meta
    assert (moved.base_text, moved.target_text, moved.phrases, moved.ids) == (["a"], ["b"], [("c",)], ["1"])
    assert torch.equal(batch.to("cpu").image, batch.image)


class Listener(lightning.LightningModule):
    """Learns nothing; notes the ids of every step."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: dict[int, list[str]] = {}

    def training_step(self, batch: PortraitBatch, index: int) -> None:
        self.epochs.setdefault(self.current_epoch, []).extend(batch.ids)

    def configure_optimizers(self) -> None:
        return None


def test_lightning_sets_the_epoch(source: Path):
    listener, module = Listener(), data(source, seed=5)
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    lightning.Trainer(accelerator="cpu", max_epochs=2, **quiet).fit(listener, module)
    loader = data(source, seed=5).train_dataloader()
    assert listener.epochs == {epoch: epoch_ids(loader, epoch) for epoch in (0, 1)}
