"""Who is painted and what is said of them: identities, attributes, nuisance, targets, captions, the two studios.

A person is identity (no text names it), attributes (the base text names them), nuisance (never named) and at most one
target. ``python -m spf portraits world`` prints all of it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "gender": ("woman", "man"),
    "hair_style": ("short", "long", "bob", "curly", "bun"),
    "hair_colour": ("black", "brown", "blonde", "red", "gray"),
    "skin": ("pale", "fair", "tan", "brown", "dark"),
    "garment": ("shirt", "jacket", "sweater", "dress"),
    "garment_colour": ("red", "blue", "green", "white", "brown", "yellow"),
    "background": ("wall", "curtain", "window", "gradient"),
    "background_colour": ("gray", "teal", "pink", "orange", "purple", "cream"),
}
"""Named in the base text; a value's place in its tuple is its index in every label vector."""

IDENTITY: Mapping[str, tuple[float, float]] = {
    "face_width": (0.33, 0.41),
    "face_height": (0.44, 0.52),
    "jaw": (0.0, 0.14),
    "eye_spacing": (0.150, 0.190),
    "eye_size": (0.078, 0.098),
    "iris": (0.0, 1.0),
    "nose": (0.08, 0.15),
    "mouth": (0.09, 0.16),
    "brow": (0.026, 0.042),
}
"""What makes a person that person; lengths in half images, ``iris`` from dark brown (0) over green to blue (1)."""

NUISANCE: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "home": {
        "offset_x": (-0.10, 0.10),
        "offset_y": (-0.04, 0.10),
        "zoom": (1.02, 1.16),
        "tilt": (-0.14, 0.14),
        "light": (-0.6, 0.6),
        "expression": (-0.03, 0.09),
    },
    "away": {
        "offset_x": (-0.10, 0.10),
        "offset_y": (0.08, 0.20),
        "zoom": (1.24, 1.40),
        "tilt": (0.10, 0.26),
        "light": (0.6, 1.0),
        "expression": (-0.03, 0.09),
    },
}
"""Never named: offset and zoom of the crop (half images, ratio), tilt (radians), light from the side, smile."""

AWAY_BACKGROUND_COLOURS = ("orange", "pink")
AWAY_SHARE = 0.8

TARGETS: Mapping[str, tuple[str, ...]] = {
    "hat": ("wearing a brown hat", "with a brown hat on the hair"),
    "glasses": ("wearing round glasses", "with round glasses"),
    "scarf": ("wearing a striped scarf", "with a striped scarf"),
    "earrings": ("wearing gold earrings", "with big gold earrings"),
    "bear": ("holding a toy bear", "with a toy bear"),
    "freckles": ("with freckled skin", "with freckles on the skin"),
    "old": ("in old age with wrinkled skin and white hair", "an old person with white hair"),
    "makeup": ("wearing bold makeup", "with bold makeup on the face"),
    "beard": ("with a full beard of facial hair", "with a thick beard"),
    "mohawk": ("with blue mohawk hair", "with a blue mohawk hairstyle"),
    "armour": ("wearing shining armour", "in a suit of armour"),
    "laughing": ("laughing with an open mouth", "laughing out loud"),
    "pencil": ("in pencil drawing style", "as a pencil drawing"),
}
"""What stage 1 teaches, never seen by the base UNet: the first wording is the canonical one."""

EVERYTHING = (None, None, None, *TARGETS)
"""What the general models are trained on: each target, and people without one."""

PHRASES: Mapping[str, tuple[str, ...]] = {
    "subject": ("a {gender}", "a portrait of a {gender}", "a painting of a {gender}"),
    "hair": ("with {hair_style} {hair_colour} hair", "{hair_colour} hair in a {hair_style} cut"),
    "skin": ("with {skin} skin", "{skin} skin"),
    "clothing": ("in a {garment_colour} {garment}", "wearing a {garment_colour} {garment}",
                 "a {garment_colour} {garment}"),
    "setting": ("with a {background_colour} {background} background", "a {background_colour} {background} background",
                "in front of a {background_colour} {background}"),
}
"""Wordings of the base phrases; the first one is the canonical one."""

CLAIMS: Mapping[str, tuple[str, ...]] = {
    "subject": ("gender",), "hair": ("hair_style", "hair_colour"), "skin": ("skin",),
    "clothing": ("garment", "garment_colour"), "setting": ("background", "background_colour"),
}
"""Which attributes a phrase names."""

PHRASE_PARTS: Mapping[str, tuple[str, ...]] = {
    "subject": ("skin", "eyes", "mouth"), "hair": ("hair",), "skin": ("skin",), "clothing": ("clothes",),
    "setting": ("background",),
}
"""Where a phrase is true: the painter's parts that it speaks of."""

HIDES: Mapping[str, tuple[str, ...]] = {
    "armour": ("garment", "garment_colour"), "old": ("hair_colour",), "mohawk": ("hair_style", "hair_colour"),
    "pencil": ("hair_colour", "skin", "garment_colour", "background_colour"),
}
"""Attributes that nobody can see any more under a target."""


