"""The application without a browser: its registry, its examples, its handlers, its API."""

from __future__ import annotations

import dataclasses
import gc
import json
import re
import shutil
import socket
import weakref
from datetime import date
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

import app
from inctrl_core.analysis import changes
from inctrl_core.analysis.inspection import QUERY_PIXELS, start_session
from inctrl_core.analysis.session import Session
from inctrl_core.checkpoints.loading import DEFAULT_MODEL
from inctrl_core.errors import InctrlError, ModelError
from inctrl_core.model.prompts import build_prompts
from inctrl_core.ui.common import models
from inctrl_core.ui.common.downloads import new_file, picture_file
from inctrl_core.ui.common.examples import load_examples, pick_query
from inctrl_core.ui.common.form import check_form, file_path, gallery_paths
from inctrl_core.ui.common.heatmap import Display, strongest_patch
from inctrl_core.ui.common.models import ModelRegistry, find_sources
from inctrl_core.ui.inspect import render, verdict
from inctrl_core.ui.inspect.handlers import InspectHandlers
from inctrl_core.ui.inspect.report import report_html
from inctrl_core.ui.inspect.tab import InspectTab
from tests.support.pictures import OTHER
from tests.support.sessions import remeasured, tab_of

NORMALS = sorted((OTHER.folder / "normals").iterdir())[:4]
QUERY = OTHER.bad


@pytest.fixture(scope="module")
def registry() -> ModelRegistry:
    return ModelRegistry({DEFAULT_MODEL: DEFAULT_MODEL}, device="cpu")


@pytest.fixture(scope="module")
def scored(registry) -> Session:
    files = [str(path) for path in NORMALS], str(QUERY)
    return start_session(registry.get(DEFAULT_MODEL), DEFAULT_MODEL, files, OTHER.object_name)


class TestApi:
    def predict(self, client: Client, **changes: object) -> tuple[dict, str]:
        inputs = {
            "normals": [handle_file(path) for path in NORMALS],
            "query": handle_file(QUERY),
            "object_name": OTHER.object_name,
            "model": DEFAULT_MODEL,
        }
        return client.predict(*(inputs | changes).values(), api_name="/score")

    def test_score_says_what_the_library_says(self, client, detector):
        result, picture = self.predict(client)
        expected = detector.score([QUERY], detector.build_bank(NORMALS, OTHER.object_name))[0]
        assert result["model"] == DEFAULT_MODEL
        assert (result["object_name"], result["shots"]) == (OTHER.object_name, 4)
        assert result["fusion"] == expected.fusion
        assert np.shape(result["patch_map"]) == (15, 15)
        for key in ("fused", "holistic", "patch_max", "image_residual", "text_anomaly"):
            assert result[key] == pytest.approx(getattr(expected, key), abs=1e-5)
        np.testing.assert_allclose(result["patch_map"], expected.patch_map, atol=1e-5)
        assert result["crop_box"] == pytest.approx(expected.crop_box)
        with Image.open(picture) as image, Image.open(QUERY) as query:
            assert image.size == query.size
            assert not np.array_equal(np.asarray(image.convert("RGB")), np.asarray(query))

    def test_other_proportions_than_the_normals_are_told(self, client, tmp_path):
        assert self.predict(client)[0]["other_proportions"] is False
        Image.open(QUERY).resize((300, 200)).save(tmp_path / "wide.png")
        result, _ = self.predict(client, query=handle_file(tmp_path / "wide.png"))
        assert result["other_proportions"] is True

    def test_raw_files_reach_the_library(self, client, tmp_path):
        upright = Image.open(QUERY)
        turned = upright.transpose(Image.Transpose.ROTATE_90)
        exif = Image.Exif()
        exif[274] = 6
        turned.save(tmp_path / "turned.png", exif=exif)
        upright.save(tmp_path / "upright.png")
        first, _ = self.predict(client, query=handle_file(tmp_path / "turned.png"))
        second, _ = self.predict(client, query=handle_file(tmp_path / "upright.png"))
        assert first == second
        deep = (np.asarray(upright.convert("L")).astype(np.uint16)) * 257
        Image.fromarray(deep).save(tmp_path / "deep.png")
        upright.convert("L").save(tmp_path / "grey.png")
        first, _ = self.predict(client, query=handle_file(tmp_path / "deep.png"))
        second, _ = self.predict(client, query=handle_file(tmp_path / "grey.png"))
        assert (first.pop("data"), second.pop("data")) == ("16-bit data", "8-bit data")
        assert first == second

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"normals": []}, "at least one normal"),
            ({"normals": [handle_file(QUERY)] * 17}, "use at most 16"),
            ({"query": handle_file(OTHER.folder / "set.json")}, "not an image"),
            ({"object_name": "x" * 500}, "at most 80"),
            ({"model": "../../etc"}, "models in the list"),
        ],
    )
    def test_bad_input_is_told_in_one_sentence(self, client, changes, message):
        with pytest.raises(AppError, match=message) as error:
            self.predict(client, **changes)
        assert str(OTHER.folder.parent) not in str(error.value)

    def test_only_what_is_documented_can_be_called(self, client):
        named = client.view_api(print_info=False, return_format="dict")["named_endpoints"]
        assert set(named) == {
            "/score",
            "/explain",
            "/score_batch",
            "/score_labelled",
            "/stress_test",
            "/find_normals",
        }
        names = [entry["parameter_name"] for entry in named["/score"]["parameters"]]
        named_parameters = ["normals", "query", "object_name", "model", "looks_for", "false_alarms"]
        named_parameters += ["defects", "ignored"]
        assert names == named_parameters
        assert named["/score"]["description"].startswith("Scores a query image against 1 to 16")
        assert [entry["label"] for entry in named["/score"]["returns"]] == [
            "Score",
            "Heatmap over the query",
        ]


