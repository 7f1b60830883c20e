"""Events topic → enrichment from a table → monitor → predictions, alerts and dead letters.

    python -m bytewax.run "flows.enriched:build('monitor.yaml', 'machines.csv')" -r state -s 10 -b 10

The table has a row an entity: its first column is the entity, the others become fields of its events, which
`event.features` or `event.categories` may name.
"""

from __future__ import annotations

import csv
from functools import cached_property
from pathlib import Path
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow, Stream

import ssm_stream.operators as sop
from ssm_stream.config import Config, load_config


def build(config: str = "monitor.yaml", table: str = "machines.csv") -> Dataflow:
    """Return the dataflow. config: path of the configuration; table: path of the CSV file"""
    settings, flow = load_config(config), Dataflow("enriched")
    decoded = sop.decode("decode", sop.kafka_input("source", flow, settings), settings)
    watched = watch(decoded.events, settings, Table(Path(table), settings.event.entity))
    sop.kafka_output("sink", op.merge("outputs", watched.batches, decoded.letters), settings)
    return flow


def watch(events: Stream[Any], settings: Config, table: Table) -> sop.MonitorOut:
    """Return the monitor of enriched events: the part of the flow that a unit test can run without Kafka."""
    return sop.monitor("watch", op.map("enrich", events, table.enrich), settings)


class Table:
    """A CSV file with a row an entity, read when the first event comes. entity: the field of an event with its name"""

    def __init__(self, file: Path, entity: str) -> None:
        self._file, self._entity = file, entity

    @cached_property
    def _rows(self) -> dict[str, dict[str, Any]]:
        with self._file.open(newline="", encoding="utf-8") as text:
            return {next(iter(row.values())): dict(list(row.items())[1:]) for row in csv.DictReader(text)}

    def enrich(self, event: dict[str, Any]) -> dict[str, Any]:
        """Return the event with the fields of its entity, numbers as numbers; an unknown entity has none."""
        found = self._rows.get(str(event.get(self._entity)), {})
        return {**event, **{name: _number(text) for name, text in found.items()}}


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
