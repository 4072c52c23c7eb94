"""``python -m inctrl_core score``, with the embedded model."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from inctrl_core import Detector, load_bank, save_bank
from inctrl_core.__main__ import main
from inctrl_core.analysis.defects import show_defects
from inctrl_core.analysis.measured_bank import grade, measure_bank
from inctrl_core.analysis.normal_range import normal_range
from inctrl_core.commands import score as score_command
from tests.support.pictures import FIRST

EXAMPLE = FIRST.example
NORMALS = [str(path) for path in EXAMPLE.normals[:3]]
DEFECT = str(EXAMPLE.queries[EXAMPLE.cover].path)


@pytest.fixture
def loaded(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model that the command loads, loaded once for all tests."""
    monkeypatch.setattr(score_command, "load_model_option", lambda arguments: detector)


@pytest.fixture
def wide(tmp_path: Path) -> str:
    path = tmp_path / "wide.png"
    Image.open(DEFECT).resize((300, 200)).save(path)
    return str(path)


def score(*options: str, queries: list[str]) -> int:
    command = ["score", "--device", "cpu", "--object", "screw", "--normal", *NORMALS]
    return main([*command, "--query", *queries, *options])


def test_the_most_anomalous_image_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    good = str(EXAMPLE.normals[3])
    assert score(queries=[good, DEFECT]) == 0
    output = capsys.readouterr()
    title, threshold, first, second = output.out.splitlines()
    assert "3 normals" in title
    line = float(threshold.removeprefix("threshold ").split(":")[0])
    assert float(second.split()[0]) < line < float(first.split()[0])
    assert DEFECT in first and good in second
    assert float(first.split()[0]) > float(second.split()[0])
    assert "proportions" not in output.err


