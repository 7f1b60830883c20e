"""The step that predicts, alerts and learns, in anyone's dataflow.

Entities are spread over `state.shards` shards: an entity's shard is the CRC-32 of its name modulo their number, the
same in every process. A shard is one key of the dataflow ("0000", "0001", …), so one worker has all of it; the entities
of a shard and partition learn together.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import bytewax.operators as op
import orjson
from bytewax.dataflow import Stream
from bytewax.operators import KeyedStream

from ssm_stream.config import Config, ConfigError, read_config
from ssm_stream.kafka.context.rows import row_facts
from ssm_stream.kafka.encoder import Encoder
from ssm_stream.kafka.records import OutputBatch, PredictedBatch
from ssm_stream.operators.documents import DocumentReader, Item, is_batch
from ssm_stream.operators.embedded_shard import EmbeddedShard, ShardWaker, UnreadErrors
from ssm_stream.operators.failures import explained, explained_build
from ssm_stream.operators.records import Alert, Prediction, RefusedEvent, predictions_of
from ssm_stream.operators.runner import refuse_state_of_service, require_recovery
from ssm_stream.operators.service import Service
from ssm_stream.operators.shard_operator import ShardLogic

Settings = Config | dict[str, Any] | str | Path
Output = tuple[str, PredictedBatch | OutputBatch]
"""A shard's key, and a batch of results, or dead letters."""


@dataclass(frozen=True)
class MonitorOut:
    """The streams of `monitor`. Each costs something only if it is used."""

    step_id: str
    settings: Config
    learned: KeyedStream[PredictedBatch | OutputBatch]
    refused: KeyedStream[PredictedBatch | OutputBatch] | None
    unread: UnreadErrors

    @cached_property
    def batches(self) -> KeyedStream[PredictedBatch | OutputBatch]:
        """All results as columns, a batch at a time, keyed by shard: for `encode` and `kafka_output`."""
        self.unread.read = True
        return self._all(f"{self.step_id}_batches")

    def _all(self, step_id: str) -> KeyedStream[PredictedBatch | OutputBatch]:
        return self.learned if self.refused is None else op.merge(step_id, self.learned, self.refused)

    @cached_property
    def predictions(self) -> Stream[Prediction]:
        """A `Prediction` an event; with several targets, one for each of them."""

        def unpack(items: list[Output]) -> list[Prediction]:
            out: list[Prediction] = []
            for _, item in items:
                if isinstance(item, PredictedBatch):
                    out += predictions_of(self.settings, item.batch, item.predictions)
            return out

        return op.flat_map_batch(f"{self.step_id}_predictions", self.learned, unpack)

    @cached_property
    def alerts(self) -> Stream[Alert]:
        """An `Alert` for each change of an episode."""
        encoder = Encoder(self.settings)

        def unpack(items: list[Output]) -> list[Alert]:
            out: list[Alert] = []
            for _, item in items:
                if isinstance(item, PredictedBatch):
                    bodies = encoder.alert_bodies(item.batch, item.alerts)
                else:  # caused by delayed labels
                    values = [each.value for each in item.others if each.sent and each.sent.what == "alert"]
                    bodies = [orjson.loads(value) for value in values if value is not None]
                out += map(Alert.from_message, bodies)
            return out

        return op.flat_map_batch(f"{self.step_id}_alerts", self.learned, unpack)

    @cached_property
    def errors(self) -> Stream[RefusedEvent]:
        """A `RefusedEvent` for each event or label that could not be used."""
        self.unread.read = True

        def unpack(items: list[Output]) -> list[RefusedEvent]:
            outputs = [item for _, item in items if isinstance(item, OutputBatch)]
            letters = [each for output in outputs for each in output.others]
            return [RefusedEvent.from_record(each) for each in letters if each.sent and each.sent.what == "dead_letter"]

        return op.flat_map_batch(f"{self.step_id}_errors", self._all(f"{self.step_id}_refused"), unpack)


