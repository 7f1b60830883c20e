"""The sentence of an alert: right in the typical cases, and readable whatever the numbers, in both languages."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from engines import config, made, run
from hypothesis import example, given
from hypothesis import strategies as st

from ssm_stream.engine.alert_kinds import PHASES
from ssm_stream.engine.alert_summary import NO_EVIDENCE, Evidence, Summarizer
from ssm_stream.engine.alert_summary.errors import ErrorChange
from ssm_stream.engine.alert_summary.evidence import Members, MovedLevel, NewValue
from ssm_stream.engine.alert_summary.numbers import factor, rounded
from ssm_stream.engine.alert_summary.words import TEXTS
from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events

DAY = 86_400_000
SIX_TEN = 20_500 * DAY + 6 * 3_600_000 + 10 * 60_000
"""16 February 2026, 06:10 UTC."""


def summarizer(language: str = "en", event: str = "features: [load], target: temp") -> Summarizer:
    return Summarizer(config(event, f"alerts: {{language: {language}}}"))


def message(**other: Any) -> dict[str, Any]:
    values = {"y": 92.1234, "yhat": 70.2384, "yhat_lower": 66.1, "yhat_upper": 74.4, "score": 2.1}
    kind = {"kind": "anomaly", "phase": "started", "channel": "residual", "change": None, "absorbed_after": None}
    return {"entity": "PUMP-3", "scope": "entity", "ts": SIX_TEN, "since": SIX_TEN, **kind, **values, **other}


INSIDE = {"y": 71.2, "yhat": 70.4}
MOVED = MovedLevel("temp", "level", 71.0384, 75.11, 1.0, 75.3)
LOAD = MovedLevel("load", "level", 41.3, 60.8, 4.0, 61.0)
OVER = {"phase": "recovered", "ts": SIX_TEN + 70 * 60_000, "absorbed_after": 14, **INSIDE}
DRIFT = {"kind": "drift", "channel": None, **INSIDE}
FLEET = {
    "scope": "fleet",
    "entity": "*",
    "count": 12,
    "pool": "0-1",
    "entities": [{"entity": f"PUMP-{i}", "score": 2.0, "since": SIX_TEN} for i in (3, 7, 9, 1)],
}
VIBRATION = {"target": "vibration", "since": SIX_TEN, "score": 1.4}
SEVERAL = {
    "target": "temp",
    "targets": [
        {"target": "temp", "since": SIX_TEN, "score": 2.1},
        {**VIBRATION, "y": 5.13, "yhat": 3.24, "yhat_lower": 2.8, "yhat_upper": 3.6},
        {**VIBRATION, "target": "flow", "y": 5.1, "yhat": 5.0, "yhat_lower": 4.0, "yhat_upper": 6.0},
    ],
}
CASES: list[tuple[dict[str, Any], Evidence, str, str]] = [
    (
        {},
        NO_EVIDENCE,
        "PUMP-3: temp is 92, expected 70 ± 4 (since 06:10).",
        "PUMP-3（06:10 から）：temp が 92 です（予測は 70 ± 4）。",
    ),
    (
        {"yhat": 72.5, "phase": "ongoing", "ts": SIX_TEN + DAY},
        NO_EVIDENCE,
        "PUMP-3: temp is 92, expected 72 [66 to 74] (since 16 Feb 06:10).",
        "PUMP-3（2月16日 06:10 から）：temp が 92 です（予測は 72、66 〜 74）。",
    ),
    (
        {**INSIDE, "score": 0.3, "phase": "ongoing"},
        NO_EVIDENCE,
        "PUMP-3: temp is unusual again and again; now 71.2, as predicted (70 ± 4) (since 06:10).",
        "PUMP-3（06:10 から）：temp が断続的に普段と異なります（現在 71.2 で予測どおり、70 ± 4）。",
    ),
    (
        {**INSIDE, "channel": "levels"},
        Evidence(moved=[MOVED]),
        "PUMP-3: the level of temp moved from 71 to 75 (since 06:10).",
        "PUMP-3（06:10 から）：temp の水準が 71 から 75 に変わりました。",
    ),
    (
        {**INSIDE, "channel": "levels"},
        Evidence(moved=[LOAD, MOVED]),
        "PUMP-3: the levels of load (41 to 61), temp (71 to 75) moved; "
        "temp is 71.2, as predicted (70 ± 4) (since 06:10).",
        "PUMP-3（06:10 から）：load（41 から 61）、temp（71 から "
        "75）の水準が変わりました（temp は 71.2 で予測どおり、70 ± 4）。",
    ),
    (
        {"channel": "levels"},
        Evidence(moved=[MovedLevel("load", "steps", 0.5, 0.01, 0.5, 61.04)]),
        "PUMP-3: load hardly changes any more and stays at 61.04; temp is 92, expected 70 ± 4 (since 06:10).",
        "PUMP-3（06:10 から）：load が 61.04 のままほとんど変化しなくなりました（temp は 92、予測は 70 ± 4）。",
    ),
    (
        {**INSIDE, "channel": "levels"},
        Evidence(moved=[MovedLevel("load", "steps", 0.5, 1.55, 0.5, 61.04)]),
        "PUMP-3: load fluctuates at least 3.1 × as much as usual from event to event; "
        "temp is 71.2, as predicted (70 ± 4) (since 06:10).",
        "PUMP-3（06:10 から）：load のイベントごとの変動が普段の 3.1 "
        "倍以上に増えました（temp は 71.2 で予測どおり、70 ± 4）。",
    ),
    (
        {**INSIDE, "channel": "levels"},
        Evidence(moved=[MovedLevel("temp", "steps_here", 0.5, 1.55, 0.5, 71.2)]),
        "PUMP-3: temp fluctuates more than usual under these conditions (since 06:10).",
        "PUMP-3（06:10 から）：temp のイベントごとの変動がこの条件での普段より増えました。",
    ),
    (
        {"channel": "novelty"},
        Evidence(new=NewValue("higher", 8765, 35, 80.2, 1.0)),
        "PUMP-3: temp is 92, expected 70 ± 4: higher than all of the 8,700 events before the latest 35 (at most 81) "
        "(since 06:10).",
        "PUMP-3（06:10 から）：temp が 92（予測は 70 ± 4）で、最新の 35 件より前の 8,700 件のどの値よりも高い値です"
        "（最大 81）。",
    ),
    (
        {"channel": "novelty"},
        Evidence(new=NewValue("higher", 8765, 1, 91.97, 1.0)),
        "PUMP-3: temp is 92.1, expected 70.2 ± 4: higher than all of the 8,700 events before (at most 92.0) "
        "(since 06:10).",
        "PUMP-3（06:10 から）：temp が 92.1（予測は 70.2 ± 4）で、それまでの 8,700 件のどの値よりも高い値です"
        "（最大 92.0）。",
    ),
    (
        {"y": 38.2, "yhat": 5.0, "yhat_lower": 0.0, "yhat_upper": 70.0, "channel": "tank-level"},
        NO_EVIDENCE,
        "PUMP-3: temp is 38.2, within its interval (5 [0 to 70]), but the channel tank-level scores 2.1 "
        "(unusual above 1) (since 06:10).",
        "PUMP-3（06:10 から）：temp は 38.2 で予測区間内（5、0 〜 70）ですが、"
        "チャネル tank-level のスコアが 2.1 です（1 超で異常）。",
    ),
    (
        {"y": 11.44, "yhat": 11.3, "yhat_lower": -1100.0, "yhat_upper": 400.0, "channel": "tank-level"},
        NO_EVIDENCE,
        "PUMP-3: temp is 11.44, as predicted (11 [-1100 to 400]), but the channel tank-level scores 2.1 "
        "(unusual above 1) (since 06:10).",
        "PUMP-3（06:10 から）：temp は 11.44 で予測どおり（11、-1100 〜 400）ですが、"
        "チャネル tank-level のスコアが 2.1 です（1 超で異常）。",
    ),
    (
        {"y": 10.0, "yhat": 0.0033, "yhat_lower": -0.046, "yhat_upper": 0.053},
        NO_EVIDENCE,
        "PUMP-3: temp is 10, expected 0 (since 06:10).",
        "PUMP-3（06:10 から）：temp が 10 です（予測は 0）。",
    ),
    (
        {"y": 74.43},
        NO_EVIDENCE,
        "PUMP-3: temp is 74.43, expected 70 ± 4 (since 06:10).",
        "PUMP-3（06:10 から）：temp が 74.43 です（予測は 70 ± 4）。",
    ),
    (
        {**INSIDE, "channel": "novelty"},
        Evidence(new=NewValue("hour", 8765, 35, 55.2, 1.0)),
        "PUMP-3: temp is 71.2, as predicted (70 ± 4), but unlike the mean of its latest values at this time of the "
        "week (about 55) (since 06:10).",
        "PUMP-3（06:10 から）：temp は 71.2 で予測どおり（70 ± 4）ですが、"
        "この曜日と時間帯の最近の値（約 55）と異なります。",
    ),
    (
        {**INSIDE, "channel": "shape"},
        Evidence(cycle=47.8),
        "PUMP-3: the cycle of temp (about 48 events) has another shape; temp is 71.2, as predicted (70 ± 4) "
        "(since 06:10).",
        "PUMP-3（06:10 から）：temp の周期（約 48 件）の波形がこれまでと異なります"
        "（temp は 71.2 で予測どおり、70 ± 4）。",
    ),
    (
        {"channel": "shape"},
        NO_EVIDENCE,
        "PUMP-3: the cycle of temp has another shape; temp is 92, expected 70 ± 4 (since 06:10).",
        "PUMP-3（06:10 から）：temp の周期の波形がこれまでと異なります（temp は 92、予測は 70 ± 4）。",
    ),
    (
        {**INSIDE, "channel": "tank-level"},
        NO_EVIDENCE,
        "PUMP-3: temp is 71.2, as predicted (70 ± 4), but the channel tank-level scores 2.1 (unusual above 1) "
        "(since 06:10).",
        "PUMP-3（06:10 から）：temp は 71.2 で予測どおり（70 ± 4）ですが、"
        "チャネル tank-level のスコアが 2.1 です（1 超で異常）。",
    ),
    (
        {**DRIFT, "change": "larger", "y": 92.1234},
        Evidence(errors=ErrorChange(0.1, 12, 1.7712, 1)),
        "PUMP-3: errors of temp are about 1.8 × as large as usual; now 92, predicted 70 ± 4 (since 06:10).",
        "PUMP-3（06:10 から）：temp の予測誤差が普段の約 1.8 倍に増えました（現在 92、予測は 70 ± 4）。",
    ),
    (
        {**DRIFT, "change": "larger"},
        Evidence(errors=ErrorChange(0.1, 12, 1.7712, 1, rests=True, here=True)),
        "PUMP-3: errors of temp are about 1.8 × as large as usual under these conditions, those at rest not counted "
        "(since 06:10).",
        "PUMP-3（06:10 から）：temp の予測誤差が普段の約 1.8 "
        "倍に増えました（この条件での普段との比較）（静止中のイベントは除く）。",
    ),
    (
        {**DRIFT, "change": "larger", "y": 92.1234},
        Evidence(errors=ErrorChange(math.nan, 12, 3.3, 0, here=True, sign=1)),
        "PUMP-3: errors of temp are about 3.3 × as large as usual under these conditions, mostly above the prediction; "
        "now 92, predicted 70 ± 4 (since 06:10).",
        "PUMP-3（06:10 から）：temp の予測誤差が普段の約 3.3 "
        "倍に増えました（この条件での普段との比較）（主に予測より高い側）（現在 92、予測は 70 ± 4）。",
    ),
    (
        {**DRIFT, "change": "lower"},
        Evidence(errors=ErrorChange(-3.04, 12, 1.1, -1)),
        "PUMP-3: temp has been about 3 lower than predicted in its last 12 events (since 06:10).",
        "PUMP-3（06:10 から）：temp が直近 12 件で予測より約 3 低い状態です。",
    ),
    (
        {**DRIFT, "change": "higher", "phase": "ongoing", "ts": SIX_TEN + 60_000},
        Evidence(errors=ErrorChange(3.0, 12, 1.1, 1)),
        "PUMP-3: temp is higher against its prediction than usual (since 06:10).",
        "PUMP-3（06:10 から）：temp が予測に対して普段より高めの状態です。",
    ),
    (
        {**DRIFT, "change": "higher"},
        Evidence(errors=ErrorChange(0.004, 74, 1.1, 1), step=0.01),
        "PUMP-3: temp has been higher than predicted by less than its step of 0.01 in its last 74 events "
        "(since 06:10).",
        "PUMP-3（06:10 から）：temp が直近 74 件で予測よりわずかに高い状態です（差は最小の刻み 0.01 未満）。",
    ),
    (
        SEVERAL,
        NO_EVIDENCE,
        "PUMP-3: temp is 92, expected 70 ± 4; also vibration 5.13 (expected 3.2 ± 0.4), flow (since 06:10).",
        "PUMP-3（06:10 から）：temp が 92 です（予測は 70 ± 4）、ほかに vibration 5.13（予測は 3.2 ± 0.4）、flow。",
    ),
    (  # that of the vibration is of an earlier event
        SEVERAL,
        Evidence(reported=("temp",)),
        "PUMP-3: temp is 92, expected 70 ± 4; also vibration, flow (since 06:10).",
        "PUMP-3（06:10 から）：temp が 92 です（予測は 70 ± 4）、ほかに vibration、flow。",
    ),
    (
        {
            **SEVERAL,
            "target": "vibration",
            "since": SIX_TEN - 3_600_000,
            "y": 5.13,
            "yhat": 3.24,
            "yhat_lower": 2.8,
            "yhat_upper": 3.6,
        },
        NO_EVIDENCE,
        "PUMP-3: vibration is 5.13, expected 3.2 ± 0.4; also temp, flow (since 06:10).",
        "PUMP-3（06:10 から）：vibration が 5.13 です（予測は 3.2 ± 0.4）、ほかに temp、flow。",
    ),
    (
        FLEET,
        NO_EVIDENCE,
        "at least 12 of 40 entities (partition 0): temp is unusual at the same time, most: PUMP-3, PUMP-7, PUMP-9; the "
        "last of them: temp is 92, expected 70 ± 4 (since 06:10).",
        "パーティション 0 の 40 件中 12 件以上（06:10 から）：同時に temp が普段と異なります（主に PUMP-3、PUMP-7、"
        "PUMP-9）、直近の例：temp が 92 です（予測は 70 ± 4）。",
    ),
    (
        {**FLEET, "target": "temp"},
        Evidence(members=Members(["temp", "power", None, "temp"], True, "PUMP-1")),
        "at least 12 of at least 40 entities (partition 0): unusual at the same time, most: PUMP-3 (temp), PUMP-7 "
        "(power), PUMP-9; the last of them, PUMP-1: temp is 92, expected 70 ± 4 (since 06:10).",
        "パーティション 0 の 40 件以上のうち 12 件以上（06:10 から）：同時に普段と異なります（主に PUMP-3 の temp、"
        "PUMP-7 の power、PUMP-9）、直近の例（PUMP-1）：temp が 92 です（予測は 70 ± 4）。",
    ),
    (
        {**OVER, **FLEET, "count": 2, "target": "temp"},
        NO_EVIDENCE,
        "entities of partition 0: normal again in most entities, 2 still open (06:10 to 07:20).",
        "パーティション 0（06:10 〜 07:20）：ほぼ平常に戻りました（残り 2 件）。",
    ),
    (
        {**OVER, **FLEET, "count": 2},
        NO_EVIDENCE,
        "entities of partition 0: temp is normal again in most entities, 2 still open (06:10 to 07:20).",
        "パーティション 0（06:10 〜 07:20）：temp はほぼ平常に戻りました（残り 2 件）。",
    ),
    (
        OVER,
        NO_EVIDENCE,
        "PUMP-3: temp is as expected again after 14 events; now 71.2, predicted 70 ± 4 (06:10 to 07:20).",
        "PUMP-3（06:10 〜 07:20）：temp はイベント 14 件で予測どおりに戻りました（現在 71.2、予測は 70 ± 4）。",
    ),
    (
        {**OVER, "absorbed_after": 1, "ts": SIX_TEN + 10 * 60_000},
        Evidence(calm=10),
        "PUMP-3: temp is as expected again after 1 event, confirmed by 10 more; now 71.2, predicted 70 ± 4 "
        "(06:10 to 06:20).",
        "PUMP-3（06:10 〜 06:20）：temp はイベント 1 件で（確認までさらに 10 件）予測どおりに戻りました"
        "（現在 71.2、予測は 70 ± 4）。",
    ),
    (
        OVER,
        Evidence(calm=None),
        "PUMP-3: temp is as expected again; now 71.2, predicted 70 ± 4 (06:10 to 07:20).",
        "PUMP-3（06:10 〜 07:20）：temp は予測どおりに戻りました（現在 71.2、予測は 70 ± 4）。",
    ),
    (
        {**OVER, "ended_by": "absorbed", "absorbed_after": 95},
        Evidence(calm=5),
        "PUMP-3: temp has been so for 100 events: the new level is taken as normal (06:10 to 07:20).",
        "PUMP-3（06:10 〜 07:20）：temp はイベント 100 件同じ状態のため、新しい水準を正常とみなします。",
    ),
    (
        DRIFT | {"change": "larger"},
        Evidence(errors=ErrorChange(math.nan, 20, 5000.0, 0)),
        "PUMP-3: errors of temp are more than 1,000 × as large as usual (since 06:10).",
        "PUMP-3（06:10 から）：temp の予測誤差が普段の 1,000 倍を超えました。",
    ),
    (
        {"channel": "levels", **INSIDE},
        Evidence(moved=[MovedLevel("load", "steps", 1e-4, 40.0, 1.0, 61.0)]),
        "PUMP-3: load fluctuates at least 1,000 × as much as usual from event to event; temp is 71.2, as predicted "
        "(70 ± 4) (since 06:10).",
        "PUMP-3（06:10 から）：load のイベントごとの変動が普段の 1,000 倍以上に増えました（temp は 71.2 で予測どおり、"
        "70 ± 4）。",
    ),
    (
        {**OVER, "kind": "drift", "ts": SIX_TEN + DAY},
        NO_EVIDENCE,
        "PUMP-3: the prediction of temp fits again after 14 events: the change is over, or learned "
        "(16 Feb 06:10 to 17 Feb 06:10).",
        "PUMP-3（2月16日 06:10 〜 2月17日 06:10）：temp の予測はイベント 14 件で再び合うようになりました"
        "（変化が収まったか、学習されました）。",
    ),
    (
        OVER,
        Evidence(ended=[("vibration", "recovered"), ("flow", "absorbed")]),
        "PUMP-3: temp is as expected again after 14 events; also vibration; flow was taken as normal before "
        "(06:10 to 07:20).",
        "PUMP-3（06:10 〜 07:20）：temp はイベント 14 件で予測どおりに戻りました、ほかに vibration"
        "（flow はその前に正常とみなされています）。",
    ),
    (
        {**OVER, "ended_by": "absorbed", "absorbed_after": 954, "kind": "drift"},
        Evidence(ended=[("flow", "recovered")]),
        "PUMP-3: temp has been so for 954 events: the new behaviour is taken as normal; flow was normal again before "
        "(06:10 to 07:20).",
        "PUMP-3（06:10 〜 07:20）：temp はイベント 954 件同じ状態のため、新しい振る舞いを正常とみなします"
        "（flow はその前に平常に戻っています）。",
    ),
    (
        {**OVER, "ended_by": "absorbed", "absorbed_after": 1000, "channel": "shape"},
        NO_EVIDENCE,
        "PUMP-3: the cycle of temp has been so for 1,000 events: its new shape is taken as normal (06:10 to 07:20).",
        "PUMP-3（06:10 〜 07:20）：temp の周期の波形はイベント 1,000 件同じ状態のため、新しい波形を正常とみなします。",
    ),
    (
        {**OVER, "ended_by": "absorbed", "absorbed_after": 1000},
        NO_EVIDENCE,
        "PUMP-3: temp has been so for 1,000 events: the new level is taken as normal (06:10 to 07:20).",
        "PUMP-3（06:10 〜 07:20）：temp はイベント 1,000 件同じ状態のため、新しい水準を正常とみなします。",
    ),
    (
        {**OVER, "ended_by": "ttl", "absorbed_after": None, "y": None},
        NO_EVIDENCE,
        "PUMP-3: closed, as no events of it come any more (06:10 to 07:20).",
        "PUMP-3（06:10 〜 07:20）：イベントが途絶えたため、アラートを閉じました。",
    ),
]


@pytest.mark.parametrize(("other", "evidence", "en", "ja"), CASES, ids=[case[2][:60] for case in CASES])
def test_the_typical_sentences(other: dict[str, Any], evidence: Evidence, en: str, ja: str) -> None:
    assert summarizer("en")(message(**other), evidence, 40) == en
    assert summarizer("ja")(message(**other), evidence, 40) == ja


@pytest.mark.parametrize(
    ("phase", "count", "who"),
    [("started", 3, "at least 3 of 6"), ("started", 6, "6 of 6"), ("ongoing", 3, "3 of 6"), ("ongoing", 6, "6 of 6")],
)
def test_a_fleet_alert_has_no_final_number_as_it_begins(phase: str, count: int, who: str) -> None:
    """It is raised at the first that are enough; the others follow a moment later."""
    told = summarizer()(message(**{**FLEET, "phase": phase, "count": count}), NO_EVIDENCE, 6)
    assert told.startswith(f"{who} entities (partition 0): ")


@pytest.mark.parametrize(
    ("event", "path", "shown"),
    [
        ("features: [fields.load], target: fields.temp", "fields.temp", "temp"),
        ("features: [payload.data.load], target: payload.data.temp.in", "payload.data.temp.in", "temp.in"),
        ("features: [K101.load], target: K101.temp", "K101.temp", "K101.temp"),  # may be the machine
        ("features: [load], target: fields.temp", "fields.temp", "fields.temp"),
    ],
)
def test_what_holds_all_signals_is_left_out_of_their_names(event: str, path: str, shown: str) -> None:
    for target in (None, path):
        told = summarizer("en", event)(message(target=target))
        assert told == f"PUMP-3: {shown} is 92, expected 70 ± 4 (since 06:10)."


def test_several_targets_have_names_of_one_kind() -> None:
    """An engine of a target knows its own columns alone, which may share what others do not have."""
    settings = config("features: [load, fields.temp, fields.flow], target: all")
    engine = Engine(settings)
    assert {each.summarizer.container for each in engine.target_engines} == {""}
    engine = Engine(config("features: [fields.temp, fields.flow], target: all"))
    assert {each.summarizer.container for each in engine.target_engines} == {"fields."}


def test_times_are_in_the_zone_of_the_events() -> None:
    tokyo = summarizer(event="features: [load], target: temp, time_zone: Asia/Tokyo")
    assert tokyo(message()).endswith("(since 15:10).")


def test_each_text_has_the_same_names_in_both_languages() -> None:
    for key, text in TEXTS.items():
        assert set(re.findall(r"\{(\w+)\}", text.en)) == set(re.findall(r"\{(\w+)\}", text.ja)), key


def test_a_value_is_rounded_to_the_size_of_its_interval() -> None:
    assert [rounded(71.2384, half) for half in (30.0, 3.0, 0.3, 0.0)] == ["70", "71", "71.2", "71.24"]
    assert rounded(0.1 + 0.2, 1e-12) == "0.300000"
    assert [rounded(x, 0.0) for x in (0.0, 12_345.6, 4.2e-7, 5e-324)] == ["0", "12,350", "4.2e-7", "4.94e-324"]
    assert [factor(x) for x in (0.52, 1.26, 14.3, math.inf, 0.0)] == [
        "0.52", "1.3", "14", "1,000", "0.01",
    ]  # fmt: skip


floats = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, 1e308, -1e308, 5e-324])
finite = st.floats(allow_nan=False, allow_infinity=False)
columns = st.sampled_from(["temp", "load"])
moved = st.builds(
    MovedLevel, columns, st.sampled_from(["level", "steps", "steps_here"]), finite, finite, finite.map(abs), finite
)
senses = st.sampled_from(
    [
        "higher",
        "lower",
        "between",
        "hour",
        "usual",
        "livelier",
        "calmer",
        "other_steps",
        "mean",
        "mean_here",
        "mean_off",
    ]
)
ended = st.tuples(st.sampled_from(["temp", "flow", "x" * 300]), st.sampled_from(["recovered", "absorbed"]))
evidence = st.builds(
    Evidence,
    st.lists(moved, max_size=6),
    st.none() | st.builds(NewValue, senses, st.integers(1, 16_000), st.integers(1, 59), floats, finite.map(abs)),
    st.none() | st.builds(ErrorChange, floats, st.integers(8, 128), floats.map(abs), st.sampled_from([-1, 0, 1])),
    st.none() | st.floats(8, 2_304),
    ended=st.lists(ended, max_size=3),
)
values = st.fixed_dictionaries({name: st.none() | finite for name in ("y", "yhat", "yhat_lower", "yhat_upper")})
others = st.lists(st.tuples(st.sampled_from(["temp", "flow", "x" * 300]), values), max_size=6)
names = st.text(min_size=1, max_size=200)


@given(
    st.sampled_from(["en", "ja"]), names, values, evidence, st.sampled_from(PHASES), st.integers(-(10**14), 10**15),
    st.sampled_from([None, "residual", "novelty", "shape", "levels", "own"]), others,
    st.sampled_from([None, "higher", "lower", "smaller", "larger", "creeping up", "creeping down"]),
    st.sampled_from(["recovered", "absorbed", "ttl", "reset", "disabled", "maintenance"]),
)  # fmt: skip
@example(
    "en",
    "a",
    dict.fromkeys(("y", "yhat", "yhat_lower", "yhat_upper")),
    NO_EVIDENCE,
    "started",
    0,
    None,
    [],
    None,
    "ttl",
)
def test_any_numbers_make_a_sentence_that_can_be_read(
    language: str,
    name: str,
    numbers: dict[str, float | None],
    found: Evidence,
    phase: str,
    ts: int,
    channel: str | None,
    targets: list[tuple[str, dict[str, float | None]]],
    change: str | None,
    ended_by: str,
) -> None:
    lower, upper = numbers["yhat_lower"], numbers["yhat_upper"]
    if lower is not None and upper is not None and lower > upper:
        numbers = {**numbers, "yhat_lower": upper, "yhat_upper": lower}
    listed = [{"target": target, "since": ts, "score": 1.5, **other} for target, other in targets]
    kind = "drift" if change else "anomaly"
    body = message(
        entity=name, phase=phase, ts=ts, since=min(ts, SIX_TEN), kind=kind, channel=channel, change=change,
        absorbed_after=7 if phase == "recovered" else None, ended_by=ended_by, target="temp", targets=listed, **numbers,
    )  # fmt: skip
    text = summarizer(language)(body, found, 40)
    assert text.isprintable()
    assert "\n" not in text
    rest = text.replace("".join(c if c.isprintable() else "·" for c in name)[:59], "", 1)
    assert not re.search(r"\bnan\b|\binf\b|None|\d{8}|\{", rest), text
    assert len(text) < 800
    assert text.endswith("." if language == "en" else "。")


def pumps(n: int) -> Events:
    """Four machines whose target follows their feature; then one's level moves, one jumps once, all move together."""
    rng = np.random.default_rng(3)
    load = 50 + np.repeat(np.sin(np.arange(n // 4) / 20), 4) * 10 + rng.normal(size=n)
    row, machine = np.arange(n) // 4, np.arange(n) % 4
    other = 30 + rng.normal(size=n)
    other[(machine == 2) & (row >= 950)] += 8
    y = 20 + 0.5 * load + 0.3 * rng.normal(size=n)
    y[(machine == 1) & (row == 900)] += 25
    y[row >= 1100] -= 12
    return made(y, np.stack([load, other], 1), [f"PUMP-{i}" for i in machine], np.arange(n) * 15_000)


def test_the_sentences_of_a_stream() -> None:
    """One jump, one level of a feature, one event of the whole plant: each is explained, with numbers that are true."""
    engine = Engine(config("features: [load, other], target: temp"))
    found = [alert.message for alert in run(engine, pumps(4800))[1]]
    assert all(m["summary"] for m in found)
    told = [m["summary"] for m in found if m["kind"] == "anomaly" and m["phase"] == "started"]
    jump = next(text for text in told if text.startswith("PUMP-1"))
    assert (value := re.search(r"temp is ([\d.]+), expected ([\d.]+)", jump)), jump
    assert 22 < float(value[1]) - float(value[2]) < 28
    level = next(text for text in told if text.startswith("PUMP-2") and "level" in text)
    assert (value := re.search(r"other (?:moved from |\()([\d.]+) to ([\d.]+)", level)), level
    assert 5 < float(value[2]) - float(value[1]) < 12
    assert any(re.match(r"[34] of 4 entities \(partition 0\): temp is unusual at the same time", text) for text in told)


def test_an_end_that_no_event_brings_has_a_sentence() -> None:
    """An open episode whose entity falls silent ends by its TTL, at another's event."""
    settings = config("features: [load, other], target: temp", "state: {ttl: 1h}\nalerts: {fleet: {enabled: false}}")
    events = pumps(3608)  # PUMP-1 has just jumped
    rest = pumps(4800).take(np.flatnonzero(np.arange(4800) % 4 == 0)[902:])
    engine = Engine(settings)
    found = [*run(engine, events)[1], *run(engine, rest)[1]]
    ends = [alert.message["summary"] for alert in found if alert.message["ended_by"] == "ttl"]
    assert ends[0].startswith("PUMP-1: closed, as no events of it come any more (15:0"), ends


@pytest.mark.parametrize("targets", ["y", "[y, z]"])
def test_an_end_counts_the_events_between_its_two_times(targets: str) -> None:
    """One event a minute: what is said to have ended it and to have confirmed that are those of the times."""
    rng, n = np.random.default_rng(1), 6000
    y = rng.normal(size=(n, 2))
    for start in range(1000, n - 300, 300):
        y[start : start + int(rng.integers(1, 60)), int(rng.integers(2))] += 12.0
        y[start + 5 : start + 5 + int(rng.integers(1, 60)), int(rng.integers(2))] += 12.0
    ts = SIX_TEN + 60_000 * np.arange(n)
    y = y if "[" in targets else y[:, 0]
    events = Events(["m"] * n, ts.astype(np.int64), np.zeros((n, 2)), y, np.arange(n))
    ended = [
        a.message
        for a in run(Engine(config(f"features: [a, b], target: {targets}")), events)[1]
        if a.message["ended_by"] in ("recovered", "absorbed")
    ]
    counted = 0
    for m in ended:
        found = re.search(r"(?:after|for) ([\d,]+) events?(?:, confirmed by ([\d,]+) more)?", m["summary"])
        counted += found is not None
        if found is not None:
            shown = sum(int((each or "0").replace(",", "")) for each in found.groups())
            assert shown == (m["ts"] - m["since"]) // 60_000 + 1
    assert len(ended) >= 4  # what comes every 300 events is soon usual
    assert counted >= 0.5 * len(ended)
