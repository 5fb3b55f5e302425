"""The comparison: nothing that does not follow from its rows, the paper's signs, and parts counted by hand."""

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from spf.__main__ import main
from spf.evaluation.results import Findings, write_result
from spf.files import read_json, read_lines, write_json, write_lines
from spf.notation import Column
from spf.report.paper import EIGHT
from tests.house import ROOT

COLUMNS = (*EIGHT, Column("target_read", "Target read", "Responsiveness", True))
Command = Callable[..., tuple[int | str, str]]
ROWS = sorted((ROOT / "experiments/miniature/rows").glob("*.yaml"))


@pytest.fixture(scope="module", autouse=True)
def comparing() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield


def commit(folder: Path, name: str, numbers: Mapping[str, Sequence[float]], fid: float = 1.0,
           **manifest: Any) -> Path:
    """``folder/name.json`` and its rows as `spf test` writes them: ``numbers`` pair by pair, FID of all together."""
    count = len(next(iter(numbers.values())))
    rows = [{"sample": f"{pair:06}", **{key: values[pair] for key, values in numbers.items()}, "failures": {}}
            for pair in range(count)]
    file = folder / f"{name}.json"
    write_result(file, name.title(), "miniature", Findings(whole={"fid": fid}, columns={"all": COLUMNS}), rows,
                 {"sha256": "a" * 64, "count": count, "seeds": [7, 6 + count]},
                 {"commit": "abc1234", "date": "2026-11-22", "seed": 0, "step": 600} | manifest)
    return file


def archive(results: Path) -> Any:
    from comparing.reading import Archive

    return Archive.read(results, "miniature")


def faults(results: Path) -> list[str]:
    from comparing.checks import check

    return check(archive(results)).faults


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line: (exit status or message, what it prints)."""
    def called(results: Path, *arguments: str) -> tuple[int | str, str]:
        from comparison import main

        monkeypatch.setattr("sys.argv", ["comparison.py", "--results", str(results), *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, capsys.readouterr().out

    return called


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Stage 1, LoRA between, and ours, which has the highest ID and the lowest FID."""
    folder = tmp_path / "miniature"
    commit(folder, "standard_fine_tuning", {"id": [0.1, 0.2, 0.1, 0.3], "clip_t": [0.4, 0.5, 0.4, 0.5]}, 3.0,
           samples=9600)
    commit(folder, "lora", {"id": [0.4, 0.5, 0.4, 0.6], "clip_t": [0.4, 0.5, 0.5, 0.4]}, 2.0, samples=9600)
    commit(folder, "ours", {"id": [0.7, 0.8, 0.6, 0.9], "clip_t": [0.2, 0.1, 0.2, 0.2]}, 1.0, samples=12000)
    return folder


# ---- checks ----

def test_what_spf_test_writes_follows_from_its_rows(base: Path) -> None:
    from comparing.checks import check

    found = check(archive(base.parent))
    assert (found.faults, found.followed, found.together) == ([], 6, {"fid": 3})


@pytest.mark.parametrize(("key", "name", "value"), [
    ("id", "mean", 0.5), ("id", "std", 0.0), ("id", "n", 5), ("id", "missing", 1), ("id", "ci95", [0.0, 1.0]),
    ("fid", "n", 3), ("fid", "ci95", [0.0, 1.0])])
def test_a_summary_that_was_tampered_with_is_named(base: Path, key: str, name: str, value: Any) -> None:
    content = read_json(base / "lora.json")
    content["summary"][key][name] = value
    write_json(content, base / "lora.json")
    (fault,) = faults(base.parent)
    assert fault.startswith(f"{base / 'lora.json'}: {key}, {name}") and str(value) in fault and "make eval" in fault


def test_both_values_are_named(base: Path) -> None:
    content = read_json(base / "lora.json")
    content["summary"]["id"]["mean"] = 0.5
    write_json(content, base / "lora.json")
    assert "the file says 0.5, its rows 0.475; " in faults(base.parent)[0]