class TestRegistry:
    def test_it_lists_names_never_paths(self, tmp_path):
        model = tmp_path / "mine"
        model.mkdir()
        sources = find_sources([str(model)])
        assert list(sources)[0] == "mine"
        assert DEFAULT_MODEL in sources

    def test_the_default_model_leads(self):
        assert list(find_sources())[0] == DEFAULT_MODEL

    def test_a_model_off_the_list_is_refused(self, registry):
        for name in ("/etc", "", None, "../assets/inctrl-lite"):
            with pytest.raises(ModelError, match="in the list"):
                registry.get(name)

    def test_it_loads_once_and_keeps_the_last_two(self, monkeypatch):
        loads = []

        def load(source: str, device: str, on_progress: object = None) -> object:
            loads.append(source)
            return object()

        monkeypatch.setattr(models, "fetch_files", lambda source, on_progress: None)
        monkeypatch.setattr(models, "load_detector", load)
        registry = ModelRegistry({"a": "a", "b": "b", "c": "c"})
        first = registry.get("a")
        registry.get("b")
        assert registry.get("a") is first
        registry.get("c")  # "b" is the one used longest ago.
        assert registry.get("a") is first
        registry.get("b")
        assert loads == ["a", "b", "c", "b"]

    def test_what_is_let_go_leaves_the_memory(self):
        registry = ModelRegistry({"a": DEFAULT_MODEL, "b": DEFAULT_MODEL}, "cpu", capacity=1)
        first = registry.get("a")
        first.encode_prompts(build_prompts("nut"))
        kept = weakref.ref(first)
        del first
        gc.disable()  # It goes at once, and not only when cycles are looked for.
        try:
            registry.get("b")
            assert kept() is None
        finally:
            gc.enable()

    def test_no_model_at_all_says_what_to_do(self):
        with pytest.raises(ModelError, match="--model"):
            ModelRegistry({})


class TestExamples:
    def test_every_set_is_complete_and_grouped(self):
        sets = load_examples()
        assert len(sets) >= 6
        families = [example.family for example in sets.values() if not example.fails]
        assert {"industrial", "medical", "semantic"} <= set(families)

    @pytest.mark.parametrize(
        "click",
        [
            {},
            {"set": "no-such", "query": 0},
            {"set": OTHER.name, "query": "99"},
            {"set": OTHER.name, "query": "-1"},
            {"set": OTHER.name, "query": None},
        ],
    )
    def test_a_made_up_click_is_refused(self, click):
        with pytest.raises(InctrlError, match="does not exist"):
            pick_query(load_examples(), click)

    def test_a_missing_file_is_named(self, tmp_path):
        folder = tmp_path / "broken"
        folder.mkdir()
        data = json.loads((OTHER.folder / "set.json").read_text())
        (folder / "set.json").write_text(json.dumps(data))
        with pytest.raises(ValueError, match="is missing"):
            load_examples(tmp_path)


