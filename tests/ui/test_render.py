"""What the page says and draws for a session; no browser, no server."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest

from inctrl_core.analysis.changes import with_threshold
from inctrl_core.analysis.inspection import start_session
from inctrl_core.analysis.normal_range import NormalRange
from inctrl_core.analysis.session import Session
from inctrl_core.checkpoints.loading import DEFAULT_MODEL
from inctrl_core.config import HeadsConfig
from inctrl_core.errors import InctrlError
from inctrl_core.ui.common import charts
from inctrl_core.ui.common import heatmap as heat
from inctrl_core.ui.common.markup import error_html
from inctrl_core.ui.inspect import render
from inctrl_core.ui.inspect.verdict import verdict_html
from tests.support.pictures import OTHER
from tests.support.sessions import remeasured

PLAIN = heat.Display()
NORMALS = sorted((OTHER.folder / "normals").iterdir())[:4]
QUERY = OTHER.bad


@pytest.fixture(scope="module")
def scored(detector) -> Session:
    files = [str(path) for path in NORMALS], str(QUERY)
    return start_session(detector, DEFAULT_MODEL, files, OTHER.object_name)


def test_the_verdict_follows_the_threshold(scored):
    for chosen in (None, 0.0, scored.score.fused, 1.0):
        judged = scored if chosen is None else with_threshold(scored, chosen)
        above = scored.score.fused > judged.threshold
        assert judged.above is above
        assert ("Looks like the normals" in verdict_html(judged)) is not above
    text = verdict_html(scored)
    assert f"{scored.score.fused:.3f}" in text
    assert scored.score.fusion in ("trained", "training-free")


@pytest.mark.parametrize(
    ("fused", "says"),
    [
        (0.2, "Looks like the normals"),
        (
            0.2004,
            "A little above the threshold</h2><p>The 4 normals score 0.100 to 0.200 when "
            "each is compared with the others; this image lies above them by less than 0.001.",
        ),
        (0.219, "A little above the threshold"),
        (0.221, "Clearly above the threshold"),
    ],
)
def test_a_slight_excess_is_called_slight(scored, fused, says):
    ranges = NormalRange((0.1, 0.12, 0.15, 0.16, 0.2), (0.0,) * 5)
    score = dataclasses.replace(scored.score, fused=fused)
    measured = remeasured(scored, ranges=ranges, good=None)
    assert says in verdict_html(dataclasses.replace(measured, score=score))


def test_the_excess_is_the_difference_of_the_figures_shown(scored):
    ranges = NormalRange((0.05, 0.0664), (0.0,) * 2)
    score = dataclasses.replace(scored.score, fused=0.1027)
    text = verdict_html(dataclasses.replace(remeasured(scored, ranges=ranges), score=score))
    assert "0.103" in text and "0.050 to 0.066" in text and "above them by 0.037" in text


@pytest.mark.parametrize(
    ("anomalous", "fused", "says"),
    [
        (True, 0.01, "the model misses it here"),
        (False, 0.9, "raises a false alarm"),
        (True, 0.9, ""),
        (False, 0.01, ""),
        (None, 0.9, ""),
    ],
)
def test_a_verdict_that_is_wrong_says_so(scored, anomalous, fused, says):
    score = dataclasses.replace(scored.score, fused=fused)
    text = verdict_html(dataclasses.replace(scored, score=score, anomalous=anomalous))
    assert ("Actually" in text) is bool(says) and says in text


def test_a_trained_patch_adapter_is_not_called_training_free(scored):
    def verdict(patch_adapter):
        heads = HeadsConfig(training_free={"patch_max": 1.0}, patch_adapter=patch_adapter)
        config = dataclasses.replace(scored.config, heads=heads)
        return verdict_html(dataclasses.replace(scored, config=config))

    bare, adapted = verdict(()), verdict((40, 112, 320))
    assert "training-free" in bare and "nothing learnt" in bare
    assert "training-free" not in adapted and "learnt on other objects" in adapted


def test_it_says_where_the_words_do_not_count(scored):
    def words(**weights):
        config = dataclasses.replace(scored.config, heads=HeadsConfig(training_free=weights))
        return render.text_html(dataclasses.replace(scored, config=config))

    assert "they do not count" in words(patch_max=1.0)
    assert "they do not count" not in words(patch_max=1.0, text=1.0)
    assert "they do not count" not in render.text_html(scored)  # They do, if hardly at all.


def test_display_options_change_the_picture_and_not_the_session(scored):
    plain = heat.Display()
    first = np.asarray(heat.heatmap(scored, plain)[0])
    start = time.perf_counter()
    second = np.asarray(heat.heatmap(scored, heat.Display(opacity=0.1))[0])
    assert time.perf_counter() - start < 1.0
    deep = np.asarray(heat.heatmap(scored, heat.Display(layer="Deep"))[0])
    assert first.shape == second.shape == (*scored.query.image.size[::-1], 3)
    assert (first != second).any() and (first != deep).any()


@pytest.mark.parametrize("change", [{"layer": "x"}, {"colour_map": "jet"}])
def test_options_that_are_not_offered_are_refused(scored, change):
    with pytest.raises(InctrlError, match="Choose"):
        heat.heatmap(scored, heat.Display(**change))


@pytest.mark.parametrize("place", [{"row": 0}, {"column": 16}, {"row": None}])
def test_a_patch_outside_the_grid_is_refused_and_the_map_is_drawn(scored, place):
    display = heat.Display(**place)
    with pytest.raises(InctrlError, match="between 1 and 15"):
        render.provenance_html(scored, display)
    drawn = np.asarray(heat.heatmap(scored, display)[0])
    framed = np.asarray(heat.heatmap(scored, heat.Display(row=8, column=8))[0])
    assert drawn.shape == framed.shape and (drawn != framed).any()


def test_what_the_model_does_not_see_is_told(scored):
    query = scored.query
    width, height = query.image.size
    half = dataclasses.replace(query, crop_box=(0, 0, width / 2, height))
    assert "50% of this image" in heat.heatmap(dataclasses.replace(scored, query=half), PLAIN)[1]
    whole = dataclasses.replace(query, crop_box=(0, 0, width, height))
    assert "Darkened" not in heat.heatmap(dataclasses.replace(scored, query=whole), PLAIN)[1]


def test_other_proportions_than_the_normals_are_told(scored):
    assert "proportions" not in verdict_html(scored)
    left, top, right, bottom = scored.score.crop_box
    tall = dataclasses.replace(scored.score, crop_box=(left, top, right, 2 * bottom))
    text = verdict_html(dataclasses.replace(scored, score=tall))
    ratio = (right - left) / (bottom - top)
    assert f"width ÷ height {ratio / 2:.3g}, closest normal {ratio:.3g}" in text


def test_normals_of_several_proportions_are_told(scored):
    first, *others = scored.bank.crop_boxes
    ratio = (first[2] - first[0]) / (first[3] - first[1])
    twice = (0, 0, 2 * first[2], first[3])
    bank = dataclasses.replace(scored.bank, crop_boxes=(first, *others[1:], twice))
    text = verdict_html(remeasured(scored, bank=bank))
    assert f"differ in their proportions</strong> (width ÷ height {ratio:.3g} to" in text


def test_what_a_visitor_types_is_escaped(detector):
    files = [str(path) for path in NORMALS], str(QUERY)
    result = start_session(detector, DEFAULT_MODEL, files, "<img src=x onerror=alert(1)>")
    for markup in (render.text_html(result), verdict_html(result)):
        assert "<img" not in markup
    assert "<script>" not in error_html("<script>")


@pytest.mark.parametrize(
    ("heads", "says"),
    [
        (HeadsConfig(training_free={"patch_max": 1.0}), "image and text are shown below and"),
        (
            HeadsConfig(training_free={"patch_max": 1.0, "image": 1.0, "text": 2.0}),
            "the largest patch difference, the image and the text",
        ),
        (HeadsConfig(), "the largest patch difference and the text"),
        (HeadsConfig("gated"), "trained on other objects"),
    ],
)
def test_it_names_the_signals_that_count_and_no_others(scored, heads, says):
    config = dataclasses.replace(scored.config, heads=heads)
    assert says in verdict_html(dataclasses.replace(scored, config=config))


@pytest.mark.parametrize(
    ("share", "says"), [(0.7, "more than any"), (0.4, "like the"), (0.2, "less than any")]
)
def test_the_words_are_judged_beside_those_of_the_normals(scored, share, says):
    text = dataclasses.replace(scored.text, share=share, normal_shares=(0.3, 0.6))
    markup = charts.text_bars(text)
    assert says in markup and "30% to 60%" in markup


def test_the_strip_places_the_marker_on_a_fixed_axis():
    strip = charts.range_strip(0.25, NormalRange((0.1, 0.2), (0.0, 0.0)))
    # The axis ends at 0.3, the first step of 0.05 that leaves room above 0.25.
    assert "left:83.33%" in strip and "left:33.33%" in strip and "width:33.33%" in strip


@pytest.mark.parametrize(
    ("value", "top"), [(0.0, 0.05), (0.05, 0.1), (0.4, 0.45), (0.99, 1.0), (1.0, 1.0)]
)
def test_the_axis_leaves_room(value, top):
    assert charts.axis_top(value) == pytest.approx(top)


def test_a_layer_of_another_model_gives_way_to_the_mean(scored):
    assert heat.layers(scored) == [heat.MEAN, "Shallow", "Middle", "Deep"]
    assert heat.offered_layer(scored, "Middle") == "Middle"
    assert heat.offered_layer(scored, "Layer 4") == heat.MEAN
