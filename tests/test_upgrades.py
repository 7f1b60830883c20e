"""This release keeps what the last one promised: files, messages, commands; what is deprecated says so and works."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
import pytest
import typer
from packaging.version import Version
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.config import ConfigError, deprecated, parse_config
from ssm_stream.config.deprecated import RENAMED, Renamed, renew

RELEASES = sorted((Path(__file__).parent / "golden").glob("release-*"))
SMALL = "source: {brokers: 'a:1', topic: t}\nevent: {entity: e, timestamp: t, features: [a]}\n"
MOVED = (
    Renamed("state.parts", "state.shards", "0.2", "0.3"),
    Renamed("event.machine", "event.entity", "0.2", "0.3"),
    Renamed("window", "model.window", "0.2", "0.3"),
)


def test_a_renamed_setting_is_read_and_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(deprecated, "RENAMED", MOVED)
    old = "source: {brokers: 'a:1', topic: t}\nevent: {machine: e, timestamp: t, features: [a]}\n"
    old += "state: {parts: 8}\nwindow: 256\n"
    config = parse_config(old)
    new = parse_config(SMALL + "state: {shards: 8}\nmodel: {window: 256}\n")
    assert config.hash == new.hash
    assert [text.partition(" ")[0] for text in config.deprecations] == ["state.parts", "event.machine", "window"]
    assert new.deprecations == ()
    file = tmp_path / "old.yaml"
    file.write_text(old)
    told = CliRunner().invoke(app, ["validate", str(file)])
    assert told.exit_code == 0
    assert "state.parts is called state.shards since 0.2; the old name is refused from 0.3 on" in told.stdout


def test_both_names_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deprecated, "RENAMED", MOVED)
    with pytest.raises(ConfigError, match=r"state\.parts: unknown key"):
        parse_config(SMALL + "state: {parts: 8, shards: 8}\n")


def test_renewing_leaves_the_rest_alone() -> None:
    raw = {"state": {"parts": 8, "ttl": "1d"}, "event": [1], "other": None}
    assert renew(raw, MOVED) == ({"state": {"ttl": "1d", "shards": 8}, "event": [1], "other": None}, [MOVED[0].text])
    assert raw["state"] == {"parts": 8, "ttl": "1d"}


def test_what_is_deprecated_is_gone_in_time() -> None:
    present = Version(version("ssm-stream"))
    for each in RENAMED:
        assert Version(each.since) <= present < Version(each.gone), f"{each.old} is to go"
        since, gone = Version(each.since), Version(each.gone)
        assert (gone.major, gone.minor) == (since.major, since.minor + 1)


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
        assert config.deprecations or config.hash == expected, name


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
    renamed = {each.old for each in RENAMED}
    assert len(old) > 60
    for path, (_, required) in old.items():
        assert path in new or path in renamed, f"{path} is gone without a word"
        assert required or not new[path][1], f"{path} has become required"
    for path in new.keys() - old.keys():
        above = path.rpartition(".")[0]
        assert above not in old or not new[path][1], f"{path} is new and required"


MESSAGES = ("prediction", "alert", "dead-letter")


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
                if "type" in inside:
                    assert new[path][0].get("type") == inside["type"], f"{file.stem}, {kind}: {path} is of another type"


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
