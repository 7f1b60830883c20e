"""The configuration file: what is accepted, what is refused, and that a refusal says where, what and what instead."""

from __future__ import annotations

import contextlib
import hashlib
import types
import typing
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticUndefined

from ssm_stream.config import Config, ConfigError, Section, config_schema, load_config, parse_config
from ssm_stream.config.descriptions import descriptions
from ssm_stream.config.file_schema import file_schema
from ssm_stream.config.sections.event import READING_SETTINGS
from ssm_stream.config.suggestions import suggest
from ssm_stream.core import frozen_weights

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
SMALLEST = """\
source:
  brokers: localhost:9092
  topic: events
event:
  entity: machine
  timestamp: time
  features: [temp]
"""


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "f.yaml")
    return str(caught.value)


def changed(section: str, **keys: Any) -> Config:
    content = yaml.safe_load(SMALLEST)
    target = content
    for name in section.split("."):
        target = target.setdefault(name, {})
    target.update(keys)
    return parse_config(yaml.safe_dump(content))


def test_the_smallest_file_is_short_and_complete(tmp_path: Path) -> None:
    assert len(SMALLEST.strip().splitlines()) < 15
    path = tmp_path / "smallest.yaml"
    path.write_text(SMALLEST)
    config = load_config(path)
    assert config.event.features == ["temp"]
    assert config.source.group_id == "ssm-stream-events"
    assert (config.sinks.predictions, config.sinks.alerts, config.sinks.dead_letters) == (
        "predictions",
        "alerts",
        "dead-letters",
    )


def test_of_alternatives_only_the_one_that_was_meant_is_an_error() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(SMALLEST.replace("[temp]", "[temp, 3]") + "  lags: x\n", "f.yaml")
    assert str(caught.value).splitlines() == [
        "f.yaml:7: event.features[1]: write text, such as a name; one that is a number stands in quotes (found 3)",
        "f.yaml:8: event.lags: write a whole number (found 'x')",
    ]
    with pytest.raises(ConfigError, match="a topic's name may have letters, digits"):
        parse_config(SMALLEST.replace("topic: events", "topic: my events"), "f.yaml")


def test_features_may_be_selected_later() -> None:
    event = changed("event", features="auto", lags=0, calendar=[]).event
    with pytest.raises(ConfigError, match="none are selected yet"):
        _ = event.columns
    event = changed("event", categories=["mode"]).event
    assert (event.numbers, event.columns) == (["temp"], ["temp", "mode"])


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        parse_config(SMALLEST).source.topic = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("added", "where", "cure"),
    [
        ("  feature: [a]\n", "f.yaml:8: event.feature", "did you mean `features`?"),
        ("model:\n  warm_up: 3\n", "f.yaml:9: model.warm_up", "did you mean `warmup`?"),
        ("alerts:\n  anomaly:\n    buget: 1 per 30d\n", "f.yaml:10: alerts.anomaly.buget", "did you mean `budget`?"),
        ("sink: {}\n", "f.yaml:8: sink", "did you mean `sinks`?"),
        ("recovery:\n  zzz: 1\n", "f.yaml:9: recovery.zzz", "known here: directory, epoch_interval"),
        (
            "alerts:\n  limits:\n    - {column: a, abov: 1}\n",
            "f.yaml:10: alerts.limits[0].abov",
            "did you mean `above`?",
        ),
        (
            "alerts:\n  maintenance:\n    - {start: 2026-08-10}\n",
            "f.yaml:10: alerts.maintenance[0].start",
            "known here: entities, from, learn,",
        ),
        ("  when: {a: {befow: 1}}\n", "f.yaml:8: event.when[0].condition.a.befow", "did you mean `below`?"),
    ],
)
def test_unknown_keys_are_refused_with_the_nearest_right_name(added: str, where: str, cure: str) -> None:
    message = refusal(SMALLEST + added)
    assert f"{where}: unknown key; " in message
    assert cure in message


