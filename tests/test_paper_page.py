"""docs/paper.md is as its figures say, and what the experiments write has its Japanese."""

from __future__ import annotations

import json
import re
import string
import sys
from pathlib import Path

import pytest
from test_paper import CPU, SHORT_RUNS
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.cli.language import language
from ssm_stream.config import load_config
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.memory.state_layout import entity_layout, pool_layout
from ssm_stream.evaluate.prequential import batches
from ssm_stream.evaluate.recordings import Recording
from ssm_stream.evaluate.report import explain_words
from ssm_stream.evaluate.report.section import Check, Section
from ssm_stream.evaluate.report.texts import LANGUAGES
from ssm_stream.paper import words as paper_words
from ssm_stream.paper.page import report_html
from ssm_stream.paper.report import full_plan
from ssm_stream.paper.words import NAME, NUMBER, read_yaml

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / ".ci"))
import paper_page  # noqa: E402  # the script that the page is made by

DATA = json.loads(paper_page.DATA.read_text(encoding="utf-8"))
ENGLISH = re.compile(r"[a-z]{4,}")
KEPT = re.compile(r"(torch|float\d+|gelu|Mamba|Dense|softmax|Adam|sin|exp|hot)")
"""Words that Japanese texts have as they are."""


def texts(section: Section) -> list[str]:
    """All texts of a section."""
    found = [section.title, *section.text, *(check.name for check in section.checks)]
    for table in section.tables:
        found += [
            table.title,
            table.note,
            *table.columns,
            *(c for row in table.rows for c in row if isinstance(c, str)),
        ]
    for chart in section.charts:
        found += [chart.title, chart.x, chart.y, *(series.name for series in chart.series)]
    return [text for text in found if text]


# The page.


def test_the_page_is_as_its_figures_say():
    text, pictures = paper_page.page(DATA)
    assert paper_page.PAGE.read_text(encoding="utf-8") == text, "run `python .ci/paper_page.py`"
    found = {path.name: path.read_text(encoding="utf-8") for path in paper_page.PICTURES.glob("paper-*.svg")}
    assert found == pictures, "run `python .ci/paper_page.py`"
    assert all(len(drawn) < 12_000 for drawn in pictures.values())


def test_the_figures_are_of_experiments_of_the_full_plan():
    names = [piece.name for piece in full_plan()]
    assert set(DATA["sections"]) <= set(names)
    assert {name for _, chapter in paper_page.CHAPTERS for name in chapter} == set(names)
    assert "equalities" in DATA["sections"]


def test_an_experiment_without_figures_is_named_as_missing():
    text, _ = paper_page.page({**DATA, "sections": {"equalities": DATA["sections"]["equalities"]}})
    assert "`lengths` is not in these figures yet" in text
    assert "13 of 13 checks are met" in text


def test_a_missed_check_is_on_the_page():
    section = Section.from_json(DATA["sections"]["equalities"])
    section.checks.append(Check("equal: bits", 1.0, "<=", 0.0))
    text, _ = paper_page.page({**DATA, "sections": {"equalities": section.as_json()}})
    assert "13 of 14 checks are met.** Missed: equal: bits is 1.000, bar ≤ 0." in text


# The way from the paper to the product.


def test_the_blocks_of_state_are_as_large_as_the_page_says():
    config = load_config(ROOT / "configs" / "forecast-fleet.yaml")
    engine = Engine(config)
    for events, *_ in batches(config, Recording(ROOT / "ssm_stream" / "data" / "parking_birmingham.csv.gz")):
        engine.process(engine.admit(events)[0])
    store = engine.target_engines[0].store
    entity, pool = entity_layout(config, store.params), pool_layout(store.params, norm=True)
    page = (ROOT / "docs" / "from-paper.md").read_text(encoding="utf-8")
    entity_part, _, pool_part = page.partition("| block of a pool |")
    for layout, part in ((entity, entity_part), (pool, pool_part)):
        listed = {
            name: int(size.replace(",", "")) for name, size in re.findall(r"^\| `(\w+)` \| ([\d,]+) \|", part, re.M)
        }
        assert listed == {name: of.size for name, _, of, at in layout.groups if at >= 0}
    assert f"A row is {entity.size:,} bytes" in page


# Japanese.


