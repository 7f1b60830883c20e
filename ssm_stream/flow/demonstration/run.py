"""The demonstration from its start to its figures."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssm_stream.evaluate.examples import PLANT, SERVICES
from ssm_stream.flow.demonstration.configs import write_config
from ssm_stream.flow.demonstration.processes import TIMEOUT, DemoError, dataflow, process_age, wait_for_page
from ssm_stream.kafka.embedded_broker import EmbeddedBroker
from ssm_stream.ops.bytewax_metrics import free_port

if TYPE_CHECKING:
    from ssm_stream.flow.demonstration.figures import DemoFigures, Progress

TOPICS = ["plant-events", "plant-predictions", "plant-alerts", "plant-dead-letters"]
TOPICS += ["service-metrics", "service-predictions", "service-alerts", "service-dead-letters", "feedback"]
"""Of one partition each: the entities of a partition learn together."""
FROZEN_AFTER = 7 * 86_400_000
"""ms of the plant's events from which the frozen model learns: a quarter of them."""


def demonstrate(
    rate: float,
    on_start: Callable[[DemoFigures], None],
    on_progress: Callable[[Progress], None],
    on_page: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Replay the bundled recordings through Kafka into production dataflows, and mark their alarms by the labels.

    Args:
        rate: events a second of both streams
        on_start: called before the first event
        on_progress: called a few times a second, from this thread
        on_page: called with the URL of the plant's live page once it is served; the flows then continue after the
            recordings until a KeyboardInterrupt. None: without a page

    Returns:
        the figures; see `DemoFigures.result`

    Raises:
        DemoError: a dataflow ended early or produced nothing for too long.
    """
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(EmbeddedBroker(dict.fromkeys(TOPICS, 1)))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ssm-stream-demo-")))
        page = f"127.0.0.1:{free_port()}" if on_page is not None else None
        plant_config = write_config(PLANT, broker.bootstrap_servers, folder, page)
        flows = [stack.enter_context(dataflow(plant_config))]
        # Imported while the dataflow starts.
        from ssm_stream.evaluate.frozen_model import predict_frozen
        from ssm_stream.evaluate.recordings import Recording
        from ssm_stream.flow.demonstration.figures import DemoFigures
        from ssm_stream.flow.demonstration.sender import replaying
        from ssm_stream.flow.demonstration.streams import load_stream

        services_config = write_config(SERVICES, broker.bootstrap_servers, folder)
        streams = [load_stream(PLANT, plant_config), load_stream(SERVICES, services_config)]
        frozen = predict_frozen(streams[0].config, Recording(streams[0].recording), FROZEN_AFTER)
        figures = DemoFigures(streams, frozen)
        on_start(figures)
        if on_page is not None and page is not None:
            on_page(wait_for_page(page, flows[0]))
        failed = stack.enter_context(replaying(streams, rate))

        def start_services() -> None:
            # Not before: the first prediction would wait for the start of two interpreters.
            flows.append(stack.enter_context(dataflow(services_config)))

        _collect(figures, flows, failed, start_services, on_progress)
        result = figures.result(process_age())
        if on_page is not None:
            with contextlib.suppress(KeyboardInterrupt):
                flows[0].wait()
        return result


def _collect(
    figures: DemoFigures,
    flows: list[subprocess.Popen[bytes]],
    failed: list[str],
    on_first: Callable[[], None],
    on_progress: Callable[[Progress], None],
) -> None:
    """Read the outputs until every event has a prediction or a dead letter, and what follows them."""
    from ssm_stream.kafka.topic_reader import follow_topics

    last = time.monotonic()
    for messages in follow_topics(figures.streams[0].config.source, dict.fromkeys(figures.topics, 1)):
        if messages:
            last = time.monotonic()
            progress = figures.add(messages)
            if figures.first_prediction is None and progress.predictions:
                figures.first_prediction = process_age()
                on_first()
            on_progress(progress)
        elif figures.done >= figures.total:
            return  # what is left of the alerts was written with the last predictions
        ended = any(flow.poll() is not None for flow in flows)
        if ended or time.monotonic() - last > TIMEOUT or failed:
            why = failed[0] if failed else "a dataflow ended" if ended else f"no result for {TIMEOUT:.0f} s"
            raise DemoError(f"the demonstration stopped after {figures.done:,} of {figures.total:,} events: {why}")