def test_what_differs_by_rounding_follows(base: Path) -> None:
    content = read_json(base / "lora.json")
    content["summary"]["id"]["mean"] *= 1 + 1e-12
    write_json(content, base / "lora.json")
    assert faults(base.parent) == []


def test_rows_that_were_tampered_with_are_named(base: Path) -> None:
    file = base / "lora.rows.jsonl"
    rows = read_lines(file)
    write_lines([{**rows[0], "clip_t": 0.9}, *rows[1:]], file)
    assert {fault.split(": ")[1] for fault in faults(base.parent)} == {"clip_t, mean", "clip_t, std", "clip_t, ci95"}
    write_lines(rows[1:], file)
    assert "the number of rows: the file says 4, its rows 3" in faults(base.parent)[0]
    write_lines([{key: value for key, value in row.items() if key != "id"} for row in rows], file)
    assert any("id, std" in fault and "its rows nothing" in fault for fault in faults(base.parent))


@pytest.mark.parametrize("damage", [
    lambda rows: rows.unlink(), lambda rows: rows.write_text("{"), lambda rows: rows.write_text("[]\n"),
    lambda rows: rows.with_name("lora.json").write_text("{"),
    lambda rows: rows.write_text(rows.read_text().replace("0.4", '"much"'))])
def test_files_that_prove_nothing_are_faults(base: Path, damage: Any) -> None:
    damage(base / "lora.rows.jsonl")
    assert "lora" in faults(base.parent)[0]


def test_rows_of_another_test_set_are_a_fault(base: Path) -> None:
    content = read_json(base / "lora.json")
    content["test_set"]["sha256"] = "b" * 64
    write_json(content, base / "lora.json")
    assert "differ in the test set" in "".join(faults(base.parent))


# ---- orderings ----

def test_the_papers_orderings_are_counted_once() -> None:
    from comparing.signs import expected, signs

    found = signs()
    assert len({(one.row, one.other, one.column.key) for one in found}) == len(found)
    assert {one.other for one in found} == {"ours", "standard_fine_tuning"} and "ours" not in {one.row for one in found}
    measured = [one for one in found if one.column.key not in ("hpsv2_1", "mps")]
    assert len(measured) == 6 * 19  # 5 baselines against two; stage 1, 4 ablations, 3 architectures, only stage 2
    signs_of = {(one.row, one.other, one.column.key): one.better for one in found}
    assert signs_of["adalora", "standard_fine_tuning", "fid"]  # 7.38 < 20.41
    assert not signs_of["adalora", "standard_fine_tuning", "clip_t"]  # 0.23 < 0.24
    assert signs_of["without_sfcm", "ours", "lpips"] and not signs_of["adapter", "ours", "mps"]
    assert ("without_m_text", "standard_fine_tuning", "fid") not in signs_of
    assert ("without_sfcm", "ours", "mps") in signs_of
    assert ("full_weights", "ours", "clip_t") in signs_of  # of Table 5, whose columns stand in another order
    assert not signs_of["full_weights", "ours", "clip_t"]  # 0.26 < 0.30
    assert expected("ours") == "" == expected("stage1")


def test_what_is_expected_is_said_in_words() -> None:
    from comparing.signs import expected, header

    assert expected("without_sfcm") == "better than ours in FID, LPIPS, ID, CLIP-I and Seg-Cons, worse in CLIP-T"
    assert expected("magnet") == ("better than standard_fine_tuning in FID, LPIPS, ID and CLIP-T, worse in CLIP-I and "
                                  "Seg-Cons; worse than ours in FID, LPIPS, ID, CLIP-I, Seg-Cons and CLIP-T")
    lines = header("magnet").splitlines()
    assert lines[0].startswith("# Signs:    better") and lines[1].startswith("#           ") and len(lines) == 2
    assert max(map(len, lines)) <= 120 and normalised(header("magnet")) == f"Signs: {expected('magnet')}"