class TestForm:
    def test_uploads_become_paths(self):
        gallery = [{"image": {"path": "/a"}, "caption": None}, {"video": {"path": "/b"}}]
        assert gallery_paths(gallery) == ("/a", "/b")
        assert gallery_paths(None) == ()
        assert file_path(None) == "" and file_path({"path": None}) == ""

    @pytest.mark.parametrize(("count", "valid"), [(0, False), (1, True), (16, True), (17, False)])
    def test_the_number_of_normals_is_checked(self, count, valid):
        gallery = [{"image": {"path": "/a"}}] * count
        checks = check_form(gallery, {"path": "/q"}, "", "m", None)
        assert checks[0]["is_valid"] is valid
        assert checks[1]["is_valid"] is True


class TestReport:
    def test_it_shows_the_result_and_needs_nothing_else(self, scored):
        page = report_html(scored, Display(row=3, column=4), date(2026, 2, 3))
        assert f"<title>InCTRL: {OTHER.object_name}, score {scored.score.fused:.3f}</title>" in page
        name, weights = Path(scored.query_file).name, scored.config.weights_sha256
        assert f"{name}, 2026-02-03, model inctrl-lite</p>" in page
        assert f">Weights: sha256 {weights}.</p>" in page
        for part in ("verdict", "provenance", "text", "ledger"):
            arguments = (scored, Display(row=3, column=4))[: 2 if part == "provenance" else 1]
            place = verdict if part == "verdict" else render
            assert getattr(place, f"{part}_html")(*arguments) in page
        # The query, its heatmap, four normals, three counterparts.
        assert re.findall(r'src="([^,"]*)', page) == ["data:image/jpeg;base64"] * 9
        assert not re.search(r"https?:|<script|url\(|@import", page)

    def test_what_a_visitor_typed_stays_text(self, scored):
        name = "<img src=x onerror=alert(1)>"
        bank = dataclasses.replace(scored.bank, object_name=name)
        page = report_html(remeasured(scored, bank=bank), Display(), date(2026, 2, 3))
        assert name not in page and page.count("&lt;img src=x onerror=alert(1)&gt;") == 3

    def test_it_becomes_a_file_with_a_harmless_name(self, registry, scored, tmp_path, monkeypatch):
        monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
        handlers = InspectHandlers(registry, {})
        bank = dataclasses.replace(scored.bank, object_name="../con")
        path = handlers.save(remeasured(scored, bank=bank), Display())
        assert Path(path).is_relative_to(tmp_path)
        assert Path(path).name == f"InCTRL _con {scored.score.fused:.3f}.html"
        with pytest.raises(InctrlError, match="Choose a row"):
            handlers.save(scored, Display(row=99))
        monkeypatch.setenv("GRADIO_TEMP_DIR", path)  # No folder, so nothing can be kept in it.
        with pytest.raises(gr.Error, match="cannot keep files"):
            handlers.save(scored, Display())

    def test_half_a_file_is_removed(self, tmp_path, monkeypatch):
        monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
        for failure, seen in (
            (OSError("full"), gr.Error),
            (KeyboardInterrupt(), KeyboardInterrupt),
        ):
            with pytest.raises(seen), new_file("a.zip") as path:
                path.write_bytes(b"half")
                raise failure
        assert list(tmp_path.iterdir()) == []

    def test_equal_pictures_of_two_visitors_are_two_files(self, tmp_path, monkeypatch):
        monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
        picture = Image.new("RGB", (60, 40), "red")
        paths = [Path(picture_file(picture)) for _ in range(2)]
        assert len(set(paths)) == 2
        component = gr.Image()
        for path in paths:
            assert component.postprocess(str(path)).path == str(path)  # Gradio copies none of them.
            with Image.open(path) as kept:
                assert kept.format == "JPEG" and kept.size == picture.size