def test_every_fault_is_told_at_once() -> None:
    message = refusal(SMALLEST + "model: {warmup: 3, interval: 2, wrong: 1}\nstate: {shards: 0}\n")
    assert len(message.split("\n")) == 4
    for words in ("model.warmup", "(found 3)", "model.interval", "(found 2)", "model.wrong", "f.yaml:9: state.shards"):
        assert words in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["f.yaml", "empty", "`source`", "`event`"]),
        ("# only a comment\n", ["empty"]),
        ("- a\n- b\n", ["found list", "sections"]),
        ("just text", ["found str"]),
        ("a: [1\n", ["not valid YAML", "line 2"]),
        ("a: !!python/object:os.system x\n", ["not valid YAML"]),
        ("source: 3\nevent: 4\n", ["f.yaml:1: source", "f.yaml:2: event"]),
        (SMALLEST.replace("  topic: events\n", ""), ["f.yaml:1: source.topic", "missing; it has no default"]),
        (SMALLEST + "  entity: other\n", ["f.yaml:8", "`entity` is repeated"]),
        (SMALLEST + "event: {}\n", ["f.yaml:8", "`event` is repeated"]),
        (SMALLEST.replace("topic: events", "topic: my events"), ["f.yaml:3: source.topic", "my events"]),
        (SMALLEST.replace("topic: events", "topic: predictions"), ["must all differ", "predictions"]),
        (
            SMALLEST.replace("topic: events", "topic: events\n  partitions: []"),
            ["f.yaml:4: source.partitions: found []; name", "or leave partitions out to read all"],
        ),
        (SMALLEST + "sinks: {alerts: predictions}\n", ["must all differ"]),
        (SMALLEST + "alerts: {feedback: {topic: alerts}}\n", ["must all differ"]),
        (SMALLEST + "sinks: {dead_letters: null}\n", ["sinks.dead_letters"]),
        (SMALLEST + "  target: temp\n", ["'temp' is the target"]),
        (SMALLEST.replace("[temp]", "[temp, temp]"), ["named twice"]),
        (SMALLEST.replace("[temp]", "[]\n  lags: 0\n  calendar: []"), ["nothing to predict from"]),
        (SMALLEST + "  time_zone: Mars/Base\n", ["Mars/Base", "Asia/Tokyo"]),
        (SMALLEST + "  time_zone: ../etc/passwd\n", ["IANA"]),
        (SMALLEST + "model: {tuning: {heads: []}}\n", ["f.yaml:8: model.tuning", "no head left"]),
        (
            SMALLEST + "model: {heads: [moments, memory]}\n",
            ["f.yaml:8: model.tuning.heads[1]", "'moments'", "'attention'"],
        ),
        (SMALLEST + "model: {profile: slow}\n", ["f.yaml:8: model.profile", "'fast' or 'accurate'", "(found 'slow')"]),
        (
            SMALLEST + "model: {tuning: {half_lives: [6h, soon]}}\n",
            ["f.yaml:8: model.tuning.half_lives[1]", "'500 events' or '6h'"],
        ),
        (
            SMALLEST + "model: {tuning: {embedding: {size: 100}}}\n",
            ["f.yaml:8: model.tuning.embedding.size", "(found 100)"],
        ),
        (
            SMALLEST + "model: {tuning: {embedding: {scale: 0}}}\n",
            ["f.yaml:8: model.tuning.embedding.scale", "(found 0)"],
        ),
        (SMALLEST + "model: {heads: [moments], embedding: {size: 64}}\n", ["add embedding to heads"]),
        (SMALLEST + "model: {tuning: {window: 4}}\n", ["f.yaml:8: model.tuning.window", "(found 4)"]),
        (SMALLEST + "model: {moment_decays: [0.9]}\n", ["f.yaml:8: model.moment_decays: unknown key"]),
        (SMALLEST + "recovery: {epoch_interval: 99999999999999d}\n", ["f.yaml:8", "at most 36500d"]),
        (SMALLEST + f"recovery: {{keep: 1{'0' * 400}}}\n", ["recovery.keep", "at most 36500d"]),
        (SMALLEST + "model: {horizon: 999999d}\n", ["model.horizon: found '999999d'", "at most 36500d"]),
        (SMALLEST + "alerts: {budget: {alerts: 1, per: 999999d}}\n", ["at most 36500d"]),
        (SMALLEST + "alerts: {anomaly: {budget: 1 per 999999d}}\n", ["f.yaml:8", "at most 36500d"]),
        (SMALLEST + "recovery: {directory: '${TEST_UNSET:-}'}\n", ["recovery.directory: found ''; write the path"]),
        (SMALLEST + "audit: {directory: ' '}\n", ["audit.directory: found ' '; write the path", "or null"]),
        (SMALLEST + "state: {store: ''}\n", ["state.store: found ''; write the path"]),
        (SMALLEST + 'model: {weights: "a\\0b"}\n', ["model.weights: found 'a\\x00b'; write the path"]),
        (SMALLEST + "  lags: true\n", ["f.yaml:8: event.lags: found true; write a number"]),
        (SMALLEST + "state: {max_entities: true}\n", ["state.max_entities: found true; write a number"]),
        (SMALLEST + "alerts: {fleet: {share: true}}\n", ["alerts.fleet.share: found true; write a number"]),
        (SMALLEST + "alerts: {anomaly: {min_deviation: .inf}}\n", ["min_deviation: ", "finite number (found inf)"]),
        (SMALLEST + "model: ~\n", ["f.yaml:8: model: found null; write the section's keys below it, such as fleet"]),
        (
            SMALLEST.replace("topic: events", "topic: events\n  kafka: {log_level: null, client.id: [1]}"),
            [
                "f.yaml:4: source.kafka.log_level: found null; write a text, a number, true or false, or leave it out",
                "f.yaml:4: source.kafka.client.id: found a list; write",
            ],
        ),
        (SMALLEST + "sinks: {alerts: events}\n", ["f.yaml:8: sinks: the topics ['events', 'predictions',"]),
        (SMALLEST + "  format: avro\n", ["f.yaml:8: event.format: found 'avro' without a schema registry"]),
        (SMALLEST + "  target: temp\n", ["f.yaml:7: event.features: 'temp' is the target"]),
        (SMALLEST + "event_: 1\n", ["did you mean `event`?"]),
        (SMALLEST.replace("[temp]", "[temp]\n  categories: [mode, temp]"), ["'temp'", "named twice"]),
        (SMALLEST.replace("[temp]", "auto\n  categories: [target]"), ["'target' is the target"]),
        (SMALLEST.replace("[temp]", "temp"), ["event.features: write a list, such as [temp], or auto (found 'temp')"]),
        (SMALLEST.replace("[temp]", "[temp, 3]"), ["f.yaml:7: event.features[1]: write text", "(found 3)"]),
        (SMALLEST + "function-x: 1\n", ["f.yaml:8: function-x: unknown key"]),
        (SMALLEST + "control: true\n", ["control: unknown key; keys of that name: alerts.control; known here: "]),
        (SMALLEST + "source_typo: 1\n", ["did you mean `source`?"]),
        ("? [a, b]\n: 1\n", ["f.yaml:1", "a key must be text"]),
        ("a: &x [*x]\n", ["f.yaml:1", "alias"]),
        ("[" * 3000, ["nested too deeply"]),
        ("a: 2026-13-01\n", ["month must be in 1..12", "quotes"]),
        (SMALLEST.replace("localhost:9092", "[[a]]"), ["f.yaml:2: source.brokers"]),
    ],
)  # fmt: skip
def test_refusals(text: str, words: list[str]) -> None:
    message = refusal(text)
    assert all(word in message for word in words), message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^[^']*none\.yaml: cannot be read: No such file or directory; .*ssm-stream init"
    ):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes("a: \xfc".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.yaml: cannot be read: it is no text in UTF-8"):
        load_config(tmp_path / "latin.yaml")
    (tmp_path / "bad.yaml").write_text("x: 1\n")
    with pytest.raises(ConfigError, match=r"bad\.yaml:1: x: unknown key"):
        load_config(tmp_path / "bad.yaml")


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("500ms", 0.5), ("30s", 30), ("1.5m", 90), ("6h", 21_600), ("30d", 2_592_000), (" 2 s ", 2), (7, 7), (0.25, 0.25)],
)
def test_durations(written: object, seconds: float) -> None:
    assert changed("source", wait=written).source.wait == seconds


