from pathlib import Path

import numpy as np
import pytest
import torch

from spf.miniature.judge import _loss, _pool, _worn, naming_loss, train_reader
from spf.miniature.people import draw_people
from spf.miniature.reader import BOUNDS, CHOICES, Reader, Reading, factors
from spf.miniature.vae import build_vae


def test_factors_are_shares_of_their_ranges() -> None:
    people = [*draw_people(50, 0), *draw_people(50, 0, studio="away")]
    truth = factors(people)
    assert truth.shape == (100, len(BOUNDS)) and truth.min() >= 0 and truth.max() <= 1
    assert truth.amax(0).min() > 0.8 and truth.amin(0).max() < 0.2


def test_what_a_target_hides_is_not_asked() -> None:
    people = draw_people(13, 0, ("armour",))
    wrong = {name: torch.zeros(13, len(values)) for name, values in CHOICES.items()}
    wrong["garment"][:, 0] = 50.0  # wrong for most, under armour for nobody
    plain = [person.without_target() for person in people]
    parts = torch.zeros(13, 7, 8, 8)
    reading = Reading(wrong, torch.zeros(13, len(BOUNDS)), parts)
    assert naming_loss(reading, people) < 3 < naming_loss(reading, plain)


def test_wear_keeps_images_images() -> None:
    image = torch.rand(2, 3, 32, 32)
    worn = _worn(image, np.random.default_rng(1), 1)
    assert worn.shape == image.shape and 0 <= worn.min() and worn.max() <= 1
    assert torch.equal(worn, _worn(image, np.random.default_rng(1), 1))


def test_it_learns_from_painted_and_decoded_portraits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    reader, pool = Reader(), _pool(64, 1, None)
    optimizer = torch.optim.AdamW(reader.parameters(), 2e-3)
    losses = []
    for _ in range(6):
        loss, numbers = _loss(reader, 0, pool)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0] and set(numbers) == {"naming", "factors", "parts"}
    with pytest.raises(FileNotFoundError, match="spf miniature"):
        Reader.load(tmp_path)
    trained = train_reader(tmp_path, build_vae().eval(), 1, 1)
    loaded = Reader.load(tmp_path)
    assert all(torch.equal(a.float(), b.float()) for a, b in
               zip(trained.state_dict().values(), loaded.state_dict().values(), strict=True))
