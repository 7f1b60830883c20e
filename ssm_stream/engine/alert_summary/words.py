"""The parts of the sentences, English and Japanese side by side. Names in braces are filled in."""

from __future__ import annotations

from typing import Literal, NamedTuple

Language = Literal["en", "ja"]


class Text(NamedTuple):
    """A part of a sentence in each language."""

    en: str
    ja: str


TEXTS: dict[str, Text] = {
    # The frame.
    "sentence": Text("{who}: {what} ({when}).", "{who}（{when}）：{what}。"),
    "since": Text("since {start}", "{start} から"),
    "found": Text("found at {start}", "{start} に検出"),
    "from_to": Text("{start} to {end}", "{start} 〜 {end}"),
    "at": Text("at {start}", "{start}"),
    "list": Text(", ", "、"),
    "and_more": Text(" and {n} more", " ほか {n} 件"),
    # A prediction, and a value with it: by itself, before a reason, in passing.
    "interval": Text("{yhat} ± {half}", "{yhat} ± {half}"),
    "bounds": Text("{yhat} [{lower} to {upper}]", "{yhat}、{lower} 〜 {upper}"),
    "outside": Text("{target} is {y}, expected {expected}", "{target} が {y} です（予測は {expected}）"),
    "no_value": Text("{target} is unusual", "{target} が普段と異なります"),
    "outside_and": Text("{target} is {y}, expected {expected}: ", "{target} が {y}（予測は {expected}）で、"),
    "inside_but": Text(
        "{target} is {y}, {place} ({expected}), but ", "{target} は {y} で{place}（{expected}）ですが、"
    ),
    "near": Text("as predicted", "予測どおり"),
    "within": Text("within its interval", "予測区間内"),
    "now": Text("now {y}, predicted {expected}", "現在 {y}、予測は {expected}"),
    "now_inside": Text("now {y}, {place} ({expected})", "現在 {y} で{place}、{expected}"),
    "other_outside": Text("{target} {y} (expected {expected})", "{target} {y}（予測は {expected}）"),
    "also": Text("{what}; also {others}", "{what}、ほかに {others}"),
    # Anomalies: of the prediction.
    "far": Text("unusually far from its prediction", "予測との差が普段より大きくなっています"),
    "again": Text("{target} is unusual again and again; {now}", "{target} が断続的に普段と異なります（{now}）"),
    # Of levels.
    "level": Text(
        "the level of {column} moved from {before} to {after}",
        "{column} の水準が {before} から {after} に変わりました",
    ),
    "level_by": Text("the level of {column} moved by {by}", "{column} の水準が {by} 変わりました"),
    "level_up_small": Text(
        "the level of {column} rose by {size}",
        "{column} の水準がわずかに上がりました（変化は{size}）",
    ),
    "level_down_small": Text(
        "the level of {column} fell by {size}",
        "{column} の水準がわずかに下がりました（変化は{size}）",
    ),
    "below_step": Text("less than its step of {step}", "最小の刻み {step} 未満"),
    "near_step": Text("about its step of {step} or less", "最小の刻み {step} 程度以下"),
    "level_from_to": Text("{column} ({before} to {after})", "{column}（{before} から {after}）"),
    "levels": Text("the levels of {columns} moved", "{columns}の水準が変わりました"),
    "levels_unknown": Text("the level of a column moved", "いずれかの列の水準が変わりました"),
    # The mean of the steps has gone a part of the way only.
    "steps_up": Text(
        "{column} fluctuates at least {times} × as much as usual from event to event",
        "{column} のイベントごとの変動が普段の {times} 倍以上に増えました",
    ),
    "steps_down": Text(
        "{column} fluctuates at most {times} × as much as usual from event to event",
        "{column} のイベントごとの変動が普段の {times} 倍以下に減りました",
    ),
    "steps_up_here": Text(
        "{column} fluctuates more than usual under these conditions",
        "{column} のイベントごとの変動がこの条件での普段より増えました",
    ),
    "steps_down_here": Text(
        "{column} fluctuates less than usual under these conditions",
        "{column} のイベントごとの変動がこの条件での普段より減りました",
    ),
    "still": Text(
        "{column} hardly changes any more and stays at {last}", "{column} が {last} のままほとんど変化しなくなりました"
    ),
    "restless": Text(
        "{column} has begun to change, to {last}", "一定だった {column} が変化し始めました（現在 {last}）"
    ),
    "while_outside": Text(
        "{what}; {target} is {y}, expected {expected}", "{what}（{target} は {y}、予測は {expected}）"
    ),
    "while_inside": Text(
        "{what}; {target} is {y}, {place} ({expected})", "{what}（{target} は {y} で{place}、{expected}）"
    ),
    # Of what is new.
    "before": Text("the {events} events before", "それまでの {events} 件"),
    "before_latest": Text("the {events} events before the latest {latest}", "最新の {latest} 件より前の {events} 件"),
    "higher": Text("higher than all of {earlier}", "{earlier}のどの値よりも高い値です"),
    "lower": Text("lower than all of {earlier}", "{earlier}のどの値よりも低い値です"),
    "at_most": Text("{what} (at most {bound})", "{what}（最大 {bound}）"),
    "at_least": Text("{what} (at least {bound})", "{what}（最小 {bound}）"),
    "between": Text("a value between those of {earlier}, at none of them", "{earlier}が一度も取らなかった中間の値です"),
    "hour": Text(
        "unlike the mean of its latest values at this time of the week (about {bound})",
        "この曜日と時間帯の最近の値（約 {bound}）と異なります",
    ),
    "usual": Text("unlike its usual value (about {bound})", "普段の値（約 {bound}）と異なります"),
    "mean": Text("the mean of its latest values was never so in {earlier}", "最近の平均が{earlier}になかった水準です"),
    "mean_here": Text(
        "the mean of its latest values is unusual for this hour of the week",
        "最近の平均がこの曜日と時間帯としては普段と異なります",
    ),
    "mean_off": Text(
        "the mean of its latest values is unusually far from its usual value",
        "最近の平均が普段の値からかつてないほど離れています",
    ),
    "livelier": Text(
        "it fluctuates more than it ever did in {earlier}", "変動が{earlier}のいつよりも大きくなっています"
    ),
    "calmer": Text("it fluctuates less than it ever did in {earlier}", "変動が{earlier}のいつよりも小さくなっています"),
    "other_steps": Text("it fluctuates as it never did in {earlier}", "変動の大きさが{earlier}になかったものです"),
    "new": Text("a value or a step that is new for this hour", "この時間帯では初めての値または変化です"),
    # Of the shape of cycles.
    "cycle": Text(
        "the cycle of {target} (about {events} events) has another shape",
        "{target} の周期（約 {events} 件）の波形がこれまでと異なります",
    ),
    "cycle_some": Text("the cycle of {target} has another shape", "{target} の周期の波形がこれまでと異なります"),
    # Of a channel that another package brings.
    "own": Text(
        "the channel {channel} scores {score} (unusual above 1)",
        "チャネル {channel} のスコアが {score} です（1 超で異常）",
    ),
    # Drift.
    "with_now": Text("{what}; {now}", "{what}（{now}）"),
    "shift_up": Text(
        "{target} has been about {shift} higher than predicted in its last {events} events",
        "{target} が直近 {events} 件で予測より約 {shift} 高い状態です",
    ),
    "shift_down": Text(
        "{target} has been about {shift} lower than predicted in its last {events} events",
        "{target} が直近 {events} 件で予測より約 {shift} 低い状態です",
    ),
    "shift_up_small": Text(
        "{target} has been higher than predicted by {size} in its last {events} events",
        "{target} が直近 {events} 件で予測よりわずかに高い状態です（差は{size}）",
    ),
    "shift_down_small": Text(
        "{target} has been lower than predicted by {size} in its last {events} events",
        "{target} が直近 {events} 件で予測よりわずかに低い状態です（差は{size}）",
    ),
    "creep_up": Text(
        "{target} has crept above its prediction, by about {shift} in its last {events} events",
        "{target} が予測より徐々に高くなり、直近 {events} 件で差が約 {shift} になりました",
    ),
    "creep_down": Text(
        "{target} has crept below its prediction, by about {shift} in its last {events} events",
        "{target} が予測より徐々に低くなり、直近 {events} 件で差が約 {shift} になりました",
    ),
    "creep_up_small": Text(
        "{target} has crept above its prediction, by {size} in its last {events} events",
        "{target} が予測より徐々に高くなっています（直近 {events} 件の差は{size}）",
    ),
    "creep_down_small": Text(
        "{target} has crept below its prediction, by {size} in its last {events} events",
        "{target} が予測より徐々に低くなっています（直近 {events} 件の差は{size}）",
    ),
    "days_up": Text(
        "{target} has been higher for two days or more: its mean is {after} in the last one, "
        "was {before} in those before",
        "{target} が 2 日以上続けて高くなっています（直近 1 日の平均 {after}、それまでの平均 {before}）",
    ),
    "days_down": Text(
        "{target} has been lower for two days or more: its mean is {after} in the last one, "
        "was {before} in those before",
        "{target} が 2 日以上続けて低くなっています（直近 1 日の平均 {after}、それまでの平均 {before}）",
    ),
    "days_up_by_inputs": Text(
        "{target} has been higher than its inputs make it for two days or more: its mean is {after} in the last one, "
        "by its inputs {before}",
        "{target} が 2 日以上続けて入力からの見込みより高くなっています"
        "（直近 1 日の平均 {after}、入力からの見込み {before}）",
    ),
    "days_down_by_inputs": Text(
        "{target} has been lower than its inputs make it for two days or more: its mean is {after} in the last one, "
        "by its inputs {before}",
        "{target} が 2 日以上続けて入力からの見込みより低くなっています"
        "（直近 1 日の平均 {after}、入力からの見込み {before}）",
    ),
    "days_over": Text(
        "the days of {target} are again as those before: its mean is {after} in the last one, and was {before}",
        "{target} は再びそれまでの日と同じ水準です（直近 1 日の平均 {after}、それまでの平均 {before}）",
    ),
    "days_absorbed": Text(
        "the days of {target} are compared with its mean of the last one, {after}, from now on",
        "{target} は今後、直近 1 日の平均 {after} と比較されます",
    ),
    # Of days with few events, of which several are joined.
    "events_up": Text(
        "{target} has been higher for {twice} events or more: its mean is {after} in the last {events}, "
        "was {before} in those before",
        "{target} が {twice} 件以上続けて高くなっています（直近 {events} 件の平均 {after}、それまでの平均 {before}）",
    ),
    "events_down": Text(
        "{target} has been lower for {twice} events or more: its mean is {after} in the last {events}, "
        "was {before} in those before",
        "{target} が {twice} 件以上続けて低くなっています（直近 {events} 件の平均 {after}、それまでの平均 {before}）",
    ),
    "events_up_by_inputs": Text(
        "{target} has been higher than its inputs make it for {twice} events or more: "
        "its mean is {after} in the last {events}, by its inputs {before}",
        "{target} が {twice} 件以上続けて入力からの見込みより高くなっています"
        "（直近 {events} 件の平均 {after}、入力からの見込み {before}）",
    ),
    "events_down_by_inputs": Text(
        "{target} has been lower than its inputs make it for {twice} events or more: "
        "its mean is {after} in the last {events}, by its inputs {before}",
        "{target} が {twice} 件以上続けて入力からの見込みより低くなっています"
        "（直近 {events} 件の平均 {after}、入力からの見込み {before}）",
    ),
    "events_over": Text(
        "{target} is again as it was before: its mean is {after} in the last {events} events, and was {before}",
        "{target} は再びそれまでと同じ水準です（直近 {events} 件の平均 {after}、それまでの平均 {before}）",
    ),
    "events_absorbed": Text(
        "{target} is compared with its mean of the last {events} events, {after}, from now on",
        "{target} は今後、直近 {events} 件の平均 {after} と比較されます",
    ),
    "hours_up": Text(
        "{target} has been higher for three hours or more than its inputs, categories and time make it: "
        "its mean is {after} in the last one, expected {before}",
        "{target} が 3 時間以上続けて、入力・区分・時刻からの見込みより高くなっています"
        "（直近 1 時間の平均 {after}、見込み {before}）",
    ),
    "hours_down": Text(
        "{target} has been lower for three hours or more than its inputs, categories and time make it: "
        "its mean is {after} in the last one, expected {before}",
        "{target} が 3 時間以上続けて、入力・区分・時刻からの見込みより低くなっています"
        "（直近 1 時間の平均 {after}、見込み {before}）",
    ),
    "hours_over": Text(
        "the hours of {target} are again as expected: its mean is {after} in the last one, expected {before}",
        "{target} は再び見込みどおりです（直近 1 時間の平均 {after}、見込み {before}）",
    ),
    "hours_absorbed": Text(
        "what the hours of {target} are now is usual from now on: its mean was {after} in the last one",
        "{target} は今後、現在の水準を普段とみなします（直近 1 時間の平均 {after}）",
    ),
    "errors_larger": Text(
        "errors of {target} are about {times} × as large as usual",
        "{target} の予測誤差が普段の約 {times} 倍に増えました",
    ),
    "errors_smaller": Text(
        "errors of {target} are only about {times} × as large as usual",
        "{target} の予測誤差が普段の約 {times} 倍に減りました",
    ),
    "shift_up_some": Text(
        "{target} is higher against its prediction than usual",
        "{target} が予測に対して普段より高めの状態です",
    ),
    "shift_down_some": Text(
        "{target} is lower against its prediction than usual",
        "{target} が予測に対して普段より低めの状態です",
    ),
    "creep_up_some": Text(
        "{target} is creeping up against its prediction",
        "{target} が予測に対して徐々に高くなっています",
    ),
    "creep_down_some": Text(
        "{target} is creeping down against its prediction",
        "{target} が予測に対して徐々に低くなっています",
    ),
    "errors_larger_some": Text(
        "errors of {target} have been larger than usual", "{target} の予測誤差が普段より大きい状態です"
    ),
    "errors_smaller_some": Text(
        "errors of {target} have been smaller than usual", "{target} の予測誤差が普段より小さい状態です"
    ),
    "errors_far_larger": Text(
        "errors of {target} are more than {times} × as large as usual",
        "{target} の予測誤差が普段の {times} 倍を超えました",
    ),
    "errors_far_smaller": Text(
        "errors of {target} are less than {times} × as large as usual",
        "{target} の予測誤差が普段の {times} 倍未満に減りました",
    ),
    "all_above": Text("{what}, mostly above the prediction", "{what}（主に予測より高い側）"),
    "all_below": Text("{what}, mostly below the prediction", "{what}（主に予測より低い側）"),
    "usual_here": Text("{what} under these conditions", "{what}（この条件での普段との比較）"),
    "without_rest": Text("{what}, those at rest not counted", "{what}（静止中のイベントは除く）"),
    "drift": Text("{target} does not behave as it did before", "{target} の振る舞いがこれまでと変わっています"),
    # Many entities.
    "fleet": Text("{count} of {total} entities ({pool})", "{pool} の {total} 件中 {count} 件"),
    "fleet_partly": Text("{count} of at least {total} entities ({pool})", "{pool} の {total} 件以上のうち {count} 件"),
    "fleet_uncounted": Text("{count} entities ({pool})", "{pool} の {count} 件"),
    "fleet_or_more": Text("at least {who}", "{who}以上"),
    "fleet_all": Text("entities of {pool}", "{pool}"),
    "partition": Text("partition {partition}", "パーティション {partition}"),
    "shard": Text("partition {partition}, shard {shard}", "パーティション {partition}（シャード {shard}）"),
    "fleet_anomaly": Text(
        "{target} is unusual at the same time, most: {names}",
        "同時に {target} が普段と異なります（主に {names}）",
    ),
    "fleet_drift": Text(
        "{target} behaves differently at the same time, most: {names}",
        "同時に {target} の振る舞いが変わりました（主に {names}）",
    ),
    "fleet_anomaly_several": Text("unusual at the same time, most: {names}", "同時に普段と異なります（主に {names}）"),
    "fleet_drift_several": Text(
        "behaving differently at the same time, most: {names}", "同時に振る舞いが変わりました（主に {names}）"
    ),
    "fleet_member": Text("{name} ({target})", "{name} の {target}"),
    "last": Text("{what}; the last of them: {last}", "{what}、直近の例：{last}"),
    "last_named": Text("{what}; the last of them, {name}: {last}", "{what}、直近の例（{name}）：{last}"),
    "fleet_recovered": Text(
        "{target} is normal again in most entities, {count} still open",
        "{target} はほぼ平常に戻りました（残り {count} 件）",
    ),
    "fleet_recovered_several": Text(
        "normal again in most entities, {count} still open", "ほぼ平常に戻りました（残り {count} 件）"
    ),
    # Fixed limits.
    "beyond_limit": Text("{column} is {value}, {limit}", "{column} が {value} です（{limit}）"),
    "forbidden": Text("{column} is {value}", "{column} が {value} です"),
    "limit_above": Text("above its limit of {bound}", "上限 {bound} 超過"),
    "limit_below": Text("below its limit of {bound}", "下限 {bound} 未満"),
    "limit_from": Text("at or above its limit of {bound}", "上限 {bound} 以上"),
    "limit_to": Text("at or below its limit of {bound}", "下限 {bound} 以下"),
    "within_limit": Text("{column} is within its limit again ({value})", "{column} は上下限内に戻りました（{value}）"),
    # What stops.
    "silence_all": Text("no usable events come any more", "使えるイベントが届かなくなりました"),
    "silence_all_over": Text("events come again", "イベントが再び届いています"),
    "silence": Text("{column} has no value any more", "{column} の値が届かなくなりました"),
    "silence_over": Text("{column} has a value again ({value})", "{column} の値が再び届いています（{value}）"),
    "stuck": Text("{column} is stuck at {value}", "{column} が {value} のまま動きません"),
    "stuck_over": Text("{column} moves again ({value})", "{column} が再び変化しています（{value}）"),
    "stands_still": Text(
        "{what}; {column} stands still in {of[0]} of {of[1]} entities",
        "{what}。{column} は {of[1]} 件中 {of[0]} 件で止まっています",
    ),
    "others_stopped": Text("{what}, and {n} more with it", "{what}。ほか {n} 件も同様です"),
    # The end.
    "recovered": Text("{target} is as expected again{after}", "{target} は{after}予測どおりに戻りました"),
    "calm": Text("nothing unusual any more in {target}{after}", "{target} は{after}平常に戻りました"),
    "learned": Text(
        "the prediction of {target} fits again{after}: the change is over, or learned",
        "{target} の予測は{after}再び合うようになりました（変化が収まったか、学習されました）",
    ),
    "at_rest": Text(
        "{target} is at rest, as predicted{after}",
        "{target} は{after}予測どおりの静止状態になりました",
    ),
    "absorbed": Text(
        "{target} has been so {long}: the new level is taken as normal",
        "{target} は{long}同じ状態のため、新しい水準を正常とみなします",
    ),
    "absorbed_shape": Text(
        "the cycle of {target} has been so {long}: its new shape is taken as normal",
        "{target} の周期の波形は{long}同じ状態のため、新しい波形を正常とみなします",
    ),
    "absorbed_drift": Text(
        "{target} has been so {long}: the new behaviour is taken as normal",
        "{target} は{long}同じ状態のため、新しい振る舞いを正常とみなします",
    ),
    "recovered_before": Text(
        "{what}; {target} was normal again before", "{what}（{target} はその前に平常に戻っています）"
    ),
    "absorbed_before": Text(
        "{what}; {target} was taken as normal before", "{what}（{target} はその前に正常とみなされています）"
    ),
    "stopped": Text(
        "closed, as it has stopped: it no longer meets its operating condition",
        "停止して運転条件を外れたため、アラートを閉じました",
    ),
    "ttl": Text("closed, as no events of it come any more", "イベントが途絶えたため、アラートを閉じました"),
    "reset": Text("closed, as its state was reset", "状態がリセットされたため、アラートを閉じました"),
    "rewind": Text(
        "closed, as what it was raised by was forgotten", "発報の元となった学習が取り消されたため、アラートを閉じました"
    ),
    "disabled": Text("closed, as the detector was switched off", "検知が無効化されたため、アラートを閉じました"),
    "maintenance": Text("closed, as a maintenance window began", "メンテナンス期間に入ったため、アラートを閉じました"),
    "event": Text("{n} event", "イベント {n} 件"),
    "events": Text("{n} events", "イベント {n} 件"),
    "after": Text(" after {events}", "{events}で"),
    "after_confirmed": Text(" after {events}, confirmed by {calm} more", "{events}で（確認までさらに {calm} 件）"),
    "for": Text("for {events}", "{events}"),
    "for_long": Text("for long", "長く"),
}
"""Key → text."""


def text(key: str, language: Language, **values: object) -> str:
    """Return a part of a sentence with its values filled in."""
    return (TEXTS[key].ja if language == "ja" else TEXTS[key].en).format(**values)
