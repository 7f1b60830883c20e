"""This release keeps what the last one promised: files, messages, commands; renamed keys name the new ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import orjson
import pytest
import typer
import yaml
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.config import ConfigError, config_schema, parse_config
from ssm_stream.config.earlier import MOVED, REMOVED, RENAMED, WITHOUT_EFFECT
from ssm_stream.engine.snapshot_format import StateError
from ssm_stream.recovery.reader import rebuild_config

RELEASES = sorted((Path(__file__).parent / "golden").glob("release-*"))
SMALL = "source: {brokers: 'a:1', topic: t}\nevent: {entity: e, timestamp: t, features: [a]}\n"


def test_a_renamed_key_is_an_error_that_names_the_new_one() -> None:
    known = properties_of(config_schema())
    for old, new in RENAMED.items():
        assert old not in known
        assert new in known
        *above, last = old.split(".")
        text = f"{'{'.join(f'{key}: ' for key in above)}{{{last}: 1{'}' * len(above)}"
        with pytest.raises(ConfigError, match=rf"config:3: {re.escape(old)}: unknown key; its name is `{new}` now"):
            parse_config(f"{SMALL}{text}\n")


def test_old_keys_that_change_nothing_are_read_as_before() -> None:
    text = SMALL.replace("features: [a]", "features: [a], framed: false") + "sinks: {schema_registry: null}\n"
    assert parse_config(text) == parse_config(SMALL + "sinks: {}\n")
    for old, cure in REMOVED.items():
        section, _, key = old.partition(".")
        content = yaml.safe_load(SMALL)
        content.setdefault(section, {})[key] = "other"
        with pytest.raises(ConfigError, match=rf"{re.escape(old)}: unknown key; {re.escape(cure)}"):
            parse_config(yaml.safe_dump(content))
        for value in WITHOUT_EFFECT[old]:
            content[section][key] = value
            assert parse_config(yaml.safe_dump(content)) == parse_config(SMALL)


def test_keys_that_have_moved_are_read_at_both_places() -> None:
    known = properties_of(config_schema())
    assert set(MOVED.values()) <= set(known)
    assert not set(MOVED) & set(known)
    old = "model: {half_lives: [6h], window: 256, embedding: {size: 32}, log_space: false, heads: [proximal, embedding]"
    new = old.replace("model: {", "model: {tuning: {") + "}"
    assert parse_config(f"{SMALL}{old}}}\n") == parse_config(f"{SMALL}{new}}}\n")
    both = parse_config(f"{SMALL}model: {{window: 256, gate: equal, tuning: {{window: 128}}}}\n").model.tuned
    assert (both.window, both.gate) == (128, "equal"), "the new place counts"
    with pytest.raises(ConfigError, match=r"config:3: model\.tuning\.window"):
        parse_config(f"{SMALL}model: {{window: 4}}\n")


@pytest.mark.parametrize("more", ["", "model: {tuning: {window: 256, embedding: {size: 32}}}\n"])
def test_the_settings_of_a_state_are_read_as_they_were_written(more: str) -> None:
    """They have the names and places that these had when states were first written."""
    config = parse_config(SMALL + more)
    settings = config.model_settings
    assert (settings["alerts"]["critical"], settings["model"]["gate"]) == (3.0, "learned")
    metadata = {"config": config.hash, "settings": settings}
    assert rebuild_config(metadata).hash == config.hash
    assert metadata["settings"] == parse_config(SMALL + more).model_settings, "it is left as it is"
    other = {**settings, "alerts": {**settings["alerts"], "critical": 5.0}}
    with pytest.raises(StateError, match="cannot read the settings of the state"):
        rebuild_config({"config": "another", "settings": other})


# Against the releases before.


def test_there_is_a_release_to_hold_to() -> None:
    assert RELEASES
    assert sum(path.stat().st_size for release in RELEASES for path in release.rglob("*")) < 400_000


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
def test_its_configurations_mean_the_same(release: Path) -> None:
    hashes = orjson.loads((release / "hashes.json").read_bytes())
    assert hashes
    for name, expected in hashes.items():
        config = parse_config((release / "configs" / name).read_text())
        assert config.hash == expected, name


def properties_of(schema: dict[str, Any]) -> dict[str, tuple[dict[str, Any], bool]]:
    """Path → its schema and whether it is required; through references, sections and alternatives."""
    found: dict[str, tuple[dict[str, Any], bool]] = {}

    def walk(at: Any, above: str, seen: tuple[str, ...]) -> None:
        if not isinstance(at, dict):
            return
        if "$ref" in at:
            name = at["$ref"].rpartition("/")[2]
            if name not in seen:
                walk(schema["$defs"][name], above, (*seen, name))
        for key in ("anyOf", "oneOf", "allOf"):
            for each in at.get(key, ()):
                walk(each, above, seen)
        if "items" in at:
            walk(at["items"], f"{above}[]", seen)
        for name, inside in at.get("properties", {}).items():
            path = f"{above}.{name}".lstrip(".")
            found.setdefault(path, (inside, name in at.get("required", ())))
            walk(inside, path, seen)

    walk(schema, "", ())
    return found


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
def test_every_key_of_its_configuration_is_still_read(release: Path) -> None:
    old = properties_of(orjson.loads((release / "config.schema.json").read_bytes()))
    new = properties_of(orjson.loads(CliRunner().invoke(app, ["schema", "config"]).stdout))
    assert len(old) > 60
    for path, (_, required) in old.items():
        if any(path == key or path.startswith(f"{key}.") for key in (*RENAMED, *REMOVED, *MOVED)):
            continue
        assert path in new, f"{path} is gone without a word"
        assert required or not new[path][1], f"{path} has become required"
    for path in new.keys() - old.keys():
        above = path.rpartition(".")[0]
        assert above not in old or not new[path][1], f"{path} is new and required"


MESSAGES = ("prediction", "alert", "dead-letter")
NULLABLE = {"score", "y", "yhat", "yhat_lower", "yhat_upper", "state_hash"}
"""Of an alert: null where no event of the entity ended the episode, which 0.1 did not report at all."""


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
def test_its_messages_lose_no_field(release: Path) -> None:
    for file in sorted((release / "configs").glob("*.yaml")):
        for kind in MESSAGES:
            old = properties_of(orjson.loads((release / "messages" / f"{file.stem}.{kind}.json").read_bytes()))
            asked = CliRunner().invoke(app, ["schema", kind, str(file)])
            assert asked.exit_code == 0, asked.output
            new = properties_of(orjson.loads(asked.stdout))
            for path, (inside, required) in old.items():
                assert path in new, f"{file.stem}, {kind}: {path} is gone"
                assert new[path][1] or not required, f"{file.stem}, {kind}: {path} is no longer always there"
                if "type" not in inside:
                    continue
                types = [new[path][0].get("type"), *(each.get("type") for each in new[path][0].get("anyOf", ()))]
                assert inside["type"] in types, f"{file.stem}, {kind}: {path} is of another type"
                assert "null" not in types or path in NULLABLE, f"{file.stem}, {kind}: {path} may be null now"


def commands_of(program: typer.Typer) -> dict[str, list[str]]:
    """Command → its arguments and options."""
    found: dict[str, list[str]] = {}

    def walk(command: Any, above: str) -> None:
        if hasattr(command, "commands"):
            for name, each in command.commands.items():
                walk(each, f"{above} {name}".strip())
            return
        found[above] = sorted(
            o for p in command.params for o in (p.opts if p.param_type_name == "option" else [p.name])
        )

    walk(typer.main.get_command(program), "")
    return found


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
def test_its_commands_are_still_there(release: Path) -> None:
    old, new = orjson.loads((release / "commands.json").read_bytes()), commands_of(app)
    for command, options in old.items():
        assert command in new, f"ssm-stream {command} is gone"
        assert not set(options) - set(new[command]), f"ssm-stream {command}"