class TestSession:
    def test_the_bank_serves_again_while_the_normals_stay(self, registry, scored):
        detector = registry.get(DEFAULT_MODEL)
        files = scored.normal_files, str(OTHER.queries[-1])
        again = start_session(detector, DEFAULT_MODEL, files, OTHER.object_name, scored)
        assert again.bank is scored.bank
        renamed = start_session(detector, DEFAULT_MODEL, files, "carpet", scored)
        assert renamed.bank.features is scored.bank.features
        fresh = start_session(detector, DEFAULT_MODEL, files, "carpet")
        assert renamed.score.fused == pytest.approx(fresh.score.fused, abs=1e-6)
        fewer = scored.normal_files[:2], files[1]
        other = start_session(detector, DEFAULT_MODEL, fewer, OTHER.object_name, scored)
        assert other.bank.shots == 2

    def test_own_phrases_come_and_go(self, registry, scored):
        detector = registry.get(DEFAULT_MODEL)
        changed = changes.with_phrases(detector, scored, ["fine turf"], ["litter", "litter", ""])
        assert changed.phrases == (("fine turf",), ("litter",))
        assert "litter" in changed.bank.text.prompts.anomaly
        assert changed.score.text_anomaly != scored.score.text_anomaly
        np.testing.assert_array_equal(changed.score.patch_map, scored.score.patch_map)
        back = changes.with_phrases(detector, changed, [], [])
        assert back.score.fused == scored.score.fused

    def test_a_query_among_the_normals_finds_itself(self, registry, scored):
        detector = registry.get(DEFAULT_MODEL)
        larger = changes.with_query_as_normal(detector, scored)
        assert larger.normal_files == (*scored.normal_files, str(QUERY))
        assert larger.bank.shots == 5 and len(larger.normals) == 5
        assert larger.score.patch_max == pytest.approx(0.0, abs=1e-5)
        assert (larger.score.nearest[..., 0] == 4).mean() > 0.95
        assert larger.before is scored.score
        with pytest.raises(InctrlError, match="among the normals already"):
            changes.with_query_as_normal(detector, larger)
        turned = [Image.open(QUERY).rotate(7 * number) for number in range(1, 13)]
        others = [
            {
                "query_file": f"{number}.png",
                "encoded": detector.encode([image]),
                "score": scored.score,
            }
            for number, image in enumerate(turned)
        ]
        for other in others[:11]:
            larger = changes.with_query_as_normal(detector, dataclasses.replace(larger, **other))
        with pytest.raises(InctrlError, match="use at most 16"):
            changes.with_query_as_normal(detector, dataclasses.replace(larger, **others[11]))

    def test_a_query_is_taken_out_of_the_normals_again(self, registry, scored):
        detector = registry.get(DEFAULT_MODEL)
        larger = changes.with_query_as_normal(detector, scored)
        back = changes.without_query_as_normal(detector, larger)
        assert back.normal_files == scored.normal_files and len(back.normals) == 4
        assert back.score.fused == scored.score.fused
        assert back.before is larger.score
        assert back.ranges == scored.ranges
        with pytest.raises(InctrlError, match="not among the normals"):
            changes.without_query_as_normal(detector, back)
        alone = start_session(
            detector, DEFAULT_MODEL, ([str(QUERY)], str(QUERY)), OTHER.object_name
        )
        with pytest.raises(InctrlError, match="this is the only one"):
            changes.without_query_as_normal(detector, alone)

    def test_large_images_are_shown_smaller_and_scored_as_they_are(self, registry, tmp_path):
        large = tmp_path / "large.jpg"
        Image.open(QUERY).resize((3400, 2720)).save(large)
        files = [str(path) for path in NORMALS], str(large)
        result = start_session(registry.get(DEFAULT_MODEL), DEFAULT_MODEL, files, "cookie")
        width, height = result.query.image.size
        assert width * height <= QUERY_PIXELS
        assert width / height == pytest.approx(3400 / 2720, rel=0.01)
        assert result.score.crop_box[3] == 2720
        assert result.query.crop_box[3] == pytest.approx(height, abs=1)


def gallery(paths) -> list[dict]:
    return [{"image": {"path": str(path)}} for path in paths]


