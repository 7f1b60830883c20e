"""One broker for all processes of a run: the first one keeps it, and the others ask for it by files in a folder.

A broker is quick only once its code is compiled, which takes ten seconds of CPU, and does something when idle, too.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

from brokers import prepared
from brokers.apache import ApacheKafka, kafka_home
from brokers.base import Kafka
from brokers.preparation import name_of, prepare
from ssm_stream.kafka.client import BrokerError

FOLDER = "SSM_STREAM_TEST_KEEPER"
WANTED, ADDRESS, FAILED = "wanted", "address", "failed"
PATIENCE = 240.0


class SharedKafka(Kafka):
    """That which another process keeps; the topics that are left end with it."""

    kind = ApacheKafka.kind
    replication = 1

    def close(self) -> None:
        pass


class Keeper(threading.Thread):
    """Keeps a broker from when it is asked for to `end`.

    cache: a folder for what is prepared, None where nothing is; whole: prepare it, if that has not been done
    """

    def __init__(self, cache: Path | None, *, whole: bool) -> None:
        super().__init__(daemon=True)
        self._folder, self._ended = Path(tempfile.mkdtemp(prefix="kafka-")), threading.Event()
        self._prepared: Path | None = None
        home = kafka_home()
        if cache is not None and home is not None:
            self._prepared = cache / name_of(home)
            self._prepared.mkdir(exist_ok=True)
            os.environ[prepared.FOLDER] = str(self._prepared)
        self._whole = whole
        os.environ[FOLDER] = str(self._folder)

    def run(self) -> None:
        if self._whole and self._prepared is not None:
            prepare(self._prepared, self._ended)
        while not (self._folder / WANTED).exists():
            if self._ended.wait(0.1):
                return
        try:
            broker = ApacheKafka(self._folder / "broker")
        except BrokerError as error:
            self._tell(FAILED, str(error))
            return
        self._tell(ADDRESS, broker.bootstrap_servers)
        self._ended.wait()
        broker.close()

    def _tell(self, name: str, content: str) -> None:
        (whole := self._folder / f"{name}.part").write_text(content)
        whole.rename(self._folder / name)

    def end(self) -> None:
        """End the broker, and forget it."""
        self._ended.set()
        self.join()
        del os.environ[FOLDER]
        shutil.rmtree(self._folder)


def kept() -> SharedKafka | None:
    """The broker that is kept, once it answers; None where nothing is kept.

    Raises:
        BrokerError: it does not start.
    """
    if FOLDER not in os.environ:
        return None
    folder, deadline = Path(os.environ[FOLDER]), time.monotonic() + PATIENCE
    (folder / WANTED).touch()
    while not (folder / ADDRESS).exists():
        if (folder / FAILED).exists():
            raise BrokerError((folder / FAILED).read_text(), "see above")
        if time.monotonic() > deadline:
            raise BrokerError("the broker that all tests share did not start", f"see {folder}")
        time.sleep(0.05)
    return SharedKafka((folder / ADDRESS).read_text())
