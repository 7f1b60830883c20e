"""The live page in a browser: it updates, filters, sorts, explains, takes verdicts, and comes back after a restart."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from brokers import Kafka, free_port
from patience import SLOWER
from test_ops import ready, scraped, until
from test_stream import Job, events, finished
from test_ui_server import ODD, TOKEN, Served, alert, batch, config, sent

from ssm_stream.ui import site

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run", "--disable-extensions", "--mute-audio",
]  # fmt: skip

if not CHROMIUM.exists():
    pytest.skip("no /usr/bin/chromium: apt-get install chromium", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make install-dev")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as play:
        found = play.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield found
        found.close()


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:
    """A new profile's page; whatever it complains of fails the test (but for connections that a test ends)."""
    context = browser.new_context(viewport={"width": 1300, "height": 900}, locale="en-GB")
    page = context.new_page()
    page.set_default_timeout(30_000 * SLOWER)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    yield page
    context.close()
    assert not [text for text in said if "Failed to load resource" not in text]


def eventually(what: Callable[[], Any], seconds: float = 30.0) -> Any:
    """What it gives, once that is true."""
    deadline = time.monotonic() + SLOWER * seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)
    return found


def names(tab: Any) -> list[str]:
    return [str(text) for text in tab.locator(".tile .name").all_text_contents()]


# A process.


class Flow:
    """A process with its page, and events for it."""

    def __init__(self, kafka: Kafka, folder: Path) -> None:
        self.kafka, self.topic, self.feedback = kafka, kafka.topic("events", 3), kafka.topic("feedback")
        self.address = f"127.0.0.1:{free_port()}"
        ops = {"address": self.address}
        self.job = Job(kafka, folder, self.topic, ops=ops)
        content = orjson.loads(self.job.path.read_bytes())
        self.control = kafka.topic("control")
        content["sinks"]["suppressed"] = kafka.topic("suppressed")
        alerts = {
            "anomaly": {"budget": "1 per 100 events"}, "feedback": {"topic": self.feedback},
            "control": {"topic": self.control}, "limits": [{"column": "target", "above": 10_000}],
        }  # fmt: skip
        self.job.path.write_bytes(orjson.dumps({**content, "alerts": alerts}))
        self.count = kafka.produce(self.topic, events(12_000, seed=4))
        self.at, self.sent = 1_700_000_100_000, time.monotonic()

    def start(self) -> None:
        self.process = self.job.start("--ui", "--log-format", "json")
        until(lambda: ready(self.address), 90, self.process)

    def caught_up(self) -> None:
        until(lambda: scraped(self.address).of("ssm_stream_predictions_total") == self.count, 60, self.process)

    def stop(self) -> str:
        self.process.terminate()
        return finished(self.process, 30)

    def send(self, name: str, target: float, count: int = 1) -> None:
        values = []
        # The stream's time goes on while nothing comes, and a stop that begins now begins then.
        self.at += round(1000 * (time.monotonic() - self.sent))
        self.sent = time.monotonic()
        for _ in range(count):
            self.at += 1000
            event = {"entity": name, "ts": self.at, "a": 0.5, "b": 0.25, "target": target}
            values.append((name.encode(), orjson.dumps(event)))
        self.count += self.kafka.produce(self.topic, values)