@pytest.mark.parametrize("written", ["30", "30 seconds", "-3s", "1d12h", True, None, [], "0s", 0, -1])
def test_wrong_durations(written: object) -> None:
    with pytest.raises(ConfigError, match=r"source\.wait"):
        changed("source", wait=written)


@pytest.mark.parametrize(
    ("written", "events", "seconds"),
    [
        ("1 per 10000 events", 10_000, 0),
        ("2 per 1000 events", 500, 0),
        ("0.5 per 1000 events", 2000, 0),
        ("1 per 1000 event", 1000, 0),
        ("1 per 30d", 0, 2_592_000),
        ("4 per 1h", 0, 900),
    ],
)
def test_budgets(written: str, events: float, seconds: float) -> None:
    budget = changed("alerts.drift", budget=written).alerts.drift.budget
    assert (budget.text, budget.events, budget.seconds) == (written, events, seconds)


@pytest.mark.parametrize("written", ["often", "1 per day", "0 per 100 events", "-1 per 30d", "1 in 30d", 5, None, ""])
def test_wrong_budgets_say_how_one_is_written(written: object) -> None:
    with pytest.raises(ConfigError, match="1 per 10000 events"):
        changed("alerts.anomaly", budget=written)


def test_a_budget_that_cannot_be_told_from_noise() -> None:
    with pytest.raises(ConfigError, match="one alarm in 20 events"):
        changed("alerts.anomaly", budget="1 per 10 events")


