"""An adversary's events: what the model is worth after them, by the attacks of `tests/torture/poison.py`.

With `learn: hold` nothing of an episode is learned until the hold has cost 500 usual errors, so that after a short
attack errors are back at once; with the default, `adapt`, what stays within the range of honest values is forgotten in
some hundred events, and gross values are learned as a new scale, which lasts. docs/reliability.md has the table.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torture.poison import AFTER, ATTACKS, BEFORE, DURING, GROSS, LEARN, SLY, WITHIN, attacked, config, errors, honest

from ssm_stream.engine.engine import Engine
from ssm_stream.engine.memory.growable_arrays import named_arrays
from ssm_stream.ingest.events import Events

FOLLOWED = ("growing targets", "huge features", "tiny values")
"""What the last target predicts better than a model that stands still: a hold gives way to it."""


@pytest.mark.parametrize("name", [name for name in ATTACKS if name not in FOLLOWED])
def test_held_learning_gives_an_adversary_next_to_nothing(name: str) -> None:
    """Gross or not, what starts an episode teaches nothing; the sly, which start none for a while, teach a little."""
    assert attacked(name, "hold")[0][250:].mean() < (2.5 if name in SLY else 1.1)


@pytest.mark.parametrize("name", FOLLOWED)
def test_a_hold_that_costs_too_much_leaves_no_more_than_none_would(name: str) -> None:
    held, adapted = (attacked(name, learn)[0][250:].mean() for learn in ("hold", "adapt"))
    assert held < 1.1 * adapted


@pytest.mark.parametrize("size", [1e3, 1e6])
def test_a_few_gross_errors_do_not_end_the_holds_to_come(size: float) -> None:
    """What they cost is paid back within some thousand events, however gross they were."""
    rng, engine = np.random.default_rng(0), Engine(config("hold"))
    before = errors(engine, *honest(rng, BEFORE), 0)[1_000:].mean()
    x, y = honest(rng, 8_000)
    y[:5] = size
    errors(engine, x, y, BEFORE)
    errors(engine, *ATTACKS["huge targets in turn"](rng, *honest(rng, DURING)), BEFORE + 8_000)
    after = errors(engine, *honest(rng, AFTER), BEFORE + 8_000 + DURING)
    assert after[10:].mean() < 1.1 * before


@pytest.mark.parametrize("name", [*WITHIN, *SLY])
def test_what_is_learned_of_values_within_range_is_forgotten(name: str) -> None:
    """The default goes with every change, so it goes back as well."""
    assert attacked(name, "adapt")[0][250:].mean() < 1.5


@pytest.mark.parametrize("learn", LEARN)
@pytest.mark.parametrize("name", ATTACKS)
def test_no_number_of_the_state_becomes_infinite(name: str, learn: str) -> None:
    """Weights and moments are bounded by the clipping of what they learn from, whatever that was."""
    _, engine = attacked(name, learn)
    for each in engine.target_engines:
        for where, array in [*named_arrays(each.store.state), *named_arrays(each.store.shared)]:
            assert not np.isinf(array).any(), where


@pytest.mark.parametrize("name", GROSS)
def test_a_neighbour_of_the_same_pool_is_hardly_worse_off(name: str) -> None:
    """One of ten entities is attacked; what the others are told stays good while it lasts."""
    rng, engine = np.random.default_rng(0), Engine(config("hold"))

    def told(x: Any, y: Any, start: int) -> Any:
        n = len(y)
        ts, who = 1_700_000_000_000 + 6_000 * (start + np.arange(n)), (start + np.arange(n)) % 10
        events = Events([f"m{i}" for i in who], ts, x, y, np.arange(n), np.zeros(n, np.int64))
        return np.abs(engine.process(events)[0].yhat - y)[who != 0]

    before = told(*honest(rng, 50_000), 0)[25_000:].mean()
    x, y = honest(rng, 10 * DURING)
    x[::10], y[::10] = ATTACKS[name](rng, x[::10], y[::10])
    assert told(x, y, 50_000).mean() < 1.3 * before