def normalised(comment: str) -> str:
    return " ".join(comment.replace("#", " ").split())


@pytest.mark.parametrize("file", ROWS, ids=lambda file: file.stem)
def test_every_row_says_before_it_is_run_what_the_paper_lets_expect(file: Path) -> None:
    from comparing.signs import expected

    due, lines = expected(file.stem), file.read_text(encoding="utf-8").splitlines()
    comment = normalised("\n".join(line for line in lines if line.startswith("#")))
    assert not due or f"Signs: {due}" in comment, "`python benchmarks/comparison.py --signs` prints it"


def test_an_ordering_turns_with_the_numbers(base: Path) -> None:
    from comparing.orderings import orderings

    def held() -> dict[tuple[str, str, str], bool]:
        return {(one.sign.row, one.sign.other, one.sign.column.key): one.held
                for one in orderings(archive(base.parent).own)}

    before = held()
    # three pairs of rows, three columns each; CLIP-T: ours is lowest, LoRA's is that of stage 1, which is not better
    assert len(before) == 9 and {key for key, value in before.items() if not value} == {
        ("standard_fine_tuning", "ours", "clip_t"), ("lora", "ours", "clip_t"),
        ("lora", "standard_fine_tuning", "clip_t")}
    commit(base, "ours", {"id": [0.1, 0.1, 0.1, 0.1], "clip_t": [0.9, 0.9, 0.9, 0.9]}, 9.0)
    after = held()
    assert {key for key in after if after[key] != before[key]} == {
        (row, "ours", key) for row in ("lora", "standard_fine_tuning") for key in ("id", "clip_t", "fid")}


def test_a_number_of_all_pairs_together_is_never_certain(base: Path) -> None:
    from comparing.orderings import orderings

    found = {(one.sign.row, one.sign.other, one.sign.column.key): one for one in orderings(archive(base.parent).own)}
    fid, identity = found["lora", "ours", "fid"], found["lora", "ours", "id"]
    assert fid.held and fid.interval is None and not fid.certain and fid.difference == 1
    assert identity.held and identity.certain and identity.difference == pytest.approx(-0.275)
    assert not found["lora", "standard_fine_tuning", "clip_t"].certain


def test_the_interval_is_of_pairs_that_both_rows_have() -> None:
    from comparing.orderings import interval

    noise = np.random.default_rng(1).normal(size=(2, 96))
    one, other = ({str(pair): float(value) for pair, value in enumerate(some)} for some in noise)
    low, high = interval(one, other)
    assert low < 0 < high
    low, high = interval({pair: value + 2 for pair, value in one.items()}, other)
    assert 1 < low < high < 3
    # what is paired with nothing has no part; a constant difference is sure, however far the pairs are apart
    low, high = interval({"a": 1.0, "b": 9.0, "c": 99.0}, {"a": 0.5, "b": 8.5, "d": -99.0})
    assert low == high == 0.5 and interval({"a": 1.0}, {"b": 1.0}) is None


# ---- budgets, seeds, grids ----

def test_budgets_are_the_largest_over_the_smallest(base: Path) -> None:
    from comparing.budgets import budgets, spread

    commit(base, "without_sfcm", {"id": [0.0] * 4}, samples=1)  # an ablation is no rival
    commit(base, "adalora", {"id": [0.0] * 4})  # does not say
    found = budgets(archive(base.parent).own)
    assert found == {"standard_fine_tuning": 9600, "lora": 9600, "ours": 12000}
    assert spread(found) == 1.25 and spread({}) == 0