@pytest.mark.parametrize(
    ("written", "events", "seconds"),
    [("500 events", 500, 0), ("1 event", 1, 0), ("2.5 events", 2.5, 0), ("6h", 0, 21_600), (" 30d ", 0, 2_592_000)],
)
def test_half_lives(written: str, events: float, seconds: float) -> None:
    (half_life,) = changed("model", half_lives=[written]).model.tuned.half_lives or []
    assert (half_life.text, half_life.events, half_life.seconds) == (written.strip(), events, seconds)


@pytest.mark.parametrize("written", ["500", "fast", "-3 events", "0s", 500, None, ""])
def test_wrong_half_lives_say_how_one_is_written(written: object) -> None:
    with pytest.raises(ConfigError, match="'500 events' or '6h'"):
        changed("model", half_lives=[written])


@pytest.mark.parametrize("written", ["0.5 events", "0 events"])
def test_a_half_life_of_less_than_an_event(written: str) -> None:
    with pytest.raises(ConfigError, match="at least 1 event"):
        changed("model", half_lives=[written])


def test_entities_learn_together_unless_told_otherwise() -> None:
    """One shard, one fleet; hour and weekday by rule."""
    config = parse_config(SMALLEST)
    assert (config.model.fleet, config.state.shards, config.event.calendar) == (True, 1, "auto")
    assert (config.model.profile, config.event.lags) == ("fast", 8)


@pytest.mark.parametrize(("keys", "used"), [({}, True), ({"lags": 0}, False), ({"lags": 0, "differences": True}, True)])
def test_changes_of_features_are_inputs_where_past_targets_are(keys: dict[str, Any], used: bool) -> None:
    assert changed("event", **keys).event.uses_differences is used


@pytest.mark.parametrize("count", [-1, 17, 1.5, "all", None])
def test_past_events_whose_features_are_inputs_are_a_bounded_number(count: object) -> None:
    with pytest.raises(ConfigError, match=r"event\.feature_lags"):
        changed("event", feature_lags=count)


def test_past_features_begin_with_the_change() -> None:
    assert parse_config(SMALLEST).event.feature_lags == 0
    assert changed("event", feature_lags=16, lags=0, differences=False).event.uses_differences


def test_placeholders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_HOST", "kafka.plant")
    monkeypatch.setenv("TEST_EMPTY", "")
    monkeypatch.delenv("TEST_UNSET", raising=False)
    text = SMALLEST.replace("localhost:9092", "${TEST_HOST}:${TEST_UNSET:-9093}").replace(
        "event:", "  kafka: {client.rack: 'p${TEST_EMPTY:-}w', client.id: '${TEST_EMPTY:-x}'}\nevent:"
    )
    config = parse_config(text)
    assert config.source.brokers == "kafka.plant:9093"
    assert config.source.kafka == {"client.rack": "pw", "client.id": "x"}, "an empty variable counts as unset"


