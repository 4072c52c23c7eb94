"""A visitor's own labels in the tab Batch, without a browser: fields, figures, failures, report."""

from __future__ import annotations

import dataclasses
import re
import zipfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from gradio.utils import get_upload_folder
from PIL import Image, ImageOps

from inctrl_core import Detector
from inctrl_core.analysis.batch_job import BatchJob
from inctrl_core.analysis.labelled import FALSE_ALARM, MISS, judge_batch
from inctrl_core.checkpoints.loading import DEFAULT_MODEL
from inctrl_core.errors import InctrlError
from inctrl_core.images.files import open_image
from inctrl_core.images.perturbations import brighten
from inctrl_core.images.seen import open_here
from inctrl_core.ui.batch import labelled_report as reports
from inctrl_core.ui.batch.given import collect
from inctrl_core.ui.batch.handlers import BatchHandlers, check_batch
from inctrl_core.ui.batch.labelled_handlers import (
    EVERY,
    ONLY_FAILURES,
    LabelledHandlers,
    labelled_result,
)
from inctrl_core.ui.batch.labelled_report import labelled_report
from inctrl_core.ui.batch.tab import forget
from inctrl_core.ui.batch.table import summary_html, table_html
from inctrl_core.ui.common import models
from inctrl_core.ui.common.examples import load_examples
from inctrl_core.ui.common.models import ModelRegistry
from tests.support.pictures import SMALL_MARKS

NORMALS = SMALL_MARKS.normals
BAD = [SMALL_MARKS.query(stem) for stem in ("fibre", "one_speck", "specks")]
GOOD = [SMALL_MARKS.query(stem) for stem in ("good_1", "good_2")]
EVIL = "<img src=x onerror=alert(1)>.png"


@pytest.fixture(scope="module")
def handlers(detector: Detector) -> Iterator[BatchHandlers]:
    registry = ModelRegistry({DEFAULT_MODEL: DEFAULT_MODEL}, device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "load_detector", lambda *_, **__: detector)
        yield BatchHandlers(registry, load_examples())


def uploads(paths: list[Path], names: list[str] | None = None) -> list[dict]:
    names = names or [path.name for path in paths]
    return [{"path": str(path), "orig_name": name} for path, name in zip(paths, names, strict=True)]


def start(handlers: BatchHandlers, **fields: object) -> BatchJob:
    given = {
        "normals": [{"image": {"path": str(path)}} for path in NORMALS],
        "files": None,
        "object_name": SMALL_MARKS.object_name,
        "model": DEFAULT_MODEL,
        "session": None,
        "progress": lambda *_, **__: None,
    }
    return handlers.start(**(given | fields))


def run(handlers: BatchHandlers, **fields: object) -> BatchJob:
    job = start(handlers, **fields)
    while not job.finished:
        job = handlers.advance(job)
    return job


def packed(path: Path, files: dict[str, Path]) -> dict:
    with zipfile.ZipFile(path, "w") as archive:
        for name, file in files.items():
            archive.write(file, name)
    return {"path": str(path), "orig_name": path.name}


def leftovers() -> set[Path]:
    folder = Path(get_upload_folder())
    return set(folder.rglob("*.jpg")) if folder.exists() else set()


@pytest.fixture(scope="module")
def job(handlers: BatchHandlers, tmp_path_factory: pytest.TempPathFactory) -> BatchJob:
    """Three bad images, two good ones, and two that were mislabelled on purpose."""
    folder = tmp_path_factory.mktemp("made")
    dark, hidden = folder / "dark.png", folder / "hidden.png"
    brighten(open_image(GOOD[0]), 40).save(dark)
    ImageOps.crop(open_image(GOOD[1]), 1).save(hidden)
    good = uploads([*GOOD, dark], ["good_1.jpg", "good_2.jpg", EVIL])
    return run(handlers, good=good, bad=uploads([*BAD, hidden]))


@pytest.fixture(scope="module")
def labelled(handlers: BatchHandlers) -> LabelledHandlers:
    return LabelledHandlers(handlers.run)


