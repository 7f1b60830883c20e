"""A pilot tries what leaving rest out would do, and gives the figures where that is better."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ssm_stream.autoconfig import rest as rest_module
from ssm_stream.autoconfig.columns import Column
from ssm_stream.autoconfig.rest import find_rest
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


def test_rest_is_searched_once_where_many_columns_are_zero_in_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them shows the same states; a plant has hundreds of such columns."""
    calls = list[str]()
    for name in ("_share_that_rests", "_share_that_lives"):
        kept = getattr(rest_module, name)
        monkeypatch.setattr(rest_module, name, lambda *args, name=name, kept=kept: calls.append(name) or kept(*args))
    made, rng = rows(600), np.random.default_rng(1)
    works = np.array([row["load"] > 0 for row in made])
    values = {f"flow{k}": np.where(works, 5.0 + rng.uniform(size=len(made)), 0.0).tolist() for k in range(8)}
    values |= {name: [row[name] for row in made] for name in ("load", "oil")}
    columns = [Column(path, dict(enumerate(each)), len(made), at) for at, (path, each) in enumerate(values.items())]
    found = find_rest(columns, {i: row["e"] for i, row in enumerate(made)})
    assert found is not None
    assert (found.resting, found.when) == (["0"], '{"flow0": {above: 4}}')
    assert calls.count("_share_that_lives") == 1
    assert calls.count("_share_that_rests") <= 2  # what is zero at times decides for all but a column that never is


def test_the_steps_of_a_pilot_come_with_their_share() -> None:
    seen = list[tuple[str, float]]()
    run_pilot(settings(), rows(), options=PilotOptions(first=0.1), advance=lambda *step: seen.append(step))
    shares = [share for _, share in seen]
    assert shares == sorted(shares)
    assert len({share for part, share in seen if part == "other budgets"}) > 7
