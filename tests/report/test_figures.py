import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from spf.pictures import save_png
from spf.report import figures
from spf.report.figures import fidelity, qualitative, sensitivity
from spf.report.figures_chart import Panel
from tests.figures.looking import places, read

SIDE = 32


def run(folder: Path, row: str, originals: Path, size: int = SIDE, **about: Any) -> str:
    """A run directory as ``spf test`` leaves it, with three portraits."""
    for name in ("t0", "t1", "t2"):
        save_png(torch.rand(3, size, size), folder / "portraits" / f"{name}.png")
    (folder / "manifest.json").write_text(json.dumps({"row": row, "originals": str(originals), **about}))
    return str(folder)


@pytest.fixture
def triples(tmp_path: Path) -> Path:
    """A test set of three."""
    folder, lines = tmp_path / "triples", []
    for name in ("t0", "t1", "t2"):
        save_png(torch.rand(3, SIDE, SIDE), folder / "originals" / f"{name}.png")
        lines.append({"id": name, "file_name": f"originals/{name}.png", "base_text": "a woman", "target_text": "a hat"})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def spot(page: torch.Tensor, file: Path) -> tuple[int, int]:
    found = places(page, read(file) / 255)
    assert len(found) == 1, file
    return found[0]


def test_the_original_stands_first_then_the_methods_a_row_a_triple(triples: Path, tmp_path: Path) -> None:
    rows = [run(tmp_path / name, name, triples) for name in ("lora", "ours")]
    page = read(qualitative(rows, count=2, out=tmp_path / "page.png"))
    spots = [[spot(page, folder / f"{name}.png") for folder in (triples / "originals", *(Path(row) / "portraits"
                                                                                         for row in rows))]
             for name in ("t0", "t1")]
    assert [[x for _, x in row] for row in spots] == [[6, 44, 82]] * 2
    assert len({y for y, _ in spots[0]}) == 1 and spots[0][0][0] < spots[1][0][0]
    assert not places(page, read(triples / "originals" / "t2.png") / 255)


def test_ids_choose_and_order(triples: Path, tmp_path: Path) -> None:
    page = read(qualitative([run(tmp_path / "ours", "ours", triples)], ["t2", "t0"], out=tmp_path / "page.png"))
    assert spot(page, triples / "originals" / "t2.png") < spot(page, triples / "originals" / "t0.png")
    with pytest.raises(ValueError, match="no triple 'tx'"):
        qualitative([str(tmp_path / "ours")], ["tx"])


