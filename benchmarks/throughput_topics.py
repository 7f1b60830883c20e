"""Topic to topic: the pass-through, the product and the peers in turn, on the same events and the same broker."""

from __future__ import annotations

import statistics
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from measuring import Check, MissingError, check, child, median, ratio, say
from rich.console import Console
from rich.table import Table
from wire import PARTITIONS, PLAIN, configuration, create, delete, load, named, read

SHORT = 4  # a second, shorter run has this share of the events: the slope between both is the steady rate
PEERS_EVENTS = 60_000  # the peers are slow, and their rate does not depend on it

END_TO_END_LEAST = 50_000
PASSTHROUGH_LEAST = 0.40
OUTSIDE_MOST = 1.0
EXACTLY_LEAST = 0.9
QUIX_LEAST = 12.0
ENTITIES_MOST = 2.0


class Client(NamedTuple):
    """A row of the table."""

    name: str
    client: str
    title: str
    event: str = ""
    """Lines of the configuration's `event` section beside the field names."""
    more: str = ""
    """Other sections of the configuration."""
    alternating: str | None = None
    """What of the product is on and off by turns, for what it costs: see slices.py."""
    off_first: bool = False


PASSTHROUGH = Client("passthrough", "passthrough", "pass-through")
DEFAULT = Client("default", "product", "ssm-stream")
EXACTLY = Client("exactly", "product", "ssm-stream, exactly once", more="delivery: exactly_once\n")
CHECKED = [PASSTHROUGH, DEFAULT, EXACTLY]
OURS = [*CHECKED, Client("plain", "product", "ssm-stream, plain", PLAIN)]
PEERS = [Client("quix", "quix", "Quix + River"), Client("bytewax", "bytewax", "Bytewax + River")]
NEEDS = {"quix": "quixstreams, river", "bytewax": "bytewax.connectors.kafka, river"}


class Topic(NamedTuple):
    """A topic with events on it."""

    name: str
    count: int


def present(python: str) -> list[Client]:
    """The peers that an interpreter has the packages of."""

    def has(modules: str) -> bool:
        return subprocess.run([python, "-c", f"import {modules}"], capture_output=True, check=False).returncode == 0

    return [peer for peer in PEERS if has(NEEDS[peer.name])]


def time_client(client: Client, broker: str, source: Topic, python: str, folder: Path) -> dict[str, float]:
    """Run one client on topics of its own, and count what came out.

    Raises:
        MissingError: the client failed, or an event has no output, or more than one, or became a dead letter.
    """
    sink, count = f"{client.name}-{uuid.uuid4().hex[:8]}", source.count
    ours = client.client == "product"
    topics = [sink, f"{sink}-alerts", f"{sink}-dead"] if ours else [sink]
    create(broker, topics)
    job: dict[str, Any] = {"broker": broker, "events": count, "source": source.name, "sink": sink}
    job["partitions"] = PARTITIONS
    if ours:
        file = folder / f"{sink}.yaml"
        file.write_text(configuration(broker, source.name, sink, folder / f"{sink}-state", client.event, client.more))
        job |= {"config": str(file), "alternating": client.alternating, "off_first": client.off_first}
    figures = child("clients.py", job, client.client, python=python, title=client.title)
    answers = [orjson.loads(message.value())["id"] if ours else None for message in read(broker, sink)]
    distinct = len(set(answers)) if ours else len(answers)
    if not distinct == len(answers) == count:
        raise MissingError(
            f"{client.title}: {count} events, {len(answers)} messages came out, {distinct} of them distinct"
        )
    if ours:
        if refused := sum(1 for _ in read(broker, f"{sink}-dead")):
            raise MissingError(f"{client.title}: {refused} of {count} events became dead letters")
        figures["alerts"] = float(sum(1 for _ in read(broker, f"{sink}-alerts")))
    delete(broker, topics)
    figures["events_per_s"] = count / figures["seconds"]
    figures["cpu_us"] = figures["cpu_seconds"] / count * 1e6
    figures["outside_us"] = figures["cpu_us"] - figures.get("kernel_us", 0.0)
    speed, cpu = figures["events_per_s"], figures["cpu_us"]
    say(f"  {client.title}, {count:,} events: {speed:,.0f} events/s, {cpu:.1f} µs of CPU an event")
    return figures


