"""Many queries against one bank: rows, figures, files to take away, and the page's handlers."""

from __future__ import annotations

import csv
import dataclasses
import html
import io
import json
import pickle
import re
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from inctrl_core import Detector, InctrlError
from inctrl_core import output as tables
from inctrl_core.analysis import batch, batch_job
from inctrl_core.analysis import export as batch_export
from inctrl_core.analysis.batch import Batch, BatchRow, QueryFile, score_chunk
from inctrl_core.analysis.batch_job import BatchJob, start_job
from inctrl_core.analysis.changes import with_phrases
from inctrl_core.analysis.export import batch_csv, batch_dict, batch_json, safe_names, write_zip
from inctrl_core.analysis.inspection import start_session
from inctrl_core.analysis.metrics import auroc
from inctrl_core.analysis.normal_range import NormalRange
from inctrl_core.analysis.patch_scale import PatchScale
from inctrl_core.checkpoints.loading import DEFAULT_MODEL
from inctrl_core.images.overlay import overlay
from inctrl_core.model.score import Score
from inctrl_core.ui.batch import histogram as batch_histogram
from inctrl_core.ui.batch import table as batch_table
from inctrl_core.ui.batch.handlers import BatchHandlers, check_batch
from inctrl_core.ui.batch.pictures import draw_thumbnail
from inctrl_core.ui.batch.tab import BatchTab
from inctrl_core.ui.common import models
from inctrl_core.ui.common.examples import load_examples, match_example
from inctrl_core.ui.common.form import query_files
from inctrl_core.ui.common.models import ModelRegistry
from tests.support.pictures import FAILING, OTHER
from tests.support.sessions import tab_of

NORMALS = tuple(str(path) for path in sorted((OTHER.folder / "normals").iterdir())[:3])
QUERIES = sorted((OTHER.folder / "queries").iterdir())
EVIL = '"><img src=x onerror=alert(1)>.png'


@pytest.fixture(scope="module")
def handlers(detector: Detector) -> Iterator[BatchHandlers]:
    registry = ModelRegistry({DEFAULT_MODEL: DEFAULT_MODEL}, device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "load_detector", lambda *_, **__: detector)  # Loaded already.
        yield BatchHandlers(registry, load_examples())


@pytest.fixture(scope="module")
def other(handlers: BatchHandlers) -> BatchJob:
    """The queries of an example, scored."""
    return run(handlers, QUERIES)


@pytest.fixture(scope="module")
def tab(handlers: BatchHandlers) -> BatchTab:
    return tab_of(handlers.run._registry, BatchTab)


def start(handlers: BatchHandlers, paths: list[Path], **changes: object) -> BatchJob:
    given = {
        "normals": [{"image": {"path": path}} for path in NORMALS],
        "files": uploads(paths),
        "object_name": OTHER.object_name,
        "model": DEFAULT_MODEL,
        "session": None,
        "progress": lambda *_, **__: None,
    }
    return handlers.start(**(given | changes))


def run(handlers: BatchHandlers, paths: list[Path]) -> BatchJob:
    """A job through all its turns."""
    job = start(handlers, paths)
    while not job.finished:
        job = handlers.advance(job)
    return job


def begin(tab: BatchTab, paths: list[Path], model: str = DEFAULT_MODEL, name: str = "") -> dict:
    """The first turn of a job as the page sees it."""
    form = gallery(NORMALS), uploads(paths), name or OTHER.object_name, model, None
    return tab.start(*form, *[None] * 5, lambda *_, **__: None)


def query(path: Path | str, name: str = "", truth: bool | None = None) -> QueryFile:
    return QueryFile(str(path), name or Path(path).name, truth)


def score(fused: float) -> Score:
    patch_map = np.zeros((15, 15), np.float32)
    patch_map[4, 8] = fused
    empty = np.zeros((0, 15, 15))
    box = (10.0, 0.0, 70.0, 60.0)
    return Score(fused, fused, fused, 0.1, 0.2, patch_map, empty, empty, box, "training-free")


