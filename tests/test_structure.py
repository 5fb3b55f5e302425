"""What a reader may rely on anywhere in spf: its test stands beside it, it is documented, annotated and short."""

import ast
import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.house import MODULES, ROOT, module_name, syntax

FILE_LINES, FUNCTION_LINES = 250, 45
UNTESTED_BY_NAME = {"__init__.py", "__main__.py"}
ABOUT_THE_WHOLE_HOUSE = {
    Path("tests") / f"test_{subject}.py"
    for subject in ("benchmarks", "comparison", "equations", "experiments", "floors", "laws", "localization", "main",
                    "metering", "plane", "readme", "step_time", "structure", "wheel")
} | {Path("tests/stages/test_survival.py")}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def its_test(module: Path) -> Path:
    """spf/a/b.py -> tests/a/test_b.py."""
    return Path("tests", *module.parts[1:-1], f"test_{module.name}")


EXPECTED_TESTS = {its_test(module) for module in MODULES if module.name not in UNTESTED_BY_NAME}


@pytest.mark.parametrize("test", sorted(EXPECTED_TESTS), ids=str)
def test_every_module_has_its_test(test: Path) -> None:
    assert (ROOT / test).is_file()


def test_no_test_is_an_orphan() -> None:
    present = {file.relative_to(ROOT) for file in (ROOT / "tests").rglob("test_*.py")}
    assert present - EXPECTED_TESTS - ABOUT_THE_WHOLE_HOUSE == set()


def undocumented(owner: Any, module: str) -> Iterator[str]:
    """Public classes and functions defined in ``owner`` without a docstring, neither their own nor an ancestor's."""
    for name, member in vars(owner).items():
        made = definition(member)
        if name.startswith("_") or getattr(made, "__module__", None) != module:
            continue
        if inspect.isclass(made):
            # a dataclass without a docstring is given its own signature for one
            if not made.__doc__ or made.__doc__.startswith(f"{name}("):
                yield made.__qualname__
            yield from undocumented(made, module)
        elif inspect.isfunction(made) and not documented(owner, name):
            yield made.__qualname__


def definition(member: Any) -> Any:
    """The class or function behind a static method, class method, property, cached property or decorator."""
    for wrapping in ("__func__", "fget", "func"):
        member = getattr(member, wrapping, None) or member
    return inspect.unwrap(member)


def documented(owner: Any, name: str) -> bool:
    ancestors = owner.__mro__ if inspect.isclass(owner) else [owner]
    return any(getattr(vars(ancestor).get(name), "__doc__", None) for ancestor in ancestors)


@pytest.mark.parametrize("file", MODULES, ids=str)
def test_everything_public_is_documented(file: Path) -> None:
    name = module_name(file)
    assert ast.get_docstring(syntax(file)), f"{file} does not say what it is"
    assert list(undocumented(import_module(name), name)) == []


def functions(tree: ast.AST) -> list[Function]:
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


def unannotated(function: Function) -> list[str]:
    """The names of what has no type: arguments but self and cls, and ``return``."""
    given = function.args
    arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, [given.vararg, given.kwarg])]
    bare = [argument.arg for argument in arguments if argument.annotation is None]
    return [name for name in bare if name not in ("self", "cls")] + ["return"] * (function.returns is None)


@pytest.mark.parametrize("file", MODULES, ids=str)
def test_everything_is_annotated(file: Path) -> None:
    found = {f"{function.name}, line {function.lineno}": unannotated(function) for function in functions(syntax(file))}
    assert {where: names for where, names in found.items() if names} == {}


@pytest.mark.parametrize("file", MODULES, ids=str)
def test_everything_is_short(file: Path) -> None:
    lines = len((ROOT / file).read_text(encoding="utf-8").splitlines())
    assert lines <= FILE_LINES
    lengths = {function.name: function.end_lineno - function.lineno + 1 for function in functions(syntax(file))}
    assert {name: length for name, length in lengths.items() if length > FUNCTION_LINES} == {}


def test_what_is_missing_is_found() -> None:
    loose, strict = functions(ast.parse("def loose(self, a, *b: int, c=1): ...\ndef strict(a: int) -> None: ..."))
    assert unannotated(loose) == ["a", "c", "return"] and unannotated(strict) == []

    class Documented:
        """Yes."""

        def overridden(self) -> None:
            """Yes."""

    class Partly(Documented):
        """Yes."""

        def overridden(self) -> None: ...

        def new(self) -> None: ...

        @property
        def shown(self) -> int: ...

        @staticmethod
        def free() -> None: ...

    missing = [name.rsplit(".", 1)[-1] for name in undocumented(Partly, __name__)]
    assert missing == ["new", "shown", "free"]
