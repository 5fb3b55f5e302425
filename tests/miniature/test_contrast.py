import numpy as np
import torch

from spf.backbones import BASES
from spf.clip import Clip
from spf.miniature.contrast import bank, contrastive, mixed_caption, patch_labels, quadruples, where
from spf.miniature.painter import paint
from spf.miniature.people import TARGETS, draw_people, target_text
from spf.miniature.truth import REGIONS


def test_quadruples_are_one_person_in_four_states() -> None:
    people = quadruples(3, 8)
    assert len(people) == 12
    for home, home_plain, away, away_plain in zip(*[iter(people)] * 4, strict=True):
        assert home.identity == home_plain.identity == away.identity == away_plain.identity
        assert home.target == away.target is not None and home_plain.target is away_plain.target is None
        assert home.studio == "home" and away.studio == "away"


def test_the_loss_knows_the_truth() -> None:
    truth = torch.tensor([[True, True, False], [False, False, True]])
    right = torch.where(truth, 20.0, -20.0)
    assert contrastive(right, truth, ~truth) < 1e-6
    assert contrastive(-right, truth, ~truth) > 20
    # a second true caption is no negative of the first: its score does not matter to it
    worse = right.clone()
    worse[0, 1] = 40
    assert torch.isclose(contrastive(worse, truth, ~truth), contrastive(right, truth, ~truth), atol=1e-6)
    # nor does that of a caption which is neither true nor false
    unknown = ~truth & torch.tensor([[True, True, False], [True, True, True]])
    worse = right.clone()
    worse[0, 2] = 40
    assert torch.isclose(contrastive(worse, truth, unknown), contrastive(right, truth, ~truth), atol=1e-6)


def test_a_text_points_where_it_is_true() -> None:
    regions = torch.zeros(2, len(REGIONS), 2, 2)
    regions[0, REGIONS.index("hair"), 0, 1] = 1
    regions[1, REGIONS.index("target"), 1] = 1
    truth = torch.tensor([[True, False], [False, True]])
    texts = torch.eye(4)[:2]
    right = torch.zeros(2, 4, 4)
    right[0, 1, 0] = right[1, 2, 1] = right[1, 3, 1] = 1  # the patch of the hair, the two of the target
    right[..., 3] = 1e-3
    names = [("hair",), ("target",)]
    half = torch.tensor(2.0).log() / 2  # two patches share the second text
    assert torch.isclose(where(right, texts, regions, names, truth, 20.0), half, atol=1e-4)
    assert where(right.flip(1), texts, regions, names, truth, 20.0) > 5


def test_a_patch_is_asked_for_what_it_shows() -> None:
    regions = torch.zeros(1, len(REGIONS), 2, 2)
    regions[0, REGIONS.index("hair"), 0, 0] = 1
    labels = np.arange(9)[None]
    asked = patch_labels(labels, regions)
    assert asked[0].tolist() == [-1, 1, 2, -1, -1, -1, -1, -1, -1] and (asked[1:] == -1).all()


def test_captions_come_in_all_four_kinds() -> None:
    person = quadruples(1, 0)[0]
    claims = np.stack([mixed_caption(person, np.random.default_rng(i)).claims for i in range(200)])
    named, with_target = (claims[:, :-1] >= 0).sum(1), claims[:, -1] > 0
    assert ((named == 0) & with_target).mean() > 0.1  # the target alone
    assert (~with_target).mean() > 0.2  # base only
    assert ((named == 8) & with_target).mean() > 0.25  # everything


def test_the_bank_holds_every_target_alone() -> None:
    captions = bank(quadruples(4, 0), np.random.default_rng(0))
    assert [c.claims[-1] for c in captions[: len(TARGETS)]] == list(range(1, len(TARGETS) + 1))


def test_the_shipped_clip_recognises_targets_on_people_it_never_saw() -> None:
    clip = Clip.load(f"{BASES['miniature']}/clip")
    people = draw_people(4 * len(TARGETS), 78, tuple(TARGETS), held_out=True)
    scores = clip.image(paint(people)) @ clip.text([target_text(name) for name in TARGETS]).T
    right = scores.argmax(1) == torch.arange(len(people)) % len(TARGETS)
    assert right.float().mean() > 0.45  # chance: 0.08
