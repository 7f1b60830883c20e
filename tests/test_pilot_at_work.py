"""A pilot tries what leaving rest out would do, and gives the figures where that is better."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ssm_stream.config import Config, parse_config
from ssm_stream.evaluate.engine_run import run_targets
from ssm_stream.evaluate.pilot.at_work import run_at_work
from ssm_stream.evaluate.pilot.evaluation import PilotOptions, run_pilot
from ssm_stream.evaluate.pilot.format import paragraph
from ssm_stream.evaluate.pilot.verdict import sentences

START, MINUTE = 1_760_000_040_000, 60_000
WHEN = "{load: {above: 0}}"


def settings(when: str = "", more: str = "features: [power, oil, pump, load], inputs: [load]") -> Config:
    condition = f", when: {when}" if when else ""
    return parse_config(
        "source: {brokers: b, topic: t}\n"
        f"event: {{entity: e, timestamp: ts, target: all, {more}{condition}}}\n"
        "alerts: {anomaly: {budget: 1 per 500 events}, drift: {budget: 1 per 500 events}}"
    )


def rows(n: int = 3_000, *, rests: bool = True) -> list[dict[str, Any]]:
    """Rows of two machines that work by jobs, rest between them, and then have next to no noise."""
    rng, out = np.random.default_rng(0), []
    for i in range(n):
        for m in range(2):
            works = not rests or (i // 40 + m) % 3 > 0
            load = round(4.0 + float(rng.uniform()) * 4.0, 2) if works else 0.0
            noise = (rng.normal(size=3) * (1.0 if works else 0.01)).tolist()
            state = "run" if works else "stop"
            row = {"e": f"m{m}", "ts": START + MINUTE * i, "load": load, "state": state}
            out.append(row | {"power": 2 * load + noise[0] + 1, "oil": 40 + noise[1], "pump": 3 * load + noise[2] + 2})
    return out


@pytest.mark.parametrize("column", ["load", "state"])
def test_alarms_without_rest_are_those_of_the_condition(column: str) -> None:
    """The same bits, whether the condition was there from the beginning or is tried afterwards."""
    categories = ", categories: [state]" if column == "state" else ""
    of_load = ", inputs: [load]" if column == "load" else ", inputs: []"
    signals = "[power, oil, pump, load]" if column == "load" else "[power, oil, pump]"
    more = f"features: {signals}{of_load}{categories}"
    (run, *_) = run_targets(settings(more=more), rows(), keep_events=True)
    found = run_at_work(settings(more=more), run)
    assert found is not None
    assert found.rest.column.path == column
    assert found.idle == pytest.approx(1 / 3, abs=0.01)
    (other, *_) = run_targets(settings(found.rest.when, more), rows())
    assert [(row, message["summary"]) for row, message in found.alerts] == [
        (row, message["summary"]) for row, message in other.messages
    ]


def test_where_nothing_rests_or_a_condition_is_there_nothing_is_tried() -> None:
    for config, recording in ((settings(), rows(rests=False)), (settings(WHEN), rows())):
        (run, *_) = run_targets(config, recording, keep_events=True)
        assert run_at_work(config, run) is None


def test_the_report_has_both_figures_and_the_verdict_the_better() -> None:
    made = run_pilot(settings(), rows(), options=PilotOptions(first=0.1))
    rest = made.report["rest"]
    assert rest["when"] == '{"load": {above: 0}}' or rest["when"].startswith('{"load": {above: ')
    assert rest["now"]["alarms"] == made.report["kpis"]["alarms"]
    assert rest["now"]["false"] is None
    for then, better in ((rest["now"]["alarms"] - 1, True), (rest["now"]["alarms"], False)):
        rest["then"]["alarms"] = then
        keys = [key for key, _ in sentences(made.report, "unlabelled")]
        assert ("verdict.rest" in keys) is better
    rest |= {"now": {"alarms": 9, "false": 5.0, "found": 3.0}, "then": {"alarms": 7, "false": 2.0, "found": 3.0}}
    made.report["verdict"]["sentences"] = [
        {"key": key, **values} for key, values in sentences(made.report, "unlabelled") if key.startswith("verdict.rest")
    ]
    assert "there would be 2 false alarms, not 5, and 3 true events found, not 3" in paragraph(made.report, "en")
    assert "誤報は 5 件ではなく 2 件" in paragraph(made.report, "ja")
    rest["then"] |= {"false": 5.0, "found": 2.0}
    assert not any(key.startswith("verdict.rest") for key, _ in sentences(made.report, "unlabelled"))
