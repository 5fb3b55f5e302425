"""``spf doctor`` asks what to look at; of a training it prints a table and a verdict."""

import pytest

from spf.__main__ import main
from spf.cli import doctor
from spf.stages.memory import Footprint

GIB = 2**30
SMALL = ["doctor", "--fit", "-c", "experiments/miniature/stage1.yaml"]


@pytest.fixture
def of_ten(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Every training takes 10 GiB; the arguments of those that were estimated."""
    asked = list[list[str]]()
    found = Footprint({"denoiser": 4 * GIB}, GIB, 2 * GIB, 0, 3 * GIB)
    monkeypatch.setattr(doctor, "estimate", lambda training: asked.append(training) or found)
    return asked


def test_the_table_has_a_verdict_where_the_memory_is_known(of_ten: list, capsys: pytest.CaptureFixture[str]) -> None:
    main([*SMALL, "--memory", "12", "--data.train_batch_size", "4"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3].split() == ["sum", "10.00", "GiB"] and lines[-2].endswith("1.00 GiB more on each")
    assert lines[-1].startswith("fits into 12 GiB")
    assert of_ten == [[*SMALL[2:], "--data.train_batch_size", "4"]]


def test_without_a_memory_there_is_no_verdict(of_ten: list, capsys: pytest.CaptureFixture[str],
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    main(SMALL)
    assert "fit" not in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "complaint"), [
    (["doctor"], "one of the arguments --eval --fit is required"),
    (["doctor", "--eval", "--fit"], "not allowed with"),
    (["doctor", "--eval", "--wieghts", "here"], "unrecognized arguments: --wieghts here"),
    ([*SMALL, "--model.learning_rat", "1"], "learning_rat"),
])
def test_a_misspelt_option_is_said(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert complaint in capsys.readouterr().err


def test_a_memory_is_positive() -> None:
    with pytest.raises(SystemExit, match="--memory is the device's memory in GiB, such as 24, not 0"):
        main([*SMALL, "--memory", "0"])