class TestOneMoreNormal:
    def test_the_form_follows_whatever_its_files_are_called(self, registry, scored, tmp_path):
        handlers = InspectHandlers(registry, {})
        copies = [shutil.copy(path, tmp_path / f"{i}.png") for i, path in enumerate(NORMALS)]
        larger = handlers.toggle_normal(scored, gallery(copies))
        assert larger.normal_files == (*map(str, NORMALS), str(QUERY))
        copies.append(shutil.copy(QUERY, tmp_path / "query.jpg"))
        back = handlers.toggle_normal(larger, gallery(copies))
        assert back.normal_files == tuple(map(str, NORMALS))
        assert back.score.fused == scored.score.fused

    def test_other_normals_in_the_form_are_refused(self, registry, scored):
        handlers = InspectHandlers(registry, {})
        for others in (NORMALS[:3], NORMALS[::-1], [*NORMALS, QUERY], ["gone.png"] * 4):
            with pytest.raises(InctrlError, match="press Score again"):
                handlers.toggle_normal(scored, gallery(others))


class TestInspectTab:
    @pytest.fixture(scope="class")
    @classmethod
    def tab(cls, registry) -> InspectTab:
        return tab_of(registry, InspectTab)

    @pytest.fixture
    def controls(self, tab) -> list:
        return [component.value for component in tab.map.controls]

    def score(self, tab, controls, query, session=None) -> dict:
        form = gallery(NORMALS), query, "cookie", DEFAULT_MODEL, None, session
        return tab.score_form_and_show(lambda *_, **__: None, *form, *controls)

    def test_a_score_shows_all_that_there_is_to_see(self, tab, controls):
        shown = self.score(tab, controls, {"path": str(QUERY)})
        assert set(tab._all) == {*shown, *tab.result.fields}
        assert shown[tab.session].score.fused > 0 and shown[tab.notice] == ""
        place = [shown[component] for component in tab.map.place]
        assert place == list(strongest_patch(shown[tab.session]))

    def test_after_an_error_the_last_result_stays(self, tab, controls, scored):
        shown = self.score(tab, controls, {"path": "gone.png"}, scored)
        assert list(shown) == [tab.notice]
        assert "does not exist" in shown[tab.notice]
        assert "still the last result" in shown[tab.notice]
        first = self.score(tab, controls, None)
        assert "last result" not in first[tab.notice] and tab.session not in first
        assert first[tab.result.column].visible is False

    def test_controls_of_an_expired_result_say_so(self, tab, controls):
        expired = "has expired; score the image again"
        assert expired in tab.map.show_map(None, *controls)[tab.map.provenance]
        assert expired in tab.set_threshold(None, 0.5, *controls)[tab.notice]
        assert expired in tab.propose_background(None)[tab.notice]
        assert expired in tab.find_missing(None)[tab.result.missing]
        for saved in (tab.save_result(None, *controls), tab.save_normals(None)):
            assert expired in saved[tab.notice] and saved[tab.result.download] is None
        closer = tab.look_closer(lambda *_, **__: None, None, 2, *controls)
        assert expired in closer[tab.notice] and closer[tab.map.parts] == 1

    def test_a_row_that_does_not_exist_leaves_the_map(self, tab, controls, scored):
        controls[tab.map.controls.index(tab.map.row)] = 99
        shown = tab.map.show_map(scored, *controls)
        assert "Choose a row" in shown[tab.map.provenance] and tab.map.image in shown


class TestCommandLine:
    def test_a_port_in_use_is_told_in_a_sentence(self, capsys):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            assert app.main(["--port", str(taken.getsockname()[1])]) == 1
        said = capsys.readouterr().err
        assert "error: The page cannot listen on port" in said and "Traceback" not in said

    def test_models_of_one_name_are_refused(self, tmp_path, monkeypatch):
        paths = [str(tmp_path / place / "best") for place in "ab"]
        with pytest.raises(ModelError, match="would both be called 'best'"):
            find_sources(paths)
        monkeypatch.chdir(tmp_path)
        assert list(find_sources(["."]))[0] == tmp_path.name
        assert list(find_sources([paths[0]] * 2))[0] == "best"

    def test_the_entry_point_stays_small(self):
        assert len(Path(app.__file__).read_text().splitlines()) < 120

    def test_options_have_their_defaults(self):
        arguments = app.build_parser().parse_args([])
        assert (arguments.host, arguments.port, arguments.share) == (None, None, False)
        assert arguments.model == []