def with_steady(long: dict[str, float], short: dict[str, float], count: int) -> dict[str, float]:
    """The figures of the longer run, with the steady rate: what the additional `count` events took."""
    seconds, cpu = long["seconds"] - short["seconds"], long["cpu_seconds"] - short["cpu_seconds"]
    # On a machine that stumbled during the shorter run there is no slope to be had.
    steady = count / seconds if seconds > 0 else long["events_per_s"]
    return {**long, "steady_events_per_s": steady, "steady_cpu_us": cpu / count * 1e6}


def measure(
    broker: str,
    folder: Path,
    count: int,
    entities: int,
    rounds: int,
    ours: list[Client],
    peers: list[Client],
    python: str,
) -> dict[str, Any]:
    """Every client once a round; ours a second time on fewer events."""
    topics = {"long": Topic(named("events"), count), "short": Topic(named("events-short"), max(count // SHORT, 1))}
    create(broker, [topic.name for topic in topics.values()])
    if peers:
        topics["peers"] = Topic(named("events-peers"), min(PEERS_EVENTS, count))
        # Bytewax's own source has a consumer a partition, and each keeps asking this broker at its end: give it one.
        create(broker, [topics["peers"].name], 1)
    sizes = [load(broker, topic.name, topic.count, entities) for topic in topics.values()]
    say(f"{count:,} events of {sizes[0]:.0f} bytes, {entities:,} entities, {PARTITIONS} partitions, {rounds} rounds")
    found: list[dict[str, dict[str, float]]] = []
    for number in range(rounds):
        say(f" round {number + 1}")
        figures: dict[str, dict[str, float]] = {}
        for client in ours:
            runs = [time_client(client, broker, topics[name], sys.executable, folder) for name in ("long", "short")]
            figures[client.name] = with_steady(*runs, count - topics["short"].count)
        for client in peers:
            figures[client.name] = time_client(client, broker, topics["peers"], python, folder)
        found.append(figures)
    delete(broker, [topic.name for topic in topics.values()])
    clients = [(client.name, client.title) for client in [*ours, *peers]]
    return {"rounds": found, "clients": clients, "peers": [peer.name for peer in peers], "bytes": sizes[0]}


def in_turn(
    broker: str,
    count: int,
    entities: int,
    rounds: int,
    clients: Callable[[int], list[Client]],
    one: Callable[[Client, Topic], dict[str, float]],
) -> list[dict[str, dict[str, float]]]:
    """Some clients on the same events, once a round, the other way round in every other one.

    Args:
        clients: of a round, by its number; one: the figures of one of them
    """
    source = Topic(named("events"), count)
    create(broker, [source.name])
    load(broker, source.name, count, entities)
    found = []
    for number in range(rounds):
        say(f" round {number + 1}")
        chosen = clients(number)
        if number % 2:
            chosen.reverse()
        found.append({client.name: one(client, source) for client in chosen})
    delete(broker, [source.name])
    return found


def rows(measured: dict[str, Any]) -> list[dict[str, Any]]:
    """Medians over the rounds, and ratios within a round."""
    rounds, out = measured["rounds"], []
    for name, title in measured["clients"]:
        row: dict[str, Any] = {"name": name, "title": title}
        row |= {figure: round(median(rounds, name, figure), 3) for figure in rounds[0][name]}
        row["of_passthrough"] = round(ratio(rounds, name, "passthrough"), 3)
        row["outside_of_passthrough"] = round(ratio(rounds, name, "passthrough", "outside_us"), 3)
        if "steady_events_per_s" in row:
            row["steady_of_passthrough"] = round(ratio(rounds, name, "passthrough", "steady_events_per_s"), 3)
        row |= {f"of_{peer}": round(ratio(rounds, name, peer), 2) for peer in measured["peers"]}
        out.append(row)
    return out


def checks(measured: dict[str, Any]) -> list[Check]:
    """The whole run's clock counts, start and end included."""
    rounds = measured["rounds"]
    speed = round(median(rounds, "default", "events_per_s"))
    found = [
        check("end to end, one worker, events/s", speed, ">=", END_TO_END_LEAST),
        check("pass-through ratio", ratio(rounds, "default", "passthrough"), ">=", PASSTHROUGH_LEAST),
        check(
            "CPU outside the kernel by the pass-through's",
            ratio(rounds, "default", "passthrough", "outside_us"), "<=", OUTSIDE_MOST,
        ),
        check("exactly once by at least once, events/s", ratio(rounds, "exactly", "default"), ">=", EXACTLY_LEAST),
    ]  # fmt: skip
    if "quix" in measured["peers"]:
        found.append(check("quix ratio", ratio(rounds, "default", "quix"), ">=", QUIX_LEAST))
    return found


def show(measured: dict[str, Any], console: Console) -> None:
    """The table, and how to read it."""
    table = Table(title="Topic to topic, one process")
    table.add_column("client", no_wrap=True)
    peers = measured["peers"]
    titles = [
        "events/s",
        "steady",
        "CPU µs",
        "steady",
        "outside",
        "MiB",
        "of ceiling",
        "steady",
        *[f"× {name}" for name in peers],
    ]
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows(measured):
        steady = "steady_events_per_s" in row
        table.add_row(
            row["title"],
            f"{row['events_per_s']:,.0f}",
            f"{row['steady_events_per_s']:,.0f}" if steady else "",
            f"{row['cpu_us']:.1f}",
            f"{row['steady_cpu_us']:.1f}" if steady else "",
            f"{row['outside_us']:.1f}",
            f"{row['peak_bytes'] / 2**20:.0f}",
            f"{row['of_passthrough']:.2f}",
            f"{row['steady_of_passthrough']:.2f}" if steady else "",
            *[f"{row[f'of_{name}']:.1f}" for name in peers],
        )
    console.print(table)
    console.print(
        "The pass-through decodes nothing: it is the ceiling. Plain: without lags, differences and calendar. Medians "
        "of the rounds. The product's clock runs from before its first connection until the broker has the last "
        "prediction and the state is written; the interpreter's start comes before. The others' clock starts at their "
        f"first event. Steady: the slope between this run and one with a {SHORT}th of the events, without start and "
        "end. CPU is µs an event of the client's process with all its threads; outside: without the kernel, which "
        "predicts and learns. MiB: its peak memory."
    )
    if absent := [peer.title for peer in PEERS if peer.name not in peers]:
        console.print(f"Not measured: {', '.join(absent)}. Run `make peers`, or give --peers-python.")


def measure_entities(broker: str, folder: Path, count: int, few: int, many: int, rounds: int) -> dict[str, Any]:
    """The product in its default configuration with few and with many entities, in turn."""
    topics = {entities: Topic(named(f"events-of-{entities}"), count) for entities in (few, many)}
    create(broker, [topic.name for topic in topics.values()])
    for entities, topic in topics.items():
        load(broker, topic.name, count, entities)
    found = []
    for _ in range(rounds):
        figures = {str(e): time_client(DEFAULT, broker, topic, sys.executable, folder) for e, topic in topics.items()}
        found.append(figures)
    delete(broker, [topic.name for topic in topics.values()])
    return {"few": few, "many": many, "events": count, "rounds": found}


def checks_entities(measured: dict[str, Any]) -> list[Check]:
    """Start, first events of each entity, snapshots and end are in both clocks."""
    few, many = str(measured["few"]), str(measured["many"])
    slower = statistics.median(r[few]["events_per_s"] / r[many]["events_per_s"] for r in measured["rounds"])
    name = f"entities: events/s of {measured['few']:,} by {measured['many']:,}, topic to topic"
    return [check(name, slower, "<=", ENTITIES_MOST)]


def show_entities(measured: dict[str, Any], console: Console) -> None:
    """In words."""
    for entities in (measured["few"], measured["many"]):
        speed, peak = (median(measured["rounds"], str(entities), name) for name in ("events_per_s", "peak_bytes"))
        console.print(
            f"[bold]{entities:,} entities[/], {measured['events']:,} events topic to topic: {speed:,.0f} events/s, "
            f"{peak / 2**20:,.0f} MiB at most"
        )
