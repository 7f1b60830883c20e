"""Every word of the pilot report, in English and Japanese: key → both. What is filled in has the same names in both."""

from __future__ import annotations

from typing import Literal

Language = Literal["en", "ja"]
LANGUAGES: tuple[Language, ...] = ("en", "ja")

WORDS: dict[str, tuple[str, str]] = {
    # The head.
    "title": ("Pilot report", "パイロット評価レポート"),
    "subtitle": (
        "{file}: {events} events of {entities} entities, {first} to {last}. Predicted and watched: {target}.",
        "{file}: 設備 {entities}、イベント {events} 件（{first} 〜 {last}）。予測・監視の対象は {target} です。",
    ),
    "judged": (
        "The first {share} of each entity only teaches; the figures are of the {events} events after it.",
        "各設備の最初の {share} は学習だけに使い、その後の {events} 件を評価しました。",
    ),
    "question": ("Is it worth it?", "導入する価値はあるか"),
    "grade.yes": ("Yes, on this recording", "この記録では、価値あり"),
    "grade.open": ("Not shown yet", "まだ判断できない"),
    "grade.no": ("No, not at these costs", "この費用では、価値なし"),
    "grade.simpler": ("A simpler way does", "より簡単な方法で足りる"),
    "grade.few_data": ("Too little data", "データ不足"),
    "grade.few_labels": ("Too few true events", "実際の異常が少なすぎる"),
    "grade.unlabelled": ("Alarms not judged: no labels", "アラートは未評価（正解なし）"),
    # The verdict's sentences.
    "verdict.yes": (
        "The alarms saved {saved} against {today} (between {saved_low} and {saved_high}), so all of the range is a gain.",
        "「{today}」に比べて、アラートで {saved}（{saved_low} 〜 {saved_high}）の運用コストを削減しました。幅のどこを取っても得です。",
    ),
    "verdict.open": (
        "The alarms saved {saved} against {today}, but the range from {saved_low} to {saved_high} does not rule out a "
        "loss or nothing at all: record for longer, with more true events, to know.",
        "「{today}」に比べたアラートの効果は {saved} ですが、幅（{saved_low} 〜 {saved_high}）を見ると損失または効果なしの"
        "可能性が残ります。より長く、より多くの実際の異常を記録すれば判断できます。",
    ),
    "verdict.open_random": (
        "The alarms saved {saved} against {today}, but as many alarms at random would have saved {saved_random}, and the "
        "difference may be chance: a longer recording, with more true events, would tell.",
        "「{today}」に比べてアラートで {saved} を削減しましたが、同じ数のアラートをランダムに出しても {saved_random} を削減でき、"
        "その差は偶然かもしれません。より長く、より多くの実際の異常を記録すれば判断できます。",
    ),
    "verdict.no": (
        "The alarms would have cost {saved_loss} more than {today} (between {saved_high_loss} and {saved_low_loss}).",
        "アラートを使うと、「{today}」より {saved_loss}（{saved_high_loss} 〜 {saved_low_loss}）多くかかる計算です。",
    ),
    "verdict.simpler": (
        "Here, {rival} would have cost {apart} less than the product's alarms, more than chance explains.",
        "この記録では、「{rival}」の方が本製品のアラートより {apart} 安く済みます。偶然とは言えない差です。",
    ),
    "verdict.few_data": (
        "Only {events} events could be judged; nothing is said of fewer than {least}.",
        "評価できたイベントは {events} 件だけです。{least} 件未満では何も判断しません。",
    ),
    "verdict.begun_before": (
        "{before} true events began in the first part, which only teaches: --first makes it shorter.",
        "{before} 件の異常は、学習だけに使う期間に始まっています。--first で学習期間を短くできます。",
    ),
    "verdict.few_labels": (
        "Only {true} true events could be judged; with fewer than {least_true} no sum of money can be trusted.",
        "評価できた実際の異常は {true} 件だけです。{least_true} 件未満では金額を信頼できません。",
    ),
    "verdict.unlabelled": (
        "There were {alarms} alarms, {rate} an entity-week. Whether they were right is not known: give the true events "
        "(--labels), and this page will say what the alarms are worth.",
        "アラートは {alarms} 件（1設備・1週間あたり {rate} 件）でした。正しかったかどうかは分かりません。実際の異常の"
        "一覧を --labels で渡すと、アラートの価値を評価できます。",
    ),
    "verdict.found": (
        "The product found {found} of {events} true events, half of them within {delay} of their start, with {rate} false alarms "
        "an entity-week.",
        "実際の異常 {events} 件のうち {found} 件を見つけ、検知遅れの中央値は {delay}、誤報は1設備・1週間あたり "
        "{rate} 件でした。",
    ),
    "verdict.none_found": (
        "The product found none of the {events} true events, with {rate} false alarms an entity-week.",
        "実際の異常 {events} 件は1件も見つけられず、誤報は1設備・1週間あたり {rate} 件でした。",
    ),
    "verdict.rival": (
        "As many alarms at random would have found {random}; as many of the best simple detector ({rival}) {found}.",
        "同じ数のアラートをランダムに出すと {random} 件、最も良い簡易な検知方法（{rival}）では {found} 件でした。",
    ),
    "verdict.break_even": (
        "The alarms pay where an hour unnoticed costs more than {money}.",
        "気づかれない異常1時間あたりの損失が {money} を超える場合に、アラートは元が取れます。",
    ),
    "verdict.predicts_better": (
        "Predictions are {share} better than the best simple one ({best}), beyond chance.",
        "予測誤差は、最良の単純な予測（{best}）より {share} 小さく、偶然の差ではありません。",
    ),
    "verdict.predicts_alike": (
        "Predictions are not shown to be better than the best simple one ({best}).",
        "予測は、最良の単純な予測（{best}）と確かな差がありません。",
    ),
    "verdict.predicts_worse": (
        "Predictions are {share} worse than a simple one ({best}).",
        "予測誤差は、単純な予測（{best}）より {share} 大きくなりました。",
    ),
    "verdict.adapts": (
        "Going on learning made the error {share} smaller than that of the same model held still.",
        "学習を続けたことで、学習を止めた同じモデルより誤差が {share} 小さくなりました。",
    ),
    "verdict.coverage_off": (
        "The intervals hold {covered} of the values where {level} was promised: do not build on them here.",
        "予測区間に入った値は {covered} で、設定した {level} から外れています。ここでは区間に頼らないでください。",
    ),
    "verdict.assumed_some": (
        "What is marked below as an assumption is not your figure yet.",
        "下で「仮定」と示した値は、自社の値ではありません。",
    ),
    "verdict.assumed": (
        "The costs are assumptions until you give your own (--costs).",
        "費用は仮定です。自社の値を --costs で指定してください。",
    ),
    # The block of figures.
    "kpi.saved": ("Operating cost saved", "削減した運用コスト"),
    "kpi.saved.note": (
        "against {today}; {retraining} of it is retraining not done",
        "「{today}」との比較。うち再学習の削減分 {retraining}",
    ),
    "kpi.saved.week": (", and {week} a week all told", "、全体で1週間あたり {week}"),
    "kpi.missed": ("Missed events", "見逃し"),
    "kpi.missed.note": ("of {events} true events; {share} missed", "実際の異常 {events} 件中。見逃し率 {share}"),
    "kpi.false": ("False alarms an entity-week", "誤報（1設備・1週間あたり）"),
    "kpi.false.note": (
        "{false} false among {alarms} alarms in {weeks} entity-weeks. While nothing changes, the budget allows {allowed}",
        "アラート {alarms} 件中、誤報 {false} 件（延べ {weeks} 設備・週）。変化がない間に予算が許すのは {allowed} 件",
    ),
    "kpi.alarms": ("Alarms an entity-week", "アラート（1設備・1週間あたり）"),
    "kpi.alarms.note": (
        "{alarms} alarms in {weeks} entity-weeks, true or not. While nothing changes, the budget allows {allowed}",
        "アラート {alarms} 件（延べ {weeks} 設備・週、正誤は不明）。変化がない間に予算が許すのは {allowed} 件",
    ),
    "kpi.warned": ("Hours of early warning", "早期警告の時間"),
    "kpi.warned.note": (
        "from the first alarm to the end of the event, of {hours} hours that the events lasted",
        "最初のアラートから異常の終わりまで。異常の合計は {hours} 時間",
    ),
    "kpi.work": ("Productivity gain, engineer hours", "生産性の向上（技術者の時間）"),
    "kpi.work.note": (
        "nightly retrainings not done ({retrainings}), less the false alarms that are looked into",
        "夜間の再学習 {retrainings} 回分の削減から、誤報の確認にかかる時間を引いた値",
    ),
    "kpi.work.unlabelled": (
        "nightly retrainings not done ({retrainings}), less every alarm as if it were false",
        "夜間の再学習 {retrainings} 回分の削減から、全アラートを誤報とみなした確認時間を引いた値",
    ),
    "kpi.error": ("Error over the best simple one", "予測誤差（最良の単純な予測との比）"),
    "kpi.error.note": ("{best}; below 1 is better", "比較相手: {best}。1 未満なら本製品が優位"),
    "kpi.coverage": ("Values inside their interval", "予測区間に入った割合"),
    "kpi.coverage.note": ("{level} is what the configuration asks for", "設定値は {level}"),
    "kpi.adapts": ("Error over the frozen model", "予測誤差（学習を止めたモデルとの比）"),
    "kpi.adapts.note": ("what going on learning is worth", "学習を続けることの効果"),
    "range": ("{low} to {high}", "{low} 〜 {high}"),
    "no_range": ("too little to say how sure", "幅を出すにはデータ不足"),
    "how_sure": (
        "Ranges hold {confidence} of what {draws} bootstrap draws of {blocks} stretches of time gave.",
        "幅は、{blocks} 個の期間から {draws} 回抽出したブートストラップの {confidence} 区間です。",
    ),
    "costs": ("What it was counted with", "計算に使った費用"),
    "assumed": ("assumption", "仮定"),
    "cost.false_alarm": ("a false alarm", "誤報1件"),
    "cost.missed_hour": ("an hour of an event that nobody knows of", "気づかれない異常1時間"),
    "cost.retraining": ("a nightly retraining, all entities", "夜間の再学習1回（全設備）"),
    "cost.engineer_hour": ("an engineer's hour", "技術者の1時間"),
    "cost.alarms_today": ("alarms today", "現在のアラート"),
    "cost.retrained_today": ("models retrained today", "現在の再学習"),
    "retrained.nightly": ("nightly", "毎晩"),
    "retrained.never": ("never", "なし"),
    # Ways to predict, and to alarm.
    "method.product": ("ssm-stream", "ssm-stream"),
    "method.product_anomaly": ("ssm-stream, anomalies only", "ssm-stream（異常のみ）"),
    "method.product_drift": ("ssm-stream, drifts only", "ssm-stream（ドリフトのみ）"),
    "method.persistence": ("the last value", "直前の値"),
    "method.seasonal": ("the value a season ago", "1周期前の値"),
    "method.mean": ("the mean so far", "それまでの平均"),
    "method.frozen": ("the same model, frozen", "学習を止めた同じモデル"),
    "method.least_squares": ("least squares, retrained nightly", "最小二乗法（毎晩再学習）"),
    "method.never": ("no alarms", "アラートなし"),
    "method.always": ("an alarm at every event", "全イベントでアラート"),
    "method.random": ("as many at random", "同数をランダムに"),
    "method.three_sigma": ("fixed limits, 3 sigma", "固定しきい値（3σ）"),
    "method.sigma": ("fixed limits at as many alarms", "同じアラート数の固定しきい値"),
    "method.ewma": ("EWMA at as many alarms", "同じアラート数の EWMA"),
    "method.adwin": ("ADWIN at as many alarms", "同じアラート数の ADWIN"),
    # What if.
    "what_if": ("What if the budget were another?", "誤報予算を変えたら"),
    "what_if.text": (
        "The production engine ran at each of these budgets over the same recording.",
        "同じ記録に対して、各予算で実際のエンジンを動かした結果です。",
    ),
    "what_if.costs": ("Set the costs to yours.", "費用は自由に変えられます。"),
    "what_if.budget": ("False-alarm budget", "誤報予算"),
    "what_if.false_alarm": ("Cost of a false alarm", "誤報1件の費用"),
    "what_if.missed_hour": ("Cost of an hour unnoticed", "気づかれない異常1時間の費用"),
    "what_if.saved": ("Saved by alarms", "アラートによる削減額"),
    "what_if.configured": ("as configured", "現在の設定"),
    "what_if.curve": ("Saved by alarms at each budget", "予算ごとのアラートによる削減額"),
    # Detection.
    "detection": ("Alarms against the true events", "アラートと実際の異常の照合"),
    "detection.text": (
        "An event is found by an alarm that starts within it; any other alarm is false. The detectors below the product "
        "look at the value itself, and have the threshold, found afterwards, at which they raise as many alarms.",
        "異常の期間内に始まったアラートを「検知」、それ以外を「誤報」とします。比較する検知方法は値そのものを見て、本製品と同じ"
        "アラート数になるしきい値を（後から）与えています。",
    ),
    "detection.none": (
        "No true events were given (--labels), so nothing can be said of hits and misses. Alarms of each way:",
        "実際の異常（--labels）がないため、検知と見逃しは評価できません。各方法のアラート数は次のとおりです。",
    ),
    "detection.left_out": (
        "{before} labelled events began before the judged part, {outside} have no event of the recording in it: left out.",
        "評価期間より前に始まった {before} 件と、記録に該当イベントのない {outside} 件は除外しました。",
    ),
    "detection.missed": ("Missed", "見逃した異常"),
    "col.way": ("way", "方法"),
    "col.alarms": ("alarms", "アラート"),
    "col.false": ("false", "誤報"),
    "col.false_rate": ("false an entity-week", "誤報/設備・週"),
    "col.found": ("found", "検知"),
    "col.recall": ("recall", "再現率"),
    "col.precision": ("precision", "適合率"),
    "col.delay": ("median delay", "検知遅れ（中央値）"),
    "col.warned": ("hours of warning", "早期警告（時間）"),
    "col.cost": ("cost of false alarms and hours missed", "誤報と見逃しの費用"),
    "col.entity": ("entity", "設備"),
    "col.time": ("time", "時刻"),
    "col.kind": ("kind", "種類"),
    "col.score": ("score", "スコア"),
    "col.value": ("value", "実測値"),
    "col.predicted": ("predicted", "予測値"),
    "col.why": ("why", "理由"),
    "col.truth": ("true?", "正誤"),
    "col.start": ("start", "開始"),
    "col.end": ("end", "終了"),
    "col.mae": ("mean error", "平均誤差"),
    "col.relative": ("over persistence", "直前値との比"),
    "col.ratio": ("ssm-stream over it", "ssm-stream との比"),
    "col.events": ("events", "イベント数"),
    "col.anomalies": ("anomalies", "異常"),
    "col.drifts": ("drifts", "ドリフト"),
    "col.a_week": ("alarms an entity-week", "アラート/設備・週"),
    "col.change": ("what changed", "変化の内容"),
    "col.absorbed": ("absorbed after, events", "順応まで（イベント数）"),
    "col.peak": ("error at its worst", "最大時の誤差"),
    "col.after": ("200 to 300 events later", "200〜300件後の誤差"),
    "col.frozen_after": ("frozen model then", "学習停止モデルの誤差"),
    "col.coverage": ("inside", "区間内"),
    "col.width": ("width", "区間の幅"),
    "col.column": ("column", "列"),
    "col.gaps": ("gaps", "欠落"),
    "col.duplicates": ("duplicates", "重複"),
    "col.out_of_order": ("out of order", "順序逆転"),
    "col.interval": ("interval", "間隔"),
    "col.without_target": ("without target", "対象値なし"),
    # Alerts.
    "alerts": ("Alerts", "アラートの一覧"),
    "alerts.text": (
        "{shown} of {all} alerts. Charts show the {charts} with the highest scores: value, prediction and interval, "
        "with the alert marked.",
        "全 {all} 件のうち {shown} 件です。グラフはスコアの高い {charts} 件で、実測値・予測値・予測区間とアラートの位置を示します。",
    ),
    "alerts.more": ("{count} more", "残り {count} 件"),
    "alerts.none": ("There were none.", "アラートはありませんでした。"),
    "kind.anomaly": ("anomaly", "異常"),
    "kind.drift": ("drift", "ドリフト"),
    "truth.true": ("found", "検知"),
    "truth.repeat": ("repeat", "重複"),
    "truth.false": ("false", "誤報"),
    "truth.ignored": ("not judged", "対象外"),
    "truth.none": ("–", "–"),
    "truth.learning": ("first part", "学習期間"),
    "change.higher": ("errors higher", "誤差が上方へ"),
    "change.lower": ("errors lower", "誤差が下方へ"),
    "change.smaller": ("errors smaller", "誤差が縮小"),
    "change.larger": ("errors larger", "誤差が拡大"),
    "change.creeping up": ("creeping up", "徐々に上昇"),
    "change.creeping down": ("creeping down", "徐々に低下"),
    "channel.residual": ("far from its prediction", "予測から外れた値"),
    "channel.novelty": ("never seen such a value", "過去にない値"),
    "channel.levels": ("levels have moved", "水準が移動"),
    "fleet": ("{count} entities at once", "{count} の設備で同時"),
    # Predictions.
    "errors": ("Predictions against simpler ones", "予測の比較"),
    "errors.text": (
        "All see what the engine saw, and are scored on the same {events} events. Error over persistence: 1 is as good as "
        "repeating the last value. Better than that for {better} of {entities} entities.",
        "すべて同じ情報だけを使い、同じ {events} 件で採点しました。「直前値との比」は 1 で直前の値を繰り返すのと同等です。"
        "{entities} の設備のうち {better} で直前値より優れました。",
    ),
    "errors.chart": ("Error over persistence, with its range", "直前値との誤差の比（線は幅）"),
    "errors.least_squares": (
        "Least squares has the same features and past values, hour and weekday, for each entity: {trainings} trainings "
        "on {nights} nights.",
        "最小二乗法は、同じ特徴量・過去の値・時刻・曜日を設備ごとに使い、{nights} 晩で {trainings} 回学習しました。",
    ),
    # Adaptation.
    "adaptation": ("After each drift", "ドリフト後の順応"),
    "adaptation.text": (
        "Error around the {count} drifts that were found, over the usual error before: 1 is as before. The scale is "
        "logarithmic; offsets are events of the entity from the alert.",
        "見つかった {count} 件のドリフト前後の誤差です。1 が普段どおりで、縦軸は対数、横軸はアラートからのイベント数です。",
    ),
    "adaptation.none": ("No drift was found in the judged part.", "評価期間にドリフトは見つかりませんでした。"),
    "adaptation.mean": ("All drifts, median", "全ドリフトの中央値"),
    # Coverage.
    "coverage": ("Do the intervals hold?", "予測区間は守られているか"),
    "coverage.text": (
        "{covered} of the values lie inside their interval; {level} is what was asked for.",
        "予測区間に入った値は {covered} です（設定値 {level}）。",
    ),
    "coverage.chart": ("Share inside, tenth by tenth of the judged time", "評価期間を10等分した区間内の割合"),
    "coverage.level": ("asked for", "設定値"),
    # Data quality.
    "quality": ("Data quality", "データ品質"),
    "quality.fine": ("Nothing was found to be wrong.", "問題は見つかりませんでした。"),
    "quality.refused": ("Rows that are no events", "イベントとして読めない行"),
    "quality.gaps": ("Gaps (over 5 usual intervals)", "欠落（通常間隔の5倍超）"),
    "quality.duplicates": ("Same entity and time: exact repeats", "同一時刻の重複（完全一致）"),
    "quality.conflicting": ("Same entity and time: other values", "同一時刻の重複（値が異なる）"),
    "quality.out_of_order": ("Older than the event before", "順序が逆転したイベント"),
    "quality.stuck": ("Stuck stretches (50 equal values or more)", "値の固着（同じ値が50件以上）"),
    "quality.unit_jumps": ("Jumps as if a unit had changed", "単位が変わったような跳び"),
    "quality.constant": ("Columns that never change", "変化しない列"),
    "quality.missing": ("Columns with missing values", "欠損のある列"),
    "quality.entities": ("By entity", "設備別"),
    "quality.finding": ("finding", "項目"),
    "quality.count": ("count", "件数"),
    "quality.where": ("where", "場所"),
    "quality.more": ("and {count} more in report.json", "ほか {count} 件（report.json に記載）"),
    # Entities.
    "entities": ("Entities at a glance", "設備の一覧"),
    "entities.text": (
        "Value over time (smallest and largest of each stretch), alerts as marks, true events shaded. The {shown} with "
        "the most alerts and true events of {all}.",
        "値の推移（各区間の最小・最大）、アラートの印、実際の異常の網掛けです。アラートと異常の多い {shown} 件（全 {all} 件中）。",
    ),
    "legend.value": ("value", "実測値"),
    "legend.predicted": ("prediction", "予測値"),
    "legend.interval": ("interval", "予測区間"),
    "legend.anomaly": ("anomaly", "異常"),
    "legend.drift": ("drift", "ドリフト"),
    "legend.event": ("true event", "実際の異常"),
    "legend.learning": ("first part", "学習期間"),
    # How it was computed.
    "how": ("How this was computed", "計算方法"),
    "how.text": (
        "Every figure's definition is in docs/pilot.md, and every number of this page in report.json. The verdict follows "
        "from these rules alone:",
        "各数値の定義は docs/pilot.md に、このページの数値はすべて report.json にあります。判定は次の規則だけで決まります。",
    ),
    "how.rule": ("rule", "規則"),
    "how.bar": ("bar", "基準"),
    "how.result": ("result", "結果"),
    "how.met": ("met", "達成"),
    "how.missed": ("missed", "未達"),
    "how.config": (
        "Configuration {hash}; budget of anomalies {anomaly}, of drifts {drift}; warm-up {warmup} events; seed {seed}.",
        "設定 {hash}、誤報予算は異常 {anomaly}・ドリフト {drift}、ウォームアップ {warmup} 件、乱数シード {seed}。",
    ),
    "rule.pilot: judged events": ("judged events", "評価したイベント数"),
    "rule.pilot: error over the best simple predictor, upper bound": (
        "error over the best simple predictor, upper bound", "最良の単純な予測との誤差比（上限）",
    ),
    "rule.pilot: coverage, distance from the level": ("coverage, distance from what was asked", "予測区間の設定値とのずれ"),
    "rule.pilot: true events judged": ("true events judged", "評価した実際の異常"),
    "rule.pilot: saved by alarms, lower bound": ("saved by alarms, lower bound", "アラートによる削減額（下限）"),
    "rule.pilot: saved against the cheapest other way, upper bound": (
        "saved against the cheapest other way, upper bound", "最も安い他の方法との差（上限）",
    ),
    "rule.pilot: saved against as many alarms at random, lower bound": (
        "saved against as many alarms at random, lower bound", "同じ数のランダムなアラートとの差（下限）",
    ),
    "grade.rules": (
        "Too little data: fewer than 1,000 judged events. Too few true events: fewer than 5. No: all of the range of what "
        "the alarms saved is below 0. A simpler way does: another way is surely cheaper. Yes: none of the range is below 0, and as many alarms at random would surely have saved less. "
        "Otherwise: not shown yet. Savings by not retraining are left out of the verdict.",
        "評価イベント 1,000 件未満は「データ不足」、実際の異常 5 件未満は「異常が少なすぎる」。アラートによる削減額の幅が"
        "すべて 0 未満なら「価値なし」、他の方法が確実に安ければ「より簡単な方法で足りる」、幅がすべて 0 以上で、同数のランダムなアラートより確実に良ければ「価値あり」、"
        "それ以外は「まだ判断できない」です。再学習の削減分は判定に含めません。",
    ),
    "list": ("; ", "、"),
    "stop": (".", "。"),
    "contents": ("Contents", "目次"),
    "unit.h": ("{n} h", "{n} 時間"),
    "unit.min": ("{n} min", "{n} 分"),
    "unit.s": ("{n} s", "{n} 秒"),
    "unit.d": ("{n} d", "{n} 日"),
}  # fmt: skip


class Words:
    """The words of a language: `words("range", low=1, high=2)`."""

    def __init__(self, language: Language) -> None:
        self.language = language
        self._at = LANGUAGES.index(language)

    def __call__(self, key: str, **filled: object) -> str:
        """The text of a key. Raises KeyError where there is no such key, or something to fill in is not given."""
        return WORDS[key][self._at].format(**filled)