@pytest.mark.parametrize("name", [*SHORT_RUNS, *DATA["sections"]])
def test_what_an_experiment_writes_has_its_japanese(name):
    if name in SHORT_RUNS:
        function, settings = SHORT_RUNS[name]
        section = function(settings, CPU)
    else:
        section = Section.from_json(DATA["sections"][name])
    japanese = paper_words.words("ja")
    left = {text: japanese.translate(text) for text in texts(section)}
    assert {text: shown for text, shown in left.items() if ENGLISH.search(KEPT.sub("", shown))} == {}
    for text, shown in left.items():
        assert sorted(re.findall(r"\d\.\d+", text)) == sorted(re.findall(r"\d\.\d+", shown)), text


def test_a_sentence_without_japanese_stays():
    section = Section("Nobody wrote this down", ["Nor this. The bars are met in all 3 of 3 checks."])
    found = paper_words.words("ja").section(section)
    assert found.title == "Nobody wrote this down"
    assert found.text == ["Nor this.基準を達成：3 件の確認すべて。"]
    assert paper_words.words("en").section(section) is section


def test_translations_use_the_numbers_that_there_are():
    for key, text in read_yaml("sections.ja.yaml").items():
        fields = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
        assert {int(name) for name in fields if name.isdigit()} <= set(range(key.count("#"))), key
        assert {name for name in fields if not name.isdigit()} == set(NAME.findall(key)), key
        assert not NUMBER.search(key.replace("#", "").replace("¹", "")), key


@pytest.mark.parametrize("module", [paper_words, explain_words])
def test_both_languages_have_the_same_texts(module):
    english, japanese = (module.words(each).texts for each in LANGUAGES)
    assert set(english) == set(japanese)
    for key, text in english.items():
        names = [{n for _, n, _, _ in string.Formatter().parse(each) if n} for each in (text, japanese[key])]
        assert names[0] == names[1], key
        assert re.search(r"[ぁ-んァ-ヶ一-龠]", japanese[key]) or not ENGLISH.search(text) or "{" in text, key


def test_the_report_is_japanese():
    page = report_html([Section.from_json(DATA["sections"]["equalities"])], "CPU", "ja")
    assert '<html lang="ja">' in page
    assert "13 件の確認をすべて満たしています。" in page
    assert "達成" in page
    assert "Checks" not in page


@pytest.mark.parametrize(
    ("name", "english", "japanese"),
    [
        ("last", "last", "直前の目標値"),
        ("change(load, 2)", "change(load, 2)", "load の 2 件前からの変化"),
        ("norm: embedding, log space", "norm: embedding, log space", "標準化した全設備: 埋め込み（対数）"),
        ("hour=7", "hour=7", "時=7"),
        ("product=B", "product=B", "product=B"),
        ("product unknown", "product unknown", "product が不明"),
        ("load", "load", "load"),
    ],
)  # fmt: skip
def test_names_of_inputs_and_heads(name, english, japanese):
    assert explain_words.words("en").name(name) == english
    assert explain_words.words("ja").name(name) == japanese


@pytest.mark.parametrize(
    ("given", "locale", "found"),
    [
        ("en", {"LC_ALL": "ja_JP.UTF-8"}, "en"),
        (None, {"LC_ALL": "ja_JP.UTF-8", "LANG": "C"}, "ja"),
        (None, {"LC_ALL": "C", "LANG": "ja_JP.UTF-8"}, "en"),
        (None, {"LC_MESSAGES": "ja_JP", "LANG": "en_US"}, "ja"),
        (None, {}, "en"),
    ],
)
def test_the_language_is_as_given_or_by_locale(given, locale, found, monkeypatch):
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in locale.items():
        monkeypatch.setenv(name, value)
    assert language(given) == found


def test_explain_speaks_japanese_and_its_json_does_not(tmp_path):
    config = "configs/forecast-fleet.yaml"
    command = ["explain", str(ROOT / config), "BHMBCCMKT01", "--recording",
               str(ROOT / "ssm_stream/data/parking_birmingham.csv.gz"), "--row", "19917"]  # fmt: skip
    page = tmp_path / "why.html"
    shown = CliRunner().invoke(app, [*command, "--lang", "ja", "--html", str(page)])
    assert shown.exit_code == 0, shown.output
    for wanted in ("基準（学習前の予測）", "全設備: ", "残り（非線形）", "他の設備から学習"):
        assert wanted in shown.output
    assert "予測の内訳" in page.read_text(encoding="utf-8")
    plain = CliRunner().invoke(app, [*command, "--lang", "en", "--json"])
    assert CliRunner().invoke(app, [*command, "--lang", "ja", "--json"]).stdout == plain.stdout
