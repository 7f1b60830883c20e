"""The live page on call: it fits a phone, in both themes, everything on it has a name, and an alert leads to the others
of its time."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from brokers import free_port
from test_ui import CONTRAST, browser, eventually, tab  # noqa: F401
from test_ui_history import week_of
from test_ui_server import ODD, Served, alert, batch, config, sent
from test_ui_stops import ALERTS, EVENT, HOUR, stop

from ssm_stream.engine.alert_kinds import MAINTENANCE
from ssm_stream.ingest.verdicts import AlertAcknowledgement

MINUTE = 60_000
NAME = "a-machine-with-a-name-that-is-far-too-long-for-any-screen-of-a-phone"
VIEWS = {
    "fleet": "#/",
    "entity": "#/entity/press-4",
    "unknown entity": "#/entity/nobody",
    "alerts": "#/alerts",
    "stops": "#/stops?entity=press-3",
    "alert": "#alert/events-0-5-anomaly",
    "alert about days": "#alert/events-0-9-drift",
    "unknown alert": "#/alert/events-0-99-anomaly",
    "report": "#/report",
    "elsewhere": "#/entity/pump-1",
}
NAMELESS = """() => {
  const found = [];
  const name = (e) => (e.getAttribute("aria-label") ?? "").trim() || e.textContent.trim() || e.title ||
    [...(e.labels ?? [])].map((label) => label.textContent.trim()).join("");
  for (const e of document.querySelectorAll("a, button, input, select, canvas[role=img], [role=group], form, nav")) {
    if (e.checkVisibility() && !name(e)) found.push(e.outerHTML.slice(0, 120));
  }
  for (const e of document.querySelectorAll("canvas:not([role=img]):not([aria-hidden=true])")) found.push(e.outerHTML);
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  found.push(...ids.filter((id, i) => ids.indexOf(id) !== i).map((id) => `id ${id} twice`));
  for (const e of document.querySelectorAll("[aria-labelledby]")) {
    if (!ids.includes(e.getAttribute("aria-labelledby"))) found.push(`no label of ${e.outerHTML.slice(0, 80)}`);
  }
  const heads = [...document.querySelectorAll("h1, h2, h3")].filter((e) => e.checkVisibility());
  if (heads.filter((e) => e.tagName === "H1").length !== 1) found.push("not one h1");
  found.push(...heads.filter((e) => !e.textContent.trim()).map(() => "an empty heading"));
  return found;
}"""
SMALL = """() => [...document.querySelectorAll("button, input[type=checkbox]")].filter((e) => e.checkVisibility())
  .filter((e) => (e.closest("label") ?? e).getBoundingClientRect().height < 40).map((e) => e.outerHTML.slice(0, 120))"""


def axe_core() -> Path | None:
    """The script of axe-core, where npm has it for all users."""
    npm = shutil.which("npm")
    if npm is None:
        return None
    root = subprocess.run([npm, "root", "--global"], capture_output=True, text=True, check=False).stdout.strip()
    script = Path(root) / "axe-core" / "axe.min.js"
    return script if script.exists() else None


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """A page with every kind of alert and stop."""
    settings = config(f"ui: true, address: '127.0.0.1:{free_port()}'", f"{ALERTS}\n", EVENT)
    settings = settings.replace(sinks=settings.sinks.model_copy(update={"summaries": "summaries"}))
    one = Served(settings, lambda key, _: key, lambda _, __: "0-9")
    now = round(time.time() * 1000)
    one.page.add_summaries(week_of(["press-4", "pump-1", "pump-2", NAME], now))
    one.page.history_state = ""
    names = [f"press-{i}" for i in range(20)] + [NAME]
    for at in range(40):
        events, said = batch(names, at)
        events = replace(events, ts=np.full(len(names), now - (40 - at) * MINUTE))
        one.page.cache._budget = 1.0
        one.page.on_sent(sent(events, said))
        one.page.refresh()
    null = dict.fromkeys(("score", "y", "yhat", "yhat_lower", "yhat_upper", "channel")) | {"contributions": []}

    def at(minutes: float) -> dict[str, Any]:
        return {"since": round(now - minutes * MINUTE), "ts": round(now - minutes * MINUTE)}

    over, creeping = {"ts": now - 25 * MINUTE}, {"kind": "drift", "change": "creeping up"}
    one.page.queue_alerts([
        alert("started", "press-4", 1, kind="limit", limit="target above 95", column="target", **at(5) | null),
        alert("started", "press-7", 2, kind="silence", column=None, value=None, **at(8), **null),
        alert("started", "press-9", 3, kind="stuck", column="a", value=1.5, **at(30), **null),
        alert("started", "press-4", 4, suppressed_by=MAINTENANCE, **at(20)),
        alert("started", "press-4", 5, summary="press-4: target is 60, expected 80 ± 3.", severity="critical", **at(6)),
        alert("started", "press-2", 6, kind="drift", **at(39)),
        alert("recovered", "press-2", 7, kind="drift", episode="events-0-6-drift", **at(39) | over),
        alert("started", names[-1], 8, **at(5.9)),
        alert("started", "press-4", 9, **creeping, **at(39)),
        alert("recovered", "press-4", 10, episode="events-0-9-drift", **creeping, **at(39) | over),
    ])  # fmt: skip
    one.page.on_acknowledged(AlertAcknowledgement("events-0-5-anomaly", "Ann", "x" * 300, now))
    one.page.stops.announce([
        stop("0-0", "press-4", now - 30 * MINUTE, reason="y" * 200), stop("0-1", "press-*", now - 9 * HOUR),
        stop("0-2", names[-1], now - MINUTE, acts_from={}), stop("0-3", "press-1", now + HOUR),
    ])  # fmt: skip
    yield one
    one.server.close()


def opened(served: Served, tab: Any, view: str) -> None:  # noqa: F811
    tab.goto(f"http://127.0.0.1:{served.port}/ui/{VIEWS[view]}")
    # Who has no event here has no alerts either.
    ready = "window.app?.pulse" + ("" if view in ("unknown entity", "elsewhere") else " && window.app.episodes.size")
    eventually(lambda: tab.evaluate(f"Boolean({ready})"))
    tab.wait_for_timeout(200)
    for each in tab.locator("summary").all():
        if each.is_visible():
            each.click()
    for each in tab.get_by_role("button", name="Acknowledge").all()[:1] + tab.locator(".stop button").all()[:1]:
        if each.is_visible():
            each.click()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_a_phone_and_can_be_read_and_named(served: Served, browser: Any, theme: str) -> None:  # noqa: F811
    context = browser.new_context(
        color_scheme=theme, locale="en-GB", viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    page, script = context.new_page(), axe_core()
    try:
        for view in VIEWS:
            opened(served, page, view)
            width = page.evaluate("document.scrollingElement.scrollWidth")
            assert width <= 390, f"{view} is {width} wide"
            ratio, where = page.evaluate(CONTRAST)
            assert ratio >= 4.5, f"{view}: {where}"
            assert page.evaluate(NAMELESS) == [], view
            assert page.evaluate(SMALL) == [], f"{view}: too small for a finger"
            if script is not None:
                page.evaluate(script.read_text())
                found = page.evaluate("axe.run().then(({ violations }) => violations.map((v) => [v.impact, v.id]))")
                assert [each for each in found if each[0] in ("serious", "critical")] == [], view
    finally:
        context.close()


def test_an_alert_leads_to_what_else_alarmed_then(served: Served, tab: Any) -> None:  # noqa: F811
    opened(served, tab, "alert")
    lines = [str(text) for text in tab.locator(".others li").all_text_contents()]
    assert [line.split(" ")[1] for line in lines][1:] == ["press-4", "press-7", "press-4", "press-9"], "nearest first"
    assert "began 6 s after" in lines[0]
    assert "limit · began 60 s after · open" in lines[1]
    assert "silence · began 120 s before" in lines[2] or "silence · began 2 min before" in lines[2]
    assert "anomaly · began 14 min before · until" in lines[3]
    assert "planned stop" in lines[3]
    assert not [line for line in lines if "press-2" in line], "it was over"
    assert tab.locator(".alert canvas.chart").is_visible()
    assert not tab.get_by_text("This alert began before them").is_visible()
    tab.locator(".others a").nth(2).click()
    eventually(lambda: tab.title() == "silence: press-7 – ssm-stream")
    eventually(lambda: "press-4" in tab.locator(".others").text_content())


def test_an_alert_about_what_creeps_shows_the_last_week(served: Served, tab: Any) -> None:  # noqa: F811
    opened(served, tab, "alert about days")
    label = eventually(lambda: tab.locator("canvas[aria-label*='mean value']").get_attribute("aria-label"))
    assert "168 hours" in label
    assert "mean value 70, predicted 70.5" in label
    assert tab.locator("canvas[aria-label*='mean value']").is_visible()
    opened(served, tab, "alert")
    assert tab.locator("canvas[aria-label*='mean value']").count() == 0, "its values show in the latest events"


def test_a_chart_that_begins_after_its_alert_says_so(served: Served, tab: Any) -> None:  # noqa: F811
    began = round(time.time() * 1000) - 30 * 24 * HOUR
    served.page.queue_alerts([alert("started", "press-12", 70, since=began, ts=began)])
    tab.goto(f"http://127.0.0.1:{served.port}/ui/#/alert/events-0-70-anomaly")
    eventually(lambda: tab.get_by_text("This alert began before them").is_visible())


def test_an_alert_that_is_not_kept_says_so(served: Served, tab: Any) -> None:  # noqa: F811
    opened(served, tab, "unknown alert")
    assert tab.get_by_text("This page does not have this alert").is_visible()
    served.page.queue_alerts([alert("started", "press-11", 99)])
    eventually(lambda: tab.title() == "anomaly: press-11 – ssm-stream")
    eventually(lambda: tab.locator(".alert canvas.chart").is_visible())


def test_silence_and_stops_stand_in_the_chart(served: Served, tab: Any) -> None:  # noqa: F811
    tab.goto(f"http://127.0.0.1:{served.port}/ui/#/entity/press-7")
    eventually(lambda: tab.locator(".title .chip").text_content() == "silence")
    context = eventually(lambda: (found := tab.evaluate("window.app.view.context()"))["spans"] and found)
    (silence,) = [each for each in context["spans"] if each.get("kind") == "silence"]
    assert silence["to"] == context["until"] > silence["from"], "it goes on to now"
    eventually(lambda: "now: " in tab.locator("canvas.chart").first.get_attribute("aria-label"))
    tab.goto(f"http://127.0.0.1:{served.port}/ui/#/entity/press-4")
    eventually(lambda: tab.locator(".title .chip").text_content() == "limit")
    hatched = eventually(lambda: [e for e in tab.evaluate("window.app.view.context().spans") if e.get("hatched")])
    assert any(e["words"][0].startswith("planned stop: yyy") for e in hatched)
    assert tab.evaluate("window.app.view.context().bounds.map((each) => each.at)") == [95]
    suppressed = tab.locator(".episode.suppressed")
    assert suppressed.locator(".chip").text_content() == "planned stop"
    assert "nobody was called" in suppressed.locator(".what").text_content()


def test_without_topics_the_page_says_what_to_write(tab: Any) -> None:  # noqa: F811
    one = Served(config(f"ui: true, address: '127.0.0.1:{free_port()}'"))
    one.page.on_sent(sent(*batch(["press-1"])))
    one.page.queue_alerts([alert("started", "press-1")])
    try:
        tab.goto(f"http://127.0.0.1:{one.port}/ui/#/stops")
        tab.get_by_text("To mute from here, set alerts.control: true").wait_for()
        assert not tab.locator("form.mute").is_visible()
        tab.goto(f"http://127.0.0.1:{one.port}/ui/#/alerts")
        button = tab.get_by_role("button", name="Acknowledge …")
        button.wait_for()
        assert button.is_disabled()
        assert tab.get_by_text("set alerts.feedback.topic").is_visible()
    finally:
        one.server.close()


def test_a_machine_whose_name_could_be_a_pattern_is_muted_alone(tab: Any) -> None:  # noqa: F811
    one = Served(config(f"ui: true, address: '127.0.0.1:{free_port()}'", ALERTS, EVENT), lambda *_: "", lambda *_: "")
    one.page.queue_alerts([alert("started", "TI[1]", 3)])
    try:
        tab.goto(f"http://127.0.0.1:{one.port}/ui/#/alerts")
        tab.locator(".episode .acts a[href*=stops]").first.click()
        eventually(lambda: tab.locator("#mute-entity").input_value() == "TI[[]1]")
    finally:
        one.server.close()


def test_names_in_stops_and_notes_are_text(tab: Any) -> None:  # noqa: F811
    one = Served(config(f"ui: true, address: '127.0.0.1:{free_port()}'", ALERTS, EVENT), lambda *_: "", lambda *_: "")
    one.page.stops.announce([stop("0-0", ODD[0], round(time.time() * 1000))])
    one.page.queue_alerts([alert("started", ODD[0], 3, summary=ODD[0])])
    one.page.on_acknowledged(AlertAcknowledgement("events-0-3-anomaly", ODD[0], ODD[0]))
    try:
        tab.goto(f"http://127.0.0.1:{one.port}/ui/#/stops")
        eventually(lambda: tab.locator(".stop .who").first.text_content() == ODD[0])
        tab.goto(f"http://127.0.0.1:{one.port}/ui/#/alert/events-0-3-anomaly")
        eventually(lambda: ODD[0] in tab.locator(".acknowledged").text_content())
        assert tab.locator("main img").count() == 0
    finally:
        one.server.close()
