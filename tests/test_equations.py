"""Every equation of the paper is found in the code by its number: where it is said, and where it is computed.

The map, in the order of the paper: pytest -s tests/test_equations.py
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house import MODULES, ROOT, syntax

PAPER = range(1, 19)
COMPUTED_BY_ANOTHER = {4: 8, 16: 5, 18: 7}
"""Eq. 4 is Eq. 8 where nothing is controlled, Eq. 16 and 18 are Eq. 5 and 7 of a flow: none has code of its own."""

CITATION = re.compile(r"\bEqs?\. (\d+(?:(?:, | and | to )\d+)*)")
BANNER = re.compile(r"# ---- (.+)")
ROOM = "__init__.py"  # says what all of a room is about, no function of it

Owner = ast.Module | ast.ClassDef | ast.FunctionDef


def cited(text: str) -> set[int]:
    """The numbers of the equations that a text names; "Eq. 9 to 11" names three."""
    found: set[int] = set()
    for numbers in CITATION.findall(" ".join(text.split())):
        for part in re.split(r", | and ", numbers):
            ends = [int(number) for number in part.split(" to ")]
            found.update(range(ends[0], ends[-1] + 1))
    return found


def owners(tree: ast.Module) -> Iterator[tuple[str, Owner]]:
    """The module (by no name), its classes and its functions, with their qualified names."""
    def below(node: ast.AST, inside: str) -> Iterator[tuple[str, Owner]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef):
                name = f"{inside}.{child.name}".lstrip(".")
                yield name, child
                yield from below(child, name)
            else:
                yield from below(child, inside)

    yield "", tree
    yield from below(tree, "")


def said(tree: ast.Module) -> dict[str, set[int]]:
    """Owner -> the equations that its docstring cites."""
    return {name: cited(ast.get_docstring(owner) or "") for name, owner in owners(tree)}


def computed(source: str) -> dict[str, set[int]]:
    """Owner -> the equations whose banner stands in its lines; the innermost owner has it."""
    found: dict[str, set[int]] = defaultdict(set)
    inner = list(owners(ast.parse(source)))[1:]
    for number, line in enumerate(source.splitlines(), 1):
        if banner := BANNER.search(line):
            around = [name for name, owner in inner if owner.lineno <= number <= owner.end_lineno]
            found[max(around, key=len, default="")] |= cited(banner[1])
    return found


def where(file: Path, owner: str) -> str:
    return f"{file}:{owner}".rstrip(":")


def by_equation(places: dict[str, set[int]]) -> dict[int, list[str]]:
    return {number: sorted(place for place, numbers in places.items() if number in numbers) for number in PAPER}


SAID = {where(file, owner): numbers for file in MODULES if file.name != ROOM
        for owner, numbers in said(syntax(file)).items()}
COMPUTED = {where(file, owner): numbers for file in MODULES
            for owner, numbers in computed((ROOT / file).read_text(encoding="utf-8")).items()}


@pytest.mark.parametrize("number", PAPER)
def test_an_equation_is_cited_in_a_docstring_and_has_a_banner_where_it_is_computed(number: int) -> None:
    computing, saying = by_equation(COMPUTED)[COMPUTED_BY_ANOTHER.get(number, number)], by_equation(SAID)[number]
    print("", f"Eq. {number}", *(f"    computed  {place}" for place in computing),
          *(f"    cited     {place}" for place in saying), sep="\n")
    assert saying and computing


@pytest.mark.parametrize("place", sorted(COMPUTED))
def test_what_has_a_banner_says_so_in_a_docstring(place: str) -> None:
    """Its own, or that of its class or its module."""
    file, _, owner = place.partition(":")
    parts = owner.split(".")
    around = [where(Path(file), ".".join(parts[:depth])) for depth in range(len(parts) + 1)]
    assert COMPUTED[place] <= set().union(*(SAID[one] for one in around))


def test_citations_are_read() -> None:
    assert cited("Eq. 3, 4, 8") == {3, 4, 8}
    assert cited("(Eq. 9 to 11); Eqs. 1 and 2, and 5 apples") == {1, 2, 9, 10, 11}
    assert cited("as in\n    Eq.\n    12.") == {12}
    assert cited("SEq. 3, equation 4, Table 5") == set()


def test_the_innermost_owner_has_the_banner() -> None:
    source = "class A:\n    def b(self):\n        # ---- Eq. 2: x; Eq. 3: y ----\n        return 1\n# ---- Eq. 1 ----\n"
    assert computed(source) == {"A.b": {2, 3}, "": {1}}
    assert said(ast.parse('"""Eq. 1."""\nclass A:\n    """Eq. 2."""')) == {"": {1}, "A": {2}}
