"""Predictions of many entities side by side, on a CPU or a GPU: the torch definition of the learner over a recording.

Where entities learn by themselves (`model.fleet: false`) only the order within an entity counts. So events are taken in
rounds, the k-th event of every entity of a batch in round k, and a round is one step of `reference/learner.py` with a
pool an entity. The predictions are those of the kernel, to the rounding of its 32-bit heads.

Predictions and no more: intervals and alerts follow from errors in the kernel's own loops, event by event, and what an
alert reports (weights, state hash) is of the kernel's state. Codes of categories are kept in plain Python, an entity at
a time. So this is for many entities of plain numbers, and never for the stream.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssm_stream.config import Config, ConfigError
from ssm_stream.core import frozen_weights
from ssm_stream.core.features import kernel_columns
from ssm_stream.core.loop import Predictions
from ssm_stream.core.shapes import SLOTS
from ssm_stream.engine.alert_kinds import KINDS
from ssm_stream.engine.alerts import Alert
from ssm_stream.engine.kernel_params import DAY, build_feature_plan, build_learner_params, ttl_ms
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.factorize import factorize
from ssm_stream.ingest.windows import Windows
from ssm_stream.reference import codes as learner_codes
from ssm_stream.reference import learner
from ssm_stream.reference.codes import PoolCodes
from ssm_stream.reference.learner import State


def require_device_support(config: Config, device: str) -> None:
    """Check that this configuration can be computed side by side on the device.

    Raises:
        ConfigError: it cannot; the text names key, value and cure.
    """
    why = f"--device {device} predicts every entity by itself, at its event"
    if config.model.fleet:
        raise ConfigError(f"model.fleet: found true; {why}: set it to false")
    if len(config.event.targets) > 1:
        raise ConfigError(f"event.target: found {len(config.event.targets)} targets; {why}: name one")
    if config.labels is not None:
        raise ConfigError(f"labels: found a topic of labels; {why}: leave the section out")
    if config.model.horizon.events or config.model.horizon.seconds:
        raise ConfigError(f"model.horizon: found {config.model.horizon.text!r}; {why}: leave it out")
    if config.event.when:
        raise ConfigError(f"event.when: found a condition; {why}: leave it out, and the idle rows with it")
    for kind in KINDS:
        if (found := getattr(config.alerts, kind).learn) != "adapt":
            raise ConfigError(
                f"alerts.{kind}.learn: found {found!r}; --device {device} raises no alerts: set it to adapt"
            )
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device: found cuda; torch finds no GPU (driver, or torch without CUDA): leave it out")


def split_rounds(rows: NDArray[np.int64]) -> list[NDArray[np.intp]]:
    """Positions of the events, round by round: the k-th event of each row in round k, by rows."""
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    first = np.flatnonzero(np.diff(ordered, prepend=-1))
    turn = np.arange(len(rows)) - np.repeat(first, np.diff(first, append=len(rows)))
    by_turn = np.argsort(turn, kind="stable")
    return np.split(order[by_turn], np.cumsum(np.bincount(turn))[:-1]) if len(rows) else []


def _map_tensors(function: Any, *states: Any) -> Any:
    """The function over the tensors of equal states."""
    first = states[0]
    if first is None or isinstance(first, Tensor):
        return first if first is None else function(*states)
    return type(first)(*(_map_tensors(function, *parts) for parts in zip(*states, strict=True)))


class DeviceEngine:
    """What `Engine.process` predicts, by rounds on a device: without intervals (NaN), scores (0) and alerts.

    Raises:
        ConfigError: as `require_device_support`.
    """

    bytes_per_pool = 0
    """Nothing is learned together."""

    def __init__(self, config: Config, device: str) -> None:
        require_device_support(config, device)
        self.config, self.device = config, torch.device(device)
        # As a context a device costs as much as the small tensors' arithmetic, and the CPU is the default anyway.
        self._on_device: AbstractContextManager[Any] = self.device if device != "cpu" else nullcontext()
        self.plan, self.weights = build_feature_plan(config), frozen_weights.load(config.model.weights)
        self._windows = Windows(config.event, ttl_ms(config))
        self._slots: dict[str, int] = {}
        self._codes: list[PoolCodes] = []
        self._span = (np.inf, -np.inf)
        self._allocate(0, 1)  # with no slot at all, values would not be remembered

    def __len__(self) -> int:
        """Entities in memory."""
        return len(self._slots)

    def _allocate(self, E: int, slots: int) -> None:
        """Room for E entities and so many codes, with what there is."""
        old = getattr(self, "_tensors", None)
        self.params = build_learner_params(self.config, self.plan, self.weights, slots)
        with self._on_device:
            self._meta = learner.new_meta(self.params, self.weights)
            self._tensors: State = learner.new_state(self.params, E)._replace(codes=())
        if old is not None:
            _map_tensors(lambda new, part: new[tuple(map(slice, part.shape))].copy_(part), self._tensors, old)

    def _rows(self, names: list[str]) -> NDArray[np.int64]:
        rows, needed = factorize(names, self._slots), len(self._slots)
        self._codes += [PoolCodes(self.params.Q) for _ in range(needed - len(self._codes))]
        if needed > len(self._tensors.time):
            self._allocate(max(needed, 2 * len(self._tensors.time)), self.params.K)
        return rows

    @property
    def bytes_per_entity(self) -> int:
        """Memory of what one entity has learned."""
        sizes: list[int] = []
        _map_tensors(lambda part: sizes.append(part.nbytes) or part, self._tensors)  # type: ignore[func-returns-value]
        return sum(sizes) // max(len(self._tensors.time), 1)

    def process(self, events: Events) -> tuple[Predictions, list[Alert]]:
        """Predict and learn; see the module for what there is not."""
        n = len(events)
        self._check_expiry(events.ts)
        self._windows.fill(events)
        rows = self._rows(events.entity)
        u, steps = kernel_columns(self.plan, events.features, events.ts)
        nothing = np.full(n, np.nan)
        out = Predictions(
            np.empty(n), nothing, nothing, np.zeros(n), np.ones(n, np.bool_), np.zeros(n, np.int64), np.zeros(n)
        )
        with torch.inference_mode(), self._on_device:
            for at in split_rounds(rows):
                out.yhat[at], out.n[at] = self._round(
                    rows[at],
                    *(torch.as_tensor(part[at]) for part in (u, steps, events.ts.astype(np.float64), events.target)),
                )
        return out, []

    def _round(
        self, rows: NDArray[np.int64], u: Tensor, steps: Tensor, ts: Tensor, y: Tensor
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """One event of each of these rows: predictions, and labelled events before."""
        codes = tuple(self._codes[i] for i in rows.tolist())
        self._widen_for(codes, u, steps, ts, ~y.isnan())
        e = torch.as_tensor(rows)
        state: State = _map_tensors(lambda part: part[e], self._tensors)._replace(codes=codes)
        event = learner.Event(torch.zeros_like(e), u, steps, ts)
        answer = learner.predict(self.params, self._meta, state, event)
        after = learner.learn(self.params, self._meta, state, answer, y)
        for i, each in zip(rows.tolist(), after.codes, strict=True):
            self._codes[i] = each
        _map_tensors(lambda part, new: part.index_copy_(0, e, new), self._tensors, after._replace(codes=()))
        return answer.yhat.cpu().numpy(), state.running.n.cpu().numpy()

    def _widen_for(self, codes: tuple[PoolCodes, ...], u: Tensor, steps: Tensor, ts: Tensor, known: Tensor) -> None:
        """Room for the codes that these events will be given when they are learned."""
        events = zip(codes, u.cpu().numpy(), steps.cpu().numpy(), ts.tolist(), known.tolist(), strict=True)
        roomy = self.params._replace(K=SLOTS)
        used = max(
            learner_codes.register(roomy, code, a, b, at)[0].used if learned else 0
            for code, a, b, at, learned in events
        )
        if used > self.params.K:
            self._allocate(len(self._tensors.time), used)

    def _check_expiry(self, ts: NDArray[np.int64]) -> None:
        """Entities are never forgotten here; where the recording is no longer than `state.ttl`, none would be."""
        if not len(ts):
            return
        self._span = (min(self._span[0], float(ts.min())), max(self._span[1], float(ts.max())))
        ttl, days = ttl_ms(self.config), (self._span[1] - self._span[0]) / DAY
        if days * DAY > ttl:
            raise ConfigError(
                f"state.ttl: found {ttl / DAY:g} days, and the recording covers {days:.0f}; --device "
                f"{self.device.type} forgets no entity: set it to null"
            )
