"""The endpoints beyond ``/score``, through Gradio's own client."""

from __future__ import annotations

from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from sklearn.metrics import average_precision_score, roc_auc_score

from inctrl_core.analysis.defects import show_defects
from inctrl_core.analysis.measured_bank import measure_bank
from inctrl_core.checkpoints.loading import DEFAULT_MODEL
from inctrl_core.images.perturbations import PERTURBATIONS
from tests.support.pictures import CLEAR

EXAMPLE = CLEAR.example
NORMALS = [str(path) for path in EXAMPLE.normals[:4]]
QUERY = str(EXAMPLE.queries[EXAMPLE.cover].path)


@pytest.fixture(scope="module")
def fused(detector) -> float:
    return detector.score([QUERY], detector.build_bank(NORMALS, CLEAR.object_name))[0].fused


def call(client: Client, endpoint: str, query: object, *more: str) -> dict:
    normals = [handle_file(path) for path in NORMALS]
    return client.predict(
        normals, query, CLEAR.object_name, DEFAULT_MODEL, *more, api_name=f"/{endpoint}"
    )


def test_an_explanation_gives_every_signal_and_the_strongest_patch(client, fused):
    result = call(client, "explain", handle_file(QUERY))
    assert result["score"]["fused"] == pytest.approx(fused, abs=1e-6)
    assert result["other_proportions"] is False
    assert result["standing"] == "above" and len(result["normal_range"]["fused"]) == 4
    signals = {entry["signal"]: entry for entry in result["ledger"]["entries"]}
    assert set(signals) == {"patches", "image", "text"}
    # Each counts as far as the fusion believes it here: the text hardly at all.
    assert abs(signals["text"]["change"]) < 1e-4 < abs(signals["image"]["change"])
    assert result["score"]["fused"] > result["threshold"] and result["grade"] == "far above"
    strongest = result["strongest_patch"]
    assert [match["depth"] for match in strongest["matches"]] == [1, 2, 3]
    mean = sum(match["distance"] for match in strongest["matches"]) / 3
    assert mean == pytest.approx(result["score"]["patch_max"], abs=1e-6)
    assert all(1 <= match["normal"] <= 4 for match in strongest["matches"])


def test_own_phrases_join_the_prompts(client):
    plain = call(client, "explain", handle_file(QUERY))
    own = call(client, "explain", handle_file(QUERY), "", "a hair on the plate\n")
    assert own["text"]["share"] != plain["text"]["share"]


