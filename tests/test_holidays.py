"""Holidays as an input: where the days come from, what they are in an event, and that a state keeps what it learned."""

from __future__ import annotations

import sys
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import orjson
import pytest
from brokers import Kafka
from stub_holidays import stub_package
from test_stream import Job, events
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.config import Config, ConfigError, Event, load_config, parse_config
from ssm_stream.config.sections import holidays as setting
from ssm_stream.config.sections.holidays import Holidays
from ssm_stream.core.features import calendar_columns
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.snapshot_format import StateError
from ssm_stream.evaluate.tuning.ablation import parts
from ssm_stream.evaluate.tuning.targets import Targets
from ssm_stream.evaluate.tuning.trials import with_settings
from ssm_stream.flow.reload import RefusedError, live_changes
from ssm_stream.ingest.events import EventReader, Events
from ssm_stream.ingest.holidays import with_learned_holidays
from ssm_stream.ingest.single_event import SingleEventReader
from ssm_stream.kafka.records import ShardBatch
from ssm_stream.operators.shard_operator import ShardLogic
from ssm_stream.recovery.bytewax_db import RecoveryError
from ssm_stream.recovery.comparison import hash_directory
from ssm_stream.recovery.export import export_state, import_state
from ssm_stream.recovery.settings_files import read_holidays, with_stored_features, write_holidays

HOUR = 3_600_000
NEW_YEAR = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1000
FILE = """\
source: {{brokers: 'b:1', topic: t}}
event: {{entity: e, timestamp: t, target: y, features: [a], {event}}}
recovery: {{directory: {directory}}}
"""


def config(event: str = "", directory: Path | None = None) -> Config:
    return parse_config(FILE.format(event=event, directory="null" if directory is None else directory))


def with_days(folder: Path, *days: str, directory: Path | None = None, more: str = "") -> Config:
    file = folder / "days.csv"
    file.write_text("\n".join(["date", *days]) + "\n")
    return config(f"holidays: [{file}]{more}", directory)


def stream(n: int, *, start: int = NEW_YEAR, seed: int = 0, step: int = HOUR) -> Events:
    rng = np.random.default_rng(seed)
    ts = start + step * np.arange(n)
    a = rng.normal(size=(n, 1))
    return Events([f"m{i % 3}" for i in range(n)], ts, a, 2 * a[:, 0] + rng.normal(size=n), np.arange(n))


def batch(events: Events) -> ShardBatch:
    return ShardBatch(0, events, list(range(len(events))))


@pytest.fixture(autouse=True)
def _looked_up_again() -> Iterator[None]:
    """What one test finds in a package, or in its stub, is not for the next."""
    setting._public.cache_clear()
    yield
    setting._public.cache_clear()


def test_days_come_from_countries_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub_package(monkeypatch, {("JP", None): ["2026-01-01", "2026-02-11"], ("US", "CA"): ["2026-03-31"]})
    file = tmp_path / "shutdowns.csv"
    file.write_text("from,to,why\n2026-02-10,2026-02-12,overhaul\n\n2026-12-31,2026-12-31,\n")
    made = config(f"holidays: [JP, US-CA, {file}]").event.holidays
    assert made.of == ("JP", "US-CA", str(file))
    assert made.days == ("2026-01-01", "2026-02-10", "2026-02-11", "2026-02-12", "2026-03-31", "2026-12-31")
    assert made.numbers[0] == (date(2026, 1, 1) - date(1970, 1, 1)).days


