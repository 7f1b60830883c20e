"""Data frames through the production engine: the same bits as a backtest, whatever the library and the cuts."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import warnings
from collections import OrderedDict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import ssm_stream.config
from ssm_stream import Engine, load_config, plot, select_features
from ssm_stream.config import Config, ConfigError, parse_config
from ssm_stream.config.sections import Labels
from ssm_stream.engine.engine import Engine as CoreEngine
from ssm_stream.evaluate.prequential import prequential
from ssm_stream.ingest.events import EventReader
from ssm_stream.ingest.labels import LabelReader

os.environ["MPLBACKEND"] = "Agg"
DOCS = Path(__file__).parents[1] / "docs"
NUMBERS = ("y", "yhat", "yhat_lower", "yhat_upper", "anomaly_score", "warmup", "n", "fleet")


def config(event: str = "features: [a, b], target: y", more: str = "") -> Config:
    return parse_config(
        f"source: {{brokers: 'x:1', topic: t}}\nevent: {{entity: e, timestamp: t, {event}}}\n{more}"
        "alerts: {anomaly: {budget: 1 per 100 events}, drift: {budget: 1 per 200 events}}\n"
    )


def frame(n: int = 700, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    a, b, e = rng.normal(size=n), rng.normal(size=n), rng.integers(0, 3, n)
    y = 2 * a - b + e + 0.1 * rng.normal(size=n) + 4 * (np.arange(n) > n - 150)
    columns = {"e": [f"m{i}" for i in e], "t": 1_700_000_000 + 60 * np.arange(n), "a": a, "b": b, "y": y, "more": "x"}
    return pl.DataFrame(columns).with_columns(pl.when(pl.col("a") > 2).then(None).otherwise(pl.col("b")).alias("b"))


def numbers(result: Any) -> dict[str, np.ndarray[Any, Any]]:
    return {name: np.asarray(result[name], float) for name in NUMBERS}


def same(one: Any, other: Any) -> None:
    for name, values in numbers(one).items():
        assert np.array_equal(values, numbers(other)[name], equal_nan=True), name
    assert list(one["entity"]) == list(other["entity"])


def test_a_frame_gives_what_a_backtest_gives() -> None:
    import pandas as pd

    rows, engine = frame(), Engine(config())
    result = engine.run(rows)
    assert isinstance(result, pl.DataFrame)
    chunks = list(prequential(config(), rows.to_dicts()))
    for name, column in (("yhat", "yhat"), ("lower", "yhat_lower"), ("score", "anomaly_score"), ("fleet", "fleet")):
        expected = np.concatenate([getattr(chunk.predictions, name) for chunk in chunks])
        assert np.array_equal(expected, result[column].to_numpy()), name
    told = [alert.message | {"episode": None} for chunk in chunks for alert in chunk.alerts]
    assert told
    assert [{k: v for k, v in alert.items() if k != "row"} for alert in engine.alerts] == told, "without ids"
    assert result["row"].to_list() == list(range(len(rows)))
    assert result["ts"][0] == pd.Timestamp(1_700_000_000, unit="s", tz="UTC")


def test_pandas_and_polars_and_any_cuts_are_the_same() -> None:
    import pandas as pd

    rows = frame()
    whole = Engine(config()).run(rows)
    in_pandas = pd.DataFrame({name: rows[name].to_list() for name in rows.columns})
    assert in_pandas["b"].isna().any()
    result = Engine(config()).run(in_pandas)
    assert isinstance(result, pd.DataFrame)
    same(whole, result)
    in_pandas["t"] = pd.to_datetime(in_pandas["t"], unit="s")
    same(whole, Engine(config()).run(in_pandas))
    engine = Engine(config())
    parts = [engine.run(rows[start : start + 97]) for start in range(0, len(rows), 97)]
    same(whole, pl.concat(parts))
    assert [alert["row"] for alert in engine.alerts] != []


@pytest.mark.parametrize("more", ["", "model: {horizon: 3 events}", "state: {max_entities: 5}"])
def test_an_alert_that_has_waited_stands_at_its_own_event(more: str) -> None:
    """`alerts.fleet.wait`: it is sent at a later event of the call, or in a later call, which then shows it as such."""
    made = parse_config(
        "source: {brokers: 'x:1', topic: t}\nevent: {entity: e, timestamp: t, features: [a, b], target: y}\n"
        f"{more}\n"
    )
    n, wild = 1_500, 1_200
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=n), rng.normal(size=n)
    y = 2 * a - b + 0.1 * rng.normal(size=n) + 60 * (np.arange(n) == wild)
    times = 1_700_000_000 + np.arange(n) // 10 * 10  # two of each entity have the same
    rows = pl.DataFrame({"e": [f"m{i % 5}" for i in range(n)], "t": times, "a": a, "b": b, "y": y})
    whole = Engine(made)
    result = whole.run(rows)
    assert "anomaly started" in result["alert"][wild]
    (own,) = [each for each in whole.alerts if each["phase"] == "started" and each["y"] == y[wild]]
    assert own["row"] == wild
    documents = rows.to_dicts()
    assert Engine(made).run(documents).alerts == whole.alerts
    cut = Engine(made)
    before, after = cut.run(rows[: wild + 1]), cut.run(rows[wild + 1 :])
    assert before["alert"][wild] is None
    (late,) = [words for words in after["alert"].to_list() if words and "(earlier)" in words]
    assert late.startswith("anomaly started")
    assert own | {"row": None} in cut.alerts
    one, found = Engine(made), list[Any]()
    for document in documents:
        found += one.run(document).alerts
    assert own | {"row": None} in found
    assert {each["row"] for each in found} == {0, None}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("b", "Float64"),
        ("b", "double[pyarrow]"),
        ("b", object),
        ("e", "string"),
        ("t", "Int64"),
        ("y", "Float64"),
        ("more", "string"),
    ],
)
def test_a_missing_value_of_pandas_is_null_whatever_the_column(name: str, dtype: Any) -> None:
    import pandas as pd

    rows = frame(60).with_columns(pl.when(pl.int_range(60) % 9 == 4).then(None).otherwise(pl.col(name)).alias(name))
    made = config("features: [a, b], categories: [more], target: y")
    values = [pd.NA if value is None else value for value in rows[name].to_list()]
    in_pandas = rows.to_pandas().assign(**{name: pd.Series(values, dtype=dtype)})
    with warnings.catch_warnings(record=True) as warned:
        expected = Engine(made).run(rows)
        same(expected, Engine(made).run(in_pandas))
        of_dicts = Engine(made).run(in_pandas.to_dict("records")).predictions
    assert [each.yhat for each in of_dicts] == expected["yhat"].to_list()
    assert len(warned) == (3 if name in "et" else 0)


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("a", [1, 2.5, 3, "x", 4, 5]),
        ("y", [1.5, 2, True, 3.0, 4, None]),
        ("e", ["m", 7, "m", 7.5, "m", None]),
        ("t", [60, 120, "1970-01-01T00:03:00Z", 240, "noon", 360]),
        ("a", [1, 2**200, 3, 4, 5, 6]),
        ("more", ["x", 1, "\ud800", "x", True, None]),
    ],
)
def test_a_cell_of_another_type_concerns_its_row_alone(name: str, cells: list[Any]) -> None:
    import pandas as pd

    made = config("features: [a, b], categories: [more], target: y")
    rows = frame(6).to_pandas().assign(**{name: pd.Series(cells, dtype=object)})
    whole, cut = Engine(made), Engine(made)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = whole.run(rows)
        same(result, pd.concat([cut.run(rows[i : i + 1]) for i in range(6)]))
        documents = [{**row, name: cell} for row, cell in zip(frame(6).to_dicts(), cells, strict=True)]
        of_dicts = Engine(made).run(documents)
    assert [each.yhat for each in of_dicts.predictions] == result["yhat"].to_list()
    assert of_dicts.refused == whole.refused != []


def test_values_that_no_event_has_are_refused_with_their_rows() -> None:
    import pandas as pd

    period = pd.period_range("2026-01", periods=5, freq="min")
    for column, values in (("t", period), ("a", np.arange(5) * 1j), ("a", [{1}] * 5)):
        engine, in_pandas = Engine(config()), frame(5).to_pandas().assign(**{column: pd.Series(values)})
        with pytest.warns(UserWarning, match=rf"5 of 5 rows are no events .WrongType 5.; the first: .*`{column}` must"):
            assert len(engine.run(in_pandas)) == 0
        with pytest.warns(UserWarning, match=r"5 of 5 documents are no events .WrongType 5."):
            engine.run(in_pandas.to_dict("records"))
    with pytest.warns(UserWarning, match="MissingField 1"):
        Engine(config()).run({"e": "m", "t": pd.NaT, "a": 1, "b": 1, "y": 1})


def test_a_state_goes_on_in_another_engine() -> None:
    rows = frame()
    first = Engine(config())
    first.run(rows[:400])
    second = Engine.restore(config(), first.snapshot())
    same(Engine(config()).run(rows)[400:], second.run(rows[400:]))


def test_rows_that_are_no_events_are_left_out_and_told() -> None:
    rows = frame(50).with_columns(pl.when(pl.int_range(50) == 7).then(None).otherwise(pl.col("e")).alias("e"))
    engine = Engine(config())
    with pytest.warns(UserWarning, match="1 of 50 rows are no events .MissingField 1.; the first: "):
        result = engine.run(rows)
    assert 7 not in result["row"].to_list()
    assert len(result) == 49
    assert [refusal.position for refusal in engine.refused] == [7]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(engine.run(frame(10))) == 10
    assert engine.refused == []


def test_a_column_that_is_missing_is_named_with_the_cure() -> None:
    with pytest.raises(
        ConfigError, match=r"event.timestamp: no column 't' in the frame; its columns: e, a.*reset_index"
    ):
        Engine(config()).run(frame().drop("t"))


def test_columns_that_only_pandas_has_are_refused_by_name() -> None:
    pandas = pytest.importorskip("pandas")
    rows = pandas.DataFrame(frame(20).to_dicts())
    engine = Engine(config())
    with pytest.raises(ConfigError, match=r"columns of the same name: 'a' 2 times; rename or drop all but one"):
        engine.run(pandas.concat([rows, rows[["a"]]], axis=1))
    with pytest.raises(ConfigError, match=r"no column 'e' in the frame; its columns: \('x', 'e'\), "):
        engine.run(pandas.concat({"x": rows}, axis=1))
    assert len(engine.run(rows.assign(more=1).rename(columns={"more": 7}))) == 20


def test_several_targets_are_rows_of_their_own() -> None:
    rows = frame().with_columns((pl.col("y") * 2).alias("z"))
    result = Engine(config("features: [a, b], target: [y, z]")).run(rows)
    assert result["target"].to_list()[:4] == ["y", "z", "y", "z"]
    assert result["row"].to_list()[:4] == [0, 0, 1, 1]
    assert np.array_equal(result["y"].to_numpy()[::2], rows["y"].to_numpy())
    figure = plot(result, "m1", target="z")
    assert figure.axes[0].get_legend_handles_labels()[1][:3] == ["interval", "predicted", "z"]


def test_a_horizon_says_for_when() -> None:
    import pandas as pd

    result = Engine(config(more="model: {horizon: 1h}\n")).run(frame())
    assert (result["for"] - result["ts"]).to_list()[0] == pd.Timedelta("1h")
    result = Engine(config(more="model: {horizon: 5 events}\n")).run(frame().to_pandas())
    assert result["for"].isna().all()


MARKED = "labels: {{marker: result, target: result, wait: 2h{}}}\n"


def with_labels(n: int = 700, *, by_id: bool = False) -> list[dict[str, Any]]:
    """Events without targets, a label twenty rows later, and one that never finds its event."""
    out = list[dict[str, Any]]()
    rows = frame(n).to_dicts()
    for i, row in enumerate(rows):
        out.append({**row, "y": None, "id": i, "result": math.nan})
        if i >= 20:
            earlier = rows[i - 20]
            own = {"id": i - 20} if by_id else {"t": earlier["t"]}
            out.append({"e": earlier["e"], "result": earlier["y"], **own})
    out.insert(50, {"e": "m0", "result": 1.0, "t": 1, "id": "none"})
    out.append({**rows[0], "t": rows[-1]["t"] + 86_400, "e": "m0", "id": n, "y": None})
    return out


@pytest.mark.parametrize("by_id", [False, True])
def test_labels_among_the_events_are_learned_in_any_cuts(by_id: bool) -> None:
    """As the engine learns them that gets events and labels apart."""
    made = config("features: [a, b], target: y", MARKED.format(", id: id" if by_id else ""))
    given = with_labels(by_id=by_id)

    def run(cuts: list[int]) -> tuple[list[Any], list[Any], list[Any], dict[str, int]]:
        engine = Engine(made)
        found: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
        for start, stop in pairwise([0, *cuts, len(given)]):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                results = engine.run(given[start:stop] if stop > start + 1 else given[start])
            found[0].extend(p._replace(row=start + p.row) for p in results.predictions)
            found[1].extend(m | {"row": start + m["row"]} for m in results.alerts)
            found[2].extend(r._replace(position=start + r.position) for r in results.refused)
            engine = Engine.restore(made, engine.snapshot()) if len(cuts) < 9 else engine
        return *found, engine.label_counts

    whole = run([])
    assert run([50, 51, 300]) == whole
    assert run(list(range(1, len(given)))) == whole
    predictions, alerts, refused, counts = whole
    assert [p.row for p in predictions] == [i for i, each in enumerate(given) if "a" in each]
    assert counts["matched"] == 680
    assert alerts
    assert [m["y"] for m in alerts] == [given[m["row"]]["result"] for m in alerts], "rows of labels"
    ((at, fault, reason),) = refused
    assert (at if not by_id else 50, fault, reason[:17]) == (50, "UnmatchedLabel", "a label of 'm0': ")
    core, reader = CoreEngine(made), LabelReader(made, made.labels or Labels())
    yhat = list[float]()
    for each in given:
        if "a" not in each:
            core.learn(reader.read([each])[0])
            continue
        events, _ = EventReader(made.event).read([{**each, "result": None}])
        yhat += core.process(reader.add_ids([each], events)[0])[0].yhat.tolist()
    assert [p.yhat for p in predictions] == yhat


def test_a_frame_with_labels_among_its_rows_is_refused_with_the_cure() -> None:
    made = config("features: [a, b], target: y", MARKED.format(""))
    rows = frame(100)
    assert len(Engine(made).run(rows)) == len(Engine(made).run(rows.with_columns(result=pl.lit(None)))) == 100
    marked = rows.with_columns(result=pl.Series([None] * 99 + [1.0]))
    for given in (marked, marked.to_pandas()):
        with pytest.raises(
            ConfigError, match=r"labels.marker: found rows .*'result'.*give the rows as dicts .*to_dict"
        ):
            Engine(made).run(given)
    assert len(Engine(made).run(marked.to_dicts()).predictions) == 99


def test_features_may_be_selected_from_the_frame() -> None:
    made = config("features: auto, target: y")
    with pytest.raises(ConfigError, match="none are selected yet"):
        Engine(made)
    chosen = select_features(made, frame().to_pandas())
    assert chosen.event.numbers == ["a", "b"]
    same(Engine(config()).run(frame()), Engine(chosen).run(frame()))


def test_what_is_neither_a_dict_nor_a_frame_is_refused_with_the_cure() -> None:
    made = config("features: [a, in.b], target: y")
    documents = [{**row, "in": {"b": row["b"]}} for row in frame(5).to_dicts()]
    of_others = [OrderedDict(each, **{"in": OrderedDict(each["in"])}) for each in documents]
    engine, expected = Engine(made), Engine(made).run(documents)
    assert Engine(made).run(of_others) == expected
    assert [engine.run(each).predictions[0].yhat for each in of_others] == [each.yhat for each in expected.predictions]
    for given in (iter(documents), tuple(documents), frame().lazy(), None):
        with pytest.raises(TypeError, match=r"found a value of type \w+; give a dict, a list of dicts .*collect"):
            engine.run(given)
    with pytest.raises(TypeError, match="found a value of type list; give a data frame in memory"):
        select_features(config("features: auto, target: y"), documents)
    with pytest.raises(TypeError, match="found a value of type Results; give the data frame that Engine"):
        plot(expected)


def test_idle_events_and_planned_stops_have_columns() -> None:
    stop = "{from: '1970-01-01T00:05', to: '1970-01-01T00:09', learn: hold}"
    made = parse_config(
        "source: {brokers: 'x:1', topic: t}\nmodel: {warmup: 10}\nstate: {max_entities: 2, when_full: evict}\n"
        "event: {entity: e, timestamp: t, features: [b], target: [y, a], when: {more: [run]}}\n"
        f"alerts: {{maintenance: [{stop}]}}\n"
    )
    every = pl.int_range(20)
    rows = frame(20).with_columns(t=60 * every, more=pl.when(every % 5 > 0).then(pl.lit("run")))
    result, of_dicts = Engine(made).run(rows), Engine(made).run(rows.to_dicts()).predictions
    for name in ("idle", "maintenance"):
        assert result[name].to_list() == [getattr(each, name) for each in of_dicts]
        assert result[name].n_unique() == 2
    for name in NUMBERS[1:]:
        assert np.array_equal(result[name], np.array([getattr(each, name) for each in of_dicts]), equal_nan=True), name
    assert Engine(made).run(rows[:0]).schema == result.schema


def test_an_empty_frame_gives_an_empty_one() -> None:
    result = Engine(config()).run(frame()[:0])
    assert result.columns == Engine(config()).run(frame()[:5]).columns
    assert len(result) == 0


def test_a_plot_shows_who_is_worth_seeing() -> None:
    result = Engine(config()).run(frame())
    counts = result.filter(pl.col("alert").is_not_null())["entity"].value_counts(sort=True)
    assert plot(result).axes[0].get_title() == counts["entity"][0]
    with pytest.raises(KeyError, match="no prediction of 'm9'"):
        plot(result, "m9")


def test_the_example_of_the_documentation_runs(capsys: pytest.CaptureFixture[str]) -> None:
    of_dicts, of_frames = re.findall(
        r"^```python\n(.*?)^```", (DOCS / "notebook.md").read_text(), re.MULTILINE | re.DOTALL
    )
    exec(compile(of_dicts, "notebook.md", "exec"), {})
    assert '"entity":"press-7"' in capsys.readouterr().out
    exec(compile(of_frames, "notebook.md", "exec"), {})
    assert "anomaly started" in capsys.readouterr().out


def test_the_command_line_does_not_pay_for_it() -> None:
    code = "import sys, ssm_stream; print(sorted({'polars', 'narwhals', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert load_config is ssm_stream.config.load_config


def test_an_engine_takes_a_configuration_a_path_or_text(tmp_path: Path) -> None:
    text = "source: {brokers: 'x:1', topic: t}\nevent: {entity: e, timestamp: t, features: [a, b], target: y}\n"
    path = tmp_path / "monitor.yaml"
    path.write_text(text)
    one_line = f"{{{', '.join(text.splitlines())}}}"
    for form in (text, path, str(path), one_line, load_config(path)):
        assert Engine(form).config == load_config(path)
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read"):
        Engine(str(tmp_path / "absent.yaml"))
    auto = text.replace("[a, b]", "auto")
    assert select_features(auto, frame()).event.numbers == ["a", "b"]


def test_the_public_interface_is_listed() -> None:
    assert set(ssm_stream.__all__) <= set(dir(ssm_stream))
    for name in ssm_stream.__all__:
        assert getattr(ssm_stream, name).__doc__, name
