// The texts of the page in two languages, and the formatting of numbers and times.

const EN = {
  skip: "Skip to content", views: "Views", fleet: "Fleet", alerts: "Alerts", process: "The process",
  live: "live", connecting: "connecting …", away: "no connection, retrying …", paused: "paused",
  pause: "Pause", resume: "Resume", theme_auto: "Theme: system", theme_dark: "Theme: dark", theme_light: "Theme: light",
  language: "日本語", language_label: "日本語で表示",
  events_s: "events/s", lag: "lag", entities: "entities", open_alerts: "open alerts", inside: "events inside alerts", inside_note: "{kind}: {n} started, longest {longest}", coverage: "in the interval",
  wanted: "target {level}", error: "error", of_persistence: "error of the last value", messages: "messages behind",
  predictions: "{n} predictions", dead: "{n} dead letters", not_ready: "not caught up yet", up: "up {time}",
  filter: "Filter by name", state: "Show", all: "all", any_open: "with an open alert", anomaly: "anomaly", drift: "drift", limit: "limit", silence: "silence", stuck: "stuck",
  warming: "warming up", calm: "calm", raised: "raised", beyond: "score > 1", both: "anomaly, drift", in_stop: "planned stop", silence_stuck: "silence or stuck",
  sort: "Sort by", attention: "attention", score: "score", name: "name", value: "value", seen: "last event",
  ascending: "ascending", descending: "descending", previous: "Previous", next: "Next",
  range: "{from} to {to} of {of}", none_match: "No entity matches.", none_yet: "No events yet.", no_predictions: "Events arrive, but there are no predictions yet.",
  of_all: "{n} of {all} entities", tiles: "Entities", map: "All entities, one square each",
  map_summary: "{n} entities: {limit} limit, {anomaly} anomaly, {rule} silence or stuck, {drift} drift, {beyond} with a score above 1, {stopped} in a planned stop, {elsewhere} elsewhere, {warming} warming up",
  map_hint: "One square per entity, by name. The tiles below show the same as text.",
  predicted: "predicted", interval: "interval", open: "open", last_value: "value",
  shadow: "in the shadow: no alert is sent",
  feed: "Alerts", no_episodes: "No alerts so far.", no_alert_topic: "sinks.alerts is null: there are no alerts.",
  all_alerts: "All alerts", only_open: "only open", kind: "Kind", started: "started", ongoing: "ongoing",
  recovered: "recovered", since: "since {time}", lasted: "open for {time}", warning: "warning", critical: "critical",
  on_fleet: "{n} entities at once", learned_again: "new behaviour learned", normal_again: "normal again",
  ended_absorbed: "taken as the new normal", ended_stopped: "it has stopped", ended_ttl: "no events for too long", ended_reset: "the entity starts anew",
  ended_rewind: "the state was rewound", ended_disabled: "the detector is switched off", ended_maintenance: "the planned stop is over",
  within_again: "within the limit again", back_again: "it is back", moves_again: "it moves again", no_events: "no events",
  no_events_since: "No event since {time}.", suppressed_stop: "nobody was called", hide_suppressed: "without those of planned stops",
  acknowledge: "Acknowledge …", acknowledge_again: "Acknowledge again …", acknowledge_now: "Acknowledge", acknowledge_title: "Acknowledge the alert", note: "Note: what you do",
  acknowledged_by: "{by} attends to it ({time})", until: "until {time}", open_alert: "Open this alert: what else alarmed at that time", others_then: "What else alarmed at that time",
  others_note: "{n} alerts were open at the same time, nearest beginnings first ({most} shown).", no_others: "Nothing else.",
  began_together: "began at the same time", began_before: "began {time} before", began_after: "began {time} after",
  alert_earlier: "The chart has the last events. This alert began before them, {time}.", alert_missing: "This page does not have this alert: it keeps the last 500 episodes, and after a start the last 200 messages of each partition. Its message is on the topic of the alerts.",
  stops: "Planned stops", limits: "Limits", now: "now", bound_above: "above", bound_below: "below", bound_from: "from", bound_to: "to",
  mute: "Mute", mute_open: "Mute …", mute_who: "Mute {entity}", mute_title: "Mute a machine", mute_this: "Mute this machine",
  mute_hint: "Until the stop is over, its alerts are kept, but call nobody, and nothing is learned from its events. Limits still alarm.",
  mute_entity: "Machine, or a pattern such as pump-*", mute_for: "For", mute_from: "From, {zone} (empty: now)", reason: "Reason", by: "Your name",
  mute_learn: "Go on learning from its events", mute_sent: "Announced. It acts once a process acknowledges it, with the next event that is read …",
  mute_acts: "{entity} is muted until {time}. Acknowledged: from offset {places} on.",
  no_control: "To mute from here, set alerts.control: true and sinks.suppressed in the file, create the topic (ssm-stream doctor CONFIG --create-topics), and start again.",
  stop_acting: "muted now", stop_waiting: "not acknowledged yet", stop_coming: "to come", stop_over: "over", stop_ending: "ending", stop_ended: "ended {time}",
  stop_file: "from the file", stop_waits: "it acts with the next event that is read", stop_acts: "acts from offset {places} on", stop_end_waits: "end announced {time}, not acknowledged yet",
  stop_limits: "limits are muted, too", stop_end_sent: "Announced: it ends with the next event that is read.", stops_past: "Over: {n}", no_stops: "No stop is planned.",
  learn_hold: "nothing is learned", learn_adapt: "events are learned", announced_by: "by {by}", every_entity: "every entity", end_stop: "End it …", end_now: "End it now", cancel: "Cancel",
  was_true: "True alarm", was_false: "False alarm", verdict: "Was this a true alarm?", said_true: "rated as true",
  said_false: "rated as false", sent: "Sent: {verdict}.", not_sent: "Not sent: {why}",
  no_feedback: "To rate alerts, set alerts.feedback.topic.", details: "Details",
  causes: "What moved the prediction", changed_weights: "Weights before and after", before: "before", after: "after",
  which: "Entities affected", top: "highest score {score}", absorbed: "errors normal again after {n} events", absorbed_one: "errors normal again after 1 event",
  channel_residual: "far from its prediction", channel_novelty: "unlike anything seen before",
  channel_shape: "the cycle has another shape", channel_levels: "the means of columns have shifted", change_higher: "errors are higher", change_lower: "errors are lower",
  change_larger: "errors are larger", change_smaller: "errors are smaller", "change_creeping up": "errors creep up",
  "change_creeping down": "errors creep down",
  back: "Fleet", unknown: "This entity has had no event since the start.", target: "Target",
  labelled: "labelled events", from_fleet: "from the fleet", chart: "Value, prediction and interval",
  chart_label: "{name}: value {y}, predicted {yhat}, interval {lower} to {upper}, score {score}",
  as_table: "The last events as a table", time: "time", lower: "lower", upper: "upper",
  why: "Why this prediction", why_of: "prediction of {time}: the sum of its parts", part: "part", input: "value",
  weight: "weight", contribution: "contribution", base: "base", constant: "constant", rest: "rest (nonlinear)",
  others: "{n} other inputs", heads: "Heads and their weights", head: "head", answer: "prediction", gate: "weight",
  weights: "Weights over time", weights_hint: "Implicit weights of the inputs with the largest weights since the page was opened, in the target's unit per standard deviation of the input.",
  look_soon: "Available with the entity's next event.", look_late: "Not available when targets arrive later than their events.",
  look_failed: "Not available: see the log.", sampled: "The last events; a sample at high rates.",
  late_hint: "Targets arrive later than their events: the value is not known when it is predicted.",
  ahead_hint: "Predictions are drawn at the time they are for.", ahead_events_hint: "Predictions are for {n} ahead, and drawn at the event they were made from.",
  other_release: "The process runs another release: reloading.", too_many: "Too many browsers are connected to this process.",
  token: "The token has changed: open the link in the log again.", new_alert: "{words}",
  unknown_value: "unknown", taken_for: "{value} (reads {reading})", true_word: "true", false_word: "false", page_of: "page {page} of {pages}",
  report: "Report", last_day: "24 hours", last_week: "7 days", history: "The last week", elsewhere: "elsewhere", summary_of: "last event {time}",
  other_note: "No event of this entity has come through this process since its start; another one may hold it. What is shown is from its hourly summaries; its last event was at {time}.",
  report_lead: "Until {until}: {n} entities, alerts started: {alerts}; the error is {error} the usual one; {coverage} in the interval.",
  report_more: "From the hourly summaries of all processes. ssm-stream report writes a page for a meeting, with teams, rules and the budget.",
  history_loading: "The summaries of the last week are still being read.", history_failed: "The summaries cannot be read: {why}",
  no_history: "Without sinks.summaries in the file there is nothing before this process.", no_summaries: "No summary yet: the first comes when an hour of events has ended.",
  by_day: "By day", day_from: "24 hours from", alerts_started: "alerts", in_episodes: "in episodes", error_usual: "error / usual", worst: "To look at first",
  no_worst: "No alert, and no error above the usual one.", silent: "Silent", no_silent: "None: each had an event on the last day.",
  history_hint: "Of each hour: the mean of the value and, dashed, of its prediction; the mean error; the highest score. Shaded where an alert was open.", highest_scores: "Highest score of each hour",
  as_hours: "The last hours as a table", no_hours: "No summary of this entity.", events: "events", history_values: "{name}: {n} hours until {until}, mean value {mean}, predicted {predicted} in the last one", history_label: "{name}: {n} hours until {until}, error {error} in the last one, alerts started: {alerts}",
  hold: "Tiles are reordered every two seconds at most.", ms: "ms", s: "s", min: "min", hour: "h", day: "d",
};
const JA = {
  skip: "本文へ移動", views: "表示", fleet: "フリート", alerts: "アラート", process: "プロセスの状態",
  live: "受信中", connecting: "接続中 …", away: "接続が切れました。再接続しています …", paused: "一時停止中",
  pause: "一時停止", resume: "再開", theme_auto: "配色: 自動", theme_dark: "配色: ダーク", theme_light: "配色: ライト",
  language: "English", language_label: "Show in English",
  events_s: "イベント/秒", lag: "遅れ", entities: "エンティティ", open_alerts: "継続中のアラート", inside: "アラート中のイベント", inside_note: "{kind}: 開始 {n} 件、最長 {longest}", coverage: "区間内の割合",
  wanted: "目標 {level}", error: "予測誤差", of_persistence: "直前値の誤差", messages: "件の未処理",
  predictions: "予測 {n} 件", dead: "デッドレター {n} 件", not_ready: "まだ追いついていません", up: "稼働 {time}",
  filter: "名前で絞り込み", state: "表示対象", all: "すべて", any_open: "アラート継続中", anomaly: "異常", drift: "ドリフト", limit: "上下限", silence: "途絶", stuck: "固着",
  warming: "学習開始中", calm: "平常", raised: "やや高い", beyond: "スコア > 1", both: "異常・ドリフト", in_stop: "計画停止", silence_stuck: "途絶または固着",
  sort: "並べ替え", attention: "注目度", score: "スコア", name: "名前", value: "値", seen: "最終イベント",
  ascending: "小さい順", descending: "大きい順", previous: "前へ", next: "次へ",
  range: "{of} 件中 {from}〜{to}", none_match: "該当するエンティティはありません。", none_yet: "イベントはまだありません。", no_predictions: "イベントは届いていますが、予測はまだありません。",
  of_all: "{all} 件中 {n} 件", tiles: "エンティティ一覧", map: "全エンティティ(1 マス 1 件)",
  map_summary: "エンティティ {n} 件: 上下限 {limit}、異常 {anomaly}、途絶・固着 {rule}、ドリフト {drift}、スコア 1 超 {beyond}、計画停止中 {stopped}、別プロセス {elsewhere}、学習開始中 {warming}",
  map_hint: "1 マスが 1 エンティティ(名前順)。同じ内容は下のタイルでも読めます。",
  predicted: "予測", interval: "区間", open: "継続中", last_value: "値",
  shadow: "シャドー運転中(アラートは送信されません)",
  feed: "アラート", no_episodes: "アラートはまだありません。", no_alert_topic: "sinks.alerts が null のため、アラートは出ません。",
  all_alerts: "すべてのアラート", only_open: "継続中のみ", kind: "種類", started: "発生", ongoing: "継続",
  recovered: "回復", since: "{time} から", lasted: "アラート継続時間 {time}", warning: "警告", critical: "重大",
  on_fleet: "{n} 件で同時に発生", learned_again: "新しい挙動を学習", normal_again: "平常に回復",
  ended_absorbed: "新しい平常として学習", ended_stopped: "停止中", ended_ttl: "長期間イベントなし", ended_reset: "エンティティを初期化",
  ended_rewind: "学習を巻き戻し", ended_disabled: "検出器が無効", ended_maintenance: "計画停止が終了",
  within_again: "限度内に復帰", back_again: "受信が再開", moves_again: "値が再び変化", no_events: "イベントなし",
  no_events_since: "{time} 以降イベントがありません。", suppressed_stop: "通知なし", hide_suppressed: "計画停止中のものを除く",
  acknowledge: "対応する …", acknowledge_again: "対応を更新 …", acknowledge_now: "対応する", acknowledge_title: "アラートへの対応を記録", note: "メモ(対応内容)",
  acknowledged_by: "{by} が対応中({time})", until: "{time} まで", open_alert: "このアラートを開く(同じ時間帯のほかのアラート)", others_then: "同じ時間帯のほかのアラート",
  others_note: "同じ時間帯に {n} 件が継続中でした。開始が近い順({most} 件を表示)。", no_others: "ほかにはありません。",
  began_together: "同時に開始", began_before: "{time} 前に開始", began_after: "{time} 後に開始",
  alert_earlier: "グラフは直近のイベントです。このアラートはそれより前の {time} に始まりました。", alert_missing: "このアラートはこの画面に残っていません。残るのは直近 500 件のエピソード、起動後は各パーティションの直近 200 メッセージです。メッセージ自体はアラートのトピックにあります。",
  stops: "計画停止", limits: "上下限", now: "現在", bound_above: "上限", bound_below: "下限", bound_from: "以上", bound_to: "以下",
  mute: "ミュート", mute_open: "ミュート …", mute_who: "{entity} をミュート", mute_title: "機械をミュート", mute_this: "この機械をミュート",
  mute_hint: "期間中のアラートは記録されますが通知されず、イベントも学習されません。上下限は引き続き警報します。",
  mute_entity: "機械名、または pump-* などのパターン", mute_for: "期間", mute_from: "開始、{zone}(空欄: 今から)", reason: "理由", by: "お名前",
  mute_learn: "イベントの学習を続ける", mute_sent: "送信しました。次のイベントを読んだプロセスが受領すると有効になります …",
  mute_acts: "{entity} を {time} までミュートします。受領済み: オフセット {places} から。",
  no_control: "ここからミュートするには、設定ファイルに alerts.control: true と sinks.suppressed を書き、ssm-stream doctor CONFIG --create-topics でトピックを作り、再起動してください。",
  stop_acting: "ミュート中", stop_waiting: "未受領", stop_coming: "予定", stop_over: "終了", stop_ending: "終了待ち", stop_ended: "{time} に終了",
  stop_file: "設定ファイル", stop_waits: "次のイベントから有効", stop_acts: "オフセット {places} から有効", stop_end_waits: "{time} に終了を送信(未受領)",
  stop_limits: "上下限もミュート", stop_end_sent: "送信しました。次のイベントから終了します。", stops_past: "終了したもの {n} 件", no_stops: "計画停止はありません。",
  learn_hold: "学習しない", learn_adapt: "学習する", announced_by: "登録: {by}", every_entity: "全エンティティ", end_stop: "終了する …", end_now: "今すぐ終了", cancel: "取消",
  was_true: "正しい警報", was_false: "誤報", verdict: "このアラートは必要でしたか", said_true: "正しい警報と判定",
  said_false: "誤報と判定", sent: "送信しました: {verdict}", not_sent: "送信できませんでした: {why}",
  no_feedback: "判定を送るには alerts.feedback.topic を設定してください。", details: "詳細",
  causes: "予測への寄与が大きい入力", changed_weights: "重みの変化", before: "前", after: "後",
  which: "該当エンティティ", top: "最高スコア {score}", absorbed: "{n} イベント後に誤差が平常化", absorbed_one: "1 イベント後に誤差が平常化",
  channel_residual: "予測から大きく外れた", channel_novelty: "これまでにない値",
  channel_shape: "周期の波形が異なる", channel_levels: "列の平均が移動した", change_higher: "誤差が上側へ", change_lower: "誤差が下側へ",
  change_larger: "誤差が拡大", change_smaller: "誤差が縮小", "change_creeping up": "誤差が徐々に上昇",
  "change_creeping down": "誤差が徐々に下降",
  back: "フリート", unknown: "開始以降、このエンティティのイベントはまだありません。", target: "目的変数",
  labelled: "正解付きイベント", from_fleet: "フリート由来", chart: "値・予測・区間",
  chart_label: "{name}: 値 {y}、予測 {yhat}、区間 {lower}〜{upper}、スコア {score}",
  as_table: "直近のイベント(表)", time: "時刻", lower: "下限", upper: "上限",
  why: "予測の内訳", why_of: "{time} の予測。各項の和が予測値です", part: "項", input: "値",
  weight: "重み", contribution: "寄与", base: "基準", constant: "定数", rest: "残り(非線形)",
  others: "その他の入力 {n} 件", heads: "ヘッドと重み", head: "ヘッド", answer: "予測", gate: "重み",
  weights: "重みの推移", weights_hint: "影響の大きい入力の暗黙の重み(ページを開いてから)。単位は入力 1 標準偏差あたりの目的変数。",
  look_soon: "このエンティティの次のイベントで表示されます。", look_late: "目的変数が後から届く設定では利用できません。",
  look_failed: "利用できません。ログを確認してください。", sampled: "直近のイベント。高頻度のときは標本です。",
  late_hint: "目的変数は後から届くため、予測時点では値が未知です。",
  ahead_hint: "予測は対象時刻の位置に描いています。", ahead_events_hint: "予測は {n} 先のものです。予測した時点に描いています。",
  other_release: "プロセスのリリースが変わりました。読み込み直します。", too_many: "接続中のブラウザが多すぎます。",
  token: "トークンが変わりました。ログのリンクから開き直してください。", new_alert: "{words}",
  unknown_value: "不明", taken_for: "{value}（読み取り値 {reading}）", true_word: "正", false_word: "誤", page_of: "{page} / {pages} ページ",
  report: "レポート", last_day: "24 時間", last_week: "7 日間", history: "過去 1 週間", elsewhere: "別プロセス", summary_of: "最終 {time}",
  other_note: "起動以降、このプロセスにはこのエンティティのイベントが届いていません(別のプロセスが担当している可能性があります)。表示は 1 時間ごとの集計によるものです。最終イベント: {time}",
  report_lead: "{until} まで: エンティティ {n} 件、発生したアラート: {alerts}、予測誤差は通常の {error}、区間内 {coverage}。",
  report_more: "全プロセスの 1 時間ごとの集計によります。チーム・規則・予算を含む会議用のページは ssm-stream report で作成できます。",
  history_loading: "過去 1 週間の集計を読み込み中です。", history_failed: "集計を読めません: {why}",
  no_history: "設定ファイルに sinks.summaries がないため、起動前の記録はありません。", no_summaries: "集計はまだありません。最初の 1 時間分のイベントが終わると表示されます。",
  by_day: "日別", day_from: "24 時間の開始", alerts_started: "アラート", in_episodes: "アラート中の時間", error_usual: "誤差 / 通常", worst: "最初に見るべきもの",
  no_worst: "アラートも、通常を超える誤差もありません。", silent: "途絶", no_silent: "ありません。すべて直近 1 日にイベントがあります。",
  history_hint: "1 時間ごとの値の平均(破線は予測)、平均誤差、最高スコア。アラート継続中の時間は色付き。", highest_scores: "1 時間ごとの最高スコア",
  as_hours: "直近の時間別(表)", no_hours: "このエンティティの集計はありません。", events: "イベント", history_values: "{name}: {until} までの {n} 時間、直近の平均値 {mean}、予測 {predicted}", history_label: "{name}: {until} までの {n} 時間、直近の誤差 {error}、発生したアラート {alerts} 件",
  hold: "タイルの並べ替えは最短 2 秒ごとです。", ms: "ミリ秒", s: "秒", min: "分", hour: "時間", day: "日",
};
const ALL = { en: EN, ja: JA };