class TestFields:
    def test_the_fields_say_what_is_good_and_what_is_bad(self, job):
        assert (
            job.labelled
            and [row.file.anomalous for row in job.batch.rows] == [False] * 3 + [True] * 4
        )
        result = labelled_result(job, None)
        assert result.threshold == job.batch.decision.threshold
        assert {image.name for image in result.images} == {row.file.name for row in job.batch.rows}

    def test_an_example_tells_its_masks(self, handlers):
        made = run(handlers, good=uploads(GOOD), bad=uploads(BAD))
        assert [Path(row.file.mask).name for row in made.batch.rows[2:]] == [
            "fibre_mask.png",
            "one_speck_mask.png",
            "specks_mask.png",
        ]

    def test_the_table_says_whose_threshold_it_means(self, handlers, job):
        own = f"{job.batch.threshold:.3f}"
        assert own in table_html(job).split("</caption>")[0]
        plain = run(handlers, files=uploads(GOOD))
        assert "threshold" not in table_html(plain).split("</caption>")[0]

    def test_plain_images_beside_labelled_ones_have_no_part_in_the_figures(self, handlers):
        made = run(handlers, files=uploads([BAD[0]]), good=uploads(GOOD), bad=uploads(BAD[1:]))
        assert made.batch.rows[0].file.anomalous is None
        assert len(labelled_result(made, None).images) == 4

    def test_a_plain_batch_has_no_figures(self, handlers):
        assert labelled_result(run(handlers, files=uploads(GOOD)), None) is None
        assert labelled_result(None, None) is None

    def test_a_zip_brings_its_labels_and_goes_with_the_next_job(self, handlers, tmp_path):
        archive = packed(tmp_path / "mine.zip", {"ok/a.jpg": GOOD[0], "ng/b.jpg": BAD[0]})
        made = run(handlers, archive=archive)
        names = [(row.file.name, row.file.anomalous) for row in made.batch.rows]
        assert sorted(names) == [("ng: b.jpg", True), ("ok: a.jpg", False)]
        assert Path(made.unpacked).is_dir()
        following = start(handlers, good=uploads(GOOD), previous=made)
        assert not Path(made.unpacked).exists()
        again = run(handlers, archive=archive)
        forget(again)  # As when its visitor is gone.
        assert not Path(again.unpacked).exists()
        forget(following)
        forget(None)

    def test_a_zip_for_training_brings_normals_where_the_form_has_none(self, handlers, tmp_path):
        files = {f"nut/train/good/{path.name}": path for path in NORMALS}
        files |= {"nut/test/good/a.jpg": GOOD[0], "nut/test/dent/b.jpg": BAD[0]}
        files |= {
            "nut/ground_truth/dent/b_mask.png": SMALL_MARKS.folder / "masks" / "fibre_mask.png"
        }
        archive = packed(tmp_path / "nut.zip", files)
        made = run(handlers, archive=archive, normals=[])
        assert len(made.normal_files) == len(NORMALS) and len(made.batch.rows) == 2
        assert made.bank.shots == len(NORMALS)
        assert [Path(row.file.mask).name for row in made.batch.rows if row.file.anomalous] == [
            "b_mask.png"
        ]
        with_own = run(handlers, archive=archive)
        assert with_own.normal_files == tuple(map(str, NORMALS))
        assert "left aside" in summary_html(with_own)

    @pytest.mark.parametrize("kind", ["text", "no labels", "no normals", "too many"])
    def test_a_zip_that_cannot_be_used_loses_nothing(self, handlers, tmp_path, kind):
        before = leftovers()
        fields: dict = {}
        if kind == "text":
            path = tmp_path / "a.zip"
            path.write_bytes(b"no archive")
            fields["archive"] = {"path": str(path)}
        elif kind == "no labels":
            fields["archive"] = packed(tmp_path / "a.zip", {"a/a.jpg": GOOD[0]})
        elif kind == "no normals":
            files = {"good/a.jpg": GOOD[0], "bad/b.jpg": BAD[0]}
            fields |= {"archive": packed(tmp_path / "a.zip", files), "normals": []}
        else:
            many = {f"good/{i}.jpg": GOOD[0] for i in range(150)}
            many |= {f"bad/{i}.jpg": BAD[0] for i in range(60)}
            fields["archive"] = packed(tmp_path / "a.zip", many)
        with pytest.raises(InctrlError) as error:
            start(handlers, **fields)
        assert str(tmp_path) not in str(error.value) and leftovers() == before

    def test_missing_fields_are_named(self):
        normals = [{"image": {"path": "n.png"}}]
        files = [{"path": "a.png"}]

        def valid(*given: object) -> list[bool]:
            return [answer["is_valid"] for answer in check_batch(*given)]

        about = "name", "model", None
        assert valid(normals, None, *about, files, None, None, None) == [True] * 9
        assert valid(normals, None, *about, None, None, {"path": "a.zip"}, None) == [True] * 9
        assert valid(normals, None, *about, None, None, None, None)[1] is False
        assert valid(None, None, *about, files, None, None, None)[0] is False
        # The ZIP may bring normals.
        assert valid(None, None, *about, None, None, {"path": "a.zip"}, None) == [True] * 9
        assert valid(normals, files * 150, *about, files * 51, None, None, None)[1] is False

    def test_nothing_of_a_zip_is_opened_here(self, tmp_path):
        """It is opened where limits hold."""
        asked = []

        class Pool:
            def run(self, function, source, *arguments):
                asked.append((function.__name__, source))
                return open_here.run(function, source, *arguments)

        archive = packed(tmp_path / "a.zip", {"good/a.jpg": GOOD[0], "bad/b.jpg": BAD[0]})
        given = collect(None, None, None, archive, {}, Pool())
        assert asked == [("read_zip", archive["path"])] and len(given.queries) == 2