def test_an_unset_placeholder_is_named_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_UNSET", raising=False)
    message = refusal(SMALLEST.replace("localhost:9092", "${TEST_UNSET}"))
    assert message.startswith("f.yaml:2: source.brokers: the environment variable TEST_UNSET is not set")
    assert "${TEST_UNSET:-default}" in message
    message = refusal(SMALLEST.replace("[temp]", "[temp, '${TEST_UNSET}']"))
    assert message.startswith("f.yaml:7: event.features[1]")


def test_a_placeholder_of_an_empty_variable_is_told_from_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_TOPIC", "")
    message = refusal(SMALLEST.replace("topic: events", "topic: ${TEST_TOPIC}"))
    assert "f.yaml:3: source.topic: the environment variable TEST_TOPIC is set to an empty text; export a va" in message


def test_a_section_of_nothing_but_comments_has_its_defaults() -> None:
    config = parse_config(SMALLEST + "alerts:\n  # budget: 1 per 30d\nsinks:\n  kafka:\n    # acks: all\nrecovery:\n")
    assert config == parse_config(SMALLEST)
    assert "f.yaml:1: source.brokers: missing" in refusal("source:\n  # topic: t\nevent:\n")


def test_a_variable_cannot_change_the_structure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_HOST", "a: {b: c}\nsinks: {alerts: null}")
    config = parse_config(SMALLEST.replace("topic: events", "topic: events\n  group: ${TEST_HOST}"))
    assert config.source.group_id.startswith("a: {b")
    assert config.sinks.alerts == "alerts"


def test_placeholders_in_comments_need_nothing() -> None:
    parse_config(SMALLEST + "# password: ${TEST_UNSET}\n")


def test_numbers_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_SHARDS", "64")
    assert parse_config(SMALLEST + "state: {shards: '${TEST_SHARDS}'}\n").state.shards == 64


def test_brokers_may_be_a_list() -> None:
    assert changed("source", brokers=["a:1", "b:2"]).source.brokers == "a:1,b:2"
    with pytest.raises(ConfigError, match=r"source\.brokers"):
        changed("source", brokers=[])


@pytest.mark.parametrize("brokers", ["127.0.0.1:22x", "a:1, b:", "SASL_SSL://a:99999", "[::1]:0", "a:-1"])
def test_a_port_that_is_none_is_refused(brokers: str) -> None:
    with pytest.raises(ConfigError, match=r"source\.brokers: found the port '.*' in .*; write host:port, such as"):
        changed("source", brokers=brokers)


@pytest.mark.parametrize("brokers", ["  ", "", [], ["a:9092", ""], "a:9092,", "a:9092;b:9092", "a:1 b:1", "a\0b"])
def test_what_is_no_list_of_servers_is_refused(brokers: object) -> None:
    with pytest.raises(ConfigError, match=r"source\.brokers: found '.*' among the servers; write host:port, such as"):
        changed("source", brokers=brokers)


@pytest.mark.parametrize(
    "brokers", ["a", "a:9092, b:9092", "a:9092,b", "SASL_SSL://a:1", "[::1]:9092", "::1", "PLAINTEXT://[::1]"]
)
def test_ways_to_name_a_broker(brokers: str) -> None:
    assert changed("source", brokers=brokers).source.brokers == brokers


def test_feedback_needs_a_topic() -> None:
    with pytest.raises(ConfigError, match=r"alerts\.feedback: found true; write \{topic: NAME\}"):
        changed("alerts", feedback=True)


