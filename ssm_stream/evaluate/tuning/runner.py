"""Runs configurations over one recording, each once: in several processes, and cached on disk.

The key of a run is made of all that decides it: the bytes of the recording and of the facts next to it, the settings,
the part of the recording, and the code. A run that is in the cache, also from a job that was stopped, is read and not
repeated.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context
from pathlib import Path

import numpy as np
import orjson

from ssm_stream.config import Config
from ssm_stream.engine.parallel.cores import cores
from ssm_stream.evaluate.alarm_matching import Alarm
from ssm_stream.evaluate.recordings import RecordingError
from ssm_stream.evaluate.recordings.context_files import find_facts
from ssm_stream.evaluate.recordings.exports.folder import files_of
from ssm_stream.evaluate.tuning.digests import code_digest, files_digest
from ssm_stream.evaluate.tuning.trials import ARRAYS, Trial, run_trial

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")
MIN_POOL_SECONDS = 60.0
"""Seconds of work from which starting other processes pays."""


class TrialError(RuntimeError):
    """A run did not finish."""


def default_cache() -> Path:
    """Return the default folder of the cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ssm-stream" / "trials"


class Runner:
    """Runs configurations over one recording, each once.

    Args:
        folder: of the cache; None: `default_cache`
        jobs: processes; None: as many as the expected time is worth

    Attributes:
        on_run: called after each run, set by the caller
        done: runs made or read so far
        reused: those of them that were read
        expected: seconds that are expected for the runs to come, set by the caller

    Raises:
        RecordingError: the recording cannot be read.
    """

    def __init__(
        self,
        file: Path,
        limit: int | None = None,
        folder: Path | None = None,
        jobs: int | None = None,
    ) -> None:
        self.file, self.limit, self.jobs = file, limit, jobs
        self.on_run: Callable[[], object] = lambda: None
        self.folder = default_cache() if folder is None else folder
        self.done, self.reused, self.expected = 0, 0, 0.0
        self._known: dict[str, Trial] = {}
        self._pool: ProcessPoolExecutor | None = None
        self._others = {child.pid for child in active_children()}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.digest = files_digest(files_of(file))
        except OSError as error:
            raise RecordingError(
                f"{error.filename}: {error.strerror}; name files and folders that can be used"
            ) from error

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if self._pool is None:
            return
        self._pool.shutdown(wait=error is None, cancel_futures=True)
        for child in active_children() if error is not None else ():
            if child.pid not in self._others:  # a run may take minutes, and a stopped job should end at once
                child.terminate()
                child.join()
                for half in self.folder.glob(f"*.{child.pid}.part"):
                    half.unlink(missing_ok=True)

    def key(self, config: Config, until: int | None) -> str:
        """Return the key of a run."""
        settings = config.model_dump(mode="json", include={"event", "model", "alerts", "state", "labels"})
        facts = files_digest(find_facts(config, self.file)[0])
        parts = [code_digest(config), self.digest, facts, self.limit, until, config.hash, settings]
        return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]

    def run(self, configs: Sequence[Config], until: int | None = None) -> list[Trial]:
        """Return a trial of each configuration, in their order."""
        keys = [self.key(config, until) for config in configs]
        waiting: dict[str, Config] = {}
        for key, config in zip(keys, configs, strict=True):
            if key in self._known or key in waiting:
                continue
            kept = load(self._path(key))
            if kept is None:
                waiting[key] = config
            else:
                self._known[key] = kept
                self.reused += 1
                self._count()
        for key, trial in self._made(waiting, until):
            self._known[key] = trial
            self._count()
        return [self._known[key] for key in keys]

    def one(self, config: Config, until: int | None = None) -> Trial:
        """Return the trial of one configuration."""
        return self.run([config], until)[0]

    @property
    def slow(self) -> bool:
        """Whether the expected time is worth other processes."""
        return self.expected > MIN_POOL_SECONDS

    def _count(self) -> None:
        self.done += 1
        self.on_run()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.npz"

    def _made(self, waiting: dict[str, Config], until: int | None) -> Iterator[tuple[str, Trial]]:
        jobs = self.jobs or (cores() if self.slow else 1)
        if jobs == 1 or len(waiting) < 2:
            for key, config in waiting.items():
                yield key, _run_and_save(config, self.file, self.limit, until, self._path(key))
            return
        with _one_thread_each():
            if self._pool is None:
                # Spawned: a fork of a process with threads may hang.
                self._pool = ProcessPoolExecutor(jobs, get_context("spawn"), _ignore_interrupts)
            futures = {
                self._pool.submit(_run_in_pool, config, self.file, self.limit, until, self._path(key)): key
                for key, config in waiting.items()
            }
            for future in as_completed(futures):
                try:
                    future.result()
                except BrokenProcessPool:
                    raise TrialError("a process that ran a trial was killed (out of memory?); try --jobs 1") from None
                trial = load(self._path(futures[future]))
                assert trial is not None
                yield futures[future], trial


def _ignore_interrupts() -> None:
    """Ignore Ctrl-C, which reaches every process of a terminal: the main process ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _run_in_pool(config: Config, file: Path, limit: int | None, until: int | None, path: Path) -> None:
    _run_and_save(config, file, limit, until, path)


def _run_and_save(config: Config, file: Path, limit: int | None, until: int | None, path: Path) -> Trial:
    trial = run_trial(config, file, limit, until)
    save(trial, path)
    return trial


def save(trial: Trial, path: Path) -> None:
    """Write a trial. A reader sees all of it or nothing."""
    alarms = [[alarm.ts, alarm.entities, alarm.kind, alarm.row, alarm.end] for alarm in trial.alarms]
    figures = {"seconds": trial.seconds, "micros": trial.micros, "memory": trial.memory}
    details = orjson.dumps({"names": trial.names, "targets": trial.targets, "alarms": alarms, **figures})
    arrays = {name: getattr(trial, name) for name in ARRAYS}
    half = path.with_suffix(f".{os.getpid()}.part")
    # As `numpy.savez_compressed`, at the lowest level: others take several times as long for hardly less.
    with zipfile.ZipFile(half, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for name, array in {"details": np.frombuffer(details, np.uint8), **arrays}.items():
            with file.open(f"{name}.npy", "w", force_zip64=True) as part:
                np.lib.format.write_array(part, array, allow_pickle=False)
    half.replace(path)


def load(path: Path) -> Trial | None:
    """Return the trial that `save` wrote; None if it cannot be read."""
    try:
        with np.load(path) as content:
            details = orjson.loads(content["details"].tobytes())
            arrays = [content[name] for name in ARRAYS]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    if any(len(each) < 5 for each in details["alarms"]):
        return None  # of a release that kept no ends
    alarms = [Alarm(ts, tuple(entities), kind, row, end=end) for ts, entities, kind, row, end in details["alarms"]]
    row, target, entity, ts, error, step, inside, width = arrays
    figures = (details[name] for name in ("seconds", "micros", "memory"))
    names, targets = details["names"], details["targets"]
    return Trial(names, targets, row, target, entity, ts, error, step, inside, width, alarms, *figures)
