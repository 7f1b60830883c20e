"""The live view: what it chooses, that it fits, and that it stays plain where there is no terminal."""

from __future__ import annotations

import io
import re
import time
from typing import Any

import pytest
from rich.console import Console

from ssm_stream.cli.terminal import live
from ssm_stream.cli.terminal.alert_text import describe_alert, short_number
from ssm_stream.cli.terminal.live import LiveView
from ssm_stream.cli.terminal.summary import print_summary

NOW = 1_767_225_600_000  # 2026-01-01 00:00 UTC
ANSI = re.compile(r"\x1b")


def prediction(entity: str, score: float = 0.3, **other: Any) -> dict[str, Any]:
    values = {"y": 412.0, "yhat": 400.0, "yhat_lower": 350.0, "yhat_upper": 450.0}
    rest = {"ts": NOW, "anomaly_score": score, "warmup": False, "n": 200, "id": "events-0-1"}
    return {"entity": entity, **values, **rest, **other}


def alert(entity: str, kind: str = "anomaly", phase: str = "started", **other: Any) -> dict[str, Any]:
    values = {"y": 512.0, "yhat": 400.0, "yhat_lower": 350.0, "yhat_upper": 450.0, "score": 2.25, "severity": "warning"}
    return {
        "entity": entity,
        "kind": kind,
        "phase": phase,
        "ts": NOW,
        "since": NOW,
        "weight_change": [],
        **values,
        **other,
    }


def screen(width: int = 80, height: int = 24, terminal: bool = True) -> Console:
    return Console(
        file=io.StringIO(), width=width, height=height, force_terminal=terminal, color_system=None, legacy_windows=False
    )


def picture(view: LiveView, console: Console) -> list[str]:
    with console.capture() as captured:
        console.print(view.render())
    return captured.get().rstrip("\n").split("\n")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (60, 12), (200, 10)])
@pytest.mark.parametrize("count", [0, 1, 16, 10_000])
def test_the_picture_fits(width: int, height: int, count: int) -> None:
    console = screen(width, height)
    view = LiveView("ssm-stream demo", total=20_000, console=console)
    names = [f"machine-with-a-rather-long-name-{i:05d}" for i in range(count)]
    view.observe([prediction(n, i / 5000, y=1e12 * i) for i, n in enumerate(names)], [alert(n) for n in names[:8]], 3)
    lines = picture(view, console)
    assert len(lines) <= max(12, height)
    assert all(len(line) <= width for line in lines)
    text = "\n".join(lines)
    assert "ssm-stream demo" in text
    assert (f"{count:,} events" in text) or width < 80
    assert ("waiting for events" in text) == (count == 0)


def test_ten_thousand_entities_are_drawn_fast() -> None:
    console = screen()
    view = LiveView(console=console)
    view.observe([prediction(f"m-{i}", i % 97 / 100) for i in range(10_000)], [])
    began = time.perf_counter()
    for _ in range(5):
        view._chosen_at = -10.0
        picture(view, console)
    assert (time.perf_counter() - began) / 5 < 0.25, "a quarter of a second is the time between two pictures"


def test_open_alerts_come_first_then_the_highest_scores() -> None:
    console = screen()
    view = LiveView(console=console)
    entities = [prediction(f"m-{i:03d}", i / 1000) for i in range(100)]
    view.observe(entities, [alert("m-001"), alert("m-002", "drift"), alert("m-003"), alert("m-003", "drift")])
    view.observe([], [alert("m-001", phase="recovered")])
    text = picture(view, console)
    shown = [line.split()[0] for line in text if line.startswith("  m-")]
    assert shown[:2] == ["m-002", "m-003"]
    assert "m-001" not in shown
    assert shown[2:] == [f"m-{i:03d}" for i in range(100 - len(shown) + 2, 100)]
    assert any("drift" in line for line in text if line.startswith("  m-002"))
    assert any("both" in line for line in text if line.startswith("  m-003"))
    assert any("3 open alerts" in line for line in text)
    assert any(f"and {100 - len(shown)} calmer entities" in line for line in text)


