"""Thresholds: rates that hold on drawn classes, shrinkage, what is refused, and the fit."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from inctrl_core.analysis.decision import (
    RATES,
    Population,
    decide,
    expect_good,
    place_bank,
    read_population,
    to_odds,
)
from inctrl_core.analysis.measured_bank import measure_bank
from inctrl_core.config import HeadsConfig, config_from_dict, config_to_json
from inctrl_core.errors import InctrlError, ModelError
from inctrl_core.evaluation.results import within_factor_two
from inctrl_core.model.detector import Detector
from inctrl_core.training.good_scores import SHARES, ScoredBank, fit_good_scores

GOLDEN = Path(__file__).parents[1] / "golden"


def draw_classes(count, shots, seed=0, good=200):
    """Classes whose good images scatter around a level of their own, as wide as their own."""
    rng = np.random.default_rng(seed)
    banks = []
    for number in range(count):
        level, width = rng.normal(-1.0, 1.0), math.exp(rng.normal(-0.5, 0.4))
        own = level + width * rng.normal(size=shots) + 0.3 if shots > 1 else np.array([])
        values = level + width * rng.normal(size=good)
        banks.append(ScoredBank(f"source {number % 5}", str(number), values, own))
    return banks


def good_scores(bank, row):
    heads = HeadsConfig(good_scores={"decide": {"1": row}})
    own = [1 / (1 + math.exp(-value)) for value in bank.own]
    return place_bank(read_population(heads, "decide", 1), own)


@pytest.mark.parametrize("shots", [2, 4, 16])
def test_thresholds_hold_on_classes_never_seen_better_than_one_for_all(shots):
    seen, unseen = draw_classes(300, shots), draw_classes(200, shots, seed=1, good=2000)
    row = fit_good_scores(seen)
    fixed = np.quantile(np.concatenate([bank.good for bank in seen]), 0.95)
    lines = [to_odds(decide(good_scores(bank, row), 0.05).threshold) for bank in unseen]
    rates = [float((bank.good > at).mean()) for bank, at in zip(unseen, lines, strict=True)]
    same = [float((bank.good > fixed).mean()) for bank in unseen]
    assert np.median(rates) == pytest.approx(0.05, abs=0.015)
    assert within_factor_two(rates, 0.05) > 1.5 * within_factor_two(same, 0.05)


def test_more_normals_are_believed_more():
    rows = [fit_good_scores(draw_classes(300, shots)) for shots in (1, 2, 4, 16)]
    assert [row["trust"] for row in rows] == sorted(row["trust"] for row in rows)
    assert rows[0]["trust"] == 0.0 and rows[-1]["trust"] > 0.9
    assert rows[1]["spread_trust"] < rows[-1]["spread_trust"]
    assert rows[2]["bias"] == pytest.approx(-0.3, abs=0.05)


def test_a_single_normal_gets_the_populations_threshold():
    row = fit_good_scores(draw_classes(300, 1))
    fields = {key: tuple(v) if isinstance(v, list) else v for key, v in row.items()}
    good = place_bank(Population(**fields), ())
    assert good.level == row["level"]
    line = to_odds(good.threshold(0.1))
    above = [float((bank.good > line).mean()) for bank in draw_classes(300, 1, seed=2)]
    assert np.median(above) == pytest.approx(0.1, abs=0.04)


def test_the_interval_covers_as_many_classes_as_it_says():
    row = fit_good_scores(draw_classes(400, 4))
    covered = []
    for bank in draw_classes(300, 4, seed=3, good=1000):
        decision = decide(good_scores(bank, row), 0.1)
        rate = float((bank.good > to_odds(decision.threshold)).mean())
        covered.append(decision.low <= rate <= decision.high)
    assert 0.72 < np.mean(covered) < 0.88


def test_a_threshold_and_its_share_belong_together():
    row = fit_good_scores(draw_classes(100, 4))
    good = good_scores(draw_classes(1, 4, seed=4)[0], row)
    lines = [good.threshold(rate) for rate in (0.01, 0.05, 0.1, 0.2)]
    assert lines == sorted(lines, reverse=True) and all(0 < line < 1 for line in lines)
    for rate, line in zip((0.01, 0.05, 0.1, 0.2), lines, strict=True):
        assert good.share_above(line) == pytest.approx(rate, rel=0.05)
        given = decide(good, None, line)
        assert (given.threshold, given.rate) == (line, None)
        assert given.expected == pytest.approx(rate, rel=0.05)
        assert given.low <= given.expected <= given.high
    ends = good.share_above(0.0), good.share_above(1.0)
    assert ends == pytest.approx((SHARES[0], SHARES[-1]))
    assert json.loads(json.dumps(decide(good, 0.05).to_dict()))["false_alarm_rate"] == 0.05


@pytest.mark.parametrize("rate", [0.0, RATES[0] / 2, 0.5, -1.0, float("nan"), None, "5%"])
def test_other_rates_are_refused(rate):
    good = good_scores(draw_classes(1, 4)[0], fit_good_scores(draw_classes(50, 4)))
    with pytest.raises(InctrlError, match="between 0.01 and 0.2"):
        decide(good, rate)


def test_numbers_of_normals_between_the_stored_ones_are_interpolated():
    rows = {str(k): fit_good_scores(draw_classes(50, k)) for k in (2, 4)}
    heads = HeadsConfig(good_scores={"decide": rows})
    between = read_population(heads, "decide", 3)
    assert between.level == pytest.approx((rows["2"]["level"] + rows["4"]["level"]) / 2)
    assert read_population(heads, "decide", 1).level == rows["2"]["level"]
    assert read_population(heads, "decide", 16).places == tuple(rows["4"]["places"])


@pytest.mark.parametrize("harm", ["reading", "field", "text", "length", "nan"])
def test_damaged_figures_are_named(harm):
    row = fit_good_scores(draw_classes(20, 4))
    tables = {"decide": {"4": row}}
    if harm == "reading":
        tables = {"flaw": {"4": row}}
    elif harm == "field":
        del row["trust"]
    elif harm == "text":
        row["places"] = "wrong"
    elif harm == "length":
        row["low"] = row["low"][1:]
    else:
        row["level"] = float("nan")
    with pytest.raises(ModelError, match="good_scores"):
        read_population(HeadsConfig(good_scores=tables), "decide", 4)


def test_the_figures_survive_a_configuration(golden_detector: Detector):
    tables = {"decide": {"4": fit_good_scores(draw_classes(20, 4))}}
    heads = dataclasses.replace(golden_detector.config.heads, good_scores=tables)
    config = dataclasses.replace(golden_detector.config, heads=heads)
    again = config_from_dict(json.loads(config_to_json(config)))
    assert read_population(again.heads, "decide", 4) == read_population(heads, "decide", 4)


def test_a_bank_is_measured_with_its_figures(golden_detector: Detector):
    bank = golden_detector.build_bank([GOLDEN / f"prompt_{i}.png" for i in range(4)], "brick")
    assert measure_bank(golden_detector, bank).good is None
    assert decide(None) is None
    tables = {"decide": {"4": fit_good_scores(draw_classes(20, 4))}}
    heads = dataclasses.replace(golden_detector.config.heads, good_scores=tables)
    config = dataclasses.replace(golden_detector.config, heads=heads)
    told = Detector(config, golden_detector.backbone, golden_detector.heads)
    measured = measure_bank(told, bank)
    assert measured.good == expect_good(heads, bank, measured.ranges.fused)
    assert 0 < decide(measured.good).threshold < 1


def test_every_source_has_the_same_say():
    crowd = [ScoredBank("many", str(i), np.zeros(9), np.array([])) for i in range(50)]
    alone = ScoredBank("one", "0", np.full(9, 4.0), np.array([]))
    assert fit_good_scores([*crowd, alone])["level"] == pytest.approx(2.0)
    with pytest.raises(ValueError, match="at least one bank"):
        fit_good_scores([])