MODEL_SETTINGS = [
    ("event", {"features": ["temp", "speed"]}),
    ("event", {"lags": 2}),
    ("event", {"target": ["target", "other"]}),
    ("event", {"calendar": ["hour"]}),
    ("event", {"time_zone": "Asia/Tokyo"}),
    ("event", {"differences": False}),
    ("event", {"feature_lags": 1}),
    ("model", {"warmup": 200}),
    ("model", {"interval": 0.95}),
    ("model", {"profile": "accurate"}),
    ("model", {"fleet": False}),
    ("model", {"tuning": {"log_space": False}}),
    ("model", {"tuning": {"half_lives": ["6h"]}}),
    ("model", {"tuning": {"heads": ["moments"]}}),
    ("model", {"tuning": {"gate": "equal"}}),
    ("model", {"tuning": {"window": 256}}),
    ("model", {"tuning": {"embedding": {"size": 128}}}),
    ("model", {"tuning": {"embedding": {"scale": 2.0}}}),
    ("event", {"derive": {"r": {"ratio": ["temp", "speed"]}}}),
    ("event", {"holidays": {"days": {"2026": "01-01"}}}),
    ("event", {"categories": ["mode"]}),
    ("alerts.drift", {"budget": "1 per 30d"}),
    ("alerts.fleet", {"share": 0.5}),
    ("state", {"ttl": "7d"}),
    ("state", {"shards": 8}),
]
INDIFFERENT = [
    ("source", {"brokers": "elsewhere:9092"}),
    ("source", {"topic": "other"}),
    ("source", {"kafka": {"client.rack": "rack-7"}}),
    ("event", {"entity_default": "line-1"}),
    ("schema_registry", {"url": "http://registry:8081"}),
    ("event", {"only": ["press-*"]}),
    ("alerts", {"shadow": True}),
    ("state", {"max_entities": 10, "when_full": "evict"}),
    ("source", {"wait": "5s", "batch": 10, "start": "latest", "group": "g", "partitions": [0]}),
    ("sinks", {"alerts": "other", "predictions": None}),
    ("alerts", {"feedback": {"topic": "feedback"}}),
    ("recovery", {"directory": None, "epoch_interval": "1s"}),
]


@pytest.mark.parametrize(("section", "keys"), MODEL_SETTINGS)
def test_the_hash_changes_with_what_decides_the_numbers(section: str, keys: dict[str, Any]) -> None:
    assert changed(section, **keys).hash != parse_config(SMALLEST).hash


@pytest.mark.parametrize(("section", "keys"), INDIFFERENT)
def test_the_hash_does_not_change_with_the_rest(section: str, keys: dict[str, Any]) -> None:
    assert changed(section, **keys).hash == parse_config(SMALLEST).hash


def test_the_hash_is_of_the_meaning_not_of_the_text() -> None:
    spelled = (
        SMALLEST
        + "  lags: 8\n  feature_lags: 0\nstate: {ttl: 2160h}\nalerts: {anomaly: {budget: 1 per 10000 events}}\n"
    )
    assert parse_config(spelled).hash == parse_config(SMALLEST).hash
    assert len(parse_config(SMALLEST).hash) == 12


def test_states_from_before_a_setting_keep_their_hash() -> None:
    """`feature_lags` came later: where it is 0 nothing differs, so snapshots stay usable. Limits never count."""
    config = parse_config(SMALLEST)
    settings = config.model_dump(mode="json", include={"event", "model", "alerts", "state"})
    later = [
        ("event", "feature_lags"),
        ("event", "inputs"),
        ("event", "derive"),
        ("event", "holidays"),
        ("event", "entity_default"),
        ("event", "only"),
        ("event", "when"),
        ("event", "quality"),
        *(("event", name) for name in ("layout", "aggregate", *READING_SETTINGS)),
    ]
    later += [("event", "format"), ("state", "max_entities"), ("state", "when_full"), ("state", "store")]
    later += [("alerts", name) for name in ("budget", "control", "limits", "maintenance", "shadow", "silence", "stuck")]
    for section, name in later:
        del settings[section][name]
    del settings["alerts"]["feedback"]
    del settings["alerts"]["language"]
    del settings["alerts"]["fleet"]["wait"]
    for kind in ("anomaly", "drift"):
        del settings["alerts"][kind]["absorb_after"]
    # When these were written, they were settings, or had another place.
    settings["alerts"] |= {"ongoing_every": 500, "critical": 3.0, "contributions": 5}
    settings["model"] |= {"half_lives": None, "window": 512, "log_space": True, "heads": None, "gate": "learned"}
    del settings["model"]["tuning"]
    settings["model"]["weights"] = frozen_weights.content_digest(config.model.weights)
    text = orjson.dumps(settings, option=orjson.OPT_SORT_KEYS)
    assert config.hash == hashlib.sha256(text).hexdigest()[:12]


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    with contextlib.suppress(ConfigError):
        parse_config(text)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(["source", "event", "model", "alerts", "sinks", "state", "recovery"]), junk, st.data())