@pytest.fixture
def seeded(tmp_path: Path) -> Path:
    """ID of stage 1 and ours over three seeds: ours is above in two of them."""
    for folder, start, ours in (("", 0.2, 0.5), ("-seed1", 0.3, 0.6), ("-seed2", 0.4, 0.1)):
        commit(tmp_path / f"miniature{folder}", "stage1", {"id": [start, start]})
        commit(tmp_path / f"miniature{folder}", "ours", {"id": [ours, ours]})
        commit(tmp_path / f"miniature{folder}", "without_sfcm", {"id": [0.9, 0.9]})
    commit(tmp_path / "miniature", "lora", {"id": [0.1, 0.1]})
    return tmp_path


def test_seeds_by_hand(seeded: Path) -> None:
    from comparing.seeds import agreement, moved, over_seeds, pairs, repeated

    seeds = archive(seeded).seeds
    assert list(seeds) == [0, 1, 2] and set(repeated(seeds)) == {"stage1", "ours", "without_sfcm"}
    assert moved(over_seeds(seeds, "stage1", "id")) == pytest.approx((0.3, 0.1))
    assert moved(over_seeds(seeds, "lora", "id")) is None
    assert pairs(seeds) == [("ours", "stage1"), ("without_sfcm", "stage1"), ("without_sfcm", "ours")]
    assert agreement(seeds, "ours", "stage1", "id") == ("+", 2, 3)
    assert agreement(seeds, "without_sfcm", "ours", "id") == ("+", 3, 3)
    assert agreement(seeds, "ours", "stage1", "fid") == ("0", 3, 3)
    assert agreement(seeds, "ours", "lora", "clip_t") is None


def cells_of(results: Path, row: str, reads: Sequence[tuple[float, float]], **manifest: Any) -> None:
    from comparing.grids import GRIDS

    for number, (target, identity) in enumerate(reads, 1):
        setting = dict(GRIDS[row][number - 1])
        made = {"learning_rate": setting.pop("learning_rate", 2e-4), "objective": setting, **manifest}
        commit(results / "miniature-grids", f"{row}_{number}",
               {"target_read": [target] * 2, "id": [identity] * 2}, **made)


def test_the_chosen_cell_and_its_edges_by_hand(tmp_path: Path) -> None:
    from comparing.grids import cells, chosen, edges

    cells_of(tmp_path, "tokencompose", [(0.9, 0.1), (0.8, 0.3), (0.5, 0.4), (0.1, 0.9)])  # .09, .24, .20, .09
    tried = cells("tokencompose", archive(tmp_path).grids)
    best = chosen(tried)
    assert best.number == 2 and best.product == pytest.approx(0.24) and edges("tokencompose", 2) == {}
    assert edges("tokencompose", 4) == {"token": "largest", "pixel": "largest"}
    assert edges("lora", 2) == {"learning_rate": "largest", "rank": "smallest"}
    assert edges("adalora", 2) == {"target_rank": "smallest"} and edges("adalora", 3)["learning_rate"] == "largest"
    assert len(edges("prior_preservation", 1)) == 2


def test_cells_show_only_what_differs(tmp_path: Path) -> None:
    from comparing.grids import cells

    for number, (rank, alpha) in enumerate(((8, 8.0), (8, 8.0), (32, 32.0)), 1):
        commit(tmp_path / "miniature-grids", f"lora_{number}", {"target_read": [1.0], "id": [0.5]},
               learning_rate=(2e-3, 5e-3, 2e-3)[number - 1], tuning={"name": "LoRA", "rank": rank, "alpha": alpha})
    commit(tmp_path / "miniature-grids", "lora_4", {"id": [0.5]})  # the target was not read
    found = cells("lora", archive(tmp_path).grids)
    assert [cell.number for cell in found] == [1, 2, 3]
    assert found[2].setting == {"learning_rate": 2e-3, "rank": 32, "alpha": 32.0}


