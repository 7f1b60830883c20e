"""The documentation: links lead somewhere, snippets are what they say they are, commands exist, the site builds."""

from __future__ import annotations

import contextlib
import functools
import io
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import orjson
import pytest
import typer
import yaml
from stub_holidays import stub_package

from ssm_stream.cli.app import app
from ssm_stream.config import config_schema, parse_config
from ssm_stream.config.earlier import REMOVED, RENAMED
from ssm_stream.core import frozen_weights

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / ".ci"))

import config_pages  # noqa: E402  # the scripts that the site is built by
import site_pages  # noqa: E402

PAGES = [
    *sorted((ROOT / "docs").rglob("*.md")),
    *[ROOT / name for name in ("README.md", "README.ja.md", "CHANGELOG.md", "benchmarks/README.md", "tests/README.md")],
    *[ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md")],
]
FENCE = re.compile(r"(?:^<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<lang>[^\n`]*)\n(?P<text>.*?)^```[ \t]*$", re.M | re.S)
INDENTED = re.compile(r"(?:^    \S[^\n]*\n)+", re.M)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)")
BASE = {"source": {"brokers": "localhost:9092", "topic": "events"}, "event": {"entity": "machine", "timestamp": "ts"}}
"""What a snippet stands in that is a part of a configuration."""
PLACEHOLDER = re.compile(r"\$\{file:[^}]*\}")


class Block(NamedTuple):
    """A fenced block. mark: the comment right above it, which says how it is to be taken; line: where it begins"""

    page: Path
    line: int
    lang: str
    text: str
    mark: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start("lang")) + 1
        yield Block(page, line, found["lang"].strip(), found["text"], found["mark"] or "")


ALL = [block for page in PAGES for block in blocks(page)]


def of(*languages: str) -> list[Any]:
    return [pytest.param(block, id=block.place) for block in ALL if block.lang in languages]


def prose(page: Path) -> str:
    """The page without its blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


# Links


def slug(heading: str, seen: dict[str, int]) -> str:
    """The anchor that GitHub gives a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
    text = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
    seen[text] = seen.get(text, -1) + 1
    return f"{text}-{seen[text]}" if seen[text] else text


def anchors(page: Path) -> set[str]:
    seen: dict[str, int] = {}
    return {slug(found[1], seen) for found in re.finditer(r"^#{1,6} +(.+?)[ #]*$", prose(page), re.M)}


