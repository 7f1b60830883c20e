"""`ssm-stream run` that kills itself at a chosen place: python victim.py CONFIG WORKERS PACE PLACE COUNT SECONDS

PLACE is one of `PLACES`; at the COUNT-th time that the process comes by, it waits for SECONDS and sends itself SIGKILL.
A batch takes PACE seconds at least: the end of the topic shall not come before. The product is as it is; what is called
there is wrapped from outside.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ssm_stream.config import load_config
from ssm_stream.engine.snapshot_format import StateError
from ssm_stream.flow import runtime
from ssm_stream.kafka.client import BrokerError
from ssm_stream.kafka.transactional_producer import MarkerError, TransactionalProducer
from ssm_stream.operators.source import KafkaPartition
from ssm_stream.ops.logging import set_up_logging
from ssm_stream.recovery import directory
from ssm_stream.recovery.bytewax_db import RecoveryError
from ssm_stream.recovery.checkpoint_files import ShardCheckpoints

PLACES = {
    "recovery: directory locked": (directory, "prune", "before"),
    "recovery: pruned": (directory, "roll_back", "before"),
    "recovery: tidied": (directory, "_clean_up", "after"),
    "recovery: transactions taken over": (TransactionalProducer, "_read_marker", "before"),
    "recovery: marker read": (TransactionalProducer, "_read_marker", "after"),
    "recovery: a state loaded": (ShardCheckpoints, "restore", "after"),
    "an event read": (KafkaPartition, "next_batch", "after"),
    "snapshot: begun": (ShardCheckpoints, "write", "before"),
    "snapshot: a file written, not named": (Path, "rename", "before"),
    "snapshot: named": (ShardCheckpoints, "write", "after"),
    "snapshot: outputs sent, not committed": (TransactionalProducer, "_commit", "before"),
    "snapshot: committed, frontier to be written": (TransactionalProducer, "_commit", "after"),
}
"""Name → what is called there, and on which side of the call it is."""


def strike(seconds: float) -> None:
    def blow() -> None:
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGKILL)

    if seconds:
        threading.Thread(target=blow, daemon=True).start()
    else:
        blow()


def arm(owner: Any, name: str, side: str, count: int, seconds: float) -> None:
    original: Callable[..., Any] = getattr(owner, name)
    passed = [0]

    def come_by(here: str) -> None:
        if here == side:
            passed[0] += 1
            if passed[0] == count:
                strike(seconds)

    def wrapped(*args: Any, **keys: Any) -> Any:
        come_by("before")
        result = original(*args, **keys)
        come_by("after")
        return result

    setattr(owner, name, wrapped)


def main() -> None:
    path, workers, pace, place, count, seconds = sys.argv[1:]
    set_up_logging(level="info")
    inner = KafkaPartition.next_batch

    def paced(self: KafkaPartition) -> list[Any]:
        items = inner(self)
        if items:
            time.sleep(float(pace))
        return items

    KafkaPartition.next_batch = paced  # type: ignore[method-assign]
    if place:
        owner, name, side = PLACES[place]
        arm(owner, name, side, int(count), float(seconds))
    try:
        runtime.run(runtime.prepare(load_config(path), until_eof=True), workers=int(workers))
    except (BrokerError, MarkerError, RecoveryError, StateError) as error:
        print(f"{type(error).__name__}: {error}")
        sys.exit(1)
    print("ENDED")


if __name__ == "__main__":
    main()
