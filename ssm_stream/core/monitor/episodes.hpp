// Episodes: an alert starts, goes on and recovers; one per entity and kind at a time.
//
// anomaly   starts after `consecutive` events whose score exceeds 1, recovers after `recover_after` events without one
// drift     starts at the detector's alarm, recovers once the errors' scores are standard normal again, or once there have been no errors
//           for longer than there usually are none, as the target rests
// What is often so (errors that become smaller where machines stand) begins no episode: it goes on unnoticed until it is over, its end
// with it, so that all else is as in one. Another change in it is one.
//
// Either ends as absorbed once it has lasted `absorb` events: what is so for that long is the new normal.
//
// Counts are labelled events of the entity, never wall-clock time, so that a replay tells the same story.
#pragma once
#include "../numbers.hpp"
#include "../state.hpp"

namespace ssm::SSM_ISA::episodes {

enum Kind { ANOMALY, DRIFT, KINDS };
enum Phase { UNCHANGED, STARTED, ONGOING, RECOVERED };
enum Ended { OPEN_STILL, BY_RECOVERY, ABSORBED };
enum { OPEN, SINCE_N, SINCE_TS, IN_ROW, CALM, QUIET_UNTIL, REPORTED, PEAK, HELD, NUMBERS };  // columns of an episode
static_assert(NUMBERS == static_cast<int>(EPISODE_NUMBERS));
constexpr double CAME = -1.0, WENT = -2.0;  // of PEAK, while no episode is open: something goes on unnoticed; it has ended, or errors are larger once
enum { RUNNING_GAP = IN_ROW };  // of a drift, which one event begins, so that a place is free: `running_gap_of`

SSM_INLINE double* episode(const MonitorState& m, i64 e, i64 kind) {
    return m.episode_fields.number.in(m.episodes.row(e)) + NUMBERS * kind;
}

// Is one of these kinds open? kinds: a bit each
SSM_INLINE bool any_open(const MonitorState& m, i64 e, i64 kinds) {
    for (i64 kind = 0; kind < KINDS; ++kind)
        if ((kinds >> kind & 1) && episode(m, e, kind)[OPEN] != 0.0) return true;
    return false;
}

// What an episode hears of an event. n: labelled events before this one; ts: ms; score: the kind's score; alarm: the
// kind's condition holds on this event; calm: the event counts towards recovery; absorb: most events of an episode; calm_least: of
// a recovery that the rules would have sooner
// often: the alarm is of what is often so; back: of what ends it
struct Heard { i64 n; double ts, score; bool alarm, calm; double absorb, calm_least = 0.0; bool often = false, back = false; };
// A recovery, as the calm events are enough.
SSM_INLINE bool is_over(double* number, i64 kind, const Heard& heard, const Rules& rules) {
    number[CALM] = heard.calm && !heard.alarm ? number[CALM] + 1.0 : 0.0;
    return number[CALM] >= max(static_cast<double>(rules.recover_after[kind]), heard.calm_least);
}
SSM_INLINE bool is_unnoticed(const double* number) { return number[OPEN] == 0.0 && number[PEAK] < 0.0; }
// Goes what is often so on, unnoticed?
SSM_INLINE bool goes_unnoticed(double* number, i64 kind, const Heard& heard, const Rules& rules, i64* ended) {
    if (heard.alarm && !heard.often && !(heard.back && number[PEAK] == CAME)) return false;
    if (heard.alarm && heard.back) number[PEAK] = WENT;
    const double n = static_cast<double>(heard.n);
    const bool over = is_over(number, kind, heard, rules);
    if (over || n - number[SINCE_N] + 1.0 >= heard.absorb) {
        *ended = over ? BY_RECOVERY : ABSORBED;
        number[PEAK] = 0.0, number[QUIET_UNTIL] = static_cast<double>(heard.n + rules.cooldown[kind]);
    }
    return true;
}

// Move an episode on by one event and return its phase if it is to be reported (UNCHANGED if not).
inline Phase step(double* number, i64 kind, const Heard& heard, const Rules& rules, i64* ended) {
    *ended = OPEN_STILL;
    const double n = static_cast<double>(heard.n);
    if (kind == ANOMALY) number[IN_ROW] = heard.alarm ? number[IN_ROW] + 1.0 : 0.0;
    if (number[OPEN] == 0.0) {
        if (is_unnoticed(number) && goes_unnoticed(number, kind, heard, rules, ended)) return UNCHANGED;
        const bool begins = kind == ANOMALY ? number[IN_ROW] >= static_cast<double>(rules.consecutive) : heard.alarm;
        if (!begins || n < number[QUIET_UNTIL]) return UNCHANGED;
        number[SINCE_N] = n, number[SINCE_TS] = heard.ts, number[CALM] = 0.0, number[REPORTED] = n;
        number[PEAK] = heard.often ? CAME : heard.score;
        if (heard.often) return UNCHANGED;
        number[OPEN] = 1.0;
        return STARTED;
    }
    number[PEAK] = max(number[PEAK], heard.score);
    const bool recovered = is_over(number, kind, heard, rules);
    if (recovered || n - number[SINCE_N] + 1.0 >= heard.absorb) {
        *ended = recovered ? BY_RECOVERY : ABSORBED;
        number[OPEN] = 0.0;
        if (kind == ANOMALY) number[IN_ROW] = 0.0;
        number[QUIET_UNTIL] = static_cast<double>(heard.n + rules.cooldown[kind]);
        return RECOVERED;
    }
    if (n - number[REPORTED] >= static_cast<double>(rules.ongoing_every)) {
        number[REPORTED] = n;
        return ONGOING;
    }
    return UNCHANGED;
}

// Events from an episode's start to the first of the calm events that ended it.
SSM_INLINE double absorbed_after(const double* number, i64 n) {
    return max(static_cast<double>(n) - number[SINCE_N] - number[CALM] + 1.0, 1.0);
}

}  // namespace ssm::SSM_ISA::episodes