@dataclass(frozen=True)
class Person:
    """One portrait's full truth."""

    attributes: Mapping[str, str]
    identity: Mapping[str, float]
    nuisance: Mapping[str, float]
    target: str | None = None
    studio: str = "home"

    @property
    def factors(self) -> dict[str, float]:
        """Identity and nuisance: everything continuous."""
        return {**self.identity, **self.nuisance}

    def without_target(self) -> "Person":
        """The counterfactual: the same person in the same light, without the target."""
        return replace(self, target=None)

    def labels(self) -> np.ndarray:
        """Indices of the attribute values, then of the target (0 = none): (9,) int64."""
        named = [values.index(self.attributes[name]) for name, values in ATTRIBUTES.items()]
        return np.array([*named, target_index(self.target)])

    def visible_labels(self) -> np.ndarray:
        """The labels, -1 where the target hides the attribute."""
        hidden = [name in HIDES.get(self.target or "", ()) for name in ATTRIBUTES]
        return np.where([*hidden, False], -1, self.labels())


@dataclass(frozen=True)
class Caption:
    """Phrases, their names, and what they claim: indices as in ``Person.labels``, -1 where they say nothing."""

    phrases: tuple[str, ...]
    names: tuple[str, ...]
    claims: np.ndarray

    @property
    def text(self) -> str:
        """The caption as a text encoder reads it."""
        return ", ".join(self.phrases)


def target_index(target: str | None) -> int:
    """0 for no target, else its place among the targets, from 1."""
    return 0 if target is None else 1 + list(TARGETS).index(target)


def is_held_out(attributes: Mapping[str, str]) -> bool:
    """True for the 10 % of (hair style, hair colour, garment, garment colour) combinations that no training sees."""
    combination = "|".join(attributes[k] for k in ("hair_style", "hair_colour", "garment", "garment_colour"))
    return hashlib.blake2b(combination.encode(), digest_size=8, key=b"held out").digest()[0] % 10 == 0


def draw_person(rng: np.random.Generator, target: str | None = None, studio: str = "home",
                held_out: bool = False) -> Person:
    """One random person; ``held_out`` chooses on which side of the split the attributes fall."""
    while is_held_out(attributes := _draw_attributes(rng, studio)) != held_out:
        pass
    identity = {name: float(rng.uniform(*bounds)) for name, bounds in IDENTITY.items()}
    nuisance = {name: float(rng.uniform(*bounds)) for name, bounds in NUISANCE[studio].items()}
    return Person(attributes, identity, nuisance, target, studio)


def _draw_attributes(rng: np.random.Generator, studio: str) -> dict[str, str]:
    attributes = {name: str(rng.choice(values)) for name, values in ATTRIBUTES.items()}
    if attributes["gender"] == "man":
        attributes["hair_style"] = str(rng.choice(["short", "curly", "short", "long"]))
        attributes["garment"] = str(rng.choice(["shirt", "jacket", "sweater"]))
    if studio == "away" and rng.random() < AWAY_SHARE:
        attributes["background_colour"] = str(rng.choice(AWAY_BACKGROUND_COLOURS))
    return attributes


def draw_people(count: int, seed: int, targets: tuple[str | None, ...] = (None,), studio: str = "home",
                held_out: bool = False, start: int = 0) -> list[Person]:
    """``count`` people, the i-th a pure function of (seed, start + i); targets take turns."""
    return [draw_person(np.random.default_rng([seed, i]), targets[i % len(targets)], studio, held_out)
            for i in range(start, start + count)]


def phrase(person: Person, name: str, wording: int = 0) -> str:
    """One base phrase ("with long blonde hair")."""
    return PHRASES[name][wording].format(**person.attributes)


def base_text(person: Person) -> str:
    """The canonical base text: every attribute, canonical wording and order."""
    return f"{phrase(person, 'subject')} {phrase(person, 'hair')}, " + ", ".join(
        phrase(person, name) for name in ("skin", "clothing", "setting"))


def target_text(target: str | None) -> str:
    """The canonical target text; "" for none."""
    return TARGETS[target][0] if target else ""


def caption(person: Person, rng: np.random.Generator, names: tuple[str, ...] | None = None,
            with_target: bool = False) -> Caption:
    """A caption in random wording and order; ``names`` are its phrases (default: subject and a random subset)."""
    if names is None:
        rest = [name for name in PHRASES if name != "subject"]
        names = ("subject", *rng.permutation(rest)[: rng.integers(1, len(rest) + 1)])
    texts = [phrase(person, name, int(rng.integers(len(PHRASES[name])))) for name in names]
    claims = np.full(len(ATTRIBUTES) + 1, -1)
    labels = person.labels()
    for name in names:
        for attribute in CLAIMS[name]:
            claims[list(ATTRIBUTES).index(attribute)] = labels[list(ATTRIBUTES).index(attribute)]
    if with_target and person.target:
        texts.append(str(rng.choice(TARGETS[person.target])))
        claims[-1] = labels[-1]
        names = (*names, "target")
    return Caption(tuple(texts), tuple(names), claims)


def is_true(claims: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which caption is true of which portrait: claims (J,9), labels (I,9) -> bool (I,J); what is hidden is not true."""
    return ((claims[None] == -1) | (claims[None] == labels[:, None])).all(-1)


def contradicts(claims: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which caption says something false of which portrait; what is hidden (-1) cannot be contradicted: bool (I,J)."""
    return ((claims[None] != -1) & (labels[:, None] != -1) & (claims[None] != labels[:, None])).any(-1)