@pytest.fixture(scope="module")
def flow(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    one = Flow(kafka, tmp_path_factory.mktemp("ui"))
    one.start()
    one.caught_up()
    yield one
    if one.process.poll() is None:
        output = one.stop()
        assert one.process.returncode == 0, output
        assert f'"url": "http://{one.address}/ui/"' in output


def test_it_loads_and_updates_by_itself(flow: Flow, tab: Any) -> None:
    tab.goto(f"http://{flow.address}/")
    tab.locator(".tile").nth(59).wait_for()
    assert tab.url.endswith("/ui/")
    assert tab.title() == "Fleet – ssm-stream"
    tile = tab.locator('.tile[data-name="m7"]')
    for value in (321.25, 432.5):
        flow.send("m7", value)
        eventually(lambda value=value: tile.locator(".value").text_content() == str(value).rstrip("0"))
    eventually(lambda: tab.locator("#pulse .card").nth(2).locator("dd").first.text_content() == "60")
    eventually(lambda: tab.locator("#link").text_content() == "live")


def test_it_filters_and_sorts_all_entities(flow: Flow, tab: Any) -> None:
    tab.goto(f"http://{flow.address}/ui/")
    tab.locator(".tile").nth(59).wait_for()
    tab.get_by_label("Filter by name").fill("M1")
    eventually(lambda: len(names(tab)) == 11)
    eventually(lambda: {name[:2] for name in names(tab)} == {"m1"})
    tab.get_by_label("Sort by").select_option("name")
    eventually(lambda: names(tab) == ["m1", *(f"m1{i}" for i in range(10))])
    tab.locator("#way").click()
    eventually(lambda: names(tab)[0] == "m19")
    eventually(lambda: "q=M1" in tab.url)
    tab.reload()
    eventually(lambda: names(tab)[:1] == ["m19"])
    tab.get_by_label("Filter by name").fill("nobody")
    eventually(lambda: tab.get_by_text("No entity matches.").is_visible())


def test_an_entity_shows_why(flow: Flow, tab: Any) -> None:
    tab.goto(f"http://{flow.address}/ui/#/?q=m12")
    tab.locator(".tile").click()
    assert tab.get_by_role("heading", name="m12").text_content() == "m12"
    eventually(lambda: tab.evaluate("window.app.view.points[0].length") > 40)

    def explained() -> bool:
        flow.send("m12", 1.5)
        time.sleep(0.3)
        return bool(tab.locator(".why tbody tr").count())

    eventually(explained)
    look = tab.evaluate("window.app.view.look")
    parts = sum(part[3] for part in look["parts"]) + look["others"][1]
    assert look["base"] + look["constant"] + parts + look["rest"] == pytest.approx(look["yhat"], rel=1e-6)
    sent = [orjson.loads(m.value() or b"") for m in flow.kafka.read(flow.job.predictions)]
    assert look["yhat"] in [p["yhat"] for p in sent if (p["entity"], p["ts"]) == ("m12", look["ts"])]
    assert {"a", "b", "base", "constant"} <= set(tab.locator(".why tbody th").all_text_contents())
    eventually(lambda: flow.send("m12", 1.5) or tab.locator(".stack .legend li").count() >= 2)
    assert "m12: value" in tab.locator(".chart").first.get_attribute("aria-label")
    tab.locator("summary", has_text="as a table").first.click()
    eventually(lambda: flow.send("m12", 1.5) or tab.locator(".panel.full tbody tr").count() > 5)
    tab.keyboard.press("Escape")
    tab.locator(".tile").first.wait_for()


def test_a_verdict_goes_to_the_feedback_topic(flow: Flow, tab: Any) -> None:
    tab.goto(f"http://{flow.address}/ui/#/alerts")
    episode = tab.locator(".episode.recovered").first
    episode.wait_for()
    number = episode.get_attribute("data-n")
    episode = tab.locator(f'.episode[data-n="{number}"]')
    before = len(flow.kafka.read(flow.feedback))
    episode.get_by_role("button", name="False alarm").click()
    pressed = '[aria-pressed="true"]'
    eventually(lambda: episode.locator(pressed).text_content() == "False alarm")
    (said,) = flow.kafka.read(flow.feedback, before + 1)[before:]
    value = orjson.loads(said.value() or b"")
    assert value["true"] is False
    assert said.key() == value["id"].encode()
    raised = {orjson.loads(m.value() or b"")["id"] for m in flow.kafka.read(flow.job.alerts)}
    assert value["id"] in raised
    eventually(lambda: scraped(flow.address).of("ssm_stream_feedback_total", verdict="false") == 1)
    episode.locator("summary").click()
    eventually(lambda: value["id"] in episode.locator(".more").text_content())


def test_an_alert_has_an_address_and_is_acknowledged_there(flow: Flow, tab: Any) -> None:
    sent = [orjson.loads(m.value() or b"") for m in flow.kafka.read(flow.job.alerts)]
    last = next(each for each in reversed(sent) if each["phase"] == "recovered")
    tab.goto(f"http://{flow.address}/ui/#alert/{last['id']}")
    episode = tab.locator(".alert .episode")
    assert last["entity"] in episode.locator(".who").text_content(), "any id of its messages leads to it"
    assert tab.title() == f"{last['kind']}: {last['entity']} – ssm-stream"
    episode.get_by_role("button", name="Acknowledge …").click()
    episode.get_by_label("Your name").fill("Ann")
    episode.get_by_label("Note: what you do").fill("<b>on my way</b>")
    episode.get_by_role("button", name="Acknowledge", exact=True).click()
    shown = episode.locator(".acknowledged")
    eventually(lambda: shown.is_visible() and "Ann attends to it" in shown.text_content())
    assert shown.text_content().endswith(": <b>on my way</b>")
    message = flow.kafka.read(flow.feedback)[-1]
    told = orjson.loads(message.value() or b"")
    assert (told["id"], told["acknowledged"], told["by"]) == (last["episode"], True, "Ann")
    assert message.key() == f"{last['episode']}-acknowledged".encode()
    eventually(lambda: episode.get_by_role("button", name="Acknowledge again …").is_visible())
    tab.keyboard.press("Escape")
    eventually(lambda: tab.url.endswith("#/alerts"))


def test_a_machine_is_muted_and_the_stop_ended_from_the_page(flow: Flow, tab: Any) -> None:
    def predicted() -> dict[str, Any]:
        """The last prediction for the machine."""
        values = map(orjson.loads, (m.value() or b"" for m in flow.kafka.read(flow.job.predictions)))
        return max((each for each in values if each["entity"] == "m20"), key=lambda each: each["ts"])

    tab.goto(f"http://{flow.address}/ui/#/entity/m20")
    tab.get_by_role("button", name="Mute …").click()
    tab.locator("#mute-for").select_option("1h")
    tab.get_by_label("Reason").fill("new bearing")
    tab.get_by_role("button", name="Mute", exact=True).click()
    assert tab.evaluate("document.activeElement.id") == "mute-by", "a stop has a name to ask"
    tab.get_by_label("Your name").fill("Ann")
    tab.get_by_role("button", name="Mute", exact=True).click()
    eventually(lambda: "Announced" in tab.locator(".mute [role=status]").text_content())
    assert tab.locator(".stop .chip").text_content() == "not acknowledged yet"
    (message,) = flow.kafka.read(flow.control, 1)
    stop = orjson.loads(message.value() or b"")
    assert {**stop, "from": 0, "to": 0} == {"entity": "m20", "from": 0, "to": 0, "reason": "new bearing", "by": "Ann"}
    assert stop["from"].startswith("2023-"), "now is when the events are"
    flow.send("m20", 1.5)
    eventually(lambda: "Acknowledged: from offset" in tab.locator(".mute [role=status]").text_content())
    eventually(lambda: tab.locator(".stop .chip").text_content() == "muted now")
    # What is read after the acknowledgement lies in the stop.
    flow.send("m20", 50.0)
    flow.caught_up()
    eventually(lambda: predicted()["maintenance"] is True)
    eventually(lambda: tab.locator(".title .chip").text_content() == "planned stop")
    eventually(lambda: tab.evaluate("window.app.view.stops.spans.length") == 1)
    tab.goto(f"http://{flow.address}/ui/#/stops")
    item = tab.locator(".stop", has_text="new bearing · by Ann")
    # at once, and in other words as soon as the page has read what it sent; both stay in sight until it is acknowledged
    sent = re.compile("it ends with the next event that is read|end announced")

    def ended() -> bool:
        """Where a slow broker did not take it in time, the page says so, and has its button again."""
        if any(each.is_visible() for each in tab.get_by_text(sent).all()):
            return True
        if (button := item.get_by_role("button", name="End it …")).is_visible():
            button.click()
            assert item.get_by_label("Your name").input_value() == "Ann", "this browser keeps it"
            item.get_by_role("button", name="End it now").click()
        return False

    eventually(ended)
    eventually(lambda: orjson.loads(flow.kafka.read(flow.control)[-1].value() or b"").get("ends") == "0-0")
    eventually(lambda: item.locator(".chip").text_content() == "ending")
    assert item.get_by_text("end announced").is_visible(), "an end that nothing acknowledged is not over"
    assert not tab.get_by_text("Over: 1").is_visible()
    flow.send("m20", 1.5)
    eventually(lambda: tab.get_by_text("Over: 1").is_visible())
    flow.send("m20", 1.5)
    flow.caught_up()
    eventually(lambda: predicted()["maintenance"] is False)


def test_what_a_stop_suppresses_is_shown_as_such(flow: Flow, tab: Any) -> None:
    tab.goto(f"http://{flow.address}/ui/#/stops?entity=m22")
    assert tab.get_by_label("Machine, or a pattern").input_value() == "m22"
    tab.get_by_label("Your name").fill("Ann")
    tab.get_by_label("Go on learning from its events").check()
    tab.get_by_role("button", name="Mute", exact=True).click()
    item = tab.locator(".stop", has_text="m22")
    eventually(lambda: "events are learned" in item.first.text_content())
    flow.send("m22", 1.5)
    eventually(lambda: item.locator(".chip").text_content() == "muted now")
    flow.send("m22", 900.0)
    tab.goto(f"http://{flow.address}/ui/#/entity/m22")
    episode = tab.locator(".episode.suppressed").first
    eventually(lambda: episode.is_visible() and "nobody was called" in episode.locator(".what").text_content())
    assert not [m for m in flow.kafka.read(flow.job.alerts) if b'"y":900.0' in (m.value() or b"")]


def test_a_limit_stands_in_the_list_and_in_the_chart(flow: Flow, tab: Any) -> None:
    tab.goto(f"http://{flow.address}/ui/#/entity/m21")
    flow.send("m21", 20_000.0)
    episode = tab.locator(".episode.limit")
    eventually(lambda: "target above 10000" in episode.locator(".what").text_content())
    eventually(lambda: tab.locator(".title .chip").text_content() == "limit")
    eventually(lambda: "limit" in tab.locator(".legend").first.text_content())
    assert tab.get_by_text("Limits: target above 10000").is_visible()
    (bound,) = tab.evaluate("window.app.view.context().bounds")
    assert (bound["at"], bound["words"]) == (10_000, "above 10,000")
    flow.send("m21", 1.5)
    eventually(lambda: "recovered" in episode.get_attribute("class"))


def test_it_comes_back_after_a_restart(flow: Flow, tab: Any) -> None:
    tab.goto(f"http://{flow.address}/ui/")
    tab.locator(".tile").nth(59).wait_for()
    boot = tab.evaluate("window.app.hello.boot")
    shown = eventually(lambda: max(tab.evaluate("window.app.episodes.size") - 3, 0)) + 3
    flow.stop()
    assert flow.process.returncode == 0
    eventually(lambda: "no connection" in tab.locator("#link").text_content())
    assert len(names(tab)) == 60, "what was known stays"
    before = flow.count
    flow.start()
    eventually(lambda: tab.locator("#link").text_content() == "live")
    eventually(lambda: tab.evaluate("window.app.hello.boot") != boot)
    flow.send("m3", 99.5)
    eventually(lambda: tab.locator('.tile[data-name="m3"] .value').text_content() == "99.5")
    # The alerts are those of the topic, and so are the verdicts.
    eventually(lambda: tab.evaluate("window.app.episodes.size") >= min(shown, 30))
    assert flow.count == before + 1
    verdicts = "[...window.app.episodes.values()].filter((each) => each.verdict === false).length"
    tab.goto(f"http://{flow.address}/ui/#/alerts")
    eventually(lambda: tab.evaluate(verdicts) == 1)
    # Who attends to an alert is kept, and so are the stops.
    noted = "[...window.app.episodes.values()].filter((each) => each.acknowledged?.by === 'Ann').length"
    eventually(lambda: tab.evaluate(noted) == 1)
    suppressed = "[...window.app.episodes.values()].filter((each) => each.suppressed_by === 'maintenance').length"
    eventually(lambda: tab.evaluate(suppressed) >= 1)  # they are on a topic of their own
    tab.goto(f"http://{flow.address}/ui/#/stops")
    eventually(lambda: tab.get_by_text("Over: 1").is_visible())


# A page without a process around it.


@pytest.fixture
def served() -> Iterator[Served]:
    one = Served(config(f"ui: true, address: '127.0.0.1:{free_port()}'"), lambda *_: None)
    one.page.on_sent(sent(*batch([f"press-{i}" for i in range(30)])))
    one.page.queue_alerts([alert(entity="press-3"), alert("recovered", entity="press-3", offset=4)])
    yield one
    one.server.close()


def test_the_keyboard_is_enough(served: Served, tab: Any) -> None:
    # The page answers a key after the key: each of them is waited for.
    def on(what: str) -> Any:
        return tab.evaluate(f"document.activeElement.{what}")

    tab.goto(f"http://127.0.0.1:{served.port}/ui/#/?sort=name")
    tab.locator(".tile").nth(29).wait_for()
    tab.keyboard.press("Tab")
    eventually(lambda: on("id") == "skip")
    tab.keyboard.press("Enter")
    eventually(lambda: on("id") == "main")
    tab.keyboard.press("/")
    eventually(lambda: on("id") == "q")
    tab.keyboard.type("press-1")
    eventually(lambda: len(names(tab)) == 11)
    tab.locator(".tile").first.focus()
    for key, name in (("ArrowRight", "press-10"), ("End", "press-19"), ("Home", "press-1")):
        tab.keyboard.press(key)
        eventually(lambda name=name: on("dataset.name") == name)
    tab.keyboard.press("ArrowDown")
    held = eventually(lambda: (name := on("dataset.name")) != "press-1" and name)
    assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    tab.keyboard.press("Enter")
    tab.get_by_role("heading", level=2, name=held, exact=True).wait_for()
    eventually(lambda: on("id") == "main")
    tab.keyboard.press("Escape")
    tab.locator(".tile").first.wait_for()
    tab.locator("#pause").focus()
    tab.keyboard.press("Space")
    eventually(lambda: tab.locator("#link").text_content() == "paused")
    assert tab.locator("#pause").get_attribute("aria-pressed") == "true"
    tab.keyboard.press("Space")
    eventually(lambda: tab.locator("#link").text_content() == "live")


CLICK = "(name) => [...document.querySelectorAll('.tile')].find((tile) => tile.dataset.name === name).click()"
CONTRAST = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const linear = (v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, share, i) => sum + share * linear(c[i] / 255), 0);
  const ground = (e) => {
    const c = rgb(getComputedStyle(e).backgroundColor);
    return c[3] === 0 ? ground(e.parentElement) : c;
  };
  const worst = [99, ""];
  for (const e of document.querySelectorAll("body *")) {
    const words = [...e.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!words || !e.checkVisibility() || e.closest(":disabled")) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < worst[0]) { worst[0] = ratio; worst[1] = `${e.tagName}.${e.className}: ${e.textContent}`; }
  }
  return worst;
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_can_be_read_in_both_themes_and_languages(served: Served, browser: Any, theme: str) -> None:
    said = batch(["hot", "warm", "new"], 50, score=1.5)
    said[1].score[1], said[1].warmup[2] = 0.8, True
    served.page.on_sent(sent(*said))
    served.page.queue_alerts(
        [alert(entity="press-5", offset=9, severity="critical"), alert(kind="drift", entity="press-6")]
    )
    context = browser.new_context(color_scheme=theme, locale="ja-JP", viewport={"width": 390, "height": 800})
    tab = context.new_page()
    try:
        tab.goto(f"http://127.0.0.1:{served.port}/ui/")
        tab.locator(".tile").nth(32).wait_for()
        eventually(lambda: tab.locator(".episode.critical").count() == 1)
        eventually(lambda: tab.locator("#views").text_content().startswith("フリート"))
        for _ in range(2):
            ratio, where = tab.evaluate(CONTRAST)
            assert ratio >= 4.5, where
            assert tab.evaluate("document.scrollingElement.scrollWidth <= innerWidth"), "wider than a phone"
            tab.locator("#language").click()
        tab.locator("#language").click()
        eventually(lambda: tab.evaluate("document.documentElement.lang") == "en")
        dark = tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 19, 25)"
        assert dark == (theme == "dark")
        for _ in range(2 if theme == "dark" else 1):
            tab.locator("#theme").click()
        assert (tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 19, 25)") != dark
        tab.goto(f"http://127.0.0.1:{served.port}/ui/#/entity/press-3")
        eventually(lambda: tab.locator(".figures dd").first.text_content())
        assert tab.evaluate(CONTRAST)[0] >= 4.5, tab.evaluate(CONTRAST)[1]
        assert tab.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    finally:
        context.close()


