"""The engine for scripts and notebooks: dicts or data frames in, records or data frames out, a plot by one call.

    from ssm_stream import Engine, plot

    engine = Engine("monitor.yaml")
    result = engine.run({"machine": "press-7", "ts": 1767225600, "load": 3.5, "temp": 20.1})    # or a list of dicts
    result = engine.run(frame)      # pandas, polars, or what else narwhals reads; the result is of the same kind
    plot(result, "press-7")

It is the production engine: the same events in the same order give the same bits as `ssm-stream run`. Data frames and
plots need the extra `notebook`: pip install -e '.[notebook]'.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Config, ConfigError, read_config
from ssm_stream.config.paths import head_of
from ssm_stream.config.suggestions import check_columns
from ssm_stream.core.loop import Predictions
from ssm_stream.engine.alerts import Alert
from ssm_stream.evaluate.document_engine import CallRows, DocumentEngine, Results
from ssm_stream.ingest.events import Events, RefusedDocument
from ssm_stream.ingest.json_values import plain_dicts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TIMES = ("ts", "for")
EARLIER = " (earlier)"
"""End of an alert's words whose event was in an earlier call."""
CURE = "pip install -e '.[notebook]'"


def _narwhals() -> Any:
    try:
        import narwhals as nw
    except ImportError:
        raise ImportError(f"data frames need the package narwhals: {CURE}") from None
    return nw


def _from_native(frame: Any, cure: str) -> Any:
    """Return a frame as one of narwhals.

    Raises:
        ConfigError: columns have the same name.
        TypeError: it is none in memory.
    """
    nw = _narwhals()
    try:
        return nw.from_native(frame, eager_only=True)
    except nw.exceptions.DuplicateError as error:
        found = "; ".join(line.lstrip("- ") for line in str(error).splitlines()[1:])
        cure = "rename or drop all but one (pandas: frame.loc[:, ~frame.columns.duplicated()])"
        raise ConfigError(f"the frame: found columns of the same name: {found}; {cure}") from None
    except TypeError:
        raise TypeError(f"found a value of type {type(frame).__name__}; give {cure}") from None


class _Sent(NamedTuple):
    """An alert of a frame. at, own: number of the event at which it is sent, and of its own, None: of an earlier one"""

    alert: Alert
    at: int
    own: int | None