def test_rows_stay_for_a_while() -> None:
    console = screen()
    view = LiveView(console=console)
    view.observe([prediction(f"m-{i:03d}", 0.5) for i in range(100)], [])
    before = [line.split()[0] for line in picture(view, console) if line.startswith("  m-")]
    view.observe([prediction("m-099", 0.9, y=777.0)], [])
    after = [line.split()[0] for line in picture(view, console) if line.startswith("  m-")]
    assert before == after
    view._chosen_at -= live.CHOOSE_EVERY
    assert any("m-099" in line and "777" in line for line in picture(view, console))


def test_warm_up_and_missing_targets_are_shown() -> None:
    console = screen()
    view = LiveView(console=console)
    view.observe([prediction("new", 0.0, warmup=True), prediction("unlabelled", y=None)], [])
    text = picture(view, console)
    assert any("warming up" in line for line in text if "new" in line)
    assert any("–" in line for line in text if "unlabelled" in line)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (alert("pump-1"), "01-01 00:00 pump-1: 512.0 is above 350.0 … 450.0, score 2.2"),
        (alert("pump-1", y=12.0, severity="critical"), "12.00 is below 350.0 … 450.0, score 2.2, critical"),
        (alert("pump-1", phase="ongoing", since=NOW - 7_200_000), "(anomaly for 2 h)"),
        (alert("pump-1", phase="recovered", since=NOW - 90_000), "pump-1: normal again (anomaly for 1.5 min)"),
        (alert("pump-1", "drift"), "pump-1: behaves differently"),
        (
            alert("pump-1", "drift", weight_change=[{"feature": "temp", "before": 0.1, "after": 0.9}]),
            "behaves differently: temp",
        ),
        (
            alert("pump-1", "drift", weight_change=[{"feature": n} for n in ("hour_sin", "hour_cos2", "lag1-lag2")]),
            "behaves differently: hour of day, earlier values",
        ),
        (alert("pump-1", "drift", "ongoing", since=NOW - 3 * 86_400_000), "still settling for 3 d"),
        (alert("pump-1", "drift", "recovered", since=NOW - 30_000), "new behaviour learned (drift for 30 s)"),
        (
            alert("pump-1", phase="recovered", score=None, ended_by="ttl"),
            "pump-1: ended, no events for state.ttl",
        ),
        (alert("pump-1", phase="recovered", ended_by="recovered"), "pump-1: normal again"),
        (alert("pump-1", y=None), "anomaly, score 2.2"),
    ],
)
def test_alerts_in_words(message: dict[str, Any], words: str) -> None:
    assert words in describe_alert(message)


def test_names_cannot_draw_on_the_terminal() -> None:
    console = screen()
    view = LiveView(console=console)
    hostile = "\x1b[2Jpump\n[red]1[/red]"
    view.observe([prediction(hostile)], [alert(hostile)])
    text = "\n".join(picture(view, console))
    assert "·[2Jpump·" in text
    assert "[2J" not in text.replace("·[2J", "")
    assert not ANSI.search(text)
    assert "\x1b" not in describe_alert(alert(hostile))


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (0.0, "0.000"), (0.12345, "0.123"), (12.3456, "12.35"), (412.04, "412.0"), (12345.6, "12,346"),
     (-987_654.3, "-987,654"), (1.5e9, "1.5e+09"), (1.234e-7, "1.23e-07"), (-1.5e200, "-1.5e+200")],
)  # fmt: skip
def test_numbers_are_short(value: float | None, shown: str) -> None:
    assert short_number(value) == shown
    assert len(shown) <= 9


def test_without_a_terminal_there_are_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PLAIN_EVERY", 0.05)
    console = screen(terminal=False)
    with LiveView("demo", console=console) as view:
        view.observe([prediction("pump-1"), prediction("[bold]x")], [alert("pump-1"), alert("[bold]x", "drift")], 1)
        time.sleep(0.2)
        view.observe([], [alert(f"pump-{i}") for i in range(20)])
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert not ANSI.search(text)
    lines = text.strip().split("\n")
    assert any(line.startswith("0:00  2 events") and "2 entities" in line for line in lines)
    assert any("▲ 01-01 00:00 pump-1: 512.0 is above" in line for line in lines)
    assert any("[bold]x: behaves differently" in line for line in lines)
    assert any("14 alerts before" in line for line in lines)
    assert "1 dead letter" in lines[-1]
    assert text.count("▲ 01-01 00:00 [bold]x") == 1, "an alert is told once"