@pytest.mark.parametrize("page", [pytest.param(p, id=str(p.relative_to(ROOT))) for p in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    for found in LINK.finditer(prose(page)):
        where, _, anchor = found[1].partition("#")
        if re.match(r"[a-z]+:", where):
            assert re.fullmatch(r"https?://[\w.-]+(:\d+)?(/\S*)?", where), found[1]
            continue
        target = (page.parent / where).resolve() if where else page
        assert target.exists(), f"{found[1]}: no such file"
        assert target.is_relative_to(ROOT), found[1]
        if anchor:
            assert anchor in anchors(target), f"{found[1]}: no such heading; there are {sorted(anchors(target))}"


# Snippets


def within(mark: str, content: Any) -> Any:
    """`in: source` and the like: the sections that a part of the file stands in."""
    for name in reversed(mark.removeprefix("in: ").split(".")):
        content = {name: content}
    return content


def merged(base: Any, part: Any) -> Any:
    if not isinstance(base, dict) or not isinstance(part, dict):
        return part
    return {**base, **{name: merged(base.get(name), value) for name, value in part.items()}}


@functools.cache
def validator() -> jsonschema.Draft202012Validator:
    """Of configurations; to hold the schema against its own takes a fifth of a second."""
    schema = config_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("block", of("yaml"))
def test_configurations_can_be_used(block: Block, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if block.mark == "not ours":
        yaml.safe_load(block.text)
        return
    # What a snippet names and this machine does not have: secrets, certificates, weights.
    monkeypatch.chdir(tmp_path)
    secret = tmp_path / "secret"
    secret.write_text("the words of a secret")
    for name in re.findall(r"\$\{([A-Z_]+)\}", block.text):
        monkeypatch.setenv(name, "the words of a secret")
    frozen_weights.save(frozen_weights.load(None), Path("line7.safetensors"), {})
    Path("shutdowns.csv").write_text("from,to\n2026-08-10,2026-08-14\n")
    stub_package(monkeypatch, {("JP", None): ["2026-01-01"]})
    content = yaml.safe_load(PLACEHOLDER.sub(f"${{file:{secret}}}", block.text))
    assert isinstance(content, dict), "a configuration is sections with keys"
    content = within(block.mark, content) if block.mark.startswith("in: ") else content
    if not {"source", "event"} <= content.keys():
        content = merged(BASE, content)
    validator().validate(content)
    kafka = content["source"].get("kafka", {})
    for name in [name for name in kafka if name.endswith((".location", ".key.password"))]:
        del kafka[name]
    parse_config(yaml.safe_dump(content, allow_unicode=True), block.place)


@pytest.mark.parametrize("block", of("json"))
def test_json_can_be_read(block: Block) -> None:
    assert orjson.loads(block.text)


TESTED = ("docs/consumers.md", "docs/notebook.md", "docs/own-parts.md")
"""Pages whose Python runs in a test of their own: test_consumers.py, test_notebook.py, test_own_parts.py."""


@pytest.mark.parametrize("block", [p for p in of("python") if p.id.partition(":")[0] not in TESTED])
def test_python_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(block.text, block.place, "exec"), {"__name__": "snippet"})


def test_blocks_say_what_they_are() -> None:
    known = {"", "yaml", "json", "java", "python", "sql", "ini", "toml"}
    assert {block.lang for block in ALL} <= known
    marks = {block.mark for block in ALL if block.lang == "yaml" and block.mark}
    assert all(mark == "not ours" or re.fullmatch(r"in: [a-z.]+", mark) for mark in marks), marks


# Commands


class Call(NamedTuple):
    """A command line of ssm-stream. whole: it can be parsed as it stands, with nothing left out"""

    place: str
    text: str
    whole: bool


def without_comment(line: str) -> str:
    return re.split(r"\s#\s", line, maxsplit=1)[0].strip()


def calls(page: Path) -> Iterator[Call]:
    name = str(page.relative_to(ROOT))
    text = page.read_text(encoding="utf-8")
    for block in blocks(page):
        if block.lang in ("", "sh", "bash", "console"):
            for line in re.sub(r"\\\n", " ", block.text).splitlines():
                if call := _called(without_comment(line)):
                    yield Call(block.place, call, True)
    bare = FENCE.sub("", text)
    for found in INDENTED.finditer(bare):
        for line in found[0].splitlines():
            if call := _called(without_comment(line)):
                yield Call(name, call, False)
    for found in INLINE.finditer(bare):
        if call := _called(found[1]):
            yield Call(name, call, False)


def _called(line: str) -> str:
    """The arguments of ssm-stream, if the line calls it."""
    found = re.match(r"(?:\$ )?(?:\w+=\S+ )*(?:\S*/bin/)?ssm-stream(?: (.*))?$", line)
    return "" if found is None else re.split(r" (?:[|>]|&&|2>)", found[1] or "")[0].strip()


COMMANDS = typer.main.get_command(app)


def resolved(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the words name, and the rest of them."""
    command: Any = COMMANDS
    while words and (inside := getattr(command, "commands", None)) is not None:
        if words[0].startswith("-") or words[0] in ("COMMAND", "…"):
            break
        if "|" in words[0]:  # one of several
            assert set(words[0].split("|")) <= inside.keys(), words[0]
            words = [words[0].partition("|")[0], *words[1:]]
        assert words[0] in inside, f"no command {words[0]!r}; there are {sorted(inside)}"
        command, words = inside[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize("page", [pytest.param(p, id=str(p.relative_to(ROOT))) for p in PAGES])
def test_commands_exist(page: Path) -> None:
    for call in calls(page):
        try:
            words = shlex.split(call.text)
            command, rest = resolved(list(words))
            options = {name for parameter in command.params for name in [*parameter.opts, *parameter.secondary_opts]}
            options |= {"--help", "-h", "--version"}
            used = {word.partition("=")[0].strip("[],.") for word in rest if word.startswith(("-", "[-"))}
            assert not (unknown := used - options), f"no option {unknown}; there are {sorted(options)}"
            if call.whole and not re.search(r"\b[A-Z]{4,}\b|…|\[|--help|-h\b", call.text):
                _parse(words)
        except Exception as error:
            raise AssertionError(f"{call.place}: ssm-stream {call.text}: {error}") from error


def _parse(words: list[str]) -> None:
    """Every option takes what it is given and every argument is there; nothing is run."""
    command, rest = resolved(words)
    command.make_context("ssm-stream", rest)


def within_of(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """All commands, by their whole names."""
    yield name, command
    for inner, inside in getattr(command, "commands", {}).items():
        yield from within_of(inside, f"{name} {inner}")


WRITTEN = {"out", "diff", "html", "cache", "alerts"}
"""Options whose file a command writes."""


def help_examples() -> Iterator[tuple[str, list[str]]]:
    """Each command line of a help text, with the name of its command; `>` and what follows is left out."""
    for name, command in within_of(COMMANDS, "ssm-stream"):
        text = (command.callback.__doc__ or "") if command.callback else ""
        for line in re.findall(r"^ *(?:[\w ,]+: )?(ssm-stream .*)", text, re.M):
            words = shlex.split(line.strip().removesuffix("\\"))
            yield name, words[1 : words.index(">") if ">" in words else None]


def test_examples_of_the_help_can_be_called() -> None:
    for _, words in help_examples():
        _parse(words)


def test_files_of_the_help_exist_after_one_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `ssm-stream examples` each file that a help's example reads is there, or another example writes it."""
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, "-m", "ssm_stream", "examples"], check=True, capture_output=True)
    written, read = {"monitor.state"}, set[tuple[str, str]]()  # by `state export`
    for name, words in help_examples():
        command, rest = resolved(list(words))
        flags = {flag: p.name for p in command.params for flag in p.opts if flag.startswith("-")}
        for before, word in zip(["", *rest], rest, strict=False):
            if re.search(r"\.(ya?ml|csv|gz|jsonl|json|parquet|state|safetensors|html|diff)$", word):
                (written.add(word) if flags.get(before) in WRITTEN else read.add((name, word)))
    assert len(read) > 20
    missing = [(name, word) for name, word in sorted(read) if word not in written and not (tmp_path / word).exists()]
    assert missing == []


def test_help_names_the_command_that_writes_its_files() -> None:
    for name, command in within_of(COMMANDS, "ssm-stream"):
        if command.callback and "examples/" in (command.callback.__doc__ or "") and name != "ssm-stream examples":
            assert "ssm-stream examples" in (command.epilog or ""), name


def test_settings_that_are_named_exist() -> None:
    schema = config_schema()
    top = "|".join(schema["properties"])
    for page in PAGES:
        for found in re.findall(rf"`((?:{top})(?:\.[a-z_*]+)+)(?::[^`]*)?`", page.read_text(encoding="utf-8")):
            if found.endswith((".py", ".kafka", ".html", ".md", ".state")):
                continue
            if found in {*RENAMED, *REMOVED} and page.name == "CHANGELOG.md":
                continue  # the changelog names keys that have other names now, or are gone
            part: dict[str, Any] = schema
            for name in found.split("."):
                if name == "*":
                    break
                assert name in part["properties"], f"{page.name}: no setting {found}"
                part = part["properties"][name]
                ref = next((o["$ref"] for o in [part, *part.get("anyOf", [])] if "$ref" in o), None)
                part = schema["$defs"][ref.rpartition("/")[2]] if ref else {"properties": {}}


def test_other_commands_exist() -> None:
    made = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"(?:^|`)make ([a-z-]+)(?=[`\s])", text, re.M):
            assert target in made, f"{page.name}: make {target}"
        for script in re.findall(r"\bpython ((?:benchmarks|tests|\.ci)/[\w/]+\.py)", text):
            assert (ROOT / script).exists(), f"{page.name}: {script}"


