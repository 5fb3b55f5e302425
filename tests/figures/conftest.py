"""A customisation of the tiny SD 1.5, both stages: random, but each stage another model."""

from pathlib import Path
from typing import Any

import pytest
import torch

from spf.backbones import load_backbone
from spf.customised import PREFIX


@pytest.fixture(scope="session")
def stage1(tiny_sd15: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of stage 1."""
    return checkpoint(tiny_sd15, tmp_path_factory.mktemp("stage1") / "last.ckpt", 1, base=str(tiny_sd15))


@pytest.fixture(scope="session")
def stage2(tiny_sd15: Path, stage1: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of stage 2."""
    return aligned(tiny_sd15, stage1, tmp_path_factory.mktemp("stage2") / "last.ckpt", 2)


@pytest.fixture(scope="session")
def vanilla(tiny_sd15: Path, stage1: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another one of stage 2."""
    return aligned(tiny_sd15, stage1, tmp_path_factory.mktemp("vanilla") / "last.ckpt", 3)


def aligned(base: Path, start: Path, file: Path, seed: int) -> Path:
    return checkpoint(base, file, seed, ".attn2.", base=str(base), start=str(start),
                      tuning={"name": "CrossAttention"}, clip="miniature")


def checkpoint(model: Path, file: Path, seed: int, learnt: str = "", **made: Any) -> Path:
    """As ``spf fit`` would leave it: the weights with ``learnt`` in their name, each a little elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    weights = {PREFIX + name: value + 0.05 * torch.randn(value.shape, generator=generator)
               for name, value in load_backbone(model).denoiser.state_dict().items() if learnt in name}
    torch.save({"state_dict": weights, "hyper_parameters": made}, file)
    return file
