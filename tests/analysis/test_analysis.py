"""The calls that a notebook makes: what they say is what the parts say."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from inctrl_core import Detector, ImageError, InctrlError, analysis
from inctrl_core.analysis.inspection import start_session
from inctrl_core.analysis.measured_bank import measure_bank
from inctrl_core.analysis.normal_range import normal_range
from inctrl_core.analysis.stress import drop_one, shots_curve
from inctrl_core.analysis.stress_run import run_to_dict
from inctrl_core.images.perturbations import PERTURBATIONS

GOLDEN = Path(__file__).parents[1] / "golden"
NORMALS = [str(GOLDEN / f"prompt_{i}.png") for i in range(3)]
QUERY = str(GOLDEN / "query_0.png")


def test_inspect_takes_files_and_images(golden_detector: Detector):
    result = analysis.inspect(golden_detector, NORMALS, QUERY, "candle")
    there = start_session(golden_detector, "golden", (NORMALS, QUERY), "candle")
    assert result.score.fused == there.score.fused and result.ledger == there.ledger
    assert result.ranges == normal_range(golden_detector, result.bank)
    assert result.normal_names == ("prompt_0.png", "prompt_1.png", "prompt_2.png")
    images = [Image.open(path) for path in NORMALS]
    opened = analysis.inspect(golden_detector, images, Image.open(QUERY), "candle")
    assert opened.score.fused == result.score.fused
    assert opened.normal_names == ("image 1", "image 2", "image 3")
    with pytest.raises(ImageError, match="Give a list"):
        analysis.inspect(golden_detector, NORMALS[0], QUERY)
    with pytest.raises(InctrlError, match="Add at least one normal image"):
        analysis.inspect(golden_detector, [], QUERY)


def test_score_batch_takes_any_number_and_tells_how_far_it_is(golden_detector: Detector, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    queries, done = [QUERY, tmp_path / "broken.png", Image.open(QUERY)] * 3, []
    batch = analysis.score_batch(golden_detector, NORMALS, queries, "candle", on_rows=done.append)
    expected = golden_detector.score([QUERY], golden_detector.build_bank(NORMALS, "candle"))[0]
    assert [row.score and row.score.fused for row in batch.rows[:3]] == [
        expected.fused,
        None,
        expected.fused,
    ]
    assert [batch.rows[i].file.name for i in (0, 1, 2)] == ["query_0.png", "broken.png", "image 3"]
    assert sum(done) == len(batch.rows) == 9 and len(done) > 1
    assert batch.ranges.lowest <= batch.ranges.highest and batch.shots == 3
    with pytest.raises(InctrlError, match="Add the images to check"):
        analysis.score_batch(golden_detector, NORMALS, [])


def test_stress_test_has_all_parts(golden_detector: Detector):
    run = analysis.stress_test(golden_detector, NORMALS[:2], QUERY, "candle")
    told = run_to_dict(run)
    assert [point["shots"] for point in told["fewer_normals"]] == [1, 2]
    assert [change["name"] for change in told["changes"]] == [p.name for p in PERTURBATIONS]
    assert told["fewer_normals"][-1]["fused"] == (told["score"],) == (run.session.score.fused,)


@pytest.mark.parametrize("form", ["golden_detector", "gated_detector"])
def test_a_table_of_distances_scores_every_choice_of_normals(form, request):
    detector: Detector = request.getfixturevalue(form)
    bank = detector.build_bank([*NORMALS, NORMALS[0]], "candle")
    encoded = detector.encode([QUERY])
    for drop in drop_one(detector, bank, encoded):
        others = bank.subset(bank.others(drop.index))
        scored = detector.score_encoded(encoded, others)[0]
        assert drop.fused == pytest.approx(scored.fused, abs=1e-6)
        expected = measure_bank(detector, others).threshold
        assert drop.threshold == pytest.approx(expected, abs=1e-6)
    last = shots_curve(detector, bank, encoded)[-1]
    assert last.fused == (detector.score_encoded(encoded, bank)[0].fused,)
    scores = [detector.score_normal(index, bank) for index in bank.distinct]
    judged = [(score.fused, score.patch_max) for score in scores]
    assert detector.judge_normals(bank) == tuple(judged)
