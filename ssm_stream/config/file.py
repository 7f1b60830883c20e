"""Reads the YAML file: parses, fills placeholders, validates, and reports each error with its line, key and cure."""

from __future__ import annotations

import json
import os
import re
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ssm_stream.config import client_properties
from ssm_stream.config.config import Config
from ssm_stream.config.earlier import REMOVED, RENAMED, adapt
from ssm_stream.config.sections import ConfigError, Section
from ssm_stream.config.suggestions import nearest, suggest
from ssm_stream.config.value_errors import is_kind, plain_errors
from ssm_stream.core import frozen_weights

PLACEHOLDER = re.compile(r"\$\{(?:file:(?!-)([^}]*)|([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?)\}")
MAX_FILE_BYTES = 65_536
"""Bytes of a file that is the content of one value: a password, a key, a chain of certificates."""
SECRET_KEYS = {"kafka", "properties", "token", "apprise", "authorization", "webhook"}
"""Keys whose values are in no message."""


def load_config(path: str | Path, absent: dict[str, Any] | None = None) -> Config:
    """Return the configuration in a YAML file, with its placeholders filled in. absent: as of `read_config`

    Raises:
        ConfigError: no such file, not YAML, a placeholder without a value, an unknown key, or a wrong value. The text
            has a line for each error: file, line, key, what was found, what is expected.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: cannot be read: it is no text in UTF-8; save it in that encoding") from error
    except OSError as error:
        cure = "" if path.exists() else f"; correct the path (from {Path.cwd()}), or write one with `ssm-stream init`"
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}{cure}") from error
    return parse_config(text, str(path), absent)


def read_config(config: Config | dict[str, Any] | str | Path, absent: dict[str, Any] | None = None) -> Config:
    """Return a configuration from any of its forms: itself, its content, the path of its file, or its YAML text.

    A text is YAML if it has a line break or begins with a brace, else a path.

    Args:
        absent: sections to use where the content has none of that name

    Raises:
        ConfigError: as `load_config`.
    """
    if isinstance(config, Config):
        return config
    if isinstance(config, dict):
        # JSON is YAML: one reader for all forms. What JSON lacks (a path, a date) is written as its text.
        return parse_config(json.dumps(config, default=str, ensure_ascii=False), absent=absent)
    if isinstance(config, str) and ("\n" in config or config.lstrip().startswith("{")):
        return parse_config(config, absent=absent)
    return load_config(config, absent)


def parse_config(text: str, name: str = "config", absent: dict[str, Any] | None = None) -> Config:
    """Return the configuration in a YAML text; error messages call it `name`. absent: as of `read_config`

    Raises:
        ConfigError: as `load_config`.
    """
    try:
        root = _read_yaml(yaml.compose, text)
        if root is None:
            raise ConfigError(f"{name}: the file is empty; it needs at least a `source` and an `event` section")
        _check_keys(root, name, ())
        raw = _load(text, name)
    except yaml.YAMLError as error:
        # The error's own text quotes the line, which may hold a secret.
        raise ConfigError(f"{name}: not valid YAML: {_yaml_error(error, text)}") from None
    except RecursionError:
        raise ConfigError(f"{name}: nested too deeply; sections are at most three levels deep") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{name}: found {type(raw).__name__} at the top; write sections such as `source:`")
    _open_empty(raw, root, Config)
    raw = {**(absent or {}), **raw}
    adapt(raw)
    _check_secrets(raw, name, root)
    secrets: list[str] = []
    raw = _fill(raw, name, root, (), secrets)
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        text = _redact(secrets, _explain(error, name, root))
        raise ConfigError(text) from None  # the cause would show the values
    if problems := _kafka_problems(config, name, root):
        raise ConfigError(_redact(secrets, problems))
    try:
        frozen_weights.load(config.model.weights)
    except frozen_weights.WeightsError as error:
        where = f"{_place(name, root, ('model', 'weights'))}: model.weights"
        raise ConfigError(f"{where}: {error}") from error
    return config


def _yaml_error(error: yaml.YAMLError, text: str) -> str:
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return str(error).partition("\n")[0]
    line, column = error.problem_mark.line, error.problem_mark.column
    problem = f"{error.context}, {error.problem}" if error.context else str(error.problem)
    lines = text.splitlines()
    if line < len(lines) and client_properties.SECRET.search(lines[line]):
        problem = re.sub(r"'[^']*'|\"[^\"]*\"", client_properties.REDACTED, problem)
    return f"line {line + 1}, column {column + 1}: {problem}"


def _properties_in(raw: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield path and content of each group of client properties in the file."""
    for path in (("source", "kafka"), ("sinks", "kafka"), ("schema_registry", "properties")):
        inside = raw
        for key in path:
            inside = inside.get(key) if isinstance(inside, dict) else None
        if inside is not None:
            yield path, inside


