from pathlib import Path

import pytest
from PIL import Image

from spf.miniature.people import TARGETS
from spf.miniature.sheet import world


def test_the_world_is_printed_and_painted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world(tmp_path, resolution=32)
    printed = capsys.readouterr().out
    assert all(target in printed for target in TARGETS) and "hair_colour: black, brown" in printed
    for name in ("home", "away", "targets"):
        assert Image.open(tmp_path / f"{name}.png").convert("L").getextrema() != (255, 255)