def jpeg(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG")
    return stream.getvalue()


GREY = jpeg(Image.new("RGB", (80, 60), (128, 128, 128)))


def made(rows: list[tuple[str, float | None, bool | None]], path: str = "") -> Batch:
    """A batch by hand; the normals score 0.1 to 0.2."""
    return Batch(
        "model",
        "thing",
        2,
        NormalRange((0.1, 0.2), (0.1, 0.2)),
        PatchScale(0.0, 0.4, 0.2),
        tuple(
            BatchRow(QueryFile(path, name, truth), None, error="It is damaged.")
            if fused is None
            else BatchRow(QueryFile(path, name, truth), score(fused), GREY, size=(80, 60))
            for name, fused, truth in rows
        ),
    )


def job(results: Batch, **changes: object) -> BatchJob:
    return dataclasses.replace(BatchJob("key", "model", (), None, results, ()), **changes)


class TestScoring:
    def test_rows_say_what_the_detector_says_whatever_their_neighbours(self, detector, tmp_path):
        broken = tmp_path / "broken.png"
        broken.write_bytes(b"no image")
        bank = detector.build_bank(NORMALS, OTHER.object_name)
        rows = score_chunk(detector, bank, [query(p) for p in (QUERIES[0], broken, QUERIES[3])])
        expected = detector.score([QUERIES[0], QUERIES[3]], bank)
        assert rows[1].score is None and "'broken.png' is not an image" in rows[1].error
        for row, alone in zip((rows[0], rows[2]), expected, strict=True):
            assert row.score.fused == pytest.approx(alone.fused, abs=1e-6)
            np.testing.assert_allclose(row.score.patch_map, alone.patch_map, atol=1e-6)
            assert row.score.crop_box == alone.crop_box

    def test_no_row_keeps_an_image_or_its_neighbours(self, detector, tmp_path):
        path = tmp_path / "large.png"
        Image.effect_noise((2400, 900), 80).save(path)
        bank = detector.build_bank(NORMALS)
        row = score_chunk(detector, bank, [query(path)] * 3)[2]
        assert len(pickle.dumps(row)) < 12_000
        assert row.score.patch_map.base is None
        with Image.open(io.BytesIO(row.thumbnail)) as small:
            assert small.size == (112, 42) and row.size == (2400, 900)

    def test_a_chunk_ends_by_number_and_by_time(self, detector, monkeypatch):
        bank = detector.build_bank(NORMALS)
        many = [query(QUERIES[0])] * 3
        monkeypatch.setattr(batch, "CHUNK", 2)
        monkeypatch.setattr(batch, "CHUNK_SECONDS", 60.0)
        assert len(score_chunk(detector, bank, many)) == 2
        monkeypatch.setattr(batch, "CHUNK_SECONDS", -1.0)  # Over before it begins.
        assert len(score_chunk(detector, bank, many)) == 1

    def test_a_chunk_of_unreadable_files_needs_no_model(self, tmp_path):
        config = types.SimpleNamespace(config=types.SimpleNamespace(preprocess=None))
        rows = score_chunk(config, None, [query(tmp_path / "gone.png")])
        assert "does not exist" in rows[0].error


class TestFigures:
    def test_auroc_by_hand(self):
        # Pairs: .3 > .1, .3 > .2, .2 > .1, .2 = .2, so 3.5 of 4.
        assert auroc([(True, 0.3), (True, 0.2), (False, 0.1), (False, 0.2)]) == 3.5 / 4
        assert auroc([(True, 0.3)]) is None and auroc([]) is None

    def test_auroc_is_that_of_scikit_learn(self):
        generator = np.random.default_rng(0)
        truth = generator.integers(0, 2, 200).astype(bool)
        values = np.round(generator.random(200), 1)  # Many ties.
        pairs = list(zip(truth.tolist(), values.tolist(), strict=True))
        assert auroc(pairs) == pytest.approx(roc_auc_score(truth, values))

    @pytest.mark.parametrize(
        ("fused", "standing"),
        [(0.26, "above"), (0.249, "barely above"), (0.2, "inside"), (0.05, "below")],
    )
    def test_standings(self, fused, standing):
        # The range is 0.1 wide, and of 2 normals: up to 0.05 above it is barely.
        results = made([("a", fused, None)])
        assert results.standing(results.rows[0]) == standing
        assert results.above(results.rows[0]) is (fused > 0.2)
        alone = dataclasses.replace(results, ranges=None)
        assert alone.standing(results.rows[0]) == "" and alone.above(results.rows[0]) is None

    def test_ranked_from_the_highest_and_unreadable_last(self):
        results = made([("a", 0.1, None), ("b", None, None), ("c", 0.3, None)])
        assert [row.file.name for row in results.ranked] == ["c", "a", "b"]

    def test_truths_are_all_or_none(self):
        assert made([("a", 0.1, True), ("b", None, None)]).truths == ((True, 0.1),)
        assert made([("a", 0.1, True), ("b", 0.2, None)]).truths == ()


class TestNames:
    @pytest.mark.parametrize(
        ("name", "safe"),
        [
            ("../../etc/passwd", "passwd"),
            ("..\\..\\boot", "boot"),
            ("/abs", "abs"),
            ("..", "image"),
            ("", "image"),
            ("con", "_con"),
            ("LPT1", "_LPT1"),
            ("aux.tar", "_aux.tar"),
            ("console", "console"),
            ('a<b>:"|?*', "a_b______"),
            ("tail. .", "tail"),
            ("a\nb\0c", "a b c"),
            ("Blüte 花", "Blüte 花"),
            ("C:evil", "C_evil"),
            ("\ud800x", "x"),
        ],
    )
    def test_each_is_a_name_everywhere(self, name, safe):
        assert safe_names([name]) == [safe]

    def test_no_two_are_alike(self):
        given = ["a", "A", "a (2)", "x" * 300, "x" * 300, "ﬁ", "fi"]
        safe = safe_names(given)
        assert len({name.casefold() for name in safe}) == len(given)
        assert safe[:2] == ["a", "A (2)"] and max(map(len, safe)) <= batch_export.MAX_STEM

    def test_no_name_is_too_long_for_a_file_system(self):
        assert len(f"{safe_names(['𠀀' * 300])[0]}.png".encode()) <= 255


class TestExport:
    @pytest.mark.parametrize("start", ["=", "+", "-", "@", " =", "＝"])
    def test_no_cell_is_a_formula(self, start):
        name = f"{start}HYPERLINK(1),x"
        line = list(csv.DictReader(io.StringIO(batch_csv(made([(name, 0.3, None)])))))[0]
        assert line["file"] == f"'{name.strip()}"
        assert line["score"] == "0.300000"

    @pytest.mark.parametrize(
        "name",
        [";=1+1.png", "a;=1+1.png", "|-2.png", "a | @x", ';"=1+1".png', "x;y|+1", ",=1", "a;'=1"],
    )
    @pytest.mark.parametrize("separator", [",", ";", "|", "\t"])
    def test_no_cell_is_a_formula_whatever_the_separator(self, name, separator):
        text = batch_csv(made([(name, 0.3, None)]))
        for line in csv.reader(io.StringIO(text), delimiter=separator):
            assert not [cell for cell in line if re.match(r"[\s\"]*[=+\-@]", cell)]
        assert tables.table_text("part-3 (a=b).png") == "part-3 (a=b).png"

    def test_files_of_one_name_are_told_apart(self, tmp_path):
        path = tmp_path / "original.png"
        Image.new("RGB", (80, 60)).save(path)
        rows = [("000.png", 0.1, None), ("000.png", None, None), ("000.png", 0.3, None)]
        results = made(rows, str(path))
        lines = list(csv.DictReader(io.StringIO(batch_csv(results))))
        assert [(line["file"], line["index"]) for line in lines] == [
            ("000.png", "2"), ("000.png", "0"), ("000.png", "1")
        ]  # fmt: skip
        write_zip(tmp_path / "all.zip", results)
        with zipfile.ZipFile(tmp_path / "all.zip") as archive:
            names = archive.namelist()
            entries = json.loads(archive.read("results.json"))["results"]
        assert len(set(names)) == len(names)
        assert [(entry["index"], entry["file"], entry["map"]) for entry in entries] == [
            (2, "000.png", "maps/000 (3).npy"),
            (0, "000.png", "maps/000.npy"),
            (1, "000.png", None),
        ]
        markup = batch_table.table_html(job(results))
        assert "000.png (file 3)" in markup and "000.png (file 2)" in markup
        assert "(file" not in batch_table.table_html(job(made([("a", 0.1, None)])))

    def test_the_table_has_a_line_for_each_file(self):
        results = made([('a,\n"b', 0.1, False), ("broken", None, None), ("c", 0.3, True)])
        lines = list(csv.DictReader(io.StringIO(batch_csv(results))))
        assert [line["file"] for line in lines] == ["c", 'a, "b', "broken"]
        assert lines[0]["against_the_normals"] == "above" and lines[0]["truth"] == "anomalous"
        assert (lines[0]["strongest_row"], lines[0]["strongest_column"]) == ("5", "9")
        assert lines[0]["normals_highest"] == "0.200000"
        assert lines[2]["score"] == "" and lines[2]["error"] == "It is damaged."
        assert tuple(lines[0]) == batch_export.COLUMNS

    def test_json_has_the_maps_and_their_place(self):
        told = json.loads(batch_json(made([("a", 0.3, None), ("b", None, None)])))
        assert told["normal_range"] == {"lowest": 0.1, "highest": 0.2, "fused": [0.1, 0.2]}
        first, second = told["results"]
        assert np.shape(first["patch_map"]) == (15, 15)
        assert first["crop_box"] == [10.0, 0.0, 70.0, 60.0] and first["size"] == [80, 60]
        assert second["error"] == "It is damaged." and "fused" not in second
        alone = dataclasses.replace(made([]), ranges=None)
        assert batch_dict(alone)["normal_range"] is None

    def test_the_archive_has_the_originals_own_pixels(self, tmp_path):
        path = tmp_path / "original.png"
        Image.effect_noise((80, 60), 90).convert("RGB").save(path)
        rows = [("../a.png", 0.3, None), ("a.jpg", 0.2, None), ("bad.png", None, None)]
        results = made(rows, str(path))
        told = []
        progress = lambda done, total: told.append((done, total))  # noqa: E731
        assert write_zip(tmp_path / "all.zip", results, progress) == 0
        assert told == [(1, 3), (2, 3), (3, 3)]
        with zipfile.ZipFile(tmp_path / "all.zip") as archive:
            assert sorted(archive.namelist()) == [
                "maps/a (2).npy",
                "maps/a.npy",
                "overlays/a (2).png",
                "overlays/a.png",
                "results.csv",
                "results.json",
            ]
            with Image.open(archive.open("overlays/a.png")) as drawn, Image.open(path) as original:
                expected = overlay(
                    original,
                    results.rows[0].score.patch_map,
                    (10.0, 0.0, 70.0, 60.0),
                    results.scale.style(),
                )
                np.testing.assert_array_equal(np.asarray(drawn), np.asarray(expected))
            np.testing.assert_array_equal(
                np.load(archive.open("maps/a.npy")), results.rows[0].score.patch_map
            )
            entries = json.loads(archive.read("results.json"))["results"]
            assert [entry["overlay"] for entry in entries] == [
                "overlays/a.png",
                "overlays/a (2).png",
                None,
            ]

    def test_an_archive_has_an_end_and_says_so(self, tmp_path, monkeypatch):
        path = tmp_path / "original.png"
        Image.new("RGB", (80, 60)).save(path)
        monkeypatch.setattr(batch_export, "MAX_OVERLAY_PIXELS", 2 * 80 * 60)
        results = made([("a", 0.1, None), ("b", 0.3, None), ("c", 0.2, None)], str(path))
        assert write_zip(tmp_path / "all.zip", results) == 1
        with zipfile.ZipFile(tmp_path / "all.zip") as archive:
            last = json.loads(archive.read("results.json"))["results"][-1]
            assert last["file"] == "a" and last["map"] == "maps/a.npy"
            assert last["overlay"] is None and "no room" in last["overlay_error"]

    def test_an_original_that_is_gone_does_not_end_the_archive(self, tmp_path):
        results = made([("a", 0.3, None)], str(tmp_path / "gone.png"))
        assert write_zip(tmp_path / "all.zip", results) == 0
        with zipfile.ZipFile(tmp_path / "all.zip") as archive:
            entry = json.loads(archive.read("results.json"))["results"][0]
        assert entry["overlay"] is None and "does not exist" in entry["overlay_error"]


class TestMarkup:
    def test_the_small_picture_has_the_map(self):
        """Of what is above the normals' own differences; below, the picture stays as it is."""
        row = made([("a", 0.3, None)]).rows[0]
        hot = np.zeros((15, 15), np.float32)
        hot[2, 11] = 0.4
        batch = made([])
        for patch_map, changed in ((hot, True), (np.full_like(hot, 0.19), False)):
            own = dataclasses.replace(row.score, patch_map=patch_map)
            drawn = np.asarray(draw_thumbnail(batch, dataclasses.replace(row, score=own)), int)
            assert (abs(drawn[10, 56] - 128).max() > 50) == changed
            assert abs(drawn[45, 15] - 128).max() < 5

    def test_names_are_text(self):
        results = made([(EVIL, 0.3, None), (EVIL, None, None)])
        for markup in (
            batch_table.table_html(job(results)),
            batch_table.summary_html(job(results)),
        ):
            assert "<img src=x" not in markup

    def test_the_table_is_sorted_and_says_so(self):
        markup = batch_table.table_html(job(made([("a", 0.1, True), ("b", 0.3, False)])))
        assert re.findall(r'data-row="(\d)"', markup) == ["1", "0"]
        assert markup.count("aria-sort") == 1 and "row 5, column 9" in markup
        assert re.findall(r'data-truth="(\d)"', markup) == ["0", "1"]

    def test_the_summary_counts(self):
        rows = [("a", 0.3, True), ("b", 0.21, False), ("c", 0.15, False), ("d", None, None)]
        text = batch_table.summary_html(job(made(rows)))
        assert "2 of 3 images score above the threshold, 1 of them only a little" in text
        assert "1 of the 3 images are actually anomalous: 1 of them lies" in text
        assert "and 1 of the 2 others" in text and ">100%</abbr> (AUROC)" in text
        assert "1 file could not be read; it stands at the end" in text

    def test_normals_that_may_show_too_little_are_doubted(self):
        def says(above: int, below: int, truth: bool | None = None) -> bool:
            rows = [(f"a{i}", 0.3, truth) for i in range(above)]
            rows += [(f"b{i}", 0.1, truth) for i in range(below)]
            return "do not show all that is good" in batch_table.summary_html(job(made(rows)))

        assert says(4, 2) and says(6, 0)
        assert not says(3, 3) and not says(3, 1) and not says(5, 1, truth=True)

    def test_images_of_other_proportions_are_counted(self):
        square = made([("a", 0.3, None), ("b", 0.1, None), ("c", None, None)])
        alike = dataclasses.replace(square, normal_boxes=((0, 0, 200, 100), (0, 0, 90, 90)))
        assert "proportions" not in batch_table.summary_html(job(alike))
        wide = dataclasses.replace(square, normal_boxes=((0, 0, 200, 100),))
        text = batch_table.summary_html(job(wide))
        assert "Not in the proportions of any normal: a, b. Every image" in text
        for results, expected in ((alike, (False, "no")), (wide, (True, "yes"))):
            first = next(csv.DictReader(io.StringIO(batch_csv(results))))["other_proportions"]
            found = batch_dict(results)["results"][0]["other_proportions"], first
            assert found == expected
        evil = dataclasses.replace(made([(EVIL, 0.3, None)]), normal_boxes=((0, 0, 200, 100),))
        assert "<img src=x" not in batch_table.summary_html(job(evil))

    def test_without_truth_or_range_there_is_none(self):
        results = dataclasses.replace(made([("a", 0.3, None), ("b", 0.1, None)]), ranges=None)
        text = batch_table.summary_html(job(results))
        assert "AUROC" not in text and "truth" not in text and "add a second" in text
        assert "ic-normal-range" not in batch_histogram.histogram_html(results)
        assert "no threshold" in batch_table.table_html(job(results))

    def test_the_histogram_counts_each_image_once(self):
        rows = [("a", 0.3, True), ("b", 0.31, True), ("c", 0.0, False), ("d", 0.001, True)]
        chart = batch_histogram.histogram_html(made(rows))
        # The axis ends at 0.35; the range of the normals lies from 0.1 to 0.2 of it.
        assert f'x="{720 * 0.1 / 0.35:.1f}" width="{720 * 0.1 / 0.35:.1f}"' in chart
        counts = re.findall(r"<title>(\d) (\w+), ", chart)
        assert sorted(counts) == [("1", "anomalous")] * 3 + [("1", "normal")]
        assert "tallest bar is 2 images" in chart

    def test_progress_gives_time_left_where_it_matters(self):
        rows = made([("a", 0.1, None), ("b", 0.2, None)])
        running = job(rows, waiting=(query("x"),) * 6, seconds=4.0)
        assert "Scored 2 of 8 images, about 12 seconds left" in batch_table.progress_html(running)
        slow = job(rows, waiting=(query("x"),) * 60, seconds=8.0)
        assert "about 4 minutes left" in batch_table.progress_html(slow)
        assert "left" not in batch_table.progress_html(job(rows, waiting=(query("x"),), seconds=1))


class TestJob:
    def start(self, detector: Detector, name: str, previous: object = None) -> BatchJob:
        files = (query(QUERIES[0]),)
        return start_job(detector, "key", DEFAULT_MODEL, NORMALS, files, name, previous)

    def test_the_sessions_bank_serves_again(self, detector, monkeypatch):
        files = NORMALS, str(QUERIES[0])
        session = start_session(detector, DEFAULT_MODEL, files, OTHER.object_name)
        spoken = with_phrases(detector, session, ["a cookie"], ["a broken cookie", "crumbs"])
        monkeypatch.setattr(Detector, "encode", None)  # No image is encoded from here on.
        same = self.start(detector, OTHER.object_name, spoken)
        assert same.bank is spoken.bank and same.phrases == 3
        renamed = self.start(detector, "meadow", spoken)
        assert renamed.bank.features is spoken.bank.features
        assert renamed.batch.object_name == "meadow" and renamed.phrases == 0

    def test_limits_are_said_in_a_sentence(self, detector, tmp_path, monkeypatch):
        with pytest.raises(InctrlError, match="Add the images to check"):
            start_job(detector, "key", DEFAULT_MODEL, NORMALS, (), "cookie")
        many = (query(QUERIES[0]),) * 201
        with pytest.raises(InctrlError, match="There are 201 images to check; use at most 200"):
            start_job(detector, "key", DEFAULT_MODEL, NORMALS, many, "cookie")
        monkeypatch.setattr(batch_job, "MAX_TOTAL_BYTES", 3 << 20)
        large = tmp_path / "large.png"
        large.write_bytes(bytes(2 << 20))
        assert "have 4 MB together; use at most 3 MB" in batch_job.files_problem(
            (query(large),) * 2
        )

    def test_both_steps_run_where_models_do(self, handlers):
        run = handlers.run
        files = (query(QUERIES[0]), query(QUERIES[3]))
        there = run(
            start_job, DEFAULT_MODEL, "key", DEFAULT_MODEL, NORMALS, files, OTHER.object_name, None
        )
        rows = run(score_chunk, DEFAULT_MODEL, there.bank, there.waiting)
        here = self.start(handlers.run._registry.get(DEFAULT_MODEL), OTHER.object_name)
        assert there.batch.ranges == here.batch.ranges
        assert [row.score is not None for row in rows] == [True, True]

    def test_examples_are_known_by_their_bytes(self, tmp_path):
        examples = load_examples()
        cookies = examples[OTHER.name]
        renamed = tmp_path / "mine.jpg"
        renamed.write_bytes(cookies.queries[4].path.read_bytes())
        assert match_example([str(renamed)], examples) == (OTHER.name, (4,))
        changed = tmp_path / "changed.jpg"
        data = bytearray(renamed.read_bytes())
        data[-3] ^= 1
        changed.write_bytes(bytes(data))
        assert match_example([str(renamed), str(changed)], examples) == ("", ())
        assert match_example([], examples) == ("", ())
        assert match_example([str(tmp_path / "gone.jpg")], examples) == ("", ())


def gallery(paths: tuple[str, ...]) -> list[dict]:
    return [{"image": {"path": path}} for path in paths]


def uploads(paths: list[Path]) -> list[dict]:
    return [{"path": str(path), "orig_name": path.name} for path in paths]


class TestHandlers:
    def test_a_batch_runs_in_turns_to_its_end(self, tab, monkeypatch):
        monkeypatch.setattr(batch, "CHUNK", 2)
        shown = [begin(tab, [QUERIES[0], QUERIES[3], QUERIES[0]] * 2)]
        while not shown[-1][tab.job].finished:
            shown.append(tab.advance(shown[-1][tab.job], ""))
        done = shown[-1][tab.job]
        assert len(shown) == 1 + 3 and len(done.batch.rows) == 6
        assert "Scored 2 of 6 images" in shown[1][tab.notice]
        assert "aria-sort" in shown[-1][tab.table] and not shown[1][tab.table]
        assert done.seconds > 0
        # A turn that came before would set nothing off, and the last one asks for no other.
        turns = [turn[tab.turn] for turn in shown[:-1]]
        assert len(set(turns)) == 3 and tab.turn not in shown[-1]
        assert tab.advance(done, "") == tab.advance(None, "") == {tab.job: gr.skip()}

    def test_the_example_brings_its_truth(self, handlers, other):
        example = handlers.examples[OTHER.name]
        truth = {query.path.name: query.anomalous for query in example.queries}
        assert other.example == OTHER.name
        assert {row.file.name: row.file.anomalous for row in other.batch.rows} == truth

    def test_a_set_that_fools_the_model_says_why(self, handlers):
        fools = FAILING.example
        files = uploads([query.path for query in fools.queries])
        job = start(handlers, [], files=files)
        assert html.escape(fools.fails) in batch_table.summary_html(job)
        assert not start(handlers, QUERIES).fails

    def test_a_stop_ends_that_job_and_no_other(self, tab, monkeypatch):
        monkeypatch.setattr(batch, "CHUNK", 2)
        started = begin(tab, [QUERIES[0]] * 5)[tab.job]
        asked = tab.ask_to_stop(started)[tab.stopped]
        going = tab.advance(started, "other")[tab.job]
        stopped = tab.advance(going, asked)[tab.job]
        assert stopped.finished and len(stopped.batch.rows) == 2
        assert "Stopped after 2 of 5 images" in batch_table.summary_html(stopped)

    def test_errors_are_told_in_place(self, tab, monkeypatch):
        for wrong, told in (({"model": "../x"}, "models in the list"), ({"name": "x" * 500}, "80")):
            shown = begin(tab, QUERIES, **wrong)
            # An earlier batch, its table and its downloads stay.
            assert list(shown) == [tab.notice] and told in shown[tab.notice]
        started = begin(tab, QUERIES)[tab.job]
        broken = tab.give_up(started)
        assert broken[tab.job].finished and "Something went wrong" in broken[tab.notice]

        def refuse(*_: object) -> None:
            raise InctrlError("Too little memory.")

        monkeypatch.setattr(tab.handlers, "run", types.SimpleNamespace(sees=refuse))
        failed = tab.advance(started, "")
        assert failed[tab.job].finished and "Too little memory." in failed[tab.notice]

    def test_check_names_each_field(self):
        fields = check_batch([], [], "", DEFAULT_MODEL, None)
        assert [field["is_valid"] for field in fields] == [False, False, True, True, True]
        fine = check_batch(gallery(NORMALS), uploads(QUERIES), "", DEFAULT_MODEL, None)
        assert all(field["is_valid"] for field in fine)

    def test_a_row_opens_with_its_own_score(self, handlers, other):
        event = types.SimpleNamespace(_data={"row": "3", "job": other.key})
        session, normals, path, name, model, queries = handlers.open_row(other, None, event)
        assert session.score.fused == pytest.approx(other.batch.rows[3].score.fused, abs=1e-6)
        assert (tuple(normals), path, name) == (NORMALS, str(QUERIES[3]), OTHER.object_name)
        assert model == DEFAULT_MODEL and 'aria-pressed="true"' in queries
        unnamed = dataclasses.replace(other.batch, object_name="object")
        opened = handlers.open_row(dataclasses.replace(other, batch=unnamed), None, event)
        assert opened[3] == ""  # As the visitor left it.

    def test_an_image_that_is_good_joins_the_normals_and_tells_its_price(self, handlers, tmp_path):
        # Under names of nobody's example, so that nothing is known of them.
        paths = [tmp_path / f"{index}{path.suffix}" for index, path in enumerate(QUERIES)]
        for path, original in zip(paths, QUERIES, strict=True):
            path.write_bytes(original.read_bytes() + b"\0")
        first = run(handlers, paths)
        above = [row for row in first.batch.rows if first.batch.above(row)]
        assert batch_table.table_html(first).count("data-good") == len(above) > 0
        row = first.batch.index(above[0])
        event = types.SimpleNamespace(_data={"row": str(row), "job": first.key})
        normals = handlers.take_good(first, event)
        assert normals == [*NORMALS, str(paths[row])]
        again = start(handlers, paths, normals=gallery(normals), previous=first)
        assert again.batch.shots == len(NORMALS) + 1
        before, after = first.batch.threshold, again.batch.threshold
        assert f"{before:.3f} to {after:.3f}" in again.notes[-1] and before != after
        assert ("its price" in again.notes[-1]) is (after > before)
        other = start(handlers, paths, normals=gallery(NORMALS[1:]), previous=first)
        assert not any("One more normal" in note for note in other.notes)

    def test_no_more_than_sixteen_normals_are_good(self, handlers):
        rows = [
            ("bad", 0.3, True),
            ("good", 0.3, False),
            ("unknown", 0.3, None),
            ("low", 0.1, None),
        ]
        full = job(made(rows))
        marked = batch_table.table_html(full)
        assert marked.count("data-good") == 2
        full = dataclasses.replace(
            full, normal_files=("a.png",) * 16, batch=dataclasses.replace(full.batch, shots=16)
        )
        assert "data-good" not in batch_table.table_html(full)
        event = types.SimpleNamespace(_data={"row": "1", "job": full.key})
        with pytest.raises(gr.Error, match="at most 16"):
            handlers.take_good(full, event)

    @pytest.mark.parametrize(
        "data",
        [{}, {"row": "0"}, {"row": "99", "job": "KEY"}, {"row": "-1", "job": "KEY"}, {"row": "x"}]
        + [{"row": "0", "job": "another"}, {"row": "1", "job": "KEY"}],
    )
    def test_a_row_that_is_not_there_opens_nothing(self, handlers, data):
        results = job(made([("a", 0.3, None), ("b", None, None)]))
        data = {key: value.replace("KEY", results.key) for key, value in data.items()}
        with pytest.raises(gr.Error, match="no longer here"):
            handlers.open_row(results, None, types.SimpleNamespace(_data=data))
        with pytest.raises(gr.Error, match="no longer here"):
            handlers.open_row(None, None, types.SimpleNamespace(_data=data))

    def test_files_lie_where_gradio_removes_them(self, handlers, tmp_path, monkeypatch):
        monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
        results = job(made([("ä", 0.3, None)], str(QUERIES[0])))
        silent = lambda *_, **__: None  # noqa: E731
        for path, note in (
            handlers.export_csv(results),
            handlers.export_json(results),
            handlers.export_zip(results, silent),
        ):
            assert Path(path).parent.parent == tmp_path and len(Path(path).parent.name) == 40
            assert not note and Path(path).stat().st_size > 0
        for answer in (handlers.export_csv(None), handlers.export_zip(None, silent)):
            assert answer[0] is None and "no longer here" in answer[1]

    def test_names_are_those_of_their_owner(self):
        given = [{"path": "/tmp/x/a_b.png", "orig_name": "C:\\fake\\a b.png"}, {"path": "/t/c.png"}]
        assert [file.name for file in query_files(given)] == ["a b.png", "c.png"]