def monitor(step_id: str, up: Stream[Any], config: Settings, *, service: Service | None = None) -> MonitorOut:
    """Predict and learn events, and detect anomalies and drifts.

    Entities learn from each other, as in `ssm-stream run`. The state is in Bytewax's recovery (`-r`), by the name of
    this step; without it, a start begins anew.

    Args:
        step_id: unique name of the step
        up: events: dicts, or pairs of an entity and a dict (a `KeyedStream`), or the batches of `decode`
        config: the path of a YAML file, its text, its content as a dict, or a `Config`. `source` and `sinks` may be
            absent; `recovery`, `delivery`, `audit` and `ops` have no effect here, except that with a
            `recovery.directory` a start by `python -m bytewax.run` needs `-r`.
        service: of `ssm-stream run`: observers, and state in files; None in a dataflow of your own

    Returns:
        the streams `predictions`, `alerts` and `errors` of records, and `batches`

    Raises:
        ConfigError: the configuration cannot be used.
    """
    if service is not None:
        return _service_monitor(step_id, up, service)
    with explained_build():
        settings = with_alerts(monitor_config(config, step_id))
    unread = UnreadErrors(step_id)
    read = op.flat_map_batch(f"{step_id}_read", up, _by_worker(step_id, settings, unread))
    split = op.branch(f"{step_id}_usable", read, is_batch)
    wakes = op.input(f"{step_id}_wake", up.flow(), ShardWaker(settings.state.shards))
    shards = op.merge(f"{step_id}_shards", split.trues, wakes)

    facts = row_facts(settings, flow=True)

    def build(state: bytes | None) -> EmbeddedShard:
        with explained():
            return EmbeddedShard(settings, state, unread, facts=facts)

    learned = op.stateful_batch(step_id, shards, build)
    return MonitorOut(step_id, settings, learned, split.falses, unread)


def _service_monitor(step_id: str, up: Stream[Any], service: Service) -> MonitorOut:
    """Return the streams of the monitor of `ssm-stream run`: batches in, state in files or in snapshots."""
    unread = UnreadErrors(step_id)
    unread.read = True  # `run` logs and counts them by itself
    if service.files:

        def restore(state: bytes | None) -> ShardLogic:
            with explained():
                return ShardLogic(service.config, state, service.observers, service.facts)

        learned = op.stateful_batch(step_id, up, restore)
        return MonitorOut(step_id, service.settings, learned, None, unread)
    wakes = op.input(f"{step_id}_wake", up.flow(), ShardWaker(service.settings.state.shards))
    shards = op.merge(f"{step_id}_shards", up, wakes)

    def build(state: bytes | None) -> EmbeddedShard:
        with explained():
            config = _without_files(service.config)
            return EmbeddedShard(config, state, unread, service.observers, service.facts)

    return MonitorOut(step_id, service.settings, op.stateful_batch(step_id, shards, build), None, unread)


def monitor_config(config: Settings, step_id: str, *, registry: bool = False) -> Config:
    """Return the settings of a step in a dataflow that is not `ssm-stream run`: without what that one alone has.

    Args:
        registry: with the schema registry, which messages have and records do not

    Raises:
        ConfigError: the configuration cannot be used.
    """
    name = re.sub(r"[^A-Za-z0-9._-]", "_", step_id)[:200] or "monitor"
    absent = {"source": {"brokers": "-", "topic": name}, "sinks": {}}
    try:
        settings = read_config(config, absent)
    except ConfigError:
        # A step may have the name of a topic.
        absent["source"]["topic"] = f"{name}-events"
        settings = read_config(config, absent)
    if settings.event.features == "auto":
        raise ConfigError(
            "event.features: auto: a step cannot select features from events to come: list them, or select them from a "
            "recording (ssm-stream init, or ssm_stream.select_features)"
        )
    if "recovery" in settings.model_fields_set:
        require_recovery(settings)
    refuse_state_of_service()
    settings = _without_files(settings, delivery="at_least_once")
    return settings if registry else settings.without_registry()


def with_alerts(config: Config) -> Config:
    """Return the configuration of a step that makes alerts, which other steps may read even if no topic has them."""
    return config.replace(sinks=config.sinks.model_copy(update={"alerts": config.sinks.alerts or "alerts"}))


def without_alerts(output: OutputBatch) -> OutputBatch:
    """Return messages without the alerts among them."""
    return output._replace(others=[each for each in output.others if each.sent is None or each.sent.what != "alert"])


def _without_files(config: Config, **sections: Any) -> Config:
    """Return the configuration of a state that is in snapshots: without files of its own. sections: others"""
    recovery, audit = (each.model_copy(update={"directory": None}) for each in (config.recovery, config.audit))
    return config.replace(recovery=recovery, audit=audit, **sections)


def _by_worker(step_id: str, settings: Config, unread: UnreadErrors) -> Any:
    """Return the function of the step that reads events; each worker has a reader of its own."""
    readers: dict[int, DocumentReader] = {}
    DocumentReader(step_id, settings)  # raises here, not in a worker

    def read(items: list[Any]) -> list[Item]:
        # Not `threading.local`, which Bytewax's workers lose between two calls.
        worker = threading.get_ident()
        if worker not in readers:
            readers[worker] = DocumentReader(step_id, settings)
        with explained():
            out = readers[worker](items)
        for _, item in out:
            if isinstance(item, OutputBatch):
                unread.add(item)
        return out

    return read