def test_a_cell_with_another_setting_than_its_grid_says_is_a_fault(tmp_path: Path) -> None:
    cells_of(tmp_path, "prior_preservation", [(1, 1), (1, 1)])
    assert faults(tmp_path) == []
    cells_of(tmp_path, "prior_preservation", [(1, 1)], learning_rate=1e-3)
    (fault,) = faults(tmp_path)
    assert "prior_preservation_1.json: learning_rate: the file says 0.001, cell 1 of the grid is 0.0002" in fault


# ---- the whole ----

def test_hurried_it_ends_with_its_figures(base: Path, tmp_path: Path, cli: Command) -> None:
    status, said = cli(base.parent, "--quick", "--out", str(tmp_path / "out"))
    figures = {"rows": 3, "orderings_held": 6, "orderings_total": 9, "budget_spread": 1.25}
    assert status == 0 and json.loads(said.splitlines()[-1]) == figures
    assert "| orderings_held | 6 |" in (tmp_path / "out" / "quick.md").read_text()


def test_a_failed_check_is_said_and_no_report_written(base: Path, tmp_path: Path, cli: Command) -> None:
    (base / "lora.rows.jsonl").unlink()
    (status, hurried), asked = cli(base.parent, "--quick"), cli(base.parent, "--out", str(tmp_path / "report.md"))
    assert status == asked[0] == 1 and not (tmp_path / "report.md").exists()
    assert "lora.rows.jsonl is absent" in hurried and "lora.rows.jsonl is absent" in asked[1]
    assert json.loads(hurried.splitlines()[-1])["rows"] == 2


def test_nothing_to_read_is_one_line(tmp_path: Path, cli: Command) -> None:
    message, said = cli(tmp_path, "--quick")
    assert isinstance(message, str) and "\n" not in message and not said
    assert str(tmp_path / "miniature") in message and "make eval" in message


def test_the_report_has_every_part(seeded: Path, cli: Command) -> None:
    base = seeded / "miniature"
    commit(base, "standard_fine_tuning", {"id": [0.4, 0.4]}, samples=9600)
    commit(base, "lora", {"id": [0.3, 0.1]}, samples=9600)
    commit(base, "without_m_text", {"id": [0.25, 0.25]})
    cells_of(seeded, "tokencompose", [(0.9, 0.1), (0.8, 0.3)])
    cells_of(seeded, "adalora", [(0.9, 0.1), (0.8, 0.3)])
    status, said = cli(seeded, "--out", str(seeded / "report.md"))
    text = (seeded / "report.md").read_text()
    assert status == 0 and text in said
    for line in (
        "| miniature/lora | 0 | 600 | 9600 | not said | 2 | 7 to 8 | abc1234 | 2026-11-22 |",
        "**lora** against standard_fine_tuning: 0 of 2 held.",
        "| ID (↑) | better | 0.200 | 0.400 | -0.200 | -0.300 to -0.100 | **not held**, certain |",
        "The largest budget is 1.000 times the smallest, within 10 %", "| stage1 | 1.000 ± 0.000 | 0.300 ± 0.100 |",
        "| ours - stage1 | 0 3 of 3 | + 2 of 3 |", "cell 2 is chosen, within the grid. Only 2 of 4",
        "**adalora**: cell 2 is chosen, at the grid's edge: its target_rank is the smallest tried.",
        "| 2 | token 0.01, pixel 0.0005 | 0.800 | 0.300 | 0.2400 | chosen |", "**lora**: no cell is measured.",
        "| m_text 0 | 1.000 | 0.250 |", "| m_text as ours | 1.000 | 0.500 |", "| m_fine x 4 | - | - |"):
        assert line in text, f"{line} in\n{text}"


def test_absent_parts_say_so(base: Path, cli: Command) -> None:
    status, text = cli(base.parent)
    assert status == 0 and "**more than 10 % apart**" in text and "**adalora**: no cell is measured." in text
    assert "No row is measured with more than one seed." in text and "No row with another weight is measured." in text


def test_the_signs_are_printed_as_comment_lines(tmp_path: Path, cli: Command) -> None:
    _, said = cli(tmp_path, "--signs")
    assert "without_sfcm\n# Signs:    better than ours in FID" in said and "\nours\n" not in said