class TestLooking:
    def test_the_worst_miss_is_first_then_the_false_alarms(self, job, labelled):
        result = labelled_result(job, None)
        assert result.counts[MISS] == 1 and result.counts[FALSE_ALARM] == 1
        look = labelled.look(job, result, ONLY_FAILURES)
        assert 'data-outcome="miss"' in look.card and "1 of 2" in look.card
        following = labelled.look(job, result, ONLY_FAILURES, look.place, None, 1)
        assert 'data-outcome="false alarm"' in following.card and "2 of 2" in following.card
        # Around the ends.
        again = labelled.look(job, result, ONLY_FAILURES, following.place, None, 1)
        back = labelled.look(job, result, ONLY_FAILURES, look.place, None, -1)
        assert again.place == look.place and back.place == following.place

    def test_names_are_escaped(self, job, labelled):
        result = labelled_result(job, None)
        look = labelled.look(job, result, EVERY)
        for _ in range(7):
            assert "<img src=x" not in look.card + look.figures
            look = labelled.look(job, result, EVERY, look.place, None, 1)

    def test_another_threshold_keeps_the_image_where_it_still_fails(self, job, labelled):
        result = labelled_result(job, None)
        first = labelled.look(job, result, ONLY_FAILURES)
        moved = labelled.look(job, result.at(0.999), ONLY_FAILURES, first.place)
        assert moved.place == first.place
        assert f"Misses</dt><dd><strong>{result.at(0.999).counts[MISS]}<" in moved.figures
        none = labelled.look(job, result.at(result.threshold), ONLY_FAILURES, ("other", 0, True))
        assert none.place == first.place  # Another job's place is not this one's.

    def test_without_failures_that_is_said(self, handlers, labelled):
        made = run(handlers, good=uploads(GOOD), bad=uploads(BAD))
        result = labelled_result(made, None)
        look = labelled.look(made, result, ONLY_FAILURES)
        assert look.place is None and not look.reason and "No image fails" in look.card
        assert labelled.look(made, result, EVERY).place is not None

    def test_the_reason_is_found_once_and_for_what_is_shown(self, job, labelled, monkeypatch):
        result = labelled_result(job, None)
        alarm = next(image for image in result.failures if not image.anomalous)
        place = job.key, alarm.index, True
        assert "ic-looking" in labelled.reason(job, result, place, None)
        found = labelled.find(job, result, place, None)
        says = labelled.reason(job, result, place, found)
        assert 'data-cause="light"' in says and says.count("<img") == 2
        monkeypatch.setattr(labelled, "run", None)  # The model is not asked again.
        assert labelled.find(job, result, place, found) is found

    def test_an_image_that_is_right_has_its_nearest_patch_and_no_reason(self, job, labelled):
        result = labelled_result(job, None)
        image = result.ordered[-1]
        place = job.key, image.index, False
        found = labelled.find(job, result, place, None)
        says = labelled.reason(job, result, place, found)
        assert "ic-why" not in says and says.count("<img") == 2
        # Once it fails, its reason is looked for.
        low = result.at(0.0)
        assert "ic-looking" in labelled.reason(job, low, (job.key, image.index, True), found)

    def test_a_mask_is_outlined_and_one_that_is_none_is_told(self, handlers, labelled, tmp_path):
        made = run(handlers, good=uploads(GOOD), bad=uploads(BAD))
        result = labelled_result(made, 0.9999)
        card = labelled.look(made, result, ONLY_FAILURES).card
        assert "ic-outline" in card
        broken = tmp_path / "mask.png"
        broken.write_bytes(b"none")
        rows = tuple(
            dataclasses.replace(row, file=dataclasses.replace(row.file, mask=str(broken)))
            for row in made.batch.rows
        )
        changed = dataclasses.replace(made, batch=dataclasses.replace(made.batch, rows=rows))
        card = labelled.look(changed, result, ONLY_FAILURES).card
        assert "mask.png" in card and "ic-outline" not in card

    def test_an_image_that_is_gone_is_told(self, handlers, labelled, tmp_path):
        gone = tmp_path / "gone.png"
        Image.open(GOOD[0]).save(gone)
        made = run(handlers, good=uploads([gone]), bad=uploads(BAD))
        gone.unlink()
        result = labelled_result(made, 0.0)
        look = labelled.look(made, result, ONLY_FAILURES)
        assert "gone.png" in look.card and "ic-error" in look.card
        found = labelled.find(made, result, look.place, None)
        assert "ic-error" in labelled.reason(made, result, look.place, found)


