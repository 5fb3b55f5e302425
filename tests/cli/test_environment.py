"""Who started this process."""

import pytest

from spf.cli.environment import slurm
from tests.cli.test_fit import SLURM


def test_slurm_is_known_unless_torchrun_stands_between(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*SLURM, "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    assert slurm() == []
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    found, = slurm()
    assert not found.auto_requeue and found.world_size() == 1 and found.global_rank() == 0
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    assert slurm() == []