@pytest.mark.parametrize(("row", "rate", "tuning", "objective"), [
    ("lora", 5e-3, {"rank": 32, "alpha": 32.0}, {}),
    ("adalora", 5e-3, {"target_rank": 16, "initial_rank": 24, "alpha": 24.0}, {}),
    ("tokencompose", 2e-4, {}, {"token": 1.0, "pixel": 5e-2})])
def test_the_fourth_cells_commands_are_those_of_its_setting(
        row: str, rate: float, tuning: dict[str, float], objective: dict[str, float], tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from comparing.cells import commands

    def config(command: str) -> dict[str, Any]:
        with pytest.raises(SystemExit) as stop:
            main([*shlex.split(command)[3:], "--print_config"])
        output = capsys.readouterr()
        assert not stop.value.code, output.err
        return yaml.safe_load(output.out)

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["spf"])
    (tmp_path / f"{row}_1.json").touch()  # what is there is not made again
    mine = [line for line in commands("miniature", tmp_path) if f"grids/{row}_" in line]
    assert len(mine) == 2 * 3 and not [line for line in mine if f"grids/{row}_1" in line]
    trained, measured = map(config, mine[-2:])
    assert trained["trainer"]["max_steps"] == 240 and trained["run"] == f"runs/miniature/grids/{row}_4"
    options = trained["model"]["init_args"]
    assert options["learning_rate"] == rate
    assert tuning.items() <= (options["tuning"] or {}).get("init_args", {}).items()
    assert objective.items() <= options.get("objective", {}).items()
    assert measured["data"]["triples"] == "runs/miniature/validation"


def test_a_cell_of_what_is_not_trained_is_its_row_at_another_strength(tmp_path: Path) -> None:
    from comparing.cells import commands
    from comparing.grids import cells, options

    (line,) = [line for line in commands("miniature", tmp_path) if "grids/storm_4" in line]
    assert "-c experiments/miniature/rows/storm.yaml" in line and "--data.triples runs/miniature/validation" in line
    assert line.endswith("--model.guidance.strength 4")
    commit(tmp_path / "miniature-grids", "storm_4", {"target_read": [1.0], "id": [0.5]}, learning_rate=2e-4,
           guidance="spf.baselines.storm:Storm {'strength': 4.0, 'strict_repo': False}")
    found = archive(tmp_path).grids
    assert options(found["storm_4"]) == {"strength": 4.0, "strict_repo": False}
    assert [cell.number for cell in cells("storm", found)] == [4] and faults(tmp_path) == []


def test_a_second_round_and_abstract_phrases_stand_beside_the_rows(tmp_path: Path) -> None:
    from comparing.beyond import abstract, second_round

    commit(tmp_path / "miniature", "ours", {"lpips": [0.1, 0.3, 0.9], "target_read": [1, 1, 1]})
    assert "make second-round" in next(second_round(archive(tmp_path)))
    assert "BASE=miniature-abstract" in next(abstract(archive(tmp_path)))
    commit(tmp_path / "miniature", "ours_second_round", {"lpips": [0.2, 0.2, 0.2], "target_read": [0, 1, 1]})
    commit(tmp_path / "miniature-abstract", "ours", {"lpips": [0.4, 0.5], "target_read": [1, 0]})
    lines = [*second_round(archive(tmp_path)), *abstract(archive(tmp_path))]
    assert [line.split(" | ")[-1] for line in lines if line.startswith("| ours_second_round")] == ["0.667 |"]
    cells = {line.split(" | ")[0]: line.split(" | ")[1:] for line in lines if line.startswith("| ours, ")}
    assert cells["| ours, concrete"] == ["0.200", "1.000 |"]  # of the same two people
    assert cells["| ours, abstract"] == ["0.450", "0.500 |"]
