"""Writes a page for each section of the configuration in docs/config: its keys, from the models, above text by hand.

    python .ci/config_pages.py            # writes what has changed
    python .ci/config_pages.py --check    # exit code 1 if a page differs from the models

The part of a page above its end mark is written here; the part below is kept.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import yaml

from ssm_stream.config import config_schema
from ssm_stream.config.quantities import BUDGET, DURATION, EVENTS, HORIZON, LASTING, UNITS

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "config"
END = "<!-- end of the keys -->"
BEGIN = "<!-- The keys are written by `make config-pages` from ssm_stream/config: change them there. -->"
PATTERNS = {
    DURATION.pattern: "duration",
    BUDGET.pattern: "budget",
    f"{EVENTS.pattern}|{DURATION.pattern}": "half-life",
    f"{LASTING.pattern}|{DURATION.pattern}": "a number of `events`, or a duration",
    f"{HORIZON.pattern}|{DURATION.pattern}": "a number of `events`, or a duration",
}
"""Pattern of a text → what the text is."""
SHOWN = 60
"""Longest default that is shown."""


def kind(schema: dict[str, Any], path: bool = False) -> str:
    """Return a description of the values that a schema allows. path: texts are paths in an event"""
    if "anyOf" in schema:
        options = [kind(option, path) for option in schema["anyOf"]]
        if "duration" in options and "number" in options:
            options.remove("number")  # of seconds: one sentence of the overview says so
        return ", or ".join(dict.fromkeys(options))
    if "enum" in schema:
        *first, last = [f"`{value}`" for value in schema["enum"]]
        return f"{', '.join(first)} or {last}"
    if "const" in schema:
        return f"`{schema['const']}`"
    match schema.get("type"):
        case "null":
            return "`null`"
        case "boolean":
            return "`true` or `false`"
        case "array":
            return f"a list of {_many(kind(schema['items'], path))}"
        case "object":
            return "properties, by name"
        case "integer" | "number" as name:
            return _bounded("whole number" if name == "integer" else "number", schema)
        case "string" if schema.get("format") == "path":
            return "path in the file system"
        case "string":
            return PATTERNS.get(schema.get("pattern", ""), "path" if path else "text")
    raise ValueError(f"no words for {schema}")


def _many(what: str) -> str:
    """Return the plural."""
    name, comma, rest = what.partition(",")
    plural = {"half-life": "half-lives", "text": "texts", "properties": "properties"}.get(name, f"{name}s")
    return what if what.startswith("`") else f"{plural}{comma}{rest}"


def _bounded(name: str, schema: dict[str, Any]) -> str:
    least, above, most = (schema.get(key) for key in ("minimum", "exclusiveMinimum", "maximum"))
    if above == 0 and most is None:
        return name  # of a duration: all are
    low = f"{least:,}" if least is not None else f"more than {above:,}" if above is not None else ""
    if low and most is not None:
        return f"{name}, {low} to {most:,}"
    return f"{name}, {low}{' or more' if least is not None else ''}" if low else name


def default_of(value: Any, what: str = "") -> str:
    """Return a default as it is written in the file."""
    if what.startswith("duration") and isinstance(value, float):
        unit = next(unit for unit in reversed(UNITS) if value % UNITS[unit] == 0)
        return f"{value / UNITS[unit]:.0f}{unit}"
    text = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n...\n").strip()
    return text if len(text) <= SHOWN else "…"


def keys(section: dict[str, Any], defs: dict[str, Any], reference: dict[str, Any] | None, prefix: str) -> list[str]:
    """Return the lines of all keys of a section; inner sections follow under headings of their own."""
    lines, within = list[str](), list[str]()
    required = section.get("required", [])
    either = [each["required"][0] for each in section.get("anyOf", [])]
    for name, field in section["properties"].items():
        inner = next((o["$ref"] for o in [field, *field.get("anyOf", [])] if "$ref" in o), None)
        if inner is not None:
            model = defs[inner.rpartition("/")[2]]
            within += ["", f"## {prefix}{name}", "", _prose(model["description"])]
            within += ["", _prose(field["description"])] if "description" in field else []
            given = None if reference is None else reference.get(name)
            within += keys(model, defs, given, f"{prefix}{name}.")
            continue
        entry = field.get("items", {}).get("$ref")
        if entry is not None:
            model = defs[entry.rpartition("/")[2]]
            within += ["", f"## {prefix}{name}", "", _prose(field["description"]), "", _prose(model["description"])]
            default = "required" if name in required else "default: empty"
            within += ["", f"*a list; {default}. Each entry has:*", *keys(model, defs, None, f"{prefix}{name}[].")]
            continue
        description = _prose(field.get("description", "Switches it on and off."))
        path = bool(re.search(r"^Paths? of|has this path|^Path", description))
        what = kind(field, path)
        either = [names for way in section.get("oneOf", []) for names in way["required"]]
        if name in required:
            default = "required"
        elif name in either:
            default = f"required, or {' or '.join(f'`{other}`' for other in either if other != name)}"
        else:
            value = reference[name] if reference is not None else field.get("default")
            default = f"default `{default_of(value, what)}`"
        lines += ["", f"### `{prefix}{name}`", "", f"*{what}; {default}*", "", description]
    return lines + within


def _prose(text: str) -> str:
    return " ".join(text.split())


def pages() -> dict[str, str]:
    """Return section → the part of its page above the end mark."""
    schema = config_schema()
    defs = schema["$defs"]
    reference = yaml.safe_load((ROOT / "configs" / "reference.yaml").read_text(encoding="utf-8"))
    found = {}
    for name, field in schema["properties"].items():
        ref = next((o["$ref"] for o in [field, *field.get("anyOf", [])] if "$ref" in o), None)
        if ref is None:
            body = ["", f"*{kind(field)}; default `{default_of(reference[name])}`*", "", _prose(field["description"])]
        else:
            model = defs[ref.rpartition("/")[2]]
            body = ["", _prose(model["description"])]
            body += ["", "This section is required."] if name in schema["required"] else []
            body += ["", "## Keys", *keys(model, defs, reference[name], "")]
        found[name] = "\n".join([f"# {name}", "", BEGIN, *body, "", END, ""])
    return found


def page_text(name: str, above: str) -> str:
    """Return the whole page: the part from the models, and what is kept of the present page."""
    path = PAGES / f"{name}.md"
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    return above + (old.partition(END + "\n")[2] if END in old else "")


def main() -> int:
    stale = {}
    for name, above in pages().items():
        page = page_text(name, above)
        path = PAGES / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != page:
            stale[path] = page
    if "--check" in sys.argv[1:]:
        for path in stale:
            sys.stderr.write(f"{path.relative_to(ROOT)} differs from the models: run `make config-pages`\n")
        return 1 if stale else 0
    PAGES.mkdir(exist_ok=True)
    for path, page in stale.items():
        path.write_text(page, encoding="utf-8")
        sys.stdout.write(f"{path.relative_to(ROOT)} written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