def test_names_are_text_whatever_they_hold(served: Served, tab: Any) -> None:
    served.page.on_sent(sent(*batch(ODD, 100)))
    for i, name in enumerate(ODD):
        served.page.queue_alerts([alert(entity=name, offset=20 + i, contributions=[{"feature": name, "share": 0.1}])])
    tab.goto(f"http://127.0.0.1:{served.port}/ui/#/?size=60")
    tab.locator(".tile").nth(36).wait_for()
    eventually(lambda: {ODD[0], "·[31mred·"} <= set(names(tab)))
    eventually(lambda: tab.locator(".episode").count() >= 8)
    assert tab.locator("main img").count() == 0
    for name in ODD:
        tab.evaluate(CLICK, name)
        tab.locator(".figures").wait_for()
        assert tab.evaluate("window.app.view.name") == name
        eventually(lambda: tab.evaluate("window.app.view.points[0].length") == 1)
        tab.locator(".back").click()
        tab.locator(".tile").nth(36).wait_for()


def test_an_open_alert_lasts_up_to_now(served: Served, tab: Any) -> None:
    served.page.on_sent(sent(*batch([f"press-{i}" for i in range(30)], 36_000)))
    served.page.queue_alerts([alert(entity="press-5", offset=5)])
    tab.goto(f"http://127.0.0.1:{served.port}/ui/#/alerts")
    opened = tab.locator(".episode.started", has_text="press-5").locator(".when")
    eventually(lambda: "for 10 h" in opened.text_content())
    assert "for 3.5 s" in tab.locator(".episode.recovered", has_text="press-3").locator(".when").text_content()