def test_images_of_other_proportions_are_told(
    wide: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score("--json", queries=[DEFECT, wide]) == 0
    output = capsys.readouterr()
    document = json.loads(output.out)
    assert document["shots"] == 3 and document["object_name"] == "screw"
    told = {entry["file"]: entry["other_proportions"] for entry in document["scores"]}
    assert told == {DEFECT: False, wide: True}
    assert "not in the proportions of any normal" in output.err
    assert wide in output.err and DEFECT not in output.err


def test_what_cannot_be_read_is_named_and_takes_nothing_along(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one.png", "two.png"):
        (tmp_path / name).write_bytes(b"no picture")
    assert score(queries=[str(tmp_path), DEFECT]) == 0
    output = capsys.readouterr()
    assert DEFECT in output.out and len(output.out.splitlines()) == 3
    assert all(
        f"left out: '{name}' is not an image" in output.err for name in ("one.png", "two.png")
    )
    assert score(queries=[str(tmp_path)]) == 1
    assert "error: 'one.png' is not an image" in capsys.readouterr().err


@pytest.fixture
def nested(loaded: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three images called 000.png in folders of a folder, above which the test works."""
    for name, source in (("bad", DEFECT), ("good", EXAMPLE.normals[3]), ("good/more", DEFECT)):
        folder = tmp_path / "test" / name
        folder.mkdir(parents=True)
        Image.open(source).resize((90, 90)).save(folder / "000.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "test"


def test_folders_in_folders_are_scored_under_names_that_differ(
    nested: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(queries=["test"]) == 1
    assert "only folders (bad, good); add --recursive" in capsys.readouterr().err
    assert score("--recursive", "--json", queries=["test"]) == 0
    output = capsys.readouterr()
    entries = json.loads(output.out)["scores"]
    files = ["test/bad/000.png", "test/good/000.png", "test/good/more/000.png"]
    assert [entry["file"] for entry in entries] == files
    assert [entry["index"] for entry in entries] == [0, 1, 2]
    assert entries[0]["fused"] == entries[2]["fused"] != entries[1]["fused"]


def test_the_range_of_the_normals_and_the_verdict_are_given(
    loaded: None, detector: Detector, capsys: pytest.CaptureFixture[str]
) -> None:
    bank = detector.build_bank(NORMALS, "screw")
    expected = normal_range(detector, bank)
    good = str(EXAMPLE.normals[3])
    assert score("--json", queries=[good, DEFECT]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["normal_range"] == {
        "lowest": expected.lowest,
        "highest": expected.highest,
        "fused": list(expected.fused),
    }
    assert [normal["name"] for normal in document["normals"]] == NORMALS
    results = detector.score([good, DEFECT], bank)
    for entry, result in zip(document["scores"], results, strict=True):
        assert result.to_dict().items() <= entry.items()
        assert entry["against_the_normals"] == expected.standing(result.fused)
    assert score(queries=[DEFECT]) == 0
    title, threshold, line = capsys.readouterr().out.splitlines()
    assert f"score {expected.lowest:.4f} to {expected.highest:.4f} against each other" in title
    measured = measure_bank(detector, bank)
    assert document["threshold"] == measured.threshold
    assert threshold.startswith(f"threshold {measured.threshold:.4f}: about 5 of 100")
    graded = [grade(s.fused, measured.threshold, expected, measured.good) for s in results]
    assert [entry["grade"] for entry in document["scores"]] == graded == ["below", "far above"]
    assert line.split("  ")[1] == "far above"


def test_one_normal_has_no_range(loaded: None, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["score", "--device", "cpu", "--normal", NORMALS[0], "--query", DEFECT]
    assert main(command) == 0
    assert ", 1 normal (a second one gives the range" in capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["normal_range"] is None
    assert document["scores"][0]["against_the_normals"] is None


def test_all_that_is_left_out_is_named_with_the_reason(
    nested: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (nested / "bad" / "broken.png").write_bytes(b"no picture")
    (nested / "scan.jp2").write_bytes(b"x")
    for name in ("Thumbs.db", ".DS_Store", *(f"note{i}.txt" for i in range(40))):
        (nested / name).write_bytes(b"x")
    assert score("--recursive", "--json", queries=["test"]) == 0
    output = capsys.readouterr()
    left_out = {entry["file"]: entry for entry in json.loads(output.out)["left_out"]}
    assert len(left_out) == 44 and {entry["among"] for entry in left_out.values()} == {"queries"}
    assert "is not an image this program reads" in left_out["test/bad/broken.png"]["why"]
    assert left_out["test/Thumbs.db"]["why"] == "not an image"
    assert left_out["test/.DS_Store"]["why"].startswith("hidden")
    told = output.err.splitlines()
    assert len(told) == 4  # Forty notes have one line.
    assert "left out: test/scan.jp2: JPEG 2000 is not read; save it as PNG, JPEG or TIFF" in told
    assert any("'broken.png' is not an image" in t and "(test/bad/broken.png)" in t for t in told)
    assert (
        "left out: not images: test/Thumbs.db, test/note0.txt, test/note1.txt and 38 more" in told
    )


def heatmaps(folder: Path) -> dict[str, Image.Image]:
    return {path.name: Image.open(path) for path in sorted(folder.iterdir())}


def test_heatmaps_lie_under_names_of_their_own_with_their_scale(
    nested: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--recursive", "--json", "--heatmaps", "out/heat")
    assert score(*options, queries=["test", "test/bad/000.png"]) == 0
    document = json.loads(capsys.readouterr().out)
    drawn = heatmaps(Path("out/heat"))
    stems = ["000", "bad_000", "good_000", "good_more_000"]
    kinds = ["map16", "map8", "overlay"]
    assert list(drawn) == [f"{stem}_{kind}.png" for stem in stems for kind in kinds]
    scale, values = document["heatmap_scale"], document["heatmap_values"]
    assert values["map8"] == {"0": scale["low"], "255": scale["high"]}
    assert values["map16"] == {"0": 0.0, "65535": 1.0}
    for entry, stem in zip(document["scores"], [*stems[1:], stems[0]], strict=True):
        assert entry["heatmaps"] == {k: f"out/heat/{stem}_{k}.png" for k in kinds}
        overlay, map8, map16 = (drawn[f"{stem}_{kind}.png"] for kind in reversed(kinds))
        assert overlay.mode == "RGB" and map8.mode == "L" and map16.mode == "I;16"
        assert overlay.size == map8.size == map16.size == (90, 90)
        # 15 patches on 90 pixels: between the third and the fourth pixel is a patch's middle.
        shares = np.asarray(map16, dtype=float) / 65535
        middles = shares.reshape(90, 15, 6)[:, :, 2:4].mean(axis=2)
        assert middles.max() <= entry["patch_max"] + 1e-4
        assert shares.max() == pytest.approx(entry["patch_max"], rel=0.1)
        levels = np.asarray(map8, dtype=float) / 255 * scale["high"]
        np.testing.assert_allclose(
            levels, np.minimum(shares, scale["high"]), atol=scale["high"] / 99
        )
        assert "65535 is 1" in map16.text["Description"]
    assert not np.array_equal(drawn["bad_000_map16.png"], drawn["good_000_map16.png"])


def test_heatmaps_are_written_over_but_no_other_file_and_are_no_queries(
    nested: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--recursive", "--heatmaps", "test")  # Among the images themselves.
    assert score(*options, queries=["test"]) == 0
    assert len(list(nested.glob("*.png"))) == 9
    capsys.readouterr()
    assert score(*options, queries=["test"]) == 0
    output = capsys.readouterr()
    assert len(output.out.splitlines()) == 5 and len(list(nested.glob("*.png"))) == 9
    assert "left out: heatmaps of an earlier run: test/bad_000_map16.png" in output.err
    foreign = nested / "good_000_map8.png"
    Image.new("L", (4, 4)).save(foreign)
    before = {path.name: path.read_bytes() for path in nested.glob("*.png")}
    assert score(*options, queries=["test"]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert "error: test holds good_000_map8.png from elsewhere, which would be" in output.err
    assert {path.name: path.read_bytes() for path in nested.glob("*.png")} == before


def test_a_folder_that_cannot_take_heatmaps_is_one_sentence(
    nested: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("file").write_text("x")
    assert score("--heatmaps", "file", queries=["test/bad"]) == 1
    output = capsys.readouterr()
    assert output.out == "" and "error: file cannot be written (it is a file)" in output.err
    save, count = Image.Image.save, []

    def fill(image: Image.Image, target: object, *rest: object, **options: object) -> None:
        if isinstance(target, Path):  # No thumbnail in memory.
            count.append(target)
            if len(count) > 4:
                target.write_bytes(b"part")
                raise OSError(errno.ENOSPC, "No space left on device")
        save(image, target, *rest, **options)

    monkeypatch.setattr(Image.Image, "save", fill)
    assert score("--recursive", "--json", "--heatmaps", "heat", queries=["test"]) == 1
    output = capsys.readouterr()
    assert output.err.count("\n") == 1
    assert "test_good" not in output.err and "(No space left on device)" in output.err
    # The scores are there all the same, and no file is there in part.
    entries = json.loads(output.out)["scores"]
    assert [entry["heatmaps"] is None for entry in entries] == [False, True, True]
    assert sorted(os.listdir("heat"))[:3] == sorted(
        Path(path).name for path in entries[0]["heatmaps"].values()
    )
    assert all(name.endswith(".png") for name in os.listdir("heat"))


def test_a_table_for_spreadsheets(nested: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (nested / "bad" / "broken.png").write_bytes(b"no picture")
    assert score("--recursive", "--csv", "out/table.csv", queries=["test"]) == 0
    data = Path("out/table.csv").read_bytes()
    lines = list(csv.DictReader(data.decode("utf-8-sig").splitlines()))
    assert data.startswith(b"\xef\xbb\xbf")
    printed = capsys.readouterr().out.splitlines()[2:]
    assert [line["file"] for line in lines[:3]] == [text.split()[-1] for text in printed]
    assert lines[3]["file"] == "test/bad/broken.png" and "not an image" in lines[3]["error"]


def test_standard_output_that_ends_or_is_full(nested: Path) -> None:
    command = [sys.executable, "-m", "inctrl_core", "score", "--device", "cpu"]
    command += ["--normal", *NORMALS, "--query", str(nested / "bad")]
    root = Path(__file__).resolve().parents[2]
    with open("/dev/full", "w") as full:
        run = subprocess.run(command, cwd=root, stdout=full, stderr=subprocess.PIPE, text=True)
    assert run.returncode == 1
    assert run.stderr.startswith("error: Standard output cannot be written (No space left")
    assert run.stderr.count("\n") == 1
    reader, writer = os.pipe()
    os.close(reader)
    run = subprocess.run(command, cwd=root, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (run.returncode, run.stderr) == (0, "")


def test_copies_and_a_query_that_is_a_normal_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy.jpg"
    Image.open(NORMALS[0]).convert("RGB").save(copy, quality=90)
    assert main(
        ["score", "--device", "cpu", "--normal", *NORMALS, str(copy), "--query", NORMALS[1], DEFECT]
        + ["--json"]
    ) == 0  # fmt: skip
    output = capsys.readouterr()
    assert f"note: Normal 4 ({copy}) is a copy of normal 1 ({NORMALS[0]})" in output.err
    assert f"note: {NORMALS[1]} is normal 2 ({NORMALS[1]}) or a copy of it" in output.err
    document = json.loads(output.out)
    assert [entry["copy_of"] for entry in document["normals"]] == [None, None, None, 0]
    assert len(document["normal_range"]["fused"]) == 3
    first, second = document["scores"]
    assert first["copy_of"] == {"index": 1, "name": NORMALS[1]} and second["copy_of"] is None
    assert (first["index"], second["against_the_normals"]) == (0, "above")
    assert first["against_the_normals"] == "one of the normals"


def test_normals_in_a_file_give_the_same_scores(tmp_path, loaded, capsys):
    file = tmp_path / "kept" / "normals.safetensors"
    assert score("--json", "--save-normals", str(file), queries=[DEFECT]) == 0
    first = json.loads(capsys.readouterr().out)
    again = ["score", "--normals-file", str(file), "--query", DEFECT, "--json"]
    assert main(again) == 0
    assert json.loads(capsys.readouterr().out) == first
    assert first["object_name"] == "screw" and first["normals"][2]["name"] == NORMALS[2]
    assert main([*again, "--object", "nut"]) == 1
    assert "leave out --object" in capsys.readouterr().err
    file.write_bytes(file.read_bytes()[:-1])
    assert main(again) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_defects_count_and_stay_with_the_normals(tmp_path, loaded, detector, capsys):
    shown, other = BAD_ONES[:2]
    file = tmp_path / "kept.safetensors"
    given = ["--json", "--defect", shown, "--save-normals", str(file)]
    assert score(*given, queries=[other]) == 0
    told = json.loads(capsys.readouterr().out)["scores"][0]
    measured = measure_bank(detector, detector.build_bank(NORMALS, "screw"))
    beside = show_defects(detector, measured, [shown]).bank
    expected, plain = (detector.score([other], b)[0].fused for b in (beside, measured.bank))
    assert told["fused"] == expected != plain
    assert main(["score", "--normals-file", str(file), "--query", other, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"][0]["fused"] == expected
    assert score("--defect", NORMALS[0], queries=[other]) == 1
    assert "Defect 1 is normal 1; take it out" in capsys.readouterr().err


def test_defects_of_a_file_stay_beside_more_of_them(tmp_path, loaded, detector, capsys):
    shown, more, other = BAD_ONES[:3]
    one, both = tmp_path / "one.safetensors", tmp_path / "both.safetensors"
    assert score("--defect", shown, "--save-normals", str(one), queries=[other]) == 0
    again = ["score", "--query", other, "--normals-file", str(one), "--defect"]
    assert main([*again, more, "--save-normals", str(both)]) == 0
    kept = load_bank(both, detector).bank.defects.images
    measured = measure_bank(detector, detector.build_bank(NORMALS, "screw"))
    expected = show_defects(detector, measured, [shown, more]).bank.defects.images
    for layers, own in zip(kept, expected, strict=True):
        assert all(torch.equal(*pair) for pair in zip(layers, own, strict=True))
    capsys.readouterr()
    assert main([*again, *[more] * 16]) == 1
    assert "There are 17 images of defects; use at most 16" in capsys.readouterr().err


def test_a_threshold_that_was_saved_holds_until_a_rate_is_given(tmp_path, loaded, detector, capsys):
    file, kept = tmp_path / "chosen.safetensors", tmp_path / "kept.safetensors"
    save_bank(file, detector.build_bank(NORMALS, "screw"), detector, threshold=0.015625)
    again = ["score", "--normals-file", str(file), "--query", DEFECT, "--save-normals", str(kept)]
    assert main([*again, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["threshold"] == 0.015625
    assert load_bank(kept, detector).threshold == 0.015625
    assert main(again) == 0
    assert "threshold 0.0156" in capsys.readouterr().out
    assert main([*again, "--json", "--false-alarms", "0.05"]) == 0
    usual = json.loads(capsys.readouterr().out)["threshold"]
    assert load_bank(kept, detector).threshold is None
    assert score("--json", queries=[DEFECT]) == 0
    assert usual == json.loads(capsys.readouterr().out)["threshold"] != 0.015625


GOOD_ONES = [str(query.path) for query in EXAMPLE.queries if not query.anomalous]
BAD_ONES = [str(query.path) for query in EXAMPLE.queries if query.anomalous]


def labelled(*options: str) -> int:
    return main(["score", "--device", "cpu", "--normal", *NORMALS, *options])


def test_known_images_give_figures(loaded: None, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--good", *GOOD_ONES, "--bad", *BAD_ONES]
    assert labelled(*given, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    told, scores = document["labelled"], document["scores"]
    threshold = told["threshold"]
    assert threshold == document["decision"]["threshold"]
    truths = [entry["truth"] == "anomalous" for entry in scores]
    assert truths == [False] * len(GOOD_ONES) + [True] * len(BAD_ONES)
    missed = [e for e in scores if e["truth"] == "anomalous" and e["fused"] <= threshold]
    assert told["counts"]["misses"] == len(missed)
    assert all((entry["outcome"] == "miss") == (entry in missed) for entry in scores)
    assert told["metrics"]["auroc"] == pytest.approx(
        roc_auc_score(truths, [entry["fused"] for entry in scores])
    )
    assert labelled(*given) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert f"misses {len(missed)} of {len(BAD_ONES)} bad" in last and "AUROC" in last


def test_known_images_beside_others(loaded: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert labelled("--query", DEFECT, "--good", *GOOD_ONES, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["scores"][0]["truth"] is None and document["scores"][0]["outcome"] is None
    assert document["labelled"]["metrics"] is None
    assert sum(document["labelled"]["counts"].values()) == len(GOOD_ONES)


def test_nothing_to_score_is_told(loaded: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert labelled() == 1
    assert "--query" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="no such names there")
def test_a_name_of_two_lines_takes_one(
    tmp_path: Path, loaded: None, capsys: pytest.CaptureFixture[str]
) -> None:
    odd, wide = tmp_path / "odd\n0.9999  far above.png", tmp_path / "wide\x1b[31m.png"
    shutil.copy(DEFECT, odd)
    Image.open(DEFECT).resize((300, 200)).save(wide)
    assert score(queries=[str(odd), str(wide)]) == 0
    output = capsys.readouterr()
    assert len(output.out.splitlines()) == 4  # Two lines on the normals, and one for each image.
    assert "odd 0.9999  far above.png" in output.out
    assert "\x1b" not in output.out + output.err and "wide [31m.png" in output.err


@pytest.mark.parametrize("option", ["--query", "--normal", "--heatmaps", "--csv"])
def test_an_empty_name_is_not_the_current_folder(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["score", "--normal", DEFECT, "--query", DEFECT, option, ""])
    assert f"argument {option}: an empty name; name a file or a folder" in capsys.readouterr().err
