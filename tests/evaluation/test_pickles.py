import os
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from spf.evaluation.pickles import convert_mps

GONE = """
from torch import nn, ones, arange, zeros, half
from torch.nn import functional as F

class Config:
    def __init__(self):
        self.dtype, self.names = half, {1: "one"}

class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 3)
        self.act = F.gelu
        self.register_buffer("kept", arange(4.0))
        self.register_buffer("passing", zeros(5), persistent=False)
        self.register_buffer("nothing", None)

class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.config, self.things = Config(), {"a", "b"}
        self.scale = nn.Parameter(ones(()))
        self.parts = nn.ModuleList([Part(), nn.Sequential(nn.GELU(), nn.LayerNorm(2))])
        self.tied = self.parts[0].linear
        self.absent = None
"""


@pytest.fixture
def whole_module() -> Iterator[nn.Module]:
    """A module of a package that is there while it is pickled, and then gone."""
    package = types.ModuleType("trainer_gone")
    sys.modules["trainer_gone"] = package
    exec(GONE, package.__dict__)
    yield package.Whole().half()
    sys.modules.pop("trainer_gone", None)


def test_a_module_without_its_code_becomes_its_tensors(whole_module: nn.Module, tmp_path: Path,
                                                       capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(whole_module, tmp_path / "whole.pth")
    del sys.modules["trainer_gone"]
    with pytest.raises(ModuleNotFoundError):
        torch.load(tmp_path / "whole.pth", weights_only=False)
    count = convert_mps(tmp_path / "whole.pth", tmp_path / "new" / "whole.safetensors")
    written, wanted = load_file(tmp_path / "new" / "whole.safetensors"), whole_module.state_dict()
    assert written.keys() == wanted.keys() and count == len(wanted) == 8 and "parts.0.kept" in written
    assert all(torch.equal(written[key], value) and written[key].dtype is torch.half for key, value in wanted.items())
    assert f"8 tensors of {tmp_path / 'whole.pth'}" in capsys.readouterr().out
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["whole.safetensors"]


class Call:
    """Pickled as the order to call something."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.order = function, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.order


@pytest.mark.parametrize(("function", "args", "named"), [
    (os.system, "touch {}", "system"),
    (subprocess.check_call, ["touch", "{}"], "asks to call .*check_call"),
    (eval, "__import__('pathlib').Path('{}').touch()", "asks to call builtins.eval"),
])
@pytest.mark.parametrize("inside", [True, False])
def test_nothing_that_a_file_asks_for_is_called(function: Callable[..., Any], args: str | list[str], named: str,
                                                inside: bool, tmp_path: Path) -> None:
    marker, file, out = tmp_path / "marker", tmp_path / "evil.pth", tmp_path / "evil.safetensors"
    order = args.format(marker) if isinstance(args, str) else [part.format(marker) for part in args]
    module = nn.Linear(2, 2)
    module.evil = Call(function, order)
    torch.save(module if inside else module.evil, file)
    with pytest.raises(ValueError, match=named) as refused:
        convert_mps(file, out)
    assert not marker.exists() and not out.exists() and "\n" not in str(refused.value)
    torch.load(file, weights_only=False)
    assert marker.exists(), "the file does nothing even where it may"


def test_other_files_are_named(tmp_path: Path) -> None:
    file, out = tmp_path / "other.pth", tmp_path / "out.safetensors"
    with pytest.raises(FileNotFoundError, match="other.pth"):
        convert_mps(file, out)
    for content in ({"weight": torch.ones(2)}, [F.gelu], torch.ones(2)):
        torch.save(content, file)
        with pytest.raises(ValueError, match="holds no pickled module"):
            convert_mps(file, out)
    torch.save(nn.Linear(2, 2), file)
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(ValueError, match="is not read"):
        convert_mps(file, out)
    file.write_bytes(b"no file of torch's")
    with pytest.raises(ValueError, match="is not read"):
        convert_mps(file, out)
    assert not out.exists()