# Both READMEs


def test_the_japanese_readme_has_the_same_commands() -> None:
    english, japanese = [list(blocks(ROOT / name)) for name in ("README.md", "README.ja.md")]

    def bare(block: Block) -> tuple[str, list[str]]:
        return block.lang, [re.split(r"(?:^|\s)#\s", line, maxsplit=1)[0].rstrip() for line in block.text.splitlines()]

    assert [bare(block) for block in japanese] == [bare(block) for block in english]


def test_the_japanese_readme_has_the_same_parts() -> None:
    english, japanese = [prose(ROOT / name) for name in ("README.md", "README.ja.md")]

    def shape(text: str) -> list[str]:
        """Headings, list items and rows in their order."""
        return re.findall(r"^(#+ |- |\||!\[)", text, re.M)

    def links(text: str) -> list[str]:
        """Where the links lead; a page in Japanese is taken for the English one."""
        return sorted(link.replace(".ja.md", ".md") for link in LINK.findall(text) if not link.startswith("README"))

    assert shape(japanese) == shape(english)
    assert links(japanese) == links(english)
    assert sorted(INLINE.findall(japanese)) == sorted(INLINE.findall(english))


@pytest.mark.parametrize("page", ["README.md", "README.ja.md"])
def test_the_first_command_prints_what_stands_below_it(page: str) -> None:
    first = next(block.text for block in blocks(ROOT / page) if "$ .venv/bin/ssm-stream backtest" in block.text)
    command, _, output = first.partition("ssm-stream backtest ")[2].partition("\n")
    done = subprocess.run(
        [sys.executable, "-m", "ssm_stream", "backtest", *command.split()], capture_output=True, text=True, cwd=ROOT,
        check=True,
    )  # fmt: skip
    table = [line.rstrip() for line in done.stdout.splitlines() if set(line) & set("│┃━─")]
    assert table == [line for line in output.splitlines() if set(line) & set("│┃━─")]