def test_on_a_terminal_the_last_picture_stays() -> None:
    console = screen()
    with LiveView("demo", console=console) as view:
        view.observe([prediction("pump-1")], [])
        assert view.events == 1
    assert isinstance(console.file, io.StringIO)
    assert "pump-1" in console.file.getvalue()


def test_events_a_second() -> None:
    with LiveView(console=screen(terminal=False)) as view:
        assert view.events_per_s == 0.0
        for _ in range(10):
            view.observe([prediction("a")] * 100, [])
            time.sleep(0.03)
        assert 1000 < view.events_per_s < 10_000
    assert 1000 < view.events_per_s < 10_000


def test_an_event_costs_little() -> None:
    view = LiveView(console=screen())
    batch = [prediction(f"m-{i % 100}", 0.3) for i in range(4000)]
    began = time.perf_counter()
    for _ in range(10):
        view.observe(batch, [])
    assert (time.perf_counter() - began) / 40_000 < 5e-6


RESULT = {
    "events": 19_932, "entities": 16, "mae": 24.38, "mae_persistence": 36.77, "coverage": 0.9, "level": 0.9,
    "anomalies": 4, "drifts": 1, "dead_letters": 0, "events_per_s": 4013.2, "seconds": 4.97,
}  # fmt: skip


def shown(result: dict[str, Any], width: int = 80) -> str:
    console = screen(width, terminal=False)
    with console.capture() as captured:
        print_summary(result, console, title="The demonstration is over")
    return captured.get()


def test_the_summary_says_all_and_fits() -> None:
    text = shown(RESULT)
    assert all(len(line) <= 80 for line in text.split("\n"))
    for words in (
        "The demonstration is over",
        "19,932 from 16 entities in 5.0 s: 4,013 events/s",
        "24.38, 0.66 × that of repeating the last value (36.77)",
        "hold 90.0% of the targets, 90% expected",
        "4 anomalies, 1 drift\n",
        "none",
        "What to do next",
        "ssm-stream backtest CONFIG FILE",
    ):
        assert words in re.sub(r" +\n", "\n", text), words
    assert len(text.strip().split("\n")) <= 12, "it is read at one glance"


def test_the_summary_without_targets() -> None:
    text = shown({**RESULT, "mae": None, "mae_persistence": None, "coverage": None, "dead_letters": 3})
    assert "no event had a target" in text
    assert "intervals" not in text
    assert re.search(r"dead letters\s+3", text)


def test_targets_have_rows_of_their_own_and_an_event_counts_once() -> None:
    console = screen(140)
    view = LiveView(console=console)
    told = [prediction(f"m-{i % 3}", target=target) for i in range(30) for target in ("temp", "noise")]
    cause = {"target": "noise", "targets": [{"target": "noise"}, {"target": "temp"}]}
    view.observe(told, [alert("m-1", **cause)])
    text = "\n".join(picture(view, console))
    assert view.events == 30
    for words in ("30 events", "3 entities", "1 open alert", "m-0 temp", "m-2 noise", "m-1 noise and 1 more: "):
        assert words in text
    assert text.count(" anomaly ") == 2
    view.observe([], [alert("m-1", phase="recovered", target="noise", targets=[])])
    assert "0 open alerts" in "\n".join(picture(view, console))


def test_a_fleet_alert_marks_the_entities_that_it_names() -> None:
    console = screen(100, 24)
    view = LiveView("x", console=console)
    names = ["pump-1", "pump-2", "pump-3", "pump-4"]
    inside = [{"entity": name, "score": 2.0, "since": NOW} for name in names]
    fleet = {"scope": "fleet", "pool": "0-0", "count": 4, "entities": inside}
    view.observe([prediction(name) for name in [*names, "calm"]], [alert("*", "drift", **fleet)])
    lines = picture(view, console)
    assert all(any(name in line and "drift" in line for line in lines) for name in names)
    assert any("fleet: 4 entities behave differently: pump-1, pump-2, pump-3, …" in line for line in lines)
    assert any("1 open alert" in line for line in lines)
    over = {**fleet, "count": 1, "entities": inside[:1]}
    view.observe([], [alert("*", "drift", phase="recovered", **{**over, "ts": NOW + 7_200_000})])
    lines = picture(view, console)
    assert any("fleet: over (drift for 2 h)" in line for line in lines)
    assert any("0 open alerts" in line for line in lines)
