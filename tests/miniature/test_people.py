from itertools import product

import numpy as np
import pytest

from spf.miniature.people import (
    ATTRIBUTES,
    IDENTITY,
    NUISANCE,
    PHRASES,
    TARGETS,
    base_text,
    caption,
    contradicts,
    draw_people,
    is_held_out,
    is_true,
    target_index,
    target_text,
)
from spf.text import Prompt, phrases


def test_the_world_is_as_large_as_promised() -> None:
    at_least = {"hair_style": 5, "hair_colour": 5, "skin": 5, "garment": 4, "garment_colour": 6, "background": 4,
                "background_colour": 6}
    assert all(len(ATTRIBUTES[name]) >= count for name, count in at_least.items())
    assert len(IDENTITY) == 9 and len(NUISANCE["home"]) == len(NUISANCE["away"]) == 6 and len(TARGETS) >= 12


def test_a_person_is_a_pure_function_of_seed_and_place() -> None:
    assert draw_people(3, 5, start=4)[0] == draw_people(7, 5)[4]
    assert draw_people(1, 5)[0] != draw_people(1, 6)[0]


def test_a_tenth_of_the_combinations_is_held_out_of_training() -> None:
    names = ("hair_style", "hair_colour", "garment", "garment_colour")
    combinations = [dict(zip(names, values, strict=True)) for values in product(*(ATTRIBUTES[n] for n in names))]
    share = np.mean([is_held_out(combination) for combination in combinations])
    assert 0.08 < share < 0.12
    assert not any(is_held_out(p.attributes) for p in draw_people(200, 1))
    assert all(is_held_out(p.attributes) for p in draw_people(50, 1, held_out=True))


def test_the_away_studio_differs_in_named_and_in_unnamed_things() -> None:
    home, away = draw_people(300, 2), draw_people(300, 2, studio="away")
    warm = [np.mean([p.attributes["background_colour"] in ("orange", "pink") for p in s]) for s in (home, away)]
    assert warm[0] < 0.45 and warm[1] > 0.75
    assert min(p.nuisance["zoom"] for p in away) > max(p.nuisance["zoom"] for p in home)


def test_the_base_text_has_a_phrase_for_every_attribute() -> None:
    person = draw_people(1, 3)[0]
    text = base_text(person)
    assert all(word in text for name, value in person.attributes.items() for word in value.split())
    assert len(phrases(Prompt(text))) == len(PHRASES)


def test_captions_vary_in_wording_order_and_length() -> None:
    person = draw_people(1, 3)[0]
    texts = {caption(person, np.random.default_rng(seed)).text for seed in range(60)}
    assert len(texts) > 50
    assert len({text.count(",") for text in texts}) >= 4


def test_claims_say_what_the_words_say() -> None:
    person = draw_people(1, 3, ("hat",))[0]
    rng = np.random.default_rng(0)
    assert caption(person, rng, ("skin",)).claims.tolist() == [-1, -1, -1, person.labels()[3], -1, -1, -1, -1, -1]
    alone = caption(person, rng, (), with_target=True)
    assert alone.text in TARGETS["hat"] and alone.claims[-1] == target_index("hat") == 1


def test_truth_of_captions_is_known() -> None:
    people = draw_people(40, 4, (None, "hat", "glasses"))
    labels = np.stack([p.labels() for p in people])
    own = np.stack([caption(p, np.random.default_rng(i), with_target=True).claims for i, p in enumerate(people)])
    assert is_true(own, labels).diagonal().all()
    hats = caption(people[1], np.random.default_rng(0), (), with_target=True).claims[None]
    assert is_true(hats, labels)[:, 0].tolist() == [p.target == "hat" for p in people]


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_can_be_taken_off(target: str) -> None:
    person = draw_people(1, 6, (target,))[0]
    plain = person.without_target()
    assert plain.target is None and plain.identity == person.identity and target_text(target) and not target_text(None)


def test_what_a_target_hides_is_neither_true_nor_false() -> None:
    mohawk, plain = (draw_people(1, 5, (target,))[0] for target in ("mohawk", None))
    seen = np.stack([person.visible_labels() for person in (mohawk, plain)])
    assert seen[0].tolist()[1:3] == [-1, -1] and (seen[1] == plain.labels()).all()
    hair = caption(mohawk, np.random.default_rng(0), ("hair",)).claims[None]
    other = np.where(hair >= 0, (hair + 1) % 5, -1)
    for claims in (hair, other):
        assert not is_true(claims, seen)[0, 0] and not contradicts(claims, seen)[0, 0]
    assert is_true(hair, seen)[1, 0] and contradicts(other, seen)[1, 0]