@pytest.mark.parametrize("page", ["quickstart.md", "quickstart.ja.md"])
def test_the_backtest_of_the_first_hour_prints_what_stands_there(page: str, tmp_path: Path) -> None:
    run = [sys.executable, "-m", "ssm_stream"]
    subprocess.run([*run, "examples"], check=True, capture_output=True, cwd=tmp_path)
    files = ["examples/soft-sensor.yaml", "examples/plant.csv.gz"]
    done = subprocess.run([*run, "backtest", *files], capture_output=True, text=True, cwd=tmp_path, check=True)
    block = next(block for block in blocks(ROOT / "docs" / page) if " entity ┃ events" in block.text)
    shown, printed = ([line.rstrip() for line in text.splitlines()] for text in (block.text, done.stdout))
    assert [line for line in shown if set(line) & set("│┃━─")] == [line for line in printed if set(line) & set("│┃━─")]
    assert next(line for line in shown if line.startswith("events inside")) in printed


# The site


def test_the_pages_of_the_sections_are_as_the_models_say() -> None:
    for name, above in config_pages.pages().items():
        path = config_pages.PAGES / f"{name}.md"
        assert path.exists(), "run `make config-pages`"
        assert path.read_text(encoding="utf-8") == config_pages.page_text(name, above), "run `make config-pages`"
    sections = {path.stem for path in config_pages.PAGES.glob("*.md")}
    assert sections == set(config_schema()["properties"]), "a page for each section, and no other"


def test_the_site_builds_and_asks_nothing_of_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    monkeypatch.chdir(ROOT)
    config = load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(tmp_path))
    build(config)
    pages = list(tmp_path.rglob("*.html"))
    assert {site_pages.PAGES[name].replace(".md", ".html") for name in site_pages.PAGES} <= {
        str(page.relative_to(tmp_path)) for page in pages
    }
    for page in pages:
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=\"?([^\s\">]+)", text)
        fetched += re.findall(r"<link[^>]*rel=\"?(?:stylesheet|preconnect|icon)[^>]*href=\"?([^\s\">]+)", text)
        assert not [source for source in fetched if re.match(r"(https?:)?//", source)], page