def test_the_days_of_a_real_country(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package is installed, as it is for those who develop: its interface is what the stub shows."""
    pytest.importorskip("holidays", reason="the package holidays is not installed: pip install 'ssm-stream[holidays]'")
    found = config("holidays: [JP]").event.holidays.days
    assert {"2026-01-01", "2026-05-05", "2030-01-01"} <= set(found)
    assert "2026-01-06" not in found


def test_a_missing_package_is_an_error_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "holidays", None)
    with pytest.raises(ConfigError, match=r"event\.holidays: found 'JP', but the package `holidays`.*\[holidays\]'"):
        config("holidays: [JP]")


WRONG = {
    "[XX]": "found 'XX', which the package `holidays` does not have",
    "[JP-ZZ]": "found 'JP-ZZ', which the package `holidays` does not have",
    "JP": "found 'JP'; write a list such as",
    "[jp]": "found 'jp'; write a country such as JP or US-CA",
    "[NO]": "YAML takes NO for a truth value; write 'NO'",
    "[3]": "found '3'; write a country",
    "[none.csv]": "found no file none.csv",
    "{days: [2026]}": "write a list such as",
}


@pytest.mark.parametrize(("text", "message"), WRONG.items(), ids=WRONG)
def test_wrong_entries(text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stub_package(monkeypatch, {})
    with pytest.raises(ConfigError, match=r"event\.holidays") as error:
        config(f"holidays: {text}")
    assert message in str(error.value)


WRONG_FILES = {
    "day\n2026-01-01\n": "days.csv:1: found the columns ['day']; write `date`, or `from` and `to`",
    "": "days.csv:1: found the columns []",
    "date\n2026-01-01\n13.8.2026\n": "days.csv:3: `date` is '13.8.2026'; write a date such as 2026-01-31",
    "date\n2026-02-30\n": "days.csv:2: `date` is '2026-02-30'",
    "from,to\n2026-01-01\n": "days.csv:2: `to` is ''",
    "from,to\n2026-01-05,2026-01-01\n": "days.csv:2: from 2026-01-05 to 2026-01-01: write the earlier date first",
    "from,to\n2026-01-05,2036-01-01\n": "at most 366 days in a line",
    "date\n": "days.csv: has no day",
}


@pytest.mark.parametrize(("text", "message"), WRONG_FILES.items(), ids=range(len(WRONG_FILES)))
def test_wrong_files_name_the_line(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "days.csv"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        config(f"holidays: [{file}]")
    assert message in str(error.value)


def test_a_column_may_not_have_the_inputs_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holidays: found a column `holiday`, too"):
        with_days(tmp_path, "2026-01-01", more=", categories: [holiday]")


@pytest.mark.parametrize("calendar", ["auto", "[]", "[hour_cycle, weekday]"])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_the_input_is_of_the_local_day(tmp_path: Path, zone: str, calendar: str) -> None:
    days = ("2026-01-02", "2026-03-08")
    made = with_days(tmp_path, *days, more=f", time_zone: {zone}, calendar: {calendar}")
    plan = Engine(made).plan
    assert plan.cycles[-1] == "holiday"
    assert plan.numbers[len(plan.features) + len(plan.cycles) - 1] == "holiday"
    ts = NEW_YEAR + HOUR * np.arange(24 * 100)
    column = calendar_columns(plan, ts)[0][:, -1]
    local = [datetime.fromtimestamp(t / 1000, zoneinfo.ZoneInfo(zone)).date().isoformat() for t in ts.tolist()]
    np.testing.assert_array_equal(column, [day in days for day in local])


@pytest.mark.parametrize("event", ["", ", calendar: [hour_cycle]", ", time_zone: Asia/Kolkata, calendar: [hour]"])
def test_one_event_at_a_time_gives_the_same_bits(tmp_path: Path, event: str) -> None:
    made = with_days(tmp_path, "2026-01-03", "2026-01-09", more=event)
    rng = np.random.default_rng(1)
    documents = [
        {"e": f"m{i % 2}", "t": (NEW_YEAR + i * HOUR) / 1000, "a": float(a), "y": float(a + b)}
        for i, (a, b) in enumerate(rng.normal(size=(400, 2)).tolist())
    ]
    many, one, reader = Engine(made), Engine(made), SingleEventReader(made.event)
    events, refused = EventReader(made.event).read(documents)
    assert not refused
    expected, told = [many.process(events.take(np.array([i])))[0].yhat[0] for i in range(len(events))], 0
    for document, yhat in zip(documents, expected, strict=True):
        found = reader.read_one(document)
        assert found is not None
        fast = one.process_one(found)
        if fast is None:
            told += 1
            one.process(EventReader(made.event).read([document])[0])
        else:
            assert fast[0][0][0] == yhat
    assert told == 2, "of new entities only"
    for name in ("m0", "m1"):
        assert one.state_hash(name) == many.state_hash(name)


def test_it_is_learned(tmp_path: Path) -> None:
    """The error in the first hour of a holiday, before anything else can show it, is smaller with the input."""
    first = date(2026, 1, 5)
    days = [str(first + timedelta(days=9 * i)) for i in range(40)]
    n, rng = 24 * 360, np.random.default_rng(2)
    ts = NEW_YEAR + HOUR * np.arange(n)
    closed = np.array([str(date(2026, 1, 1) + timedelta(days=i // 24)) in days for i in range(n)])
    y = 60.0 - 30.0 * closed + rng.normal(size=n)
    events = Events(["line"] * n, ts, rng.normal(size=(n, 1)), y, np.arange(n))
    without, with_input = (
        np.abs(Engine(made).process(events)[0].yhat - y) for made in (config(), with_days(tmp_path, *days))
    )
    begins = np.flatnonzero(closed & ~np.roll(closed, 1))[10:]
    assert with_input[begins].mean() < 0.3 * without[begins].mean()
    assert with_input[n // 2 :].mean() < without[n // 2 :].mean()


def test_ablate_leaves_it_out(tmp_path: Path) -> None:
    made = with_days(tmp_path, "2026-01-02")
    found = parts(made, Targets(np.empty(0, np.int64), negative=True, entities=frozenset("m")))
    (part,) = [each for each in found if each.name == "holidays"]
    assert not with_settings(made, part.settings).event.holidays
    assert "holidays" not in [each.name for each in parts(config(), Targets(np.empty(0, np.int64), True, frozenset()))]


def test_the_hash_is_of_the_days(tmp_path: Path) -> None:
    plain, one = config(), with_days(tmp_path, "2026-01-02")
    assert "holidays" not in plain.model_settings["event"], "states from before keep their hash"
    assert one.model_settings["event"]["holidays"] == {"days": {"2026": "01-02"}}
    assert one.hash != plain.hash
    other = tmp_path / "other.csv"
    other.write_text("from,to\n2026-01-02,2026-01-02\n")
    assert config(f"holidays: [{other}]").hash == one.hash, "wherever the days come from"
    assert Event.model_validate(one.event.model_dump()) == one.event, "without reading the file again"


# --- A state and another list


def trained(made: Config, n: int = 200) -> Engine:
    engine = Engine(made)
    engine.process(stream(n))
    return engine


def test_days_that_were_learned_may_not_change(tmp_path: Path) -> None:
    """200 hours from 2026-01-01: the last event is on 2026-01-09."""
    data = trained(with_days(tmp_path, "2026-01-02")).snapshot()
    with pytest.raises(StateError, match=r"the list differs at 2026-01-02, and days up to 2026-01-09.*put them back"):
        Engine.restore(with_days(tmp_path, "2026-02-01"), data)
    with pytest.raises(StateError, match=r"differs at 2026-01-09"):
        Engine.restore(with_days(tmp_path, "2026-01-02", "2026-01-09"), data)
    Engine.restore(with_days(tmp_path, "2026-01-02", "2026-01-10"), data)
    with pytest.raises(StateError, match=r"event\.holidays: .*refused: it changes the learner's inputs"):
        Engine.restore(config(), data)
    with pytest.raises(StateError, match=r"event\.holidays: unset → .*refused"):
        Engine.restore(with_days(tmp_path, "2026-01-02"), trained(config()).snapshot())


def test_later_days_follow_the_new_list_to_the_bit(tmp_path: Path) -> None:
    """As one run by the list that the state has then."""
    old = with_days(tmp_path, "2026-01-02", "2026-01-12", "2026-01-20")
    new = with_days(tmp_path, "2026-01-12", "2026-01-15")
    merged = with_days(tmp_path, "2026-01-02", "2026-01-12", "2026-01-15")
    events = stream(600)
    first, rest = events.take(np.arange(200)), events.take(np.arange(200, 600))
    engine = Engine(old)
    engine.process(first)
    goes_on = with_learned_holidays(new, old.event.holidays, "2026-01-09")
    assert goes_on.event.holidays.days == merged.event.holidays.days
    restored = Engine.restore(goes_on, engine.snapshot())
    restored.process(rest)
    whole = Engine(merged)
    whole.process(events)
    assert [restored.state_hash(name) for name in restored.names] == [whole.state_hash(name) for name in whole.names]
    assert restored.snapshot() == whole.snapshot(), "the dates are in it"


def test_a_dataflow_of_ones_own_goes_on_with_what_it_learned(tmp_path: Path) -> None:
    """The state is in Bytewax's own recovery: its days count, whatever the package or the file has become."""
    events = stream(300)
    first, rest = events.take(np.arange(200)), events.take(np.arange(200, 300))
    old = with_days(tmp_path, "2026-01-02")
    logic = ShardLogic(old, None)
    logic.on_batch([batch(first)])
    again = ShardLogic(with_days(tmp_path, "2026-01-03", "2026-01-11"), logic.snapshot())
    again.on_batch([batch(rest)])
    whole = ShardLogic(with_days(tmp_path, "2026-01-02", "2026-01-11"), None)
    whole.on_batch([batch(events)])
    for name in whole.engine.names:
        assert again.engine.state_hash(name) == whole.engine.state_hash(name)


def test_the_days_are_kept_beside_the_state(tmp_path: Path) -> None:
    made = with_days(tmp_path, "2025-12-31", "2026-01-02", directory=tmp_path / "r")
    (tmp_path / "r").mkdir()
    assert read_holidays(tmp_path / "r") is None
    write_holidays(made)
    assert read_holidays(tmp_path / "r") == Holidays(days=made.event.holidays.days)
    assert orjson.loads((tmp_path / "r" / "holidays.json").read_bytes()) == {"days": {"2025": "12-31", "2026": "01-02"}}
    for damaged in ("", "{", "[]", "{}", '{"days": 3}', '{"days": {"2026": 3}}'):
        (tmp_path / "r" / "holidays.json").write_text(damaged)
        with pytest.raises(RecoveryError, match=r"holidays\.json cannot be read.*restore it"):
            read_holidays(tmp_path / "r")


def test_validate_shows_the_input(tmp_path: Path) -> None:
    with_days(tmp_path, "2026-01-02")
    path = tmp_path / "c.yaml"
    path.write_text(FILE.format(event=f"holidays: [{tmp_path / 'days.csv'}]", directory="null"))
    found = CliRunner().invoke(app, ["validate", str(path)])
    assert found.exit_code == 0, found.output
    assert f"holiday ({tmp_path / 'days.csv'})" in found.output
    shown = CliRunner().invoke(app, ["validate", str(path), "--json"])
    assert orjson.loads(shown.output)["event"]["holidays"] == {
        "of": [str(tmp_path / "days.csv")],
        "days": {"2026": "01-02"},
    }
    assert load_config(path).event.holidays.days == ("2026-01-02",)


def hourly(n: int, first: int = 0) -> list[tuple[bytes, bytes]]:
    """(key, value) of n events an hour apart."""
    rows = [(key, orjson.loads(value)) for key, value in events(first + n)]
    return [(key, orjson.dumps({**row, "ts": NEW_YEAR + i * HOUR})) for i, (key, row) in enumerate(rows)][first:]


def test_a_process_goes_on_with_the_days_that_it_learned(kafka: Kafka, tmp_path: Path) -> None:
    """An edited file: `validate` shows what stays and what follows, and a run, an export and an import agree."""
    topic = kafka.topic("events", 1)
    kafka.produce(topic, hourly(300))  # up to 2026-01-13
    file = tmp_path / "days.csv"
    file.write_text("date\n2026-01-05\n2026-01-20\n")
    job = Job(kafka, tmp_path / "one", topic, event={"holidays": [str(file)], "calendar": []})
    job.run()
    assert orjson.loads((job.folder / "recovery" / "holidays.json").read_bytes()) == {"days": {"2026": "01-05 01-20"}}
    file.write_text("date\n2026-01-06\n2026-01-16\n2026-01-17\n")
    shown = CliRunner().invoke(app, ["validate", str(job.path)])
    assert shown.exit_code == 0, shown.output
    lines = [line.strip() for line in shown.output.splitlines() if "event.holidays" in line]
    assert lines == [
        "event.holidays.days: 2026-01-05 → 2026-01-06 (kept: days up to 2026-01-13, that of the last event, stay as "
        "learned)",
        "event.holidays.days: 2026-01-20 → 2026-01-16 to 2026-01-17 (migrated: days after the last event that was "
        "learned follow the list of now)",
    ]
    export_state(with_stored_features(job.config), tmp_path / "one.state")

    other = Job(kafka, tmp_path / "two", topic, event={"holidays": [str(file)], "calendar": []})
    import_state(other.config, tmp_path / "one.state")
    assert hash_directory(job.folder / "recovery").entities == hash_directory(other.folder / "recovery").entities

    kafka.produce(topic, hourly(300, first=300))
    job.run()
    assert orjson.loads((job.folder / "recovery" / "holidays.json").read_bytes()) == {
        "days": {"2026": "01-05 01-16 01-17"}
    }
    other.run()
    merged = tmp_path / "merged.csv"
    merged.write_text("from,to\n2026-01-05,2026-01-05\n2026-01-16,2026-01-17\n")
    whole = Job(kafka, tmp_path / "three", topic, event={"holidays": [str(merged)], "calendar": []})
    whole.run()
    hashes = hash_directory(whole.folder / "recovery").entities
    for made in (job, other):
        assert hash_directory(made.folder / "recovery").entities == hashes
    assert with_stored_features(job.config).hash == whole.config.hash != job.config.hash


def test_a_reload_names_the_days(tmp_path: Path) -> None:
    """A running process takes a list that has changed as a restart would; holidays themselves are another model."""
    directory = tmp_path / "r"
    directory.mkdir()
    running = with_days(tmp_path, "2026-01-02", directory=directory)
    write_holidays(running)
    shard = ShardLogic(running, None)
    shard.on_batch([batch(stream(200))])
    shard.snapshot()
    changed = with_days(tmp_path, "2026-01-03", "2026-03-20", directory=directory)
    found = live_changes(running, changed)
    assert found == [
        "event.holidays.days: 2026-01-02 → 2026-01-03 (kept: days up to 2026-01-09, that of the last event, stay as "
        "learned)",
        "event.holidays.days: unset → 2026-03-20 (migrated: days after the last event that was learned follow the list "
        "of now)",
    ]
    with pytest.raises(RefusedError, match=r"event\.holidays: .*refused: it changes the learner's inputs"):
        live_changes(running, config(directory=directory))
    assert live_changes(running, running) == []


def test_the_reference_and_a_certificate_have_it(tmp_path: Path) -> None:
    """`verify` replays a recording with the definition of the learner in Python."""
    pytest.importorskip("torch")
    rng = np.random.default_rng(4)
    n = 24 * 20
    a = rng.normal(size=n).round(4)
    lines = ["e,t,a,y"]
    for i in range(n):
        closed = i // 24 in (3, 9, 15)
        lines.append(f"m,{NEW_YEAR + i * HOUR},{a[i]},{(2 * a[i] - 5 * closed + rng.normal()).round(4)}")
    recording = tmp_path / "r.csv"
    recording.write_text("\n".join(lines) + "\n")
    with_days(tmp_path, "2026-01-04", "2026-01-10", "2026-01-16")
    path = tmp_path / "c.yaml"
    path.write_text(FILE.format(event=f"holidays: [{tmp_path / 'days.csv'}]", directory="null"))
    found = CliRunner().invoke(
        app, ["verify", str(path), str(recording), "--json", "--out", str(path.with_suffix(".html"))]
    )
    assert found.exit_code == 0, found.output[-2000:]
