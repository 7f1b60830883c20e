"""Constants of the core that the definition in torch computes with, too; tests hold the two together."""

from __future__ import annotations

# inputs
DAY = 86_400.0
MIN_GAP_HOUR, MAX_GAP_HOUR = DAY / 1000.0, 4 * 3600.0  # s between events at which an hour of the day is worth an input
MIN_GAP_WEEKDAY, MAX_GAP_WEEKDAY = 60.0, DAY
WHOLE = (DAY, 7 * DAY)  # s after which an hour, a weekday comes again, and may be an input: before, it is but a while
OFTEN_AT_END = 0.05  # share of targets that are the least or the greatest, from which on none is expected beyond
POSITIVE_FROM = 100  # targets of a pool of which none was negative, from which on none is expected to be
REACH = 0.5  # of the range of targets: how far outside of it an answer may be
WINSOR_FROM = 5  # values from which on one counts for so many deviations of them at most
GROSS_FROM = 100  # targets of an entity before one may be misread
LEAN = 10.0  # events in which an entity's scale leans on the pool's

# wild readings
WILD_FROM = 500.0  # known values of a feature before one is wild
WILD_MOST = 10.0  # events after which it is usual
BELIEF_KEEP, BELIEF_CLIP = 0.9, 3.0  # of what it has gained to believe them, in usual errors

# effects of changes
EFFECT_NOISE = 0.5  # variance of all else, over that of an unknown effect
EFFECTS_PAUSE = 8.0  # usual gaps, after which no event is known to be the second of a change
EFFECT_FORGETS = 0.5  # of what an event tells of an effect, the part by which it becomes more certain
EFFECT_KNOWN = 99.0  # the most that 1/variance, less 1, becomes
PART_KEEP = 0.99  # of the sums of an entity's part, an event
PART_LEAN = 0.5  # events of the pool's that a part leans on
PART_ROUNDING = 1e-6  # of the range of answers: a difference up to here is rounding
PART_SURE = 2.0  # standard errors of the pool's part, from which on it is any
PART_MOST = 4.0  # times the difference

# seasons
QUARTER = 900_000  # of an hour, ms
HALF_SECOND = 500  # ms: times of the calendar count to the whole second
USUAL_RATE = 0.3  # of a bin's usual target, once it is known
SEASON_REACH = 0.6  # usual gaps within which the nearest bin is taken

# gates
PRIOR = 1e-2  # of weights by regrets: keeps them from being decided by rounding while all regrets are small
KNOWN_BY = 16.0  # sum of an answer's squared regrets: below, it must in part be good alone
SHARE_OF_ALL = 1.0 / 24  # of the regrets of all events that counts in every situation
BEND, VIEW_BEND = 0.5, 0.25  # usual errors from which on the loss of a gate, of a view is linear
LOSS_CLIP = 4.0
POOL_DECAY = 0.999  # of the pool's losses
SITUATION_DECAY, VIEW_DECAY = 0.995, 0.998  # of the regrets of a situation, an event in it
DIFFERENCE_HALF = 0.5  # usual errors by which the gates differ in the middle of all places
LEVEL_CLIP = 1e6  # deviations from the mean that are told apart
UNIT_RATE = 0.02
ROUNDING = 1e-12  # of target and prediction: an error up to here is rounding, which is no unit
STACK_CLIP = 20.0  # usual errors that the stacking gates hear
SEASON_NEAR = 0.02  # part of LOSS_CLIP by which losses are less where a seasonal answer counts without limit

# corrections
CARRY_DECAY, CARRY_PRIOR, CARRY_CLIP = 0.99, 10.0, 4.0  # of Σ e e′ and Σ e², errors in usual ones

# dead band around the last known target
BAND_DECAY, BAND_CLIP = 0.998, 4.0
BAND_HALF = 0.25  # usual errors that lie in the middle of all distances
BAND_PRIOR = 1e-4  # of the squares: keeps rounding from deciding while nothing has been gained or lost

# attention
FLOOR = 0.05  # of an input's part in the metric: an input without weight still tells situations apart a little
AGED = 0.02  # per event
NEAR, NEAR_LOG, NEAR_PLAIN, NEAR_PAST, HELD = range(5)  # columns of HeadsState.near
NEAR_RATE = 0.02
