"""The pilot report judges all alerts that people get: of silence, stuck signals and limits as of the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ssm_stream.config import Config, parse_config
from ssm_stream.evaluate.engine_run import EngineRun
from ssm_stream.evaluate.pilot.alarm_tally import HOUR, judge_events
from ssm_stream.evaluate.pilot.evaluation import Pilot, run_pilot
from ssm_stream.evaluate.pilot.format import paragraph
from ssm_stream.evaluate.pilot.page import page
from ssm_stream.evaluate.pilot.split import split_run
from ssm_stream.evaluate.true_events import TrueEvent

HOURLY = int(HOUR)
START = 1_767_225_600_000
STUCK, SILENT, EMPTY, HOT = (500, 540), (600, 640), (700, 740), (800, 803)
"""Hours in which the target of m1 repeats its value, m2 sends nothing, m3 has no input, and m4 is beyond its limit."""


def settings(target: str) -> Config:
    return parse_config(
        "source: {brokers: b, topic: t}\n"
        f"event: {{entity: e, timestamp: ts, target: {target}, features: [a]}}\n"
        "alerts: {silence: {}, stuck: true, fleet: {wait: 0}, limits: [{column: y, above: 50}],\n"
        "  maintenance: [{from: 2020-01-01T00:00:00Z, to: 2020-01-01T02:00:00Z}]}\n"
    )


def rows(n: int = 1000, machines: int = 6) -> list[dict[str, Any]]:
    rng, out = np.random.default_rng(0), list[dict[str, Any]]()
    a, noise = rng.normal(size=(n, machines)), rng.normal(size=(n, machines))
    for i in range(n):
        for j in range(machines):
            row = {"e": f"m{j}", "ts": START + HOURLY * i, "a": a[i, j], "z": noise[i, j]}
            row["y"] = 10.0 + 2.0 * a[i, j] + 0.5 * noise[(i * 7) % n, j]
            if j == 1 and STUCK[0] <= i < STUCK[1]:
                row["y"] = 10.25
            if j == 3 and EMPTY[0] <= i < EMPTY[1]:
                del row["a"]
            if j == 4 and HOT[0] <= i < HOT[1]:
                row["y"] = 60.0
            if not (j == 2 and SILENT[0] <= i < SILENT[1]):
                out.append({name: value if type(value) in (str, int) else float(value) for name, value in row.items()})
    return out


def events(_: list[str]) -> list[TrueEvent]:
    spans = {"m1": STUCK, "m2": SILENT, "m3": EMPTY, "m4": HOT}
    return [TrueEvent(name, START + HOURLY * first, START + HOURLY * last - 1) for name, (first, last) in spans.items()]


@pytest.fixture(scope="module", params=["y", "[y, z]"])
def made(request: pytest.FixtureRequest) -> Pilot:
    done = run_pilot(settings(request.param), rows(), events)
    done.report["recording"]["file"] = "r.csv"
    done.report["verdict"]["text"] = paragraph(done.report, "en")
    return done


def test_what_stops_and_limits_find_what_they_are_for(made: Pilot) -> None:
    methods, report = made.report["detection"]["methods"], made.report
    assert (report["detection"]["events"], report["detection"]["outside"]) == (4, 0)
    assert methods["product"]["found"] == 4
    assert methods["product_rules"]["found"] == 4
    names = ("product_anomaly", "product_drift", "product_rules")
    assert methods["product"]["alarms"] == sum(methods[name]["alarms"] for name in names) == len(made.alarms)
    (configured,) = (point for point in report["what_if"]["points"] if point["factor"] == 1.0)
    assert configured["by_rules"] == methods["product_rules"]["alarms"]
    assert configured["alarms"] == methods["product"]["alarms"]
    # A budget for each of anomaly, drift, and what stops.
    assert report["kpis"]["allowed_false"] == pytest.approx(3 * report["recording"]["judged_events"] / 10_000)


def test_alerts_of_rules_are_listed_with_the_others(made: Pilot) -> None:
    listed = {(m["entity"], m["kind"], m["column"]): m for m in made.report["alerts"] if m["column"] or m["y"] is None}
    found = {("m1", "stuck", "y"), ("m2", "silence", None), ("m3", "silence", "a"), ("m4", "limit", "y")}
    assert found <= listed.keys()
    assert {listed[key]["truth"] for key in found} <= {"true", "repeat"}
    silent = listed["m2", "silence", None]
    assert (silent["row"], silent["recovered"]) == (SILENT[0], START + HOURLY * SILENT[1])
    usable = made.report["explainable"]
    assert usable["usable"] >= len(found)


@pytest.mark.parametrize("language", ["en", "ja"])
def test_the_page_shows_them(made: Pilot, language: str) -> None:
    text = page(made, language, "r.csv")  # type: ignore[arg-type]
    assert 'class="mark rule"' in text
    assert ("what stops" if language == "en" else "途絶") in text
    assert "y above 50" in text
    assert "None" not in text


def test_an_event_without_rows_is_judged_where_silence_is_an_alarm() -> None:
    """Machines that send every hour: one is away for a day, one for good."""
    hours = [np.arange(500), np.r_[np.arange(300), np.arange(324, 500)], np.arange(400)]
    entity = np.concatenate([np.full(len(own), e) for e, own in enumerate(hours)])
    ts, n = START + HOURLY * np.concatenate(hours), len(entity)
    order, zeros = np.lexsort((entity, ts)), np.zeros(n)
    run = EngineRun(
        ["m0", "m1", "m2"], entity[order], ts[order], zeros, np.arange(n), zeros, zeros, zeros,
        np.zeros(n, np.bool_), np.arange(n), np.zeros((n, 1)),
    )  # fmt: skip
    split = split_run(run, 0.2, 10)

    def span(name: str, first: int, last: int) -> TrueEvent:
        return TrueEvent(name, START + HOURLY * first, START + HOURLY * last)

    away, gone = span("m1", 301, 320), span("m2", 401, 600)
    others = [span("m0", -50, -40), span("m0", 600, 610), span("m1", 20, 30)]
    plain = judge_events(run, split, [away, gone, *others])
    assert (plain.events, len(plain.ignored), plain.outside) == ([], 1, 4)
    found = judge_events(run, split, [away, gone, *others], silence=True)
    assert found.events == [(1, away), (2, gone._replace(end=START + HOURLY * 499))]
    assert (len(found.ignored), found.outside) == (1, 2)