def test_any_value_anywhere_is_read_or_refused_in_words(section: str, value: Any, data: st.DataObject) -> None:
    content = yaml.safe_load(SMALLEST)
    key = data.draw(st.sampled_from(sorted(Config.model_fields[section].annotation.model_fields)))  # type: ignore[union-attr]
    content.setdefault(section, {})[key] = value
    with contextlib.suppress(ConfigError):
        parse_config(yaml.safe_dump(content, allow_unicode=True))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_files_that_come_with_the_product_load(path: Path) -> None:
    config = load_config(path)
    assert config.source.brokers.endswith(":9092")
    text = path.read_text(encoding="utf-8")
    assert max(map(len, text.split("\n"))) <= 120
    assert "#" in text.split("\n", 1)[0], "says at its top what it is for"


def test_the_promised_files_are_there() -> None:
    assert {path.stem for path in CONFIGS} >= {"reference", "soft-sensor", "forecast-fleet", "service-metrics"}


def section_of(annotation: Any) -> type[Section] | None:
    kind = annotation if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias) else None
    if typing.get_origin(annotation) is list:
        return None  # its entries are sections
    options = [kind, *typing.get_args(annotation)]
    return next((o for o in options if isinstance(o, type) and issubclass(o, Section)), None)


def compare_with_defaults(section: type[BaseModel], loaded: BaseModel, written: dict[str, Any], path: str) -> None:
    assert set(written) == set(section.model_fields), f"{path or 'top'}: keys of the reference and of the models"
    for name, field in section.model_fields.items():
        value = getattr(loaded, name)
        if value is None:
            assert written[name] is field.default is None, f"{path}{name}: left out, but not by default"
        elif typing.get_origin(field.annotation) is dict:  # sections by name: none, by default
            assert value == field.default
        elif (inner := section_of(field.annotation)) is not None:
            compare_with_defaults(inner, value, written[name], f"{path}{name}.")
        elif field.default is not PydanticUndefined:
            assert value == field.default, f"{path}{name}: the reference differs from the default"


def test_the_reference_has_every_key_with_its_default() -> None:
    path = ROOT / "configs" / "reference.yaml"
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    compare_with_defaults(Config, load_config(path), written, "")


def leaf_keys(content: dict[str, Any]) -> list[str]:
    """Paths of the keys that hold a value; those of objects in a list count once."""
    found = dict[str, None]()
    for key, value in content.items():
        inside = [each for each in value if isinstance(each, dict)] if isinstance(value, list) else [value]
        below = [name for each in inside if isinstance(each, dict) for name in leaf_keys(each)]
        found |= dict.fromkeys([f"{key}.{name}" for name in below] or [key])
    return list(found)


def test_the_reference_has_at_most_a_hundred_keys() -> None:
    """Settings are debt: what a good default, the data or the broker can tell is none."""
    assert leaf_keys({"a": [{"b": 1}, {"b": 2, "c": 3}], "d": {}, "e": {"f": None}}) == ["a.b", "a.c", "d", "e.f"]
    keys = leaf_keys(yaml.safe_load((ROOT / "configs" / "reference.yaml").read_text(encoding="utf-8")))
    assert len(keys) <= 100, keys


def test_every_setting_is_explained() -> None:
    def visit(section: type[BaseModel], path: str) -> None:
        described = descriptions(section)
        for name, field in section.model_fields.items():
            if (inner := section_of(field.annotation)) is not None:
                assert inner.__doc__, f"{path}{name}"
                visit(inner, f"{path}{name}.")
            elif name != "enabled":
                assert described.get(name), f"{path}{name}"

    visit(Config, "")


