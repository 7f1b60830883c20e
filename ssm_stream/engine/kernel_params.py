"""Translates a configuration into the plain numbers and tuples that the core takes."""

from __future__ import annotations

import math

from ssm_stream.config import MAX_PENDING, Budget, Config
from ssm_stream.core import lifecycle, loop, shapes
from ssm_stream.core.features import FeaturePlan
from ssm_stream.core.frozen_weights import Weights
from ssm_stream.core.loop import Late, Rules
from ssm_stream.core.shapes import LearnerParams

SLOT_STEP = 8  # code slots are added in steps of so many
DAY = 86_400_000.0
LEARN = {"adapt": loop.ADAPT, "slow": loop.SLOW, "hold": loop.HOLD}


def build_feature_plan(config: Config) -> FeaturePlan:
    """Return how the numbers of an event become inputs. config: with its features"""
    event = config.event
    calendar: tuple[str, ...] = ("auto",) if event.calendar == "auto" else tuple(event.calendar)
    if event.holidays:
        calendar = (*calendar, "holiday")
    return FeaturePlan(
        tuple(event.numbers), tuple(event.categories), calendar, event.lags, event.uses_differences, event.time_zone,
        event.feature_lags, event.holidays.numbers,
    )  # fmt: skip


def ttl_ms(config: Config) -> float:
    """Return the event time, ms, after which an unlabelled entity starts afresh; infinite without a TTL."""
    return config.state.ttl * 1000.0 if config.state.ttl else math.inf


def delayed_label_rules(config: Config) -> Late | None:
    """Return the rules for targets that come after their predictions; None if each target comes with its event."""
    labels, horizon = config.labels, config.model.horizon
    if labels is not None:
        return Late(True, labels.id is not None, labels.wait * 1000.0, labels.pending, config.model.fleet, 0, 0.0, 0.0)
    if horizon.events or horizon.seconds:
        most = MAX_PENDING if horizon.seconds else horizon.events
        ahead = horizon.seconds * 1000.0
        return Late(False, False, DAY, most, config.model.fleet, horizon.events, ahead, ahead / 2)
    return None


def enabled_channels(config: Config) -> tuple[bool, bool, bool, bool]:
    """Return which of `loop.CHANNELS` detect anomalies. Levels need at least one numeric column; the
    shape of cycles is a part of novelty.

    If anomaly alerts are off, the score is the residual's, which needs no state but the interval's.
    """
    if not config.alerts.anomaly.enabled:
        return True, False, False, False
    chosen = config.alerts.anomaly.channels
    novelty = "novelty" in chosen
    return "residual" in chosen, novelty, "levels" in chosen and len(config.event.numbers) > 0, novelty


def own_channels(config: Config) -> list[str]:
    """Return the names of the channels that other packages bring, in the order of the configuration."""
    chosen = config.alerts.anomaly.channels if config.alerts.anomaly.enabled else []
    return [name for name in chosen if name not in loop.CHANNELS]


def build_rules(config: Config) -> Rules:
    """Return when events are scored, and what an alert needs."""
    anomaly, drift = config.alerts.anomaly, config.alerts.drift

    def pair(budget: Budget) -> tuple[float, float]:
        return budget.events, budget.seconds

    return Rules(
        config.model.warmup,
        config.model.interval,
        ttl_ms(config),
        anomaly.enabled,
        *pair(anomaly.budget),
        {"above": 1, "below": -1, "both": 0}[anomaly.direction],
        anomaly.min_deviation,
        anomaly.min_deviation_relative,
        drift.enabled,
        *pair(drift.budget),
        enabled_channels(config),
        (LEARN[anomaly.learn], LEARN[drift.learn]),
        lifecycle.LifecycleRules(
            anomaly.consecutive,
            (anomaly.recover_after, 50),
            (anomaly.cooldown, drift.cooldown),
            config.alerts.ongoing_every,
            (anomaly.absorb_after or 0, drift.absorb_after or 0),
        ),
    )


def code_slots(needed: int) -> int:
    """Return how many code slots to have when so many are needed."""
    return min(-(-needed // SLOT_STEP) * SLOT_STEP, shapes.SLOTS)


def build_learner_params(config: Config, plan: FeaturePlan, frozen: Weights, slots: int) -> LearnerParams:
    """Return sizes and rates of the learner. frozen: its frozen weights; slots: the least number of code slots"""
    model, tuned = config.model, config.model.tuned
    K = code_slots(slots)
    names = tuned.heads or ["moments", "products", "proximal", "embedding"]
    if tuned.heads is None and model.profile == "accurate":
        names = [*names, "attention"]
    heads = shapes.Heads(
        "moments" in names, "products" in names, "proximal" in names, "embedding" in names,
        tuned.window if "attention" in names else 0, "gd" in names, tuned.log_space, tuned.gate == "learned",
        tuned.gate == "heads", config.labels is not None, tuned.embedding.size, tuned.embedding.scale,
    )  # fmt: skip
    lives = tuned.half_lives
    half_lives = None if lives is None else tuple((life.events, life.seconds) for life in lives)
    ahead = 0.0 if config.labels is not None else model.horizon.seconds * 1000.0
    return shapes.learner_params(plan, frozen, heads, half_lives, K, ahead)
