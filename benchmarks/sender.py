"""Events onto a topic at a steady rate, each with the time of its sending: `python sender.py JOB`.

JOB is JSON: broker, topic, rate (events/s), count, entities. The last line is JSON too: when the first and the last
event were sent (ms since 1970), how far the sender was behind its schedule at worst, and its CPU time.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import cycle, islice
from typing import Any

import orjson
from confluent_kafka import Producer
from measuring import MissingError, hand_over
from wire import events

TICK = 0.001  # seconds between looks at the clock
PREPARED = 200_000  # different events; after them they begin anew


def send(job: dict[str, Any]) -> dict[str, float]:
    """Send `count` events, each when it is due.

    Raises:
        MissingError: the broker did not take all.
    """
    rate, count = job["rate"], job["count"]
    prepared = []
    for key, event in events(min(PREPARED, count), job["entities"]):
        del event["ts"]
        prepared.append((key, b'{"ts":%d,' + orjson.dumps(event)[1:].replace(b"%", b"%%")))
    due = cycle(prepared)
    # Few clients wait longer for company, and the product's own wait is its own.
    producer = Producer({"bootstrap.servers": job["broker"], "linger.ms": 1, "queue.buffering.max.messages": 1_000_000})
    topic, sent, late = job["topic"], 0, 0.0
    first, start = time.time_ns() // 1_000_000, time.perf_counter()
    while sent < count:
        now = time.perf_counter() - start
        ready = min(int(now * rate) + 1, count)
        late = max(late, now - sent / rate)
        for key, form in islice(due, ready - sent):
            value = form % (time.time_ns() // 1_000_000)
            hand_over(producer, topic, value, key)
        sent = max(ready, sent)
        producer.poll(0)
        time.sleep(TICK)
    last = time.time_ns() // 1_000_000
    if left := producer.flush(60):
        raise MissingError(f"{left} of {count} events did not reach the broker within a minute")
    return {"first_ms": first, "last_ms": last, "late_s": late, "cpu_seconds": time.process_time()}


if __name__ == "__main__":
    print(json.dumps(send(json.loads(sys.argv[1]))))
