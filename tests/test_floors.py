"""Floors only look down: a room imports from lower floors, and never from a sibling."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house import MODULES, module_name, syntax

FLOORS: tuple[tuple[str, ...], ...] = (
    ("notation", "files"),
    ("text", "clip", "pictures"),
    ("backbones", "portraits", "miniature"),
    ("method", "tuning", "sampling"),
    ("baselines", "customised"),
    ("stages", "evaluation", "report", "curation", "study"),
    ("figures",),
    ("cli",),
    ("__main__",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
READABLE_ALONE = {"method": {"notation", "torch"}}
"""Rooms that import nothing but these and the standard library, so that they are read and tested without the rest."""


def room_of(module: str) -> str:
    """spf.backbones.unet -> backbones; the package itself has no room."""
    return (module.split(".") + [""])[1]


def imports(tree: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    """Every module that is imported, wherever the import stands; ``from spf import a`` gives spf.a."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{source}.{alias.name}" if source == "spf" else source for alias in node.names)


def breach(importer: str, imported: str) -> str | None:
    """Why the import must not be, or None."""
    here, package = room_of(importer), imported.split(".")[0]
    if package != "spf":
        own = READABLE_ALONE.get(here, {package})
        return None if package in own | sys.stdlib_module_names else f"{here} may import only {sorted(own)}"
    there = room_of(imported)
    if not there:
        return f"{importer} imports the package as a whole"
    if here in READABLE_ALONE and there not in READABLE_ALONE[here] | {here}:
        return f"{here} may import only {sorted(READABLE_ALONE[here])}"
    allowed = here == there or FLOOR_OF[there] < FLOOR_OF[here]
    return None if allowed else f"{here} (floor {FLOOR_OF[here]}) imports {there} ({FLOOR_OF[there]})"


def breaches(source: ast.AST, module: str, is_package: bool) -> list[str]:
    found = (breach(module, imported) for imported in imports(source, module, is_package))
    return [reason for reason in found if reason]


@pytest.mark.parametrize("file", MODULES, ids=str)
def test_imports_look_down(file: Path) -> None:
    module = module_name(file)
    if module == "spf":
        assert not list(imports(syntax(file), module, True)), "the docstring of spf imports nothing"
        return
    assert room_of(module) in FLOOR_OF, f"{file} stands on no floor: give its room one in FLOORS and in house.md"
    assert breaches(syntax(file), module, file.name == "__init__.py") == []


@pytest.mark.parametrize(("module", "line"), [
    ("spf.notation", "from spf.text import Prompt"),
    ("spf.text", "from spf import clip"),
    ("spf.backbones.unet", "import spf.sampling"),
    ("spf.backbones.unet", "from ..portraits import reader"),
    ("spf.miniature.vae", "def late():\n    from spf.backbones import load_backbone"),
    ("spf.stages.fine_tuning", "from spf.evaluation.suite import PortraitEvaluation"),
    ("spf.method.sfcm", "from spf.text import Prompt"),
    ("spf.method.sfcm", "from diffusers import UNet2DConditionModel"),
    ("spf.sampling", "import spf"),
])
def test_a_breach_is_found(module: str, line: str) -> None:
    assert len(breaches(ast.parse(line), module, False)) == 1


@pytest.mark.parametrize(("module", "line"), [
    ("spf.method.sfcm", "import math\nimport torch.nn\nfrom spf.notation import Step\nfrom spf.method import response"),
    ("spf.backbones.unet", "from . import base\nfrom .base import Backbone\nfrom spf.text import Prompt"),
    ("spf.__main__", "from spf import sampling\nfrom spf.stages.fine_tuning import StandardFineTuning"),
])
def test_looking_down_is_allowed(module: str, line: str) -> None:
    assert breaches(ast.parse(line), module, False) == []


def asks_what_it_is(call: ast.Call) -> bool:
    """hasattr(anything, ...), or isinstance about a backbone: what the four questions of Backbone make needless."""
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    names = {node.id for node in ast.walk(call) if isinstance(node, ast.Name)}
    names |= {node.attr for node in ast.walk(call) if isinstance(node, ast.Attribute)}
    return name == "hasattr" or name == "isinstance" and any("backbone" in word.lower() for word in names)


@pytest.mark.parametrize("file", [file for file in MODULES if "backbones" not in file.parts], ids=str)
def test_nobody_asks_a_backbone_what_it_is(file: Path) -> None:
    calls = (node for node in ast.walk(syntax(file)) if isinstance(node, ast.Call))
    assert [ast.unparse(call) for call in calls if asks_what_it_is(call)] == []


def test_the_question_is_recognised() -> None:
    def asked(line: str) -> bool:
        return asks_what_it_is(ast.parse(line, mode="eval").body)

    assert asked("hasattr(model, 'unet')") and asked("isinstance(model, UNetBackbone)")
    assert asked("isinstance(self.backbone, backbones.unet.Any)") and not asked("isinstance(image, Tensor)")


BLIND = {"method", "stages", "evaluation"}
"""Rooms that work for every backbone alike, and so name none; what they are told of one is in its docstrings."""
ARCHITECTURE = re.compile(r"unet|mm-?dit|transformer_blocks|attn2|sd_?1\.?5|sd_?3|stable.?diffusion", re.IGNORECASE)


def words(tree: ast.AST) -> Iterator[str]:
    """Every name and text of a module, docstrings aside."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if id(node) not in docstrings:
            yield from (value for _, value in ast.iter_fields(node) if isinstance(value, str))


@pytest.mark.parametrize("file", [file for file in MODULES if room_of(module_name(file)) in BLIND], ids=str)
def test_no_backbone_is_named_where_all_are_alike(file: Path) -> None:
    assert [word for word in words(syntax(file)) if ARCHITECTURE.search(word)] == []


@pytest.mark.parametrize("line", ["from spf.backbones.unet import UNetBackbone", "layer = 'attn2'", "model.sd35m()",
                                  "def f(mmdit: int) -> None: ...", "say(pipeline='StableDiffusion3Pipeline')"])
def test_a_named_backbone_is_found(line: str) -> None:
    assert any(map(ARCHITECTURE.search, words(ast.parse(line))))
    assert not any(map(ARCHITECTURE.search, words(ast.parse('"""Of a UNet."""\nx = backbone.denoise(x_t)'))))