class Engine(DocumentEngine):
    """The production engine, with dicts and data frames.

    Args:
        config: a `Config`, the path of a YAML file, or its text (with a line break, or a mapping in braces); features
            are listed, or selected by `select_features`

    Attributes:
        refused: of the last `run`: row and reason of what is no event

    Raises:
        ConfigError: the file or text cannot be used, or its features are still `auto`.
    """

    refused: list[RefusedDocument]

    def __init__(self, config: Config | str | Path) -> None:
        super().__init__(read_config(config))
        self.refused = []
        self._messages: list[dict[str, Any]] = []

    @overload
    def run(self, events: dict[str, Any] | list[dict[str, Any]], source: int = 0) -> Results: ...
    @overload
    def run(self, events: Any, source: int = 0) -> Any: ...
    def run(self, events: Any, source: int = 0) -> Any:
        """Predict, judge and learn events, in their order; call it again to continue with more.

        Args:
            events: an event as a dict, a list of them, or a data frame with a row an event. The configuration names the
                keys or columns; more do no harm
            source: the stream that the events come from: entities of one stream learn together

        Returns:
            for dicts, their `Results`: `predictions`, `alerts` and `refused`. For a frame, one of the same kind, a row
            an event (with several targets, one for each target of it): `row` (of the frame, from 0), `entity`, `ts`
            (UTC), with several targets `target`, with a horizon `for` (the time that is predicted; none where it is
            counted in events), `y`, `yhat`, `yhat_lower`, `yhat_upper`, `anomaly_score`, `warmup`, `n`, `fleet` as in
            a prediction message, with conditions `idle`, with planned stops `maintenance`, and `alert`: what started or
            ended at that event, or, with `(earlier)`, at one of an earlier call. What is no event is left out, with a
            warning, and is in `refused`.

        Raises:
            ConfigError: a configured column is not there; names it and the nearest one. Two have the same name.
            TypeError: events are neither dicts nor a frame in memory.
        """
        if isinstance(events, dict):
            results, count = self.process_document(plain_dicts([events])[0], source), 1
        elif isinstance(events, list):
            results, count = self.process_documents(plain_dicts(events), source), len(events)
        else:
            return self._run_frame(events, source)
        self.refused = results.refused
        if results.refused:
            self._warn(count, "documents")
        return results

    def _run_frame(self, frame: Any, source: int) -> Any:
        from ssm_stream.evaluate.recordings.column_reader import ColumnReader
        from ssm_stream.evaluate.recordings.frames import frame_slices, to_polars

        cure = "a dict, a list of dicts (`list(events)`) or a data frame in memory (`frame.collect()`)"
        given = _from_native(frame, cure)
        columns = ColumnReader(self.config.event)
        _check_columns(self.config, given.columns)
        _check_labels(self.config, given)
        table = to_polars(given, columns.names)
        self.refused, first = [], 0
        parts: list[dict[str, Any]] = []
        sent, call, count = list[_Sent](), CallRows(self), 0
        for part in frame_slices(table):
            events, refused = columns.read(part)
            position = events.position
            if self.rows is not None:
                made = self.rows.add(events, position.tolist(), source)
                refused += [late._replace(position=int(position[late.position])) for late in made.late]
                position = np.array(made.offsets, np.int64)
                events = replace(made.events, position=position)
            events, more = self.admit(self.episodes.mark(events), source)
            refused += [m._replace(position=int(position[m.position])) for m in more]
            self.refused += sorted(r._replace(position=first + r.position) for r in refused)
            if len(events):
                predictions, alerts = self.process(events, source)
                own = call.add(range(count, count + len(events)), alerts)
                sent += [_Sent(alert, count + alert.row, at) for alert, at in zip(alerts, own, strict=True)]
                parts.append(self._columns_of(events, predictions, first))
                count += len(events)
            first += part.height
        if self.refused:
            self._warn(first, "rows")
        parts = parts or [self._no_columns()]
        self._add_alerts(parts, sent)
        return _native(_narwhals(), parts, given)

    def _add_alerts(self, parts: list[dict[str, Any]], sent: list[_Sent]) -> None:
        """Add the column `alert`, and the messages."""
        m = len(self.config.event.targets)
        names = [name for part in parts for name in part["entity"][::m]]
        rows = [row for part in parts for row in part["row"][::m].tolist()]
        texts: dict[int, list[str]] = {}
        for alert, at, own in sent:
            place = at if own is None else own
            text = _alert_text(alert, names[place]) + (EARLIER if own is None else "")
            texts.setdefault(place, []).append(text)
            self._messages.append({"row": None if own is None else rows[own], **alert.message})
        first = 0
        for part in parts:
            n = len(part["row"])
            part["alert"] = ["; ".join(texts[i // m]) if i // m in texts else None for i in range(first, first + n)]
            first += n

    def _warn(self, count: int, what: str) -> None:
        """Warn of the refused ones among so many rows or documents."""
        faults = Counter(refusal.fault for refusal in self.refused)
        counted = ", ".join(f"{fault} {number}" for fault, number in faults.most_common())
        text = f"{len(self.refused)} of {count} {what} are no events ({counted}); the first: {self.refused[0].reason}"
        warnings.warn(text, stacklevel=3 if what == "documents" else 4)

    @property
    def alerts(self) -> list[dict[str, Any]]:
        """All alert messages of frames so far, each with the `row` of its event in the frame; None if its event was in
        an earlier frame than that with which it came."""
        return list(self._messages)

    def _no_columns(self) -> dict[str, Any]:
        events = Events(
            [],
            np.empty(0, np.int64),
            np.empty((0, 0)),
            empty := np.empty((0, len(self.target_engines))),
            np.empty(0, np.int64),
            idle=np.empty(0, np.bool_) if self.config.event.when else None,
        )
        nothing = Predictions(empty, empty, empty, empty, empty.astype(bool), empty.astype(np.int64), empty)
        return self._columns_of(self.episodes.mark(events), nothing, 0)

    def _columns_of(self, events: Events, predictions: Predictions, first: int) -> dict[str, Any]:
        paths, p = self.config.event.targets, predictions
        m, n = len(paths), len(events)

        def each(values: NDArray[Any]) -> NDArray[Any]:
            return np.repeat(values, m)

        horizon = self.config.model.horizon
        out: dict[str, Any] = {
            "row": each(first + events.position),
            "entity": [name for name in events.entity for _ in paths],
            "ts": each(events.ts),
        }
        if horizon.events or horizon.seconds:
            ahead = events.ts + round(horizon.seconds * 1000)
            out["for"] = each(ahead) if horizon.seconds else np.full(m * n, np.iinfo(np.int64).min)
        if m > 1:
            out["target"] = list(paths) * n
        names = ("yhat", "yhat_lower", "yhat_upper", "anomaly_score", "warmup", "n", "fleet")
        values = (p.yhat, p.lower, p.upper, p.score, p.warmup, p.n, p.fleet)
        out["y"] = events.measured.ravel()
        out |= {name: column.ravel() for name, column in zip(names, values, strict=True)}
        if events.idle is not None:
            out["idle"] = each(events.idle)
        if events.maintenance is not None:
            out["maintenance"] = each(events.maintenance > 0)
        return out


def select_features(config: Config | str | Path, frame: Any) -> Config:
    """Return the configuration with its `features: auto` selected from the first rows of a frame.

    Args:
        config: as that of `Engine`; with listed features it is returned as it is
        frame: a row an event

    Raises:
        ConfigError: none of the rows is an event, or no column can be an input.
    """
    from ssm_stream.autoconfig import feature_selection
    from ssm_stream.evaluate.recordings.frames import frame_slices, to_polars

    config = read_config(config)
    given = _from_native(frame, "a data frame in memory (`frame.collect()`)")
    _check_columns(config, given.columns)
    rows = to_polars(given.head(feature_selection.SAMPLE), given.columns)
    first = next(frame_slices(rows), None)
    return config if first is None else feature_selection.select_features(config, first.rows()).config


def _check_labels(config: Config, given: Any) -> None:
    """Check that no row of a narwhals frame is a label. Raises ConfigError."""
    marker = None if config.labels is None else config.labels.marker
    if marker is None:
        return
    column = marker if marker in given.columns else head_of(marker)[0]
    if column in given.columns and not given[column].is_null().all():
        raise ConfigError(
            f"labels.marker: found rows of the frame with {marker!r}, which are labels; a frame has events only: "
            "give the rows as dicts (pandas: to_dict('records'), polars: to_dicts()), or leave the section labels out"
        )


def _check_columns(config: Config, columns: Sequence[object]) -> None:
    """Check that a frame has each configured column. Raises ConfigError."""
    names = [name if isinstance(name, str) else repr(name) for name in columns]  # pandas: of any type
    try:
        check_columns(config, names, "the frame")
    except ConfigError as error:
        raise ConfigError(f"{error}. Rename one, or make an index a column (pandas: reset_index())") from None


def _alert_text(alert: Alert, entity: str) -> str:
    """Return what an alert is at an event. entity: the event's"""
    m = alert.message
    whose = "fleet " if m["scope"] == "fleet" else "" if m["entity"] == entity else f"{m['entity']}: "
    return f"{whose}{m['kind']} {m['phase']}"


def _native(nw: Any, parts: list[dict[str, Any]], given: Any) -> Any:
    """Return the columns as a frame of the kind that was given."""
    backend, out = given.implementation, {}
    for name in parts[0]:
        pieces = [part[name] for part in parts]
        if isinstance(pieces[0], np.ndarray):
            values = np.concatenate(pieces)
            values = values.astype("datetime64[ms]") if name in TIMES else values  # the smallest integer is no time
            out[name] = nw.new_series(name, values, backend=backend)
        else:
            out[name] = nw.new_series(name, [v for piece in pieces for v in piece], nw.String, backend=backend)
    frame = nw.from_dict(out, backend=backend)
    return frame.with_columns(nw.col(*[n for n in TIMES if n in out]).dt.replace_time_zone("UTC")).to_native()


def plot(result: Any, entity: str | None = None, *, target: str | None = None) -> Figure:
    """Plot an entity's values, predictions, intervals, scores and alerts.

    Args:
        result: what `Engine.run` gave
        entity: its name; None: the one with the most alerts, else with the highest score
        target: with several, which one; None: the first

    Returns:
        a matplotlib figure; notebooks show it

    Raises:
        KeyError: no such entity or target.
    """
    try:
        from matplotlib import pyplot
    except ImportError:
        raise ImportError(f"plots need the package matplotlib: {CURE}") from None
    frame = _from_native(result, "the data frame that Engine.run returns for one")
    names = frame["entity"].to_list()
    if "target" in frame.columns:
        targets = frame["target"].to_list()
        target = target if target is not None else targets[0] if targets else None
        frame = frame.filter([each == target for each in targets])
        names = frame["entity"].to_list()
    if entity is None:
        entity = _most_alerted(names, frame)
    mine = frame.filter([name == entity for name in names])
    if not len(mine):
        raise KeyError(f"no prediction of {entity!r}" + (f" for the target {target!r}" if target else ""))
    ts = mine["ts"].dt.replace_time_zone(None).to_numpy()
    column = {name: mine[name].to_numpy() for name in ("y", "yhat", "yhat_lower", "yhat_upper", "anomaly_score")}
    figure, (above, below) = pyplot.subplots(
        2, 1, sharex=True, figsize=(11, 5.5), height_ratios=[3, 1], layout="constrained"
    )
    above.fill_between(
        ts, column["yhat_lower"], column["yhat_upper"], color="tab:blue", alpha=0.2, lw=0, label="interval"
    )
    above.plot(ts, column["yhat"], color="tab:blue", lw=1, label="predicted")
    above.plot(ts, column["y"], ".", color="0.25", ms=3, label=target or "value")
    below.plot(ts, column["anomaly_score"], color="tab:orange", lw=1)
    below.axhline(1.0, color="0.5", lw=1, ls="--")
    seen: set[str] = set()
    for moment, words in zip(ts, _alerts(mine), strict=True):
        for word in words.split("; "):
            if word.endswith("started"):
                color = "tab:red" if "anomaly" in word else "tab:purple"
                for axes in (above, below):
                    axes.axvline(moment, color=color, lw=1, alpha=0.7, label=word if word not in seen else None)
                seen.add(word)
    above.set_title(entity)
    above.legend(loc="upper left", ncols=5, fontsize="small", frameon=False)
    below.set_ylabel("score")
    return figure


def _alerts(frame: Any) -> list[str]:
    """Return the alerts at each row, empty if there is none; pandas has NaN there."""
    return [words if isinstance(words, str) else "" for words in frame["alert"].to_list()]


def _most_alerted(names: list[str], frame: Any) -> str:
    """Return the entity with the most alerts, or with the highest score if there are none."""
    if not names:
        raise KeyError("there are no predictions to plot")
    alerted = Counter(name for name, words in zip(names, _alerts(frame), strict=True) if words)
    if alerted:
        return alerted.most_common(1)[0][0]
    return names[int(np.argmax(frame["anomaly_score"].to_numpy()))]
