"""Who is asked for what: a person whom no training has seen, a target, a seed."""

from collections.abc import Sequence
from dataclasses import dataclass

from spf.miniature.people import PHRASE_PARTS, Person, base_text, draw_people, phrase, target_text
from spf.text import Prompt

TARGETS = ("hat", "glasses", "scarf", "beard")
SEEDS = {"validation": 410_000, "test": 420_000, "fresh": 430_000}
"""Of the people and of their noise. Scales are found on validation; test is read once; fresh is for a hurry."""


@dataclass(frozen=True)
class Triple:
    """Base text, target text, seed; ``prompt`` holds both texts and the five phrases of the base text."""

    person: Person
    target: str
    seed: int

    @property
    def prompt(self) -> Prompt:
        """Canonical wording."""
        phrases = tuple(phrase(self.person, name) for name in PHRASE_PARTS)
        return Prompt(base_text(self.person), target_text(self.target), phrases)


def draw_triples(split: str, count: int) -> list[Triple]:
    """``count`` triples of a split, the targets in turn; the i-th does not depend on ``count``."""
    start = SEEDS[split]
    people = draw_people(count, start, held_out=True)
    return [Triple(person, TARGETS[i % len(TARGETS)], start + i) for i, person in enumerate(people)]


def prompts(triples: Sequence[Triple]) -> list[Prompt]:
    """Their full prompts."""
    return [triple.prompt for triple in triples]
