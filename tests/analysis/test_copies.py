"""Copies among the normals, and a query that is one of them, with the embedded model."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from inctrl_core import Detector, PromptBank
from inctrl_core.analysis.batch import Batch, QueryFile, score_chunk
from inctrl_core.analysis.batch_job import start_job
from inctrl_core.analysis.changes import with_query_as_normal, without_query_as_normal
from inctrl_core.analysis.copies import copies_told, query_told
from inctrl_core.analysis.explanations import fusion_ledger
from inctrl_core.analysis.export import batch_csv, batch_dict
from inctrl_core.analysis.inspection import start_session
from inctrl_core.analysis.normal_range import normal_range
from inctrl_core.analysis.patch_scale import UNCALIBRATED_HIGH, patch_scale
from inctrl_core.analysis.stress import (
    contaminate,
    drop_one,
    severity_curve,
    shots_curve,
    typical_normal,
)
from inctrl_core.analysis.stress_run import compute_part, run_to_dict, start_run, with_result
from inctrl_core.errors import PromptError
from inctrl_core.model.backbone import ImageFeatures
from inctrl_core.model.copies import same_images
from inctrl_core.ui.common.examples import load_examples
from inctrl_core.ui.inspect.verdict import verdict_html
from inctrl_core.ui.stress.sections import head_html
from inctrl_core.ui.stress.words import say_contamination, say_curve, say_drop
from tests.support.pictures import ALIKE, BUSY, UPLOADED

SAVED = {
    "again.png": {},
    "q95.jpg": {"quality": 95},
    "q80.jpg": {"quality": 80},
    "lossless.webp": {"lossless": True},
    "q90.webp": {"quality": 90},
}


def fabric(seed: int) -> Image.Image:
    """A woven pattern that lies a little elsewhere in each image, under grain of its own."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:240, 0:320]
    phase = random.uniform(0, 2 * np.pi, 2)
    weave = 128 + 40 * np.sin(x / 4 + phase[0]) + 40 * np.sin(y / 5 + phase[1])
    pixels = weave + random.normal(0, 8, weave.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert("RGB")


def saved(image: Image.Image, name: str, **options: object) -> Image.Image:
    stream = io.BytesIO()
    kind = {"jpg": "JPEG"}.get(name.split(".")[-1], name.split(".")[-1].upper())
    image.save(stream, kind, **options)
    return Image.open(stream).convert("RGB")


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    return [fabric(seed) for seed in range(5)]


@pytest.fixture(scope="module")
def bank(detector: Detector, images: list[Image.Image]) -> PromptBank:
    """Normals 2 and 4 are copies of 1 and 3, counted from 1."""
    one, two, three = images[:3]
    jpeg = saved(two, "two.jpg", quality=90)
    return detector.build_bank([one, one.resize((304, 228)), two, jpeg, three], "fabric")


@pytest.fixture(scope="module")
def plain(detector: Detector, images: list[Image.Image]) -> PromptBank:
    return detector.build_bank(images[:3], "fabric")


@pytest.fixture(scope="module")
def folder(images: list[Image.Image], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("fabric")
    for number, image in enumerate(images):
        image.save(directory / f"n{number}.png")
    images[0].save(directory / "n0 - Copy.jpg", quality=92)
    return directory


def paths(folder: Path, *names: str) -> tuple[str, ...]:
    return tuple(str(folder / name) for name in names)


def test_what_was_saved_anew_is_a_copy_and_another_picture_is_not(detector, images):
    original = images[0]
    copies = [saved(original, name, **options) for name, options in SAVED.items()]
    copies += [original.resize(size) for size in ((288, 216), (352, 264))]
    scratched = original.copy()
    ImageDraw.Draw(scratched).line([120, 60, 190, 130], fill=(20, 20, 20), width=3)
    encoded = detector.encode([*copies, scratched, *images[1:]])
    found = same_images(encoded.features, detector.encode([original]).features)[:, 0]
    assert found.tolist() == [True] * len(copies) + [False] * 5


def test_noise_alone_makes_no_copy_of_a_plain_thing(detector):
    disc = Image.new("RGB", (240, 240), (180, 180, 175))
    ImageDraw.Draw(disc).ellipse([60, 60, 180, 180], fill=(90, 95, 120))
    random = np.random.default_rng(0)
    frames = [
        Image.fromarray((np.asarray(disc) + random.normal(0, 5, (240, 240, 3))).astype(np.uint8))
        for _ in range(3)
    ]
    bank = detector.build_bank(frames, "disc")
    assert bank.copy_of == (None, None, None) and normal_range(detector, bank) is not None


@pytest.mark.parametrize("name", sorted(load_examples()))
def test_no_image_of_an_example_set_is_a_copy_of_another(detector, name):
    """Toys of one mould are the hardest: the same thing at the same place, photographed anew."""
    example = load_examples()[name]
    files = [*example.normals, *(query.path for query in example.queries)]
    features = detector.encode(files).features
    assert same_images(features, features).tolist() == torch.eye(len(files)).bool().tolist()


@pytest.mark.parametrize(
    ("pictures", "qualities"),
    [(BUSY, (75, 80, 85, 90, 95)), (ALIKE, (85, 90, 95))],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_photograph_saved_anew_is_found_among_others_of_its_kind(detector, pictures, qualities):
    normals = pictures.normals
    photo = Image.open(normals[3]).convert("RGB")
    copies = [saved(photo, "a.jpg", quality=quality) for quality in qualities]
    copies += [saved(photo, "a.png"), photo.resize((361, 285)).resize(photo.size)]
    grey = saved(photo.convert("L").convert("RGB"), "a.jpg", quality=90)
    found = same_images(
        detector.encode([*copies, grey]).features, detector.encode(normals).features
    )
    place = [index == 3 for index in range(len(normals))]
    assert found.tolist() == [place] * len(copies) + [[False] * len(normals)]


def test_a_thing_photographed_again_in_other_light_is_no_copy(detector):
    patch = UPLOADED.normals[0]
    pixels = np.asarray(Image.open(patch).convert("RGB")).astype(float)
    random = np.random.default_rng(0)
    frames = []
    for light in (1.0, 1.15, 0.8):
        grain = random.normal(0, 4, pixels.shape[:2])[..., None]
        frames.append(Image.fromarray((light * pixels + grain).clip(0, 255).astype(np.uint8)))
    assert detector.build_bank(frames, UPLOADED.object_name).copy_of == (None, None, None)


def test_copies_are_named_after_the_first_of_them(bank):
    assert bank.copy_of == (None, 0, None, 2, None)
    assert bank.distinct == (0, 2, 4)
    assert [bank.others(index) for index in range(5)] == [
        (2, 3, 4), (2, 3, 4), (0, 1, 4), (0, 1, 4), (0, 1, 2, 3)
    ]  # fmt: skip
    assert bank.subset([3, 0]).copy_of == (None, None)
    assert bank.subset([3, 0, 2]).copy_of == (None, None, 0)
    assert bank.to("cpu").copy_of == bank.copy_of


def test_range_and_scale_are_those_without_the_copies(detector, bank, plain):
    ranges, expected = normal_range(detector, bank), normal_range(detector, plain)
    assert ranges.normals == (0, 2, 4) and expected.normals == (0, 1, 2)
    # A copy may hold a patch that is a little closer than the original's.
    assert ranges.patch_max == pytest.approx(expected.patch_max, abs=2e-3)
    assert min(ranges.patch_max) > 0.004
    assert patch_scale(bank).normal_high == pytest.approx(patch_scale(plain).normal_high, abs=2e-3)
    assert typical_normal(ranges) in ranges.normals


def test_exact_copies_change_nothing(detector, images, plain):
    doubled = detector.build_bank([images[0], images[1], images[2], images[1]], "fabric")
    ranges, expected = normal_range(detector, doubled), normal_range(detector, plain)
    assert ranges.fused == pytest.approx(expected.fused, abs=1e-6)
    assert doubled.normal_layer_maps.shape[0] == 4
    query = detector.encode([images[4]])
    one, other = (detector.score_encoded(query, bank)[0] for bank in (doubled, plain))
    assert one.fused == pytest.approx(other.fused, abs=1e-6)
    ledger = fusion_ledger(detector, doubled, query, one)
    assert ledger.entries[0].neutral > 0.004


def test_copies_of_one_normal_give_no_range(detector, images):
    bank = detector.build_bank([images[0], saved(images[0], "a.jpg", quality=85)], "fabric")
    assert normal_range(detector, bank) is None and bank.normal_layer_maps is None
    assert patch_scale(bank).high == UNCALIBRATED_HIGH and patch_scale(bank).normal_high is None
    assert copies_told(bank.copy_of, ("a.png", "a.jpg")) == (
        "All 2 normals (a.png, a.jpg) are copies of one image, so they give no range; add a "
        "different one."
    )
    query = detector.encode([images[1]])
    with pytest.raises(PromptError, match="second normal"):
        drop_one(detector, bank, query)
    assert [point.shots for point in shots_curve(detector, bank, query)] == [1]
    contaminated = contaminate(
        detector, bank, detector.encode([images[0]]), detector.encode([images[0]])
    )
    # As with a single normal: the threshold of other classes alone.
    assert contaminated.threshold_before == contaminated.threshold_after is not None


def test_the_copies_are_told_in_a_sentence():
    assert copies_told((None, None), ("a", "b")) == ""
    assert copies_told((None, 0, 0, None, 3)) == (
        "Normals 2 and 3 are copies of normal 1; normal 5 is a copy of normal 4: they serve as "
        "normals, but are left out of the range of the normals."
    )
    assert query_told(None) == "" and query_told(0).startswith("This image is normal 1 or a copy")


def test_stress_leaves_copies_out_together(detector, bank, images):
    query = detector.encode([images[4]])
    dropped = drop_one(detector, bank, query)
    assert [drop.index for drop in dropped] == [0, 2, 4]
    assert all(drop.threshold is not None for drop in dropped)
    curve = shots_curve(detector, bank, query)
    assert [point.shots for point in curve] == [1, 2, 3]
    assert all(None not in point.thresholds for point in curve[1:])
    assert curve[-1].fused == (detector.score_encoded(query, bank)[0].fused,)
    changed = severity_curve(detector, bank, "blur", images[4], (0, images[0]))
    # Were its copy among the others, a blurred normal would find it close by.
    alone = severity_curve(detector, bank.subset([0, 2, 3, 4]), "blur", images[4], (0, images[0]))
    assert changed.normal == pytest.approx(alone.normal, abs=1e-6)


def test_a_query_that_is_a_normal_is_named(detector, bank, images):
    queries = [images[1], saved(images[2], "c.webp", quality=85), images[4]]
    scores = detector.score(queries, bank)
    assert [score.copy_of for score in scores] == [2, 4, None]
    names = ("a.png", "a.png", "b.png", "b.png", "c.png")
    assert scores[0].to_dict(names)["copy_of"] == {"index": 2, "name": "b.png"}
    assert scores[0].to_dict()["copy_of"] == {"index": 2, "name": None}
    assert scores[2].to_dict(names)["copy_of"] is None


def test_the_page_says_so_and_marks_nothing(detector, folder):
    normals = paths(folder, "n0.png", "n0 - Copy.jpg", "n1.png", "n2.png")
    session = start_session(detector, "m", (normals, str(folder / "n1.png")), "fabric")
    page = verdict_html(session)
    assert "One of the normals" in page and "ic-above" not in page
    assert "This image is normal 3 (n1.png) or a copy of it" in page
    assert "Normal 2 (n0 - Copy.jpg) is a copy of normal 1 (n0.png)" in page
    other = start_session(detector, "m", (normals, str(folder / "n3.png")), "fabric", session)
    assert "The 3 different normals score" in verdict_html(other)
    same = start_session(detector, "m", (normals[:2], str(folder / "n3.png")), "fabric")
    page = verdict_html(same)
    assert same.ranges is None and same.threshold == same.decision.threshold
    assert "copies of one image, so they give no range" in page and "ic-strip" not in page


def test_the_query_joins_the_normals_once_and_leaves_them_with_its_copies(detector, folder):
    normals = paths(folder, "n1.png", "n2.png", "n0 - Copy.jpg")
    session = start_session(detector, "m", (normals, str(folder / "n0.png")), "fabric")
    with pytest.raises(PromptError, match="already"):
        with_query_as_normal(detector, session)
    without = without_query_as_normal(detector, session)
    assert without.normal_files == normals[:2] and without.score.copy_of is None
    again = with_query_as_normal(detector, without)
    assert again.score.copy_of == 2 and len(again.ranges.fused) == 3
    page = verdict_html(again)
    assert "Now normal number 3, it finds itself" in page and "One of the normals" in page


def test_a_stress_test_of_a_normal_reads_well(detector, folder):
    normals = paths(folder, "n0.png", "n0 - Copy.jpg", "n1.png")
    session = start_session(detector, "m", (normals, str(folder / "n0.png")), "fabric")
    run = start_run(session, str(folder / "n0.png"))
    while run.next_part is not None:
        found = compute_part(detector, session, run.next_part, run.query, run.normal)
        run = with_result(run, found)
    told = run_to_dict(run)
    json.dumps(told)
    assert told["copy_of"] == {"index": 0, "name": "n0.png"}
    assert [entry["copy_of"] for entry in told["normals"]] == [None, 0, None]
    assert "it is one of the normals" in head_html(run)
    assert say_contamination(*run.contaminated, run.above).startswith(
        "This image is normal 1, or a copy"
    )
    assert say_curve(run.curve, run.above) and say_drop(run.dropped, run.threshold, run.above)


def test_a_batch_names_its_input_where_names_repeat(detector, folder, tmp_path):
    files = []
    for number, name in enumerate(("n3.png", "n1.png", "n4.png")):
        (tmp_path / str(number)).mkdir()
        path = tmp_path / str(number) / "000.png"
        path.write_bytes((folder / name).read_bytes())
        files.append(QueryFile(str(path), "000.png"))
    normals = paths(folder, "n0.png", "n0 - Copy.jpg", "n1.png")
    job = start_job(detector, "k", "m", normals, tuple(files), "fabric")
    batch: Batch = job.with_rows(score_chunk(detector, job.bank, job.waiting), 1.0).batch
    told = batch_dict(batch)
    assert sorted(entry["index"] for entry in told["results"]) == [0, 1, 2]
    assert {entry["file"] for entry in told["results"]} == {"000.png"}
    by_index = {entry["index"]: entry for entry in told["results"]}
    assert by_index[1]["copy_of"] == {"index": 2, "name": "n1.png"}
    assert by_index[1]["against_the_normals"] == "one of the normals"
    assert [entry["copy_of"] for entry in told["normals"]] == [None, 0, None]
    assert len(told["normal_range"]["fused"]) == 2
    lines = {line["index"]: line for line in csv.DictReader(io.StringIO(batch_csv(batch)))}
    assert lines["1"]["copy_of_normal"] == "3 (n1.png)" and lines["0"]["copy_of_normal"] == ""


def test_few_places_are_no_evidence():
    """With one patch an image always finds its own place: there only equality counts."""
    close = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1]]), dim=-1)
    features = ImageFeatures(close, (close[:, None],))
    assert same_images(features, features).tolist() == [[True, False], [False, True]]
