"""The plane of purity: its triples, judge, fractions, curve and small differences, on numbers known beforehand."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spf.backbones import BASES, Backbone, load_backbone
from spf.miniature.painter import paint
from spf.miniature.people import draw_people
from spf.miniature.reader import Reader
from spf.text import Prompt
from tests.house import ROOT


@pytest.fixture(autouse=True)
def plane(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("miniature")


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader.load(BASES["miniature"])


def judgement(accuracy: Sequence[float], preservation: Sequence[float], identity: Sequence[float]) -> Any:
    from plane.judge import Judgement

    return Judgement(*map(torch.tensor, (accuracy, preservation, identity, preservation)))


def placed(**judged: Any) -> dict[str, Any]:
    from plane.standing import Sheet, standings

    free = [name for name in judged if name.startswith("free")]
    return standings(judged, free, "stage1", "painted", Sheet.draw(len(judged["stage1"].accuracy)))


def test_triples_are_a_pure_function_of_split_and_place() -> None:
    from plane.triples import SEEDS, TARGETS, draw_triples

    some = {split: draw_triples(split, 8) for split in SEEDS}
    assert some["test"][:4] == draw_triples("test", 4)
    assert [triple.target for triple in some["test"]] == [*TARGETS, *TARGETS]
    texts = [{triple.prompt.base_text for triple in triples} for triples in some.values()]
    seeds = [{triple.seed for triple in triples} for triples in some.values()]
    assert all(not a & b for sets in (texts, seeds) for a, b in zip(sets, [*sets[1:], sets[0]], strict=True))
    prompt = some["fresh"][0].prompt
    assert len(prompt.phrases) == 5 and prompt.full_text == f"{prompt.base_text}, wearing a brown hat"


def test_what_is_recovered_is_nothing_for_stage_1_and_all_for_the_painted() -> None:
    noise = torch.rand(24, generator=torch.Generator().manual_seed(0)) * 0.1
    rows = {"stage1": 0.6, "painted": 0.2, "half": 0.4}
    found = placed(**{name: judgement([1.0, 0.0] * 12, (d + noise).tolist(), (2 * d + noise).tolist())
                      for name, d in rows.items()})
    for name, share in {"stage1": 0, "painted": 1, "half": 0.5}.items():
        both = torch.tensor([*found[name].preservation, *found[name].identity])
        assert torch.allclose(both, torch.tensor(float(share)), atol=1e-5)  # paired: the noise cancels everywhere
        assert tuple(found[name].accuracy_gain) == (0, 0, 0) and found[name].accuracy.value == 0.5


def test_the_bootstrap_has_the_width_of_the_standard_error() -> None:
    from plane.standing import Sheet, interval

    column = torch.randn(96, generator=torch.Generator().manual_seed(0))
    found = interval(Sheet.draw(96).means(column))
    assert found.value == pytest.approx(float(column.mean())) and found == interval(Sheet.draw(96).means(column))
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * float(column.std()) / 96**0.5, rel=0.06)


def test_the_curve_joins_the_rivals_that_none_beats_in_both() -> None:
    from plane.standing import curve

    rivals = [(0.0, 1.0), (0.0, 0.7), (0.4, 0.8), (0.3, 0.2), (0.6, 0.1), (0.8, 0.0), (0.8, -0.5)]
    accuracy = torch.tensor([0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0]).double()
    free = [(torch.full_like(accuracy, a), torch.full_like(accuracy, p)) for a, p in rivals]
    expected = torch.tensor([1.0, 0.9, 0.85, 0.8, 0.45, 0.1, 0.05, 0.0, 0.0]).double()
    assert torch.allclose(curve(accuracy, free), expected)
    assert torch.allclose(curve(accuracy, free[2:3]), torch.tensor(0.8).double())


def test_the_height_is_taken_over_the_curve_at_the_rows_accuracy() -> None:
    found = placed(stage1=judgement([1.0] * 8, [0.5] * 8, [0.5] * 8),
                   painted=judgement([1.0] * 8, [0.1] * 8, [0.1] * 8),
                   free=judgement([0.0] * 8, [0.1] * 8, [0.1] * 8),
                   row=judgement([1.0, 0.0] * 4, [0.2] * 8, [0.3] * 8))
    assert found["row"].preservation.value == pytest.approx(0.75)
    assert found["row"].height.value == pytest.approx(0.25, abs=0.01)  # the chord from (0,1) to (1,0)
    assert found["row"].height.low < 0.25 < found["row"].height.high
    assert found["stage1"].height.value == pytest.approx(0)


def test_the_judge_knows_the_original_and_the_painted_target(backbone: Backbone, reader: Reader) -> None:
    from card.networks import decoded
    from plane.judge import Judge
    from plane.triples import TARGETS

    originals = decoded(backbone, paint(draw_people(16, 5, held_out=True))).clamp(0, 1)
    judge = Judge(reader, originals, TARGETS * 4)
    same, painted = judge.judge(originals), judge.judge(judge.painted(backbone))
    assert float(same.preservation.max()) == 0 and float(same.identity.abs().max()) < 1e-5
    assert float(same.accuracy.mean()) < 0.1
    assert float(painted.accuracy.mean()) > 0.85 and float(painted.preservation.mean()) < 0.02
    others = judge.judge(originals.roll(1, 0))
    assert float(others.preservation.mean()) > 5 * float(painted.preservation.mean())
    assert float(others.identity.mean()) > 5 * float(painted.identity.mean())
    assert 0.5 < float(judge.outside.mean()) < 1


def test_a_difference_comes_back_small_and_near(tmp_path: Path) -> None:
    from plane.differences import apply_difference, save_difference
    from safetensors.torch import load_file

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 32))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    after = {name: value + 0.01 * torch.randn_like(value) * name.startswith("0") for name, value in before.items()}
    save_difference(before, after, tmp_path / "small.safetensors")
    stored = load_file(tmp_path / "small.safetensors")
    assert set(stored) == {"0.weight", "0.weight.scale", "0.bias", "0.bias.scale"}
    assert stored["0.weight"].dtype == torch.float8_e4m3fn
    assert [file.name for file in tmp_path.iterdir()] == ["small.safetensors"]
    apply_difference(model, tmp_path / "small.safetensors")
    for name, value in model.state_dict().items():
        true = after[name] - before[name]
        bound = true.abs() / 16 + true.abs().max() * 2.0**-18 + 1e-7  # 3 bits of mantissa, the finest step, float32
        assert bool(((value - after[name]).abs() <= bound).all()), name


def test_a_difference_of_low_rank_is_smaller_and_the_nearest(tmp_path: Path) -> None:
    from plane.differences import apply_difference, save_difference

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(16, 32, 3), nn.Linear(4, 4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    change = torch.randn(32, 3) @ torch.randn(3, 144)  # what has that rank comes back whole, but for its 8 bits
    after = {**before, "0.weight": before["0.weight"] + change.view(32, 16, 3, 3), "1.bias": before["1.bias"] + 1}
    sizes = {}
    for name, rank in (("whole", None), ("low", 3)):
        save_difference(before, after, tmp_path / name, rank)
        sizes[name] = (tmp_path / name).stat().st_size
    assert sizes["low"] < 0.3 * sizes["whole"]
    apply_difference(model, tmp_path / "low")
    found = {name: value - before[name] for name, value in model.state_dict().items()}
    assert float((found["0.weight"].flatten(1) - change).norm() / change.norm()) < 0.05
    assert torch.allclose(found["1.bias"], torch.ones(4), rtol=0.07) and not found["1.weight"].any()


def test_a_difference_of_another_model_changes_nothing(tmp_path: Path) -> None:
    from plane.differences import apply_difference, save_difference

    model, other = nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    file = tmp_path / "other.safetensors"
    save_difference({n: v + 1 for n, v in other.state_dict().items()}, other.state_dict(), file)
    with pytest.raises(ValueError, match="other.safetensors does not fit the model: 0.bias"):
        apply_difference(model, file)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with pytest.raises(ValueError, match="two models"):
        save_difference(before, other.state_dict(), file)
    with pytest.raises(FileNotFoundError, match="--ship"):
        apply_difference(model, tmp_path / "absent.safetensors")


def test_the_stopping_rule_takes_the_first_step_at_nine_tenths_of_the_plateau(tmp_path: Path) -> None:
    from plane.stopping import pick, step_checkpoints

    assert pick({50: 0.1, 100: 0.69, 150: 0.73, 200: 0.7, 250: 0.8, 300: 0.85, 350: 0.75}) == 150
    for name in ("epoch=1-step=100", "epoch=0-step=50", "last"):
        (tmp_path / f"{name}.ckpt").touch()
    assert list(step_checkpoints(tmp_path)) == [50, 100]
    with pytest.raises(ValueError, match="no checkpoint"):
        step_checkpoints(tmp_path / "empty")


def test_quick_says_in_one_line_that_nothing_is_shipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import purity

    monkeypatch.setattr(purity, "SHIPPED", tmp_path)
    monkeypatch.setattr("sys.argv", ["purity.py", "--quick"])
    with pytest.raises(SystemExit, match="stage1.safetensors is absent.*--ship") as exit:
        purity.main()
    assert "\n" not in str(exit.value)


class Painter:
    """In place of sampling: people of the texts' seeds, in another light where a target is asked for."""

    calls = 0

    def __call__(self, model: Backbone, prompts: Sequence[Prompt], seeds: Sequence[int], **_: Any) -> Tensor:
        self.calls += 1
        image = torch.cat([paint(draw_people(1, seed)) for seed in seeds])
        shift = sum(float(value.sum()) for value in model.denoiser.state_dict().values()) % 1
        return image * (0.3 + 0.5 * shift) if prompts[0].target_text else image


def test_the_plane_is_written_and_made_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, backbone: Backbone,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    import purity

    tuned, painter = backbone.frozen_copy(), Painter()
    next(iter(tuned.denoiser.parameters())).add_(0.01)
    for name, double in (("purity.load_customised", lambda _: (backbone, tuned)), ("plane.album.generate", painter)):
        monkeypatch.setattr(name, double)
    monkeypatch.setattr("sys.argv", ["purity.py", "--stage1", "a.ckpt", "--row", "ours=step=2.ckpt", "--ours", "ours",
                                     "--count", "4", "--out", str(tmp_path)])
    purity.main()
    assert painter.calls == 6  # originals, stage 1 (and the row: the same weights), original on full text, three shares
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(last) == {"ours"} and last["ours"]["preservation"] == [0, 0, 0]
    purity.main()
    assert painter.calls == 6
    numbers = json.loads((tmp_path / "validation" / "ours.json").read_text())
    assert len(numbers["preservation"]) == 4 and numbers["targets"][0] == "hat"
    assert "| painted |" in (tmp_path / "purity.md").read_text()
    assert all((tmp_path / name).is_file() for name in ("plane.png", "portraits.png"))