def test_captions_name_the_target_only_where_it_was_read(triples: Path, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    said = []

    def drawn(images: torch.Tensor, names: tuple[str, ...], captions: list[str]) -> torch.Tensor:
        said.append((names, captions))
        return images[0, 0]

    monkeypatch.setattr(figures, "labelled_grid", drawn)
    for reads in ("full_text", "base_text"):
        qualitative([run(tmp_path / reads, "ours", triples, reads=reads)], count=1, out=tmp_path / "page.png")
    assert said == [(("original", "ours"), ["a woman + a hat"]), (("original", "ours"), ["a woman"])]
    with pytest.raises(ValueError, match="differ in reads: full_text against base_text"):
        qualitative([str(tmp_path / "full_text"), str(tmp_path / "base_text")])


def test_portraits_of_another_size_are_brought_to_the_original(triples: Path, tmp_path: Path) -> None:
    row = run(tmp_path / "theirs", "theirs", triples, size=2 * SIDE)
    page = read(qualitative([row], ["t1"], out=tmp_path / "page.png"))
    smaller = np.array(Image.open(Path(row) / "portraits" / "t1.png").resize((SIDE, SIDE)))
    assert places(page, torch.from_numpy(smaller).permute(2, 0, 1) / 255)


def test_runs_of_two_test_sets_and_missing_portraits_are_named(triples: Path, tmp_path: Path) -> None:
    rows = [run(tmp_path / "a", "a", triples), run(tmp_path / "b", "b", tmp_path / "elsewhere")]
    with pytest.raises(ValueError, match="differ in originals"):
        qualitative(rows)
    (tmp_path / "a" / "portraits" / "t1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"t1\.png.*spf test"):
        qualitative(rows[:1])


def result(file: Path, numbers: dict[str, float], row: str = "ours", test_set: str = "x", **manifest: Any) -> str:
    """A result file as ``spf test`` writes it."""
    content = {
        "row": row, "id": file.stem, "base": "miniature", "absent": {"image_reward": "ImageReward: fetch it"},
        "columns": [{"key": key, "label": key.upper(), "group": "More", "higher_is_better": key != "fid",
                     "decimals": 2} for key in numbers],
        "summary": {key: {"mean": value, "n": 4, "missing": 0, "ci95": [value - 0.1, value + 0.1]}
                    for key, value in numbers.items()},
        "test_set": {"sha256": test_set, "count": 4, "seeds": [0, 3]}, "manifest": {"metrics": {}, **manifest}}
    file.write_text(json.dumps(content))
    return str(file)


@pytest.fixture
def panels(monkeypatch: pytest.MonkeyPatch) -> list[Panel]:
    """The panels that are drawn."""
    seen: list[Panel] = []
    draw = figures.drawn

    def watched(some: list[Panel], *rest: Any, **options: Any) -> torch.Tensor:
        seen.extend(some)
        return draw(some, *rest, **options)

    monkeypatch.setattr(figures, "drawn", watched)
    return seen


def test_fidelity_draws_a_line_a_method_in_the_order_of_steps(tmp_path: Path, panels: list[Panel]) -> None:
    files = [result(tmp_path / f"{row}{step}.json", {"image_reward": step / 100, "clip_t": 20 + step / 100}, row,
                    step=step)
             for row in ("direct", "ours") for step in (300, 100, 200)]
    assert read(fidelity(files, tmp_path / "page.png")).shape[0] == 3
    assert [panel.up for panel in panels] == ["IMAGE_REWARD (higher is better)", "CLIP_T (higher is better)"]
    assert [curve.name for curve in panels[0].curves] == ["direct", "ours"]
    assert panels[1].curves[0].points == [(100, 21.0), (200, 22.0), (300, 23.0)]
    assert panels[0].curves[0].intervals[0] == pytest.approx((0.9, 1.1))


def test_without_image_reward_the_repaint_residual_is_drawn_under_its_own_name(tmp_path: Path,
                                                                              panels: list[Panel]) -> None:
    fidelity([result(tmp_path / "a.json", {"repaint": 0.1, "clip_t": 20}, step=1)], tmp_path / "page.png")
    assert panels[0].up.startswith("REPAINT")
    with pytest.raises(ValueError, match=r"b\.json has no image_reward: ImageReward: fetch it"):
        fidelity([result(tmp_path / "b.json", {"clip_t": 20}, step=1)])


def test_what_was_not_measured_alike_is_not_drawn_together(tmp_path: Path) -> None:
    numbers = {"image_reward": 1.0, "clip_t": 20.0}
    files = [result(tmp_path / f"{name}.json", numbers, test_set=name, step=1) for name in "ab"]
    with pytest.raises(ValueError, match="differ in the test set"):
        fidelity(files)
    with pytest.raises(ValueError, match=r"c\.json does not say the step"):
        fidelity([result(tmp_path / "c.json", numbers)])


def weights(m_text: float = 0.2, m_fine: float = 0.1, enhanced: float = 0.6) -> dict[str, float]:
    return {"diffusion": 1, "m_text": m_text, "m_fine": m_fine, "enhanced": enhanced}


def test_sensitivity_has_three_segments_and_the_centre_lies_on_each(tmp_path: Path, panels: list[Panel]) -> None:
    objectives = [weights(0.3), weights(), weights(0.1), weights(m_fine=0.5), weights(enhanced=0.9)]
    files = [result(tmp_path / f"{number}.json", {"fid": 5.0 + number}, objective=objective)
             for number, objective in enumerate(objectives)]
    level = result(tmp_path / "level.json", {"fid": 4.0}, row="w/o SFCM")
    sensitivity(files, level, out=tmp_path / "page.png")
    assert [panel.curves[0].points for panel in panels] == [
        [(0.1, 7.0), (0.2, 6.0), (0.3, 5.0)], [(0.1, 6.0), (0.5, 8.0)], [(0.6, 6.0), (0.9, 9.0)]]
    assert [panel.level for panel in panels] == [4.0] * 3
    assert [panel.across[:8] for panel in panels] == ["lambda_1", "lambda_2", "lambda_3"]


def test_two_lambdas_at_once_are_refused(tmp_path: Path) -> None:
    files = [result(tmp_path / f"{number}.json", {"fid": 5.0}, objective=objective)
             for number, objective in enumerate((weights(), weights(0.3, 0.5)))]
    with pytest.raises(ValueError, match="one at a time"):
        sensitivity(files)
