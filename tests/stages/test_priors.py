"""Portraits by the original beside the training's: which, with what noise, and by whom."""

import json
from pathlib import Path

import pytest
import torch

from spf.backbones import Backbone
from spf.miniature.shards import paint_portraits
from spf.portraits.datamodule import PortraitBatch
from spf.portraits.formats import PortraitError
from spf.stages.priors import Priors
from spf.stages.randomness import draw
from tests.portraits.sources import write_folder


@pytest.fixture(scope="module")
def priors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `spf triples` leaves them: by a model of hash "ours"."""
    folder = tmp_path_factory.mktemp("priors")
    rows = [{"file_name": f"{i}.png", "id": str(i), "base_text": f"a woman in jacket {i}", "target_text": "a hat",
             "phrases": ["a woman", f"jacket {i}"]} for i in range(5)]
    write_folder(folder, rows)
    (folder / "manifest.json").write_text(json.dumps({"base_sha256": "ours"}))
    return folder


def test_each_portrait_gets_a_prior_with_its_own_chance(priors: Path, batch: PortraitBatch, backbone: Backbone) -> None:
    beside = Priors(str(priors), "ours")
    prompts, t, noise, x0 = beside.beside(batch, backbone, 3)
    again = Priors(str(priors), "ours").beside(batch, backbone, 3)
    assert prompts == again[0] and all(torch.equal(a, b) for a, b in zip((t, noise, x0), again[1:], strict=True))
    assert all(prompt.base_text.startswith("a woman in jacket") and not prompt.target_text for prompt in prompts)
    assert all(prompt.phrases == ("a woman", prompt.base_text[11:]) for prompt in prompts)
    own = draw(backbone.process, (4, 8, 8), batch.ids, 3, batch.epochs)
    assert t.shape == (4,) and noise.shape == x0.shape == (4, 4, 8, 8)
    assert not torch.equal(own.t, t) and not torch.isclose(own.noise, noise).flatten(1).all(1).any()


def test_other_seeds_and_epochs_draw_others(priors: Path, batch: PortraitBatch, backbone: Backbone) -> None:
    beside = Priors(str(priors), "ours")
    first = beside.beside(batch, backbone, 0)
    later = PortraitBatch(batch.image, batch.base_text, batch.target_text, batch.phrases, batch.ids, [1] * 4)
    for other in (beside.beside(batch, backbone, 1), beside.beside(later, backbone, 0)):
        assert not torch.equal(other[2], first[2])
    drawn = [beside.beside(PortraitBatch(batch.image, batch.base_text, batch.target_text, batch.phrases, batch.ids,
                                         [epoch] * 4), backbone, 0)[0] for epoch in range(20)]
    assert {prompt.base_text[-1] for prompts in drawn for prompt in prompts} == set("01234")


def test_which_prior_does_not_depend_on_the_batch(priors: Path, batch: PortraitBatch, backbone: Backbone) -> None:
    whole = Priors(str(priors), "ours").beside(batch, backbone, 0)
    last = PortraitBatch(batch.image[3:], batch.base_text[3:], batch.target_text[3:], batch.phrases[3:], batch.ids[3:])
    alone = Priors(str(priors), "ours").beside(last, backbone, 0)
    assert alone[0] == whole[0][3:] and all(torch.equal(a, b[3:]) for a, b in zip(alone[1:], whole[1:], strict=True))


def test_only_the_originals_own_portraits_are_priors(priors: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="are by another model than model.base: make them with that one"):
        Priors(str(priors), "another")
    painted = paint_portraits(tmp_path / "painted", 2)
    assert len(Priors(str(painted), "another").table) == 2  # which does not say who made it
    with pytest.raises(PortraitError, match=r"model\.priors: .*no such folder.*\n`spf triples --out"):
        Priors(str(tmp_path / "nowhere"), "ours")
