"""Other values in the text of a configuration file: the rest, comments and layout among it, stays as it is."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml

from ssm_stream.config import Config, ConfigError, load_config, parse_config


def edited(text: str, settings: dict[str, Any], name: str) -> str:
    """Return the text of the file with these settings.

    Args:
        text: of a file that `parse_config` takes
        settings: dotted key → value, as in a file
        name: of the file, for the messages

    Raises:
        ConfigError: the edited text would hold something else, for example because a value is an alias of another.
    """
    out = text
    try:
        for key, value in settings.items():
            out = _with(out, key.split("."), value)
        expected, found = parse_config(text, name).model_dump(), parse_config(out, name)
    except (ConfigError, yaml.YAMLError) as error:
        raise ConfigError(f"{name}: cannot be edited in place ({error}); set the keys by hand") from error
    for key, value in settings.items():
        _put(expected, key, value)
    # Both are validated, as `1 events` and `1  event` are the same.
    if Config.model_validate(expected) != Config.model_validate(found.model_dump()):
        raise ConfigError(f"{name}: cannot be edited in place (an alias, or a merged key); set the keys by hand")
    return out


def for_the_file(settings: dict[str, Any], file: Path, resolved: Config) -> dict[str, Any]:
    """Return the settings as the file needs them: with `features: auto`, a changed column needs all selected ones."""
    columns = {"event.features": resolved.event.numbers, "event.categories": resolved.event.categories}
    if load_config(file).event.features != "auto" or not set(columns) & set(settings):
        return settings
    return {**columns, **settings}


def diff(before: str, after: str, name: str, new_name: str) -> str:
    """Return the unified diff of two texts."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), name, new_name or name, n=3
    )
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def as_yaml(value: Any) -> str:
    """Return a value as YAML on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def changed_keys(settings: dict[str, Any]) -> str:
    """Return YAML that holds the settings alone."""
    content: dict[str, Any] = {}
    for key, value in settings.items():
        _put(content, key, value)
    lines: list[str] = []

    def write(inside: dict[str, Any], depth: int) -> None:
        for name, value in inside.items():
            if isinstance(value, dict):
                lines.append(f"{'  ' * depth}{name}:")
                write(value, depth + 1)
            else:
                lines.append(f"{'  ' * depth}{name}: {as_yaml(value)}")

    write(content, 0)
    return "\n".join(lines) + "\n"


def _put(content: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        if content.get(part) is None:
            content[part] = {}
        content = content[part]
    content[last] = value


def _with(text: str, path: list[str], value: Any) -> str:
    """Return the text with one key set."""
    line_end = "\r\n" if "\r\n" in text else "\n"
    node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    above: yaml.Node | None = None
    for depth, part in enumerate(path):
        assert node is not None
        if node.tag == "tag:yaml.org,2002:null" and above is not None:
            return _replaced(text, above, node, _nested(path[depth:], value))
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"`{'.'.join(path[:depth])}` is no section")
        found = next(((k, v) for k, v in node.value if k.value == part), None)
        if found is None:
            return _inserted(text, node, path[depth:], value, depth == 0, line_end)
        above, node = found
    assert node is not None
    if isinstance(node, yaml.SequenceNode) and not node.flow_style and isinstance(value, list):
        fewer = _fewer_lines(text, node, value)
        if fewer is not None:
            return fewer
    return _replaced(text, above, node, as_yaml(value))


def _nested(path: list[str], value: Any) -> str:
    for part in reversed(path):
        value = {part: value}
    return as_yaml(value)


def _replaced(text: str, key: yaml.Node | None, node: yaml.Node, new: str) -> str:
    """Return the text with another value at that key."""
    assert key is not None
    start = node.start_mark.index
    end = _end(node)
    if "\n" in text[key.end_mark.index : start] or start == end:
        start = text.index(":", key.end_mark.index) + 1  # a list below its key, or nothing at all
        end, new = max(start, end) if node.value else start, f" {new}"
    return text[:start] + new + text[end:]


def _end(node: yaml.Node) -> int:
    """Return where a value ends. A block's own mark lies behind the comments that follow it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    end: int = node.end_mark.index
    return end


def _fewer_lines(text: str, node: yaml.SequenceNode, value: list[Any]) -> str | None:
    """Return the text without some items of a list with an item a line; None if it is no such change."""
    items = [each.value if isinstance(each, yaml.ScalarNode) else None for each in node.value]
    lines = [each.start_mark.line for each in node.value]
    kept = [i for i, item in enumerate(items) if item in value]
    if None in items or len(set(lines)) < len(lines) or not value or [items[i] for i in kept] != value:
        return None
    gone = {lines[i] for i in range(len(items)) if i not in kept}
    if any(each.start_mark.line != each.end_mark.line for each in node.value):
        return None
    return "".join(line for i, line in enumerate(text.splitlines(keepends=True)) if i not in gone)


def _inserted(text: str, node: yaml.MappingNode, path: list[str], value: Any, top: bool, line_end: str) -> str:
    """Return the text with another key in a section."""
    if node.flow_style:
        at = node.end_mark.index - 1
        before = text[:at].rstrip()
        comma = "" if before.endswith(("{", ",")) else ", "
        return f"{before}{comma}{_nested(path, value)[1:-1]}{text[at:]}"
    indent = " " * (0 if top else node.value[0][0].start_mark.column)
    inner = [f"{indent}{'  ' * i}{part}:" for i, part in enumerate(path)]
    inner[-1] += f" {as_yaml(value)}"
    if top and len(path) > 1:
        inner.insert(0, "")  # a new section
    end = _end(node)
    stop = text.find("\n", end)
    lines = line_end.join(inner)
    if stop < 0:
        return f"{text}{line_end}{lines}{line_end}"
    return f"{text[: stop + 1]}{lines}{line_end}{text[stop + 1 :]}"