def test_a_batch_ranks_its_queries_and_names_what_cannot_be_read(client, fused, tmp_path: Path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    queries = [handle_file(path) for path in (broken, QUERY, EXAMPLE.normals[0])]
    result = call(client, "score_batch", queries)
    first, second, last = result["results"]
    assert first["fused"] == pytest.approx(fused, abs=1e-6)
    assert first["file"] == Path(QUERY).name and first["against_the_normals"] == "above"
    assert 0 <= second["fused"] < 0.001 and second["grade"] is None  # It is one of the normals.
    assert first["grade"] == "far above" and first["fused"] > result["threshold"]
    assert second["copy_of"] == {"index": 0, "name": Path(NORMALS[0]).name}
    assert second["against_the_normals"] == "one of the normals" and first["copy_of"] is None
    assert [entry["index"] for entry in result["results"]] == [1, 2, 0]
    assert [entry["copy_of"] for entry in result["normals"]] == [None] * 4
    assert last["file"] == "broken.png" and "not an image" in last["error"]


def test_a_stress_test_has_all_its_parts(client, fused):
    result = call(client, "stress_test", handle_file(QUERY))
    assert result["score"] == pytest.approx(fused, abs=1e-6)
    assert [point["shots"] for point in result["fewer_normals"]] == [1, 2, 3, 4]
    assert result["fewer_normals"][-1]["fused"] == [pytest.approx(fused, abs=1e-6)]
    assert sorted(entry["normal"] for entry in result["left_out"]) == [1, 2, 3, 4]
    assert 0 <= result["among_normals"]["copy"]["score"] < 0.001
    assert [change["name"] for change in result["changes"]] == [p.name for p in PERTURBATIONS]


@pytest.mark.parametrize("endpoint", ["explain", "score_batch", "stress_test"])
def test_what_cannot_be_used_is_told_in_a_sentence(client, endpoint):
    query = handle_file(QUERY)
    queries = [query] if endpoint == "score_batch" else query
    with pytest.raises(AppError, match="at least one normal"):
        client.predict([], queries, "x", DEFAULT_MODEL, api_name=f"/{endpoint}")


def test_a_batch_has_its_limit(client):
    with pytest.raises(AppError, match="use at most 64"):
        call(client, "score_batch", [handle_file(QUERY)] * 65)


class TestDefects:
    """``defects`` of every endpoint that scores."""

    SHOWN = [str(query.path) for query in EXAMPLE.queries if query.anomalous][1:3]

    @pytest.fixture(scope="class")
    @classmethod
    def expected(cls, detector) -> float:
        normals = measure_bank(detector, detector.build_bank(NORMALS, CLEAR.object_name))
        bank = show_defects(detector, normals, cls.SHOWN).bank
        return detector.score([QUERY], bank)[0].fused

    def ask(self, client: Client, endpoint: str, shown: list[str], **given: object) -> dict:
        return client.predict(
            normals=[handle_file(path) for path in NORMALS],
            object_name=CLEAR.object_name,
            defects=[handle_file(path) for path in shown],
            api_name=f"/{endpoint}",
            **given,
        )

    def test_they_count(self, client, expected, fused):
        query = handle_file(QUERY)
        asked = {
            "score": self.ask(client, "score", self.SHOWN, query=query)[0]["fused"],
            "explain": self.ask(client, "explain", self.SHOWN, query=query)["score"]["fused"],
            "score_batch": self.ask(client, "score_batch", self.SHOWN, queries=[query])["results"][
                0
            ]["fused"],
            "score_labelled": self.ask(client, "score_labelled", self.SHOWN, good=[], bad=[query])[
                "results"
            ][0]["fused"],
        }
        assert asked == {name: pytest.approx(expected, abs=1e-6) for name in asked}
        assert abs(expected - fused) > 1e-4

    @pytest.mark.parametrize("endpoint", ["score", "explain"])
    @pytest.mark.parametrize(
        ("shown", "says"),
        [([QUERY] * 17, "use at most 16"), (NORMALS[:1], "Defect 1 is normal 1"), ([__file__], "")],
    )
    def test_what_cannot_be_one_is_told_in_a_sentence(self, client, endpoint, shown, says):
        with pytest.raises(AppError, match=says or "not an image"):
            self.ask(client, endpoint, shown, query=handle_file(QUERY))


class TestLabelled:
    """``/score_labelled`` on an example, whose truth is known."""

    GOOD = [query.path for query in EXAMPLE.queries if not query.anomalous]
    BAD = [query.path for query in EXAMPLE.queries if query.anomalous]

    def ask(self, client: Client, good: list, bad: list, *more: object) -> dict:
        files = [[handle_file(str(path)) for path in paths] for paths in (good, bad)]
        normals = [handle_file(path) for path in NORMALS]
        about = CLEAR.object_name, DEFAULT_MODEL, *more
        return client.predict(normals, *files, *about, api_name="/score_labelled")

    def test_figures_follow_from_the_scores(self, client):
        result = self.ask(client, self.GOOD, self.BAD)
        rows = result["results"]
        truths = [row["truth"] == "anomalous" for row in rows]
        scores = [row["fused"] for row in rows]
        told = result["labelled"]
        assert told["metrics"]["auroc"] == pytest.approx(roc_auc_score(truths, scores))
        assert told["metrics"]["ap"] == pytest.approx(average_precision_score(truths, scores))
        assert told["threshold"] == result["decision"]["threshold"]
        above = [score > told["threshold"] for score in scores]
        names = {(True, True): "found", (True, False): "miss"}
        names |= {(False, True): "false alarm", (False, False): "passed"}
        expected = [names[pair] for pair in zip(truths, above, strict=True)]
        assert [row["outcome"] for row in rows] == expected
        assert told["counts"]["misses"] == expected.count("miss")
        # The good ones come first in the input.
        assert all((row["index"] < len(self.GOOD)) == (row["truth"] == "normal") for row in rows)

    def test_a_threshold_of_ones_own(self, client):
        counts = self.ask(client, self.GOOD, self.BAD, "decide", 1.0)["labelled"]["counts"]
        expected = {"misses": len(self.BAD), "false_alarms": 0, "found": 0}
        assert counts == expected | {"passed": len(self.GOOD)}
        low = self.ask(client, self.GOOD, [], "decide", 0.0)["labelled"]
        assert low["metrics"] is None and low["counts"]["false_alarms"] == len(self.GOOD)

    def test_normals_among_the_good_and_files_that_cannot_be_read(self, client, tmp_path: Path):
        broken = tmp_path / "broken.png"
        broken.write_bytes(b"no image")
        result = self.ask(client, [NORMALS[0], self.GOOD[0]], [broken, self.BAD[0]])
        assert result["labelled"]["among_normals"] == [0]
        outcomes = {row["index"]: row.get("outcome") for row in result["results"]}
        assert outcomes[0] is None and outcomes[2] is None and outcomes[1] and outcomes[3]
        assert sum(result["labelled"]["counts"].values()) == 2

    @pytest.mark.parametrize(
        ("good", "bad", "more", "says"),
        [
            ([], [], (), "Add the images"),
            (GOOD, BAD, ("decide", 1.5), "between 0 and 1"),
            (GOOD, BAD, ("nothing",), "decide"),
            ((GOOD * 17)[:65], [], (), "use at most 64"),
        ],
    )
    def test_what_cannot_be_used_is_told(self, client, good, bad, more, says):
        with pytest.raises(AppError, match=says):
            self.ask(client, good, bad, *more)
