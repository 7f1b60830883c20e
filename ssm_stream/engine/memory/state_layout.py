"""Where the state of an entity, and of a pool, lies in its block: what every event touches first, wide fields last."""

from __future__ import annotations

from ssm_stream.config import Config
from ssm_stream.core import (
    blocks,
    cycle_shape,
    days,
    detect,
    error_scale,
    hours,
    interval,
    levels,
    lifecycle,
    loop,
    novelty,
    shapes,
)
from ssm_stream.core.blocks import Layout
from ssm_stream.engine.kernel_params import enabled_channels


def entity_layout(config: Config, p: shapes.LearnerParams, *, challenger: bool = False) -> Layout:
    """Return the layout of an entity's row; a disabled detector has no rows. challenger: there is one"""
    _, detects_novelty, detects_levels, detects_shape = enabled_channels(config)
    return blocks.layout(
        loop.EntityStates,
        [
            ("clock", loop.Clock, blocks.schema("clock"), True),
            ("lifecycle", lifecycle.LifecycleState, blocks.schema("lifecycle"), True),
            ("interval", interval.IntervalState, blocks.schema("interval"), True),
            ("error_scale", error_scale.ErrorScaleState, blocks.schema("error_scale", None, p.features), True),
            ("novelty", novelty.NoveltyState, blocks.schema("novelty"), detects_novelty),
            ("reference", loop.Reference, blocks.schema("reference", p), True),
            ("learner", shapes.EntityState, blocks.schema("entity", p), True),
            ("levels", levels.LevelsState, blocks.schema("levels", None, p.features + 1), detects_levels),
            ("shape", cycle_shape.ShapeState, blocks.schema("shape"), detects_shape),
            ("detector", detect.DetectorState, blocks.schema("detector"), config.alerts.drift.enabled),
            ("days", days.DaysState, blocks.schema("days", None, p.features), config.alerts.drift.enabled),
            ("hours", hours.HoursState, blocks.schema("hours", None, p.features), config.alerts.drift.enabled),
            ("challenger", shapes.EntityState, blocks.schema("entity", p), challenger),
        ],
    )


def pool_layout(p: shapes.LearnerParams, *, norm: bool, challenger: bool = False) -> Layout:
    """Return the layout of a pool's row.

    norm: with the norm scope, which pools of one entity do not need; challenger: there is one
    """
    return blocks.layout(
        loop.PoolStates,
        [
            ("pool", shapes.PoolState, blocks.schema("pool", p), True),
            ("fleet", shapes.HeadsState, blocks.schema("fleet", p), True),
            ("norm", shapes.HeadsState, blocks.schema("norm", p), norm),
            (
                "error_scale",
                error_scale.ErrorScalePoolState,
                blocks.schema("error_scale_pool", None, p.features),
                True,
            ),
            ("days", days.DaysPoolState, blocks.schema("days_pool", None, p.features), True),
            ("hours", hours.HoursPoolState, blocks.schema("hours_pool", None, p.features), True),
            ("trial", loop.Trial, blocks.schema("trial"), challenger),
            ("challenger_pool", shapes.PoolState, blocks.schema("pool", p), challenger),
            ("challenger_fleet", shapes.HeadsState, blocks.schema("fleet", p), challenger),
            ("challenger_norm", shapes.HeadsState, blocks.schema("norm", p), norm and challenger),
        ],
    )
