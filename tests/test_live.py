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
        "summary": f"{entity}: target is 512, expected 400 ± 50 (since 00:00).",
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
        (alert("pump-1"), "01-01 00:00 pump-1: target is 512, expected 400 ± 50 (since 00:00)."),
        (alert("pump-1", severity="critical"), "01-01 00:00 critical: pump-1: target is 512"),
        (alert("pump-1", phase="recovered", severity="critical"), "01-01 00:00 pump-1: target"),
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
    assert r"\x1b[2Jpump\n[red]1" in text
    assert "[2J" not in text.replace(r"\x1b[2J", "").replace("·[2J", "")  # the sentence of the alert has dots
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
        view.observe([], [alert(f"pump-{i}") for i in range(48)])
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert not ANSI.search(text)
    lines = text.strip().split("\n")
    assert any(line.startswith("0:00  2 events") and "2 entities" in line for line in lines)
    assert any("▲ 01-01 00:00 pump-1: target is 512" in line for line in lines)
    assert any("[bold]x: target is" in line for line in lines)
    assert any("8 lines before" in line for line in lines)
    assert "1 dead letter" in lines[-1]
    assert text.count("▲ 01-01 00:00 [bold]x") == 1, "an alert is told once"


def test_on_a_terminal_the_last_picture_stays() -> None:
    console = screen()
    with LiveView("demo", console=console) as view:
        view.observe([prediction("pump-1")], [])
        assert view.events == 1
    assert isinstance(console.file, io.StringIO)
    assert "pump-1" in console.file.getvalue()


def test_lines_of_the_caller_and_a_panel() -> None:
    console = screen()
    view = LiveView(console=console)
    marked = [live.FeedLine("✓", "green", "right: pump-1")]
    bars = live.Panel(["  ours ▁▂▃", "  frozen ▁▅█"], "error 0.2")
    view.observe([prediction("pump-1")], [alert("pump-1")], lines=marked, panel=bars)
    lines = picture(view, console)
    assert len(lines) <= 24
    assert [line.rstrip() for line in lines if "▁" in line] == ["  ours ▁▂▃", "  frozen ▁▅█"]
    assert any(line.startswith("  ✓ right: pump-1") for line in lines)
    assert not any("target is 512" in line for line in lines), "the caller's line is in its place"


def test_the_panel_in_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    console = screen(terminal=False)
    with LiveView("demo", console=console) as view:
        view.observe([prediction("pump-1")], [], panel=live.Panel(["bars"], "error 0.2"))
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().rstrip().endswith("0 open alerts  error 0.2")
    assert "bars" not in console.file.getvalue()


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
