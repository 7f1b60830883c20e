"""Commands by the clock: a long recording through `ssm-stream backtest`, and how soon `ssm-stream run` answers."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from clients import FEATURES
from confluent_kafka import Consumer
from measuring import LIMIT, Check, MissingError, check, child, memory, running, say
from rich.console import Console
from wire import LOGGER, PLAIN, STAMPED, configuration, create, delete, end, named, read

ROWS = 5_000_000
FLEET = 100
LEAST = {1: 500_000, FLEET: 400_000}
"""Entities → rows/s."""
PARTITIONS = 4
"""Of a fleet's topic, as a recording of it is learned side by side."""
COMMAND = [sys.executable, "-m", "ssm_stream"]


def write_recording(file: Path, rows: int, entities: int = 1) -> None:
    """Entities in turn, each with an event a second and a linear relation of its own with noise, as Parquet."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, len(FEATURES)))
    entity = np.arange(rows) % entities
    y = (x * rng.normal(size=(entities, len(FEATURES)))[entity]).sum(1) + 0.1 * rng.normal(size=rows)
    ts = 1_600_000_000_000 + 1000 * (np.arange(rows) // entities)
    columns: dict[str, Any] = {name: x[:, i].round(6) for i, name in enumerate(FEATURES)}
    names = pl.Series([f"press-{i + 1}" for i in range(entities)])[entity]
    frame = pl.DataFrame({"entity": names, "ts": ts, **columns, "target": y})
    frame.write_parquet(file)


def backtest(folder: Path, file: Path, title: str, event: str, *options: str) -> dict[str, float]:
    """Seconds and rows of a run of the command."""
    config = folder / f"backfill-{title}.yaml"
    config.write_text(configuration("unused", "events", "predictions", folder / "unused", event))
    start, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile() as out, (folder / "backtest.log").open("wb") as log:
        process = subprocess.Popen(
            [*COMMAND, "backtest", str(config), str(file), "--json", *options], stdout=out, stderr=log
        )
        while process.poll() is None:
            with contextlib.suppress(OSError, KeyError):  # it has just ended
                peak = max(peak, memory(process.pid)[1])
            if time.perf_counter() - start > LIMIT:
                process.kill()
                raise MissingError(f"backtest did not end within {LIMIT:g} s")
            time.sleep(0.1)
        wall = time.perf_counter() - start
        out.seek(0)
        if process.returncode != 0:
            raise MissingError(f"backtest ended with {process.returncode}:\n{Path(log.name).read_text()[-2000:]}")
        result = json.loads(out.read())
    say(f"  backfill, {title}: {result['events'] / result['seconds']:,.0f} rows/s")
    return {
        "rows": result["events"],
        "seconds": result["seconds"],
        "wall": wall,
        "peak_bytes": peak,
        "mae": result["mae"],
    }


def measure_backfill(folder: Path, rows: int, plain: bool) -> dict[str, dict[str, float]]:
    """The default configuration on one entity and on a fleet, and plain beside it on one, partitions on the fleet."""
    file, found = folder / "recording.parquet", dict[str, dict[str, float]]()
    for entities in LEAST:
        write_recording(file, rows, entities)
        kinds = {"default": "", **({"plain": PLAIN} if plain and entities == 1 else {})}
        for title, event in kinds.items():
            name = title if entities == 1 else f"{title}, {entities} entities"
            found[name] = {"entities": entities, **backtest(folder, file, title, event)}
        if plain and entities > 1:
            title = f"as of {PARTITIONS} partitions"
            found[f"{title}, {entities} entities"] = {
                "entities": entities,
                **backtest(folder, file, "default", "", "--partitions", str(PARTITIONS)),
            }
    file.unlink()
    for title, one in found.items():
        if one["rows"] != rows:
            raise MissingError(f"backtest, {title}: {rows} rows, {one['rows']} events")
    return found


def checks_backfill(measured: dict[str, dict[str, float]]) -> list[Check]:
    """By the command's own clock, which begins when the kernels are loaded."""
    return [
        check(
            f"backfill, {int(one['entities'])} {'entity' if one['entities'] == 1 else 'entities'}, "
            f"{one['rows']:,} rows, rows/s",
            one["rows"] / one["seconds"], ">=", LEAST[int(one["entities"])],
        )
        for title, one in measured.items()
        if title.startswith("default")
    ]  # fmt: skip


def show_backfill(measured: dict[str, dict[str, float]], console: Console) -> None:
    """In words."""
    for title, one in measured.items():
        console.print(
            f"[bold]Backfill[/], {title}: {one['rows']:,} rows of {one['entities']:,} entities in "
            f"{one['seconds']:.1f} s, "
            f"{one['rows'] / one['seconds']:,.0f} rows/s; with the start {one['wall']:.1f} s, "
            f"{one['rows'] / one['wall']:,.0f} rows/s; peak memory {one['peak_bytes'] / 2**20:,.0f} MiB"
        )


def measure_cold(broker: str, folder: Path) -> dict[str, float]:
    """Seconds from starting `ssm-stream run` until the broker has a prediction."""
    source, sink = named("events-cold"), named("cold")
    create(broker, [source], 1)
    child("sender.py", {"broker": broker, "topic": source, "rate": 10_000, "count": 1000, "entities": 100})
    topics = [sink, f"{sink}-alerts", f"{sink}-dead"]
    create(broker, topics, 1, STAMPED)
    file, log = folder / f"{sink}.yaml", folder / f"{sink}.log"
    file.write_text(configuration(broker, source, sink, folder / f"{sink}-state"))
    reader = Consumer({"bootstrap.servers": broker, "group.id": f"look-{sink}", "logger": LOGGER})
    start = time.time()
    with running([*COMMAND, "run", str(file)], log) as process:
        while not end(reader, sink, 1):
            if process.poll() is not None or time.time() - start > 60:
                raise MissingError(f"no prediction:\n{log.read_text()[-2000:]}")
            time.sleep(0.1)
    reader.close()
    seconds = next(message.timestamp()[1] for message in read(broker, sink)) / 1000 - start
    say(f"  cold start: {seconds:.1f} s")
    delete(broker, [*topics, source])
    return {"seconds": seconds}


def show_cold(measured: dict[str, float], console: Console) -> None:
    """In words."""
    console.print(
        f"[bold]Cold start[/] of `ssm-stream run` to the first prediction on the topic: {measured['seconds']:.1f} s"
    )
