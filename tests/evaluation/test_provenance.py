"""Where a number comes from."""

import json
import subprocess
from datetime import date
from pathlib import Path

import pytest
import torch

from spf.evaluation.provenance import provenance


def test_date_commit_and_versions() -> None:
    found = provenance()
    assert date.fromisoformat(found["date"]) and found["versions"]["torch"] == torch.__version__.split("+")[0]
    assert all(found["versions"].values()) and json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(("outputs", "commit"), [
    (["abc1234\n", ""], "abc1234"), (["abc1234\n", " M spf/text.py\n"], "abc1234+"), ([], "")])
def test_the_commit_of_a_changed_checkout_says_so(outputs: list[str], commit: str,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    def git(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        assert command[:2] == ["git", "-C"] and (Path(command[2]) / "provenance.py").is_file()
        if not outputs:
            raise subprocess.CalledProcessError(128, command)
        return subprocess.CompletedProcess(command, 0, outputs.pop(0))

    monkeypatch.setattr(subprocess, "run", git)
    assert provenance()["commit"] == commit