def test_the_cards_have_the_worst_of_several_targets_and_name_it(served: Served, tab: Any) -> None:
    tab.goto(f"http://127.0.0.1:{served.port}/ui/")
    eventually(lambda: tab.evaluate("Boolean(window.app.pulse)"))
    # in one step: the page's own pulse may come at any time
    shown = (
        "(quality) => { const a = window.app; a.pulse = { ...a.pulse, quality }; a.showPulse();"
        " return ['coverage', 'error'].map((n) => a.cards[n])"
        ".map((c) => [c.value.textContent, c.note.textContent, c.element.title]); }"
    )
    temp = {"target": "temp °C", "coverage": 0.9, "mae": 0.5, "persistence": 1.0}
    bar = {"target": "bar", "coverage": 0.7, "mae": 0.02, "persistence": 0.01}
    new = {"target": "new", "coverage": None, "mae": None, "persistence": None}
    coverage, error = tab.evaluate(shown, [new, temp, bar])
    assert (coverage[0], coverage[1].partition(" · ")[0]) == ("70.0%", "bar")
    assert (error[0], error[1]) == ("0.02", "bar · 2.00 × error of the last value")
    assert [line.partition(" · ")[0] for line in error[2].split("\n")] == ["bar", "temp °C", "new"]
    coverage, error = tab.evaluate(shown, [temp])
    assert (coverage[0], error[1], error[2]) == ("90.0%", "0.50 × error of the last value", "")


