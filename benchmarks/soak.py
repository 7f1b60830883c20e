"""Does it stay as it is? A steady stream for as long as you like, memory and lag looked at every few seconds.

    python benchmarks/soak.py [--minutes 30] [--rate 20000] [--entities 10000] [--json] [--plot FILE]

A fresh broker, a sender and `ssm-stream run` (one worker, default configuration, snapshots each 10 s), a process each.
The topics keep only their last `KEPT_BYTES`, so that neither the disk nor the broker's memory fills.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Consumer
from measuring import HERE, Check, MissingError, check, cpu_seconds, end_on_signals, memory, running, say, size
from throughput_latency import product
from wire import KEPT, LOGGER, cluster, configuration, create, delete, end, named

EVERY = 5.0  # seconds between looks, or a fortieth of the run
WARM = 0.2  # share of the run that is not judged: entities are met, buffers find their size
KEPT_BYTES = 200_000_000  # a partition; about a minute and a half of the default rate

MEMORY_MOST = 1.05
LAG_MOST = 0.5  # seconds of the stream


def watch(broker: str, folder: Path, seconds: float, rate: int, entities: int) -> dict[str, Any]:
    """Send, and look.

    Raises:
        MissingError: the sender or the product failed, or an event has no prediction at the end.
    """
    config = {**KEPT, "retention.bytes": str(KEPT_BYTES), "segment.bytes": str(KEPT_BYTES // 10)}
    source, sink = named("soak"), named("soaked")
    topics = [source, sink, f"{sink}-alerts", f"{sink}-dead"]
    create(broker, topics, 1, config)
    job = {"broker": broker, "topic": source, "rate": rate, "count": int(rate * seconds), "entities": entities}
    state = folder / "state"
    text = configuration(broker, source, sink, state)
    looks: list[dict[str, float]] = []
    reader = Consumer({"bootstrap.servers": broker, "group.id": "soak-look", "logger": LOGGER})
    with product(broker, source, sink, folder, text, behind=120 + seconds) as process:
        log = folder / "sender.log"
        with running([sys.executable, str(HERE / "sender.py"), json.dumps(job)], log) as sender:
            every, start = min(EVERY, seconds / 40), time.monotonic()
            while sender.poll() is None:
                lag = end(reader, source, 1) - end(reader, sink, 1)
                look = {"s": time.monotonic() - start, "bytes": memory(process)[0], "lag": lag}
                looks.append({**look, "cpu_s": cpu_seconds(process), "files": size(state)})
                if int(looks[-1]["s"] / 60) > int(looks[-2]["s"] / 60 if len(looks) > 1 else 0):
                    say(f"  {look['s'] / 60:.0f} min: {look['bytes'] / 2**20:.0f} MiB, {lag:,} events of lag")
                time.sleep(every)
        if sender.returncode != 0:
            raise MissingError(f"the sender ended with {sender.returncode}:\n{log.read_text()[-2000:]}")
        sent = json.loads(log.read_text().splitlines()[-1])
        predicted = end(reader, sink, 1)
        refused = end(reader, f"{sink}-dead", 1)
    answered, whole = end(reader, sink, 1), end(reader, source, 1)
    reader.close()
    delete(broker, topics)
    if answered != whole or refused:
        raise MissingError(f"{whole} events, {answered} predictions, {refused} dead letters")
    took = (sent["last_ms"] - sent["first_ms"]) / 1000
    figures = {"rate": rate, "entities": entities, "seconds": took, "sent_per_s": job["count"] / took}
    return {**figures, "predicted_at_end": predicted, "events": whole, "sender_late_s": sent["late_s"], "looks": looks}


def judge(measured: dict[str, Any]) -> dict[str, float]:
    """What the looks after the warm-up say: first and last third beside each other, and the slope of the lag.

    Raises:
        MissingError: the run was too short to tell.
    """
    looks = [look for look in measured["looks"] if look["s"] >= WARM * measured["seconds"]]
    third = len(looks) // 3
    if third < 2:
        raise MissingError(f"only {len(looks)} looks after the warm-up: let it run longer")
    first, last = looks[:third], looks[-third:]

    def medians(name: str) -> tuple[float, float]:
        return float(np.median([look[name] for look in first])), float(np.median([look[name] for look in last]))

    (memory_first, memory_last), (lag_first, lag_last) = medians("bytes"), medians("lag")
    seconds = [look["s"] for look in looks]
    return {
        "memory": memory_last / memory_first,
        "bytes_first": memory_first,
        "bytes_last": memory_last,
        "lag_growth_s": (lag_last - lag_first) / measured["rate"],
        "lag_first": lag_first,
        "lag_last": lag_last,
        "lag_most": max(look["lag"] for look in looks),
        "lag_slope": float(np.polyfit(seconds, [look["lag"] for look in looks], 1)[0]),
        "cores": (looks[-1]["cpu_s"] - looks[0]["cpu_s"]) / (seconds[-1] - seconds[0]),
    }


def checks(found: dict[str, float]) -> list[Check]:
    """Memory flat; lag no larger at the end than at the beginning, but for half a second of the stream."""
    return [
        check("soak: memory of the last third by the first's", found["memory"], "<=", MEMORY_MOST),
        check("soak: growth of the lag, seconds of the stream", found["lag_growth_s"], "<=", LAG_MOST),
    ]


def draw(measured: dict[str, Any], file: Path) -> None:
    """Memory and lag over time; needs matplotlib (`bench` extra)."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 1, figsize=(8, 5), sharex=True)
    minutes = [look["s"] / 60 for look in measured["looks"]]
    axes[0].plot(minutes, [look["bytes"] / 2**20 for look in measured["looks"]])
    axes[0].set(
        ylabel="resident, MiB", title=f"{measured['sent_per_s']:,.0f} events/s, {measured['entities']:,} entities"
    )
    axes[0].set_ylim(bottom=0)
    axes[1].plot(minutes, [look["lag"] for look in measured["looks"]])
    axes[1].set(ylabel="events without prediction", xlabel="minutes")
    for each in axes:
        each.axvspan(0, WARM * measured["seconds"] / 60, color="#eeeeee")
    figure.tight_layout()
    figure.savefig(file, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description="A steady stream: does memory stay flat, does the lag not grow?")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=int, default=20_000, help="events/s")
    parser.add_argument("--entities", type=int, default=10_000)
    parser.add_argument("--json", action="store_true", help="checks, figures and looks on stdout")
    parser.add_argument("--plot", type=Path, help="memory and lag over time: .png or .svg (needs matplotlib)")
    arguments = parser.parse_args()
    end_on_signals()
    with tempfile.TemporaryDirectory(prefix="ssm-stream-soak-") as name:
        try:
            with cluster(Path(name)) as (broker, word):
                minutes, rate, entities = arguments.minutes, arguments.rate, arguments.entities
                say(f"on {word}: {minutes:g} min at {rate:,} events/s, {entities:,} entities")
                measured = watch(broker, Path(name), minutes * 60, rate, entities)
            found = judge(measured)
        except MissingError as error:
            say(f"failed: {error}")
            sys.exit(1)
    verdict = checks(found)
    say(
        f"sent {measured['sent_per_s']:,.0f} events/s (at worst {measured['sender_late_s'] * 1000:.0f} ms late); "
        f"memory {found['bytes_first'] / 2**20:.1f} → {found['bytes_last'] / 2**20:.1f} MiB, "
        f"lag {found['lag_first']:,.0f} → {found['lag_last']:,.0f} events (slope {found['lag_slope']:+.2f} events/s, "
        f"at most {found['lag_most']:,.0f}); {found['cores']:.2f} cores"
    )
    for one in verdict:
        say(f"{one['name']}: {one['value']} {one['relation']} {one['bar']}: {'met' if one['ok'] else 'not met'}")
    if arguments.plot:
        draw(measured, arguments.plot)
    if arguments.json:
        print(json.dumps({"checks": verdict, **found, **measured}, indent=2))


if __name__ == "__main__":
    main()