class TestReport:
    def test_it_needs_nothing_else_and_runs_nothing(self, job, labelled):
        result = labelled_result(job, None)
        place = labelled.look(job, result, ONLY_FAILURES).place
        found = labelled.find(job, result, place, None)
        known = {index: reasons for (index, _), reasons in found.reasons.items()}
        page = labelled_report(job, result, known, open_here, date(2026, 2, 3))
        assert "<script" not in page and "<img src=x" not in page and "2026-02-03" in page
        sources = re.findall(r'(?:src|href)="([^"]*)"', page)
        assert len(sources) == 4 and all(s.startswith("data:image/jpeg") for s in sources)
        metrics = judge_batch(job.batch).metrics
        assert f"{metrics['auroc']:.3f}" in page and f"{metrics['ap']:.3f}" in page
        assert page.count("Why:") == 1 and page.count("<tr>") == 1 + len(job.batch.rows)

    def test_of_many_failures_some_have_no_pictures(self, job, monkeypatch):
        monkeypatch.setattr(reports, "MOST_PICTURED", 1)
        page = labelled_report(job, labelled_result(job, None), {}, open_here, date(2026, 2, 3))
        assert page.count("data:image/jpeg") == 2 and "1 more failure" in page

    def test_an_image_that_is_gone_leaves_the_rest(self, handlers, tmp_path):
        gone = tmp_path / "gone.png"
        Image.open(GOOD[0]).save(gone)
        made = run(handlers, good=uploads([gone, GOOD[1]]), bad=uploads(BAD))
        gone.unlink()
        page = labelled_report(made, labelled_result(made, 0.0), {}, open_here, date(2026, 2, 3))
        assert "gone.png" in page and page.count("data:image/jpeg") == 2


def test_a_threshold_out_of_range_is_refused(job):
    with pytest.raises(InctrlError):
        labelled_result(job, 3.0)