def test_the_token_opens_the_page(tab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UI_TOKEN", TOKEN)
    monkeypatch.setattr(site, "WRONG_TOKEN_DELAY", 0.0)
    one = Served(config(f"ui: true, address: '127.0.0.1:{free_port()}', token: '${{UI_TOKEN}}'"))
    one.page.on_sent(sent(*batch(["press-1"])))
    try:
        tab.goto(f"http://127.0.0.1:{one.port}/ui/")
        field = tab.get_by_label("Token")
        field.fill("wrong")
        field.press("Enter")
        tab.get_by_label("Token").fill(TOKEN)
        tab.get_by_label("Token").press("Enter")
        tab.locator(".tile").wait_for()
        assert "token" not in tab.url
        assert tab.evaluate("document.cookie") == "", "no script reads it"
        tab.reload()
        tab.locator(".tile").wait_for()
    finally:
        one.server.close()


def test_the_demo_has_a_page() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ssm_stream", "demo", "--ui"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        text = ""
        while not (found := re.search(r"live page: (http://\S+)", text)):
            line = process.stdout.readline()
            assert line, text
            text += line
        with urllib.request.urlopen(found[1], timeout=10) as answer:
            assert b"ssm-stream" in answer.read()
        process.send_signal(signal.SIGINT)
        assert finished(process, 30) is not None
    finally:
        process.kill()
        process.wait()