def _written_secrets(raw: dict[Any, Any]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield path and written value of each secret in the file."""
    for place, given in _properties_in(raw):
        for key, value in given.items() if isinstance(given, dict) else ():
            if client_properties.is_secret(str(key)):
                yield (*place, str(key)), value
    notify = raw.get("notify")
    targets = notify.get("targets") if isinstance(notify, dict) else None
    for i, target in enumerate(targets if isinstance(targets, list) else ()):
        for key in ("apprise", "authorization") if isinstance(target, dict) else ():
            yield ("notify", "targets", i, key), target.get(key)
    ops = raw.get("ops")
    if isinstance(ops, dict):
        yield ("ops", "token"), ops.get("token")


def _check_secrets(raw: dict[Any, Any], name: str, root: yaml.Node) -> None:
    """Check that no secret is written in the file itself, as files are copied and committed.

    Raises:
        ConfigError: one is.
    """
    for path, value in _written_secrets(raw):
        # The default of a placeholder is written in the file, too.
        written = PLACEHOLDER.sub(lambda found: found[3] or "", value) if isinstance(value, str) else value
        if written not in ("", None):
            raise ConfigError(
                f"{_place(name, root, path)}: {_dotted(path)}: a secret must not be written in the file; write "
                "${NAME}, from the environment, or ${file:/path}, from a file"
            )


def _redact(secrets: list[str], text: str) -> str:
    """Return the text without the contents of files that it quotes."""
    for secret in secrets:
        for form in (secret, repr(secret)[1:-1]):
            text = text.replace(form, client_properties.REDACTED)
    return text


def _kafka_problems(config: Config, name: str, root: yaml.Node) -> str:
    """Return a line for each Kafka property that cannot work; empty if all can."""
    exact, lines = config.delivery == "exactly_once", list[str]()
    common, of_producers = config.source.kafka, config.sinks.kafka
    for section, properties in (("source", common), ("sinks", {**common, **of_producers})):
        if section == "sinks" and (lines or not of_producers):
            break
        for key, problem in client_properties.find_problems(properties, exactly_once=exact):
            home = section if section == "source" or key in of_producers else "source"
            path = (home, "kafka", key)
            lines.append(f"{_place(name, root, path)}: {_dotted(path)}: {problem}")
    return "\n".join(dict.fromkeys(lines))


def _read_yaml(read: Callable[..., Any], text: str) -> Any:
    """Read by the parser in C, which takes a twentieth of the time; errors are those of the one in Python."""
    try:
        return read(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:
        return read(text, Loader=yaml.SafeLoader)


def _load(text: str, name: str) -> Any:
    try:
        return _read_yaml(yaml.load, text)
    except ValueError as error:  # PyYAML does not wrap what it cannot make, such as the date 2026-13-01
        raise ConfigError(f"{name}: a value cannot be read: {error}; put it in quotes") from error


def _open_empty(raw: dict[Any, Any], node: yaml.Node, section: type[Section]) -> None:
    """Read sections, and groups of settings by name, that hold nothing but comments as empty ones: with their defaults.

    What is written as null is left as it is.
    """
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        field = section.model_fields.get(key.value)
        kind = None if field is None else field.annotation
        if not _is_section(kind) and typing.get_origin(kind) is not dict:
            continue
        if raw.get(key.value, 0) is None and value.value == "":
            raw[key.value] = {}
        elif isinstance(raw.get(key.value), dict) and _is_section(kind):
            _open_empty(raw[key.value], value, typing.cast(type[Section], kind))


def _check_keys(node: yaml.Node, name: str, above: tuple[yaml.Node, ...]) -> None:
    """Check that keys are texts, that none is repeated, and that no alias contains itself.

    Raises:
        ConfigError: with the line.
    """
    where = f"{name}:{node.start_mark.line + 1}"
    if any(node is one for one in above):
        raise ConfigError(f"{where}: an alias (*) refers to a node that contains it; write the value out")
    above = (*above, node)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            line = f"{name}:{key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(f"{line}: a key must be text, not a list or a mapping")
            if key.value in seen:
                raise ConfigError(f"{line}: the key `{key.value}` is repeated; keep one")
            seen.add(key.value)
            _check_keys(value, name, above)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _check_keys(value, name, above)


def _fill(value: Any, name: str, root: yaml.Node, path: tuple[str | int, ...], secrets: list[str]) -> Any:
    """Return a value with its placeholders filled in; after parsing, so that no variable can change the structure.

    secrets: the contents of files are added, as no message may show them
    """
    if isinstance(value, dict):
        return {str(k): _fill(v, name, root, (*path, str(k)), secrets) for k, v in value.items()}
    if isinstance(value, list):
        return [_fill(v, name, root, (*path, i), secrets) for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(found: re.Match[str]) -> str:
        where = f"{_place(name, root, path)}: {_dotted(path)}"
        if found[2] is None:
            secrets.append(_content(found[1], where))
            return secrets[-1]
        # A line break at the end is of how the secret was stored, as in a file.
        content = os.environ.get(found[2], "").rstrip("\r\n") or found[3]
        if content is None and path[:2] == ("notify", "targets"):
            return found[0]  # only `ssm-stream notify` needs it, which checks that it is there
        if content is None:
            cure = f"export a value, or write ${{{found[2]}:-default}}"
            if client_properties.is_secret(str(path[-1])):
                cure = "export a value, or write ${file:/path}"
            state = "is set to an empty text" if found[2] in os.environ else "is not set"
            raise ConfigError(f"{where}: the environment variable {found[2]} {state}; {cure}")
        return content

    return PLACEHOLDER.sub(replace, value)


def _content(file: str, where: str) -> str:
    """Return the text of the file that is a value's content.

    Raises:
        ConfigError: there is no such file, it cannot be read, or it holds no text.
    """
    path, problem = Path(file), ""
    try:
        if not path.is_absolute():
            problem = "the path is relative; write it from /"
        elif not path.exists():
            problem = "there is no such file"
        elif not path.is_file():
            problem = "it is not a file"  # reading a pipe might never end
        else:
            with path.open("rb") as opened:
                content = opened.read(MAX_FILE_BYTES + 1)
            if len(content) > MAX_FILE_BYTES:
                problem = f"the file has more than {MAX_FILE_BYTES} bytes; it must hold one value"
            elif not (text := content.decode().rstrip("\r\n")):
                problem = "the file is empty"
            elif "\0" in text:
                problem = "the file has a zero byte; it must hold text"
    except OSError as error:
        problem = f"the file cannot be read: {error.strerror or error}"
    except UnicodeDecodeError:
        problem = "the file is not UTF-8 text"
    except ValueError as error:
        problem = f"not a path: {error}"
    if problem:
        raise ConfigError(f"{where}: ${{file:{file}}}: {problem}")
    return text


def _dotted(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".") or "(top)"


def _place(name: str, root: yaml.Node, path: tuple[str | int, ...]) -> str:
    """Return `file:line` of the deepest node on the path that the file has."""
    node, line = root, root.start_mark.line
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if found is None:
                break
            line, node = found[0].start_mark.line, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
        else:
            break
    return f"{name}:{line + 1}"


def _keys_of(path: tuple[str | int, ...]) -> list[str]:
    """Return the keys of the section at `path`, as files have them."""
    kind: Any = Config
    for part in path:
        kind = next((below for option in _options(kind) if (below := _below(option, part)) is not None), None)
    section = next(filter(_is_section, _options(kind)), None)
    return sorted(field.alias or name for name, field in section.model_fields.items()) if section else []


def _options(kind: Any) -> Iterator[Any]:
    """Return the types that an annotation allows."""
    if typing.get_origin(kind) is typing.Annotated:
        yield from _options(typing.get_args(kind)[0])
    elif typing.get_origin(kind) in (typing.Union, types.UnionType):
        for each in typing.get_args(kind):
            yield from _options(each)
    else:
        yield kind


def _below(kind: Any, part: str | int) -> Any:
    """Return the annotation of what a value of this type has at `part`; None if it has no such part."""
    if _is_section(kind):
        return next((f.annotation for name, f in kind.model_fields.items() if part in (name, f.alias)), None)
    return typing.get_args(kind)[-1] if typing.get_origin(kind) in (list, dict) else None


def _is_section(kind: object) -> bool:
    return isinstance(kind, type) and not isinstance(kind, types.GenericAlias) and issubclass(kind, Section)


def _cure_of(path: tuple[str | int, ...]) -> str:
    """Return what to do about an unknown key."""
    key = _dotted(path)
    if key in RENAMED:
        return f"its name is `{RENAMED[key]}` now"
    name, known = str(path[-1]), _keys_of(path[:-1])
    homes = [f"{each}.{name}" for each in _keys_of(()) if name in _keys_of((each,)) and nearest(name, known) is None]
    return REMOVED.get(key) or (f"keys of that name: {', '.join(homes)}; " if homes else "") + suggest(name, known)


def _named_key(path: tuple[str | int, ...], text: str) -> str:
    """Return the key of the section at `path` that an error of the section begins with; empty if there is none."""
    found = re.match(r"([a-z_]+(?:\.[\w-]+)*): ", text)
    return found[1] if found is not None and found[1].partition(".")[0] in _keys_of(path) else ""


def _explain(error: ValidationError, name: str, root: yaml.Node) -> str:
    lines = []
    for item in plain_errors(error.errors()):
        loc = item["loc"]
        # An unknown key comes last, and may itself look like one of pydantic's own parts.
        key = len(loc) - 1 if item["type"] == "extra_forbidden" else None
        path = tuple(part for i, part in enumerate(loc) if i == key or not is_kind(part))
        text = item["msg"].removeprefix("Value error, ")
        if item["type"] == "value_error" and (named := _named_key(path, text)):
            path, text = (*path, *named.split(".")), text.removeprefix(f"{named}: ")
        elif item["type"] == "model_type":
            given = "null" if item["input"] is None else repr(item["input"])
            text = f"found {given}; write the section's keys below it, such as {', '.join(_keys_of(path)[:3])}"
        where = f"{_place(name, root, path)}: {_dotted(path)}"
        if item["type"] == "extra_forbidden":
            lines.append(f"{where}: unknown key; {_cure_of(path)}")
        elif item["type"] == "missing":
            lines.append(f"{where}: missing; it has no default")
        else:
            secret = SECRET_KEYS.intersection(path)
            shown = not isinstance(item["input"], dict) and not secret
            found = "null" if item["input"] is None else repr(item["input"])
            found = f" (found {found})" if shown and "found" not in text else ""
            lines.append(f"{where}: {text}{found}")
    return "\n".join(dict.fromkeys(lines))