def test_the_schema_is_strict_and_complete() -> None:
    schema = config_schema()
    assert schema["required"] == ["source", "event"]
    assert schema["$schema"].endswith("2020-12/schema")
    assert all(part["additionalProperties"] is False for name, part in schema["$defs"].items() if name != "Budget")


def test_the_schema_for_editors_accepts_the_files_that_are_delivered_and_placeholders() -> None:
    check = Draft202012Validator(file_schema())
    files = [*(ROOT / "configs").glob("*.yaml"), *(ROOT / "docker").glob("monitor*.yaml")]
    assert len(files) > 4
    for file in files:
        assert [error.message for error in check.iter_errors(yaml.safe_load(file.read_text()))] == [], file.name

    def valid(text: str) -> bool:
        return check.is_valid(yaml.safe_load(text))

    made = "{source: {brokers: a, %s}, event: {entity: e, timestamp: t, %s}, ops: {%s}}"
    for source, event, ops in (
        ("topic: t, topics: null", "lags: '${LAGS:-3}'", "ui: '${UI}', address: '${HOST}:9464'"),
        ("topics: [t, u], wait: '${WAIT}s'", "layout: '${LAYOUT}'", "address: '0.0.0.0:9464'"),
        ("topic: t, batch: '${file:/a b}'", "when: []", "ui: true"),
    ):
        assert valid(made % (source, event, ops)), source
    for source, event, ops in (
        ("wait: 3s", "lags: 1", "ui: true"), ("topics: null", "lags: 1", "ui: true"),
        ("topic: t, wait: soon", "lags: 1", "ui: true"), ("topic: t", "lags: many", "ui: true"),
        ("topic: t", "lags: -1", "ui: true"), ("topic: t", "layout: rows", "ui: true"),
        ("topic: t", "lags: 1", "address: 'here'"), ("topic: t", "lags: 1", "ui: maybe"),
        ("topic: t", "lags: 1", "'${NAME}': 1"),
    ):  # fmt: skip
        assert not valid(made % (source, event, ops)), (source, event, ops)


@pytest.mark.parametrize(
    ("event", "alerts", "named"),
    [
        ("", "", []),
        ("lags: 0", "anomaly: {learn: hold}", []),
        ("", "anomaly: {learn: hold}", ["alerts.anomaly.learn: hold"]),
        (
            "",
            "anomaly: {learn: slow}, drift: {learn: hold}",
            ["alerts.anomaly.learn: slow", "alerts.drift.learn: hold"],
        ),
        ("", "anomaly: {absorb_after: 50, recover_after: 50}", ["alerts.anomaly.recover_after: 50"]),
    ],
)
def test_settings_that_do_harm_together_are_named_with_the_cure(event: str, alerts: str, named: list[str]) -> None:
    line = f"  {event}\n" if event else ""
    found = parse_config(f"{SMALLEST}{line}alerts: {{{alerts}}}\n").harmful_combinations()
    assert [one.split(" with ")[0] for one in found] == named


@pytest.mark.parametrize(
    ("alerts", "named"),
    [
        ("", "event.quality without alerts.silence: "),
        ("alerts: {silence: {columns: false}}", "event.quality with alerts.silence: {columns: false}: "),
        ("alerts: {silence: {}}", None),
    ],
)
def test_flags_that_stay_bad_are_named_with_what_the_file_has(alerts: str, named: str | None) -> None:
    quality = "  quality: {columns: {y: y_ok}, good: [1]}\n"
    found = [
        each for each in parse_config(f"{SMALLEST}{quality}{alerts}\n").harmful_combinations() if "quality" in each
    ]
    assert [each.startswith(named or "") for each in found] == [True] * (named is not None)


def test_a_list_of_long_names_is_cut() -> None:
    """Each missing column of a batch of OpenTelemetry came with 2 kB of paths into its lists."""
    paths = [f"resourceMetrics[0].scopeMetrics[0].metrics[name=http.server.{i}].sum.dataPoints" for i in range(208)]
    cure = suggest("latency", paths, "its columns")
    assert cure.startswith(f"its columns: {paths[0]}, {paths[1]}, ")
    assert cure.endswith(" and 203 more")
    assert suggest("x", ["y" * 500, "z"]).endswith(f": {'y' * 500} and 1 more")