let language = "en";
let zone = "UTC";
let formats = {};

/** The chosen language, or else the browser's. */
export function chooseLanguage(chosen) {
  const wished = chosen || (navigator.language || "en").slice(0, 2);
  language = wished in ALL ? wished : "en";
  formats = {};
  document.documentElement.lang = language;
  return language;
}

export const setZone = (name) => { zone = name; formats = {}; };

/** The text of a key; {name} is replaced. */
export function t(key, values = {}) {
  const text = ALL[language][key] ?? EN[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (all, name) => (name in values ? values[name] : all));
}

function format(name, make) {
  return (formats[name] ??= make());
}

/** A number with five significant digits. */
export function number(value, digits = 5) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value !== 0 && (Math.abs(value) >= 1e7 || Math.abs(value) < 1e-4)) return value.toExponential(2);
  return format(`n${digits}`, () => new Intl.NumberFormat(language, { maximumSignificantDigits: digits })).format(value);
}

export const count = (value) => format("c", () => new Intl.NumberFormat(language, { maximumFractionDigits: 0 })).format(value);

export const share = (value, digits = 1) =>
  format(`s${digits}`, () => new Intl.NumberFormat(language, {
    style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits,
  })).format(value);

export const scored = (value) => (value === null || value === undefined ? "–" : value > 99.5 ? ">99" : value.toFixed(2));

/** An event's time, in the configuration's zone. */
export function moment(ms, seconds = true) {
  const options = { month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZone: zone };
  if (seconds) options.second = "2-digit";
  const all = { year: "numeric", ...options };
  return format(`t${seconds}`, () => new Intl.DateTimeFormat(language === "ja" ? "ja" : "sv", all)).format(ms);
}

/** The same without the year and the seconds. */
export const brief = (ms) => moment(ms, false).slice(5);

export const clock = (ms) =>
  format("k", () => new Intl.DateTimeFormat("sv", { hour: "2-digit", minute: "2-digit", second: "2-digit", timeZone: zone })).format(ms);

/** A duration in ms as text. */
export function length(ms) {
  const s = ms / 1000;
  if (s < 1) return `${Math.round(ms)} ${t("ms")}`;
  if (s < 120) return `${number(s, 3)} ${t("s")}`;
  if (s < 7200) return `${Math.round(s / 60)} ${t("min")}`;
  if (s < 172800) return `${number(s / 3600, 3)} ${t("hour")}`;
  return `${number(s / 86400, 3)} ${t("day")}`;
}
