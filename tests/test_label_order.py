"""Labels among the events give the same bits however the messages are cut, and whichever client has read them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import cache
from itertools import pairwise
from typing import Any

import orjson
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from ssm_stream.config import parse_config
from ssm_stream.kafka.decoder import Decoder
from ssm_stream.kafka.embedded_broker import EmbeddedBroker
from ssm_stream.kafka.records import Chunk, PredictedBatch
from ssm_stream.kafka.wire.fetching import Fetcher, MessageFetcher, fetcher_of
from ssm_stream.kafka.wire.library import with_plugin
from ssm_stream.operators.shard_operator import ShardLogic

COUNT = 120
CONFIG = parse_config(
    "source: {brokers: 'localhost:9092', topic: events}\n"
    "event: {entity: e, timestamp: t, features: [a], target: y}\n"
    "labels: {topic: null, marker: result, target: result}\nrecovery: {directory: null}\n"
)
Chunks = list[Sequence[Any]]


def documents() -> Iterator[dict[str, Any]]:
    """Events, the label of each some events later, one after another or several at once; some before their event."""
    rng, owed = random.Random(0), list[dict[str, Any]]()
    for i in range(COUNT):
        a, name = rng.gauss(0, 1), f"m{rng.randrange(2)}"
        label = {"e": name, "t": 60 * i, "result": 5 + 2 * a + 0.1 * rng.gauss(0, 1)}
        if early := rng.random() < 0.1:
            yield label
        yield {"e": name, "t": 60 * i, "a": a}
        owed += [] if early else [label]
        while owed and rng.random() < 0.45:
            yield owed.pop(0)


def read(make: Callable[[Consumer, str], Fetcher], most: int) -> Chunks:
    """Return the messages as a client has them, in the chunks that it returned."""
    with EmbeddedBroker(topics={"events": 1}) as broker:
        servers, values = broker.bootstrap_servers, [orjson.dumps(each) for each in documents()]
        producer = Producer({"bootstrap.servers": servers})
        for value in values:
            producer.produce("events", value, b"k")
        producer.flush(30)
        consumer = Consumer(with_plugin({"bootstrap.servers": servers, "group.id": "g"}))
        fetcher, chunks, deadline = make(consumer, "events"), [], time.monotonic() + 60
        fetcher.add("events", [0])
        consumer.incremental_assign([TopicPartition("events", 0, 0)])
        while sum(map(len, chunks)) < len(values) and time.monotonic() < deadline:
            chunks += [each.messages for each in fetcher.fetch(most, lambda _: nullcontext()) if len(each.messages)]
        fetcher.close()
        consumer.close()
    assert sum(map(len, chunks)) == len(values)
    return chunks


CLIENTS: dict[str, Callable[[Consumer, str], Fetcher]] = {
    "native": fetcher_of,
    "python": lambda consumer, _: MessageFetcher(consumer),
}


@cache
def messages(client: str) -> list[Any]:
    return [each for chunk in read(CLIENTS[client], 1_000) for each in chunk]


def results(chunks: Chunks) -> tuple[list[float], bytes]:
    """Predictions in the order of their events, and the state after them."""
    decoder, logic, found = Decoder(CONFIG), ShardLogic(CONFIG, None), list[float]()
    for chunk in chunks:
        for _, batch in decoder.decode(Chunk("events", 0, chunk)):  # type: ignore[arg-type]
            outputs, _ = logic.on_batch([batch])  # type: ignore[list-item]
            found += [y for each in outputs if isinstance(each, PredictedBatch) for y in each.predictions.yhat.tolist()]
    return found, logic.engine.snapshot()


@cache
def one_by_one() -> tuple[list[float], bytes]:
    return results([[each] for each in messages("python")])


@pytest.mark.parametrize("client", CLIENTS)
@settings(max_examples=25)
@given(cuts=st.sets(st.integers(1, 2 * COUNT - 1)))
def test_any_cut_gives_the_bits_of_single_messages(client: str, cuts: set[int]) -> None:
    of = messages(client)
    assert len(one_by_one()[0]) == COUNT
    places = [0, *sorted(cut for cut in cuts if cut < len(of)), len(of)]
    assert results([of[begin:end] for begin, end in pairwise(places)]) == one_by_one()


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("most", [1, 7, 1_000])
def test_chunks_as_the_client_returns_them_give_the_same_bits(client: str, most: int) -> None:
    assert results(read(CLIENTS[client], most)) == one_by_one()
