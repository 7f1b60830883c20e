// The days before, from the hourly summaries: of the fleet (the report), and of one entity.

import { chart, colour } from "./charts.js";
import { entityLink, h, printable, put, say } from "./dom.js";
import { brief, clock, count, length, moment, number, scored, share, t } from "./words.js";

const EVERY = 60_000, LOADING = 2000; // ms between two requests
const HOUR = 3_600_000;
const ROWS = 24;

/** What `/ui/api/…` answers, again and again while the view is open. */
class Polled {
  constructor(app, path, take) { Object.assign(this, { app, path, take }); }

  async ask() {
    clearTimeout(this.timer);
    if (this.left) return;
    let found = null;
    if (!document.hidden && !this.app.paused) {
      try {
        const answer = await fetch(this.path());
        if (answer.ok) found = await answer.json();
      } catch { /* the page itself says that the process is away */ }
    }
    if (this.left) return;
    if (found) this.take(found);
    this.timer = setTimeout(() => this.ask(), found && !found.state ? EVERY : LOADING);
  }

  leave() { this.left = true; clearTimeout(this.timer); }
}

/** Why there is nothing, or not all yet. */
const stateWords = (state) => (!state ? "" : state === "loading" ? t("history_loading") : t("history_failed", { why: state }));

const cell = (value, kind = "number") => h("td", { class: kind }, value);
const table = (title, heads, rows) => h("div", { class: "scroll" }, h("table", {}, h("caption", { class: "unseen" }, title),
  h("thead", {}, h("tr", {}, ...heads.map((each, i) => h("th", { scope: "col", class: i ? "number" : null }, each)))),
  h("tbody", {}, ...rows)));
const relative = (value) => (value === null ? "–" : `${value.toFixed(2)}\u00a0×`);
const started = (alerts, kinds) => {
  const words = alerts.map((n, i) => (n ? `${count(n)} ${t(kinds[i])}` : "")).filter(Boolean);
  return words.length ? words.join(", ") : "0";
};

export class Report {
  constructor(app, options) {
    this.app = app;
    this.days = options.get("days") === "1" ? 1 : 7;
    this.lead = h("p", { class: "lead", role: "status" });
    this.state = h("p", { class: "note", hidden: true });
    this.body = h("div", { class: "panels" });
    const link = (days) => h("a", { href: `#/report?days=${days}`, "aria-current": days === this.days ? "page" : null }, t(days === 1 ? "last_day" : "last_week"));
    this.element = h("div", { class: "one" }, h("div", { class: "title" }, h("h2", {}, t("report")), h("span", { class: "spans" }, link(1), link(7))),
      this.lead, this.state, this.body, h("p", { class: "muted small" }, t("report_more")));
    this.polled = new Polled(app, () => `/ui/api/report?days=${this.days}`, (found) => this.show(found));
    this.polled.ask();
  }

  title() { return t("report"); }
  query() { return { view: "report" }; }
  take() {}
  draw() {}
  leave() { this.polled.leave(); }
  restarted() { this.polled.ask(); }

  show(found) {
    const missing = this.app.hello?.no_history;
    say(this.state, missing ? t("no_history") : stateWords(found.state));
    this.state.hidden = !missing && !found.state;
    if (!found.end) { say(this.lead, missing || found.state ? "" : t("no_summaries")); return; }
    say(this.lead, t("report_lead", { until: moment(found.end, false), n: count(found.entities), alerts: started(found.alerts, found.kinds),
      error: relative(found.relative), coverage: found.coverage === null ? "–" : share(found.coverage) }));
    const panel = (title, full, ...children) => h("section", { class: full ? "panel full" : "panel", "aria-labelledby": `h-${title}` },
      h("h3", { id: `h-${title}` }, t(title)), ...children);
    const days = found.days.filter((each) => each.hours).map((each) => h("tr", {}, h("th", { scope: "row" }, brief(each.begin)),
      cell(started(each.alerts, found.kinds)), cell(each.inside ? length(each.inside * 1000) : "–"), cell(relative(each.relative)),
      cell(each.coverage === null ? "–" : share(each.coverage))));
    const worst = found.worst.map((each) => h("tr", {},
      h("th", { scope: "row" }, h("a", { href: entityLink(each.entity) }, printable(each.entity)), each.open.length ? ` · ${each.open.map((kind) => t(kind)).join(", ")}` : ""),
      cell(count(each.alerts)), cell(each.inside ? length(each.inside * 1000) : "–"), cell(relative(each.relative)), cell(scored(each.score))));
    const silent = found.silent.map((each) => h("tr", {}, h("th", { scope: "row" }, h("a", { href: entityLink(each.entity) }, printable(each.entity))),
      cell(brief(each.since))));
    const heads = [t("alerts_started"), t("in_episodes"), t("error_usual"), t("coverage")];
    this.body.replaceChildren(
      panel("by_day", true, table(t("by_day"), [t("day_from"), ...heads], days)),
      panel("worst", true, worst.length ? table(t("worst"), [t("name"), ...heads.slice(0, 3), t("score")], worst) : h("p", { class: "muted" }, t("no_worst"))),
      panel("silent", true, silent.length ? table(t("silent"), [t("name"), t("seen")], silent) : h("p", { class: "muted" }, t("no_silent"))));
  }
}

/** The last week of one entity. */
export class EntityHistory {
  constructor(app, name, target) {
    Object.assign(this, { app, name, target });
    this.state = h("p", { class: "muted" });
    this.values = h("canvas", { class: "chart low", role: "img", hidden: true });
    this.canvas = h("canvas", { class: "chart low", role: "img", hidden: true });
    this.scores = h("canvas", { class: "strip", role: "img", hidden: true, "aria-label": t("highest_scores") });
    this.rows = h("div", {});
    this.table = h("details", { hidden: true }, h("summary", {}, t("as_hours")), this.rows);
    this.element = h("section", { class: "panel full", hidden: true, "aria-labelledby": "h-history" },
      h("h3", { id: "h-history" }, t("history")), this.state, this.values, this.canvas, this.scores, this.table);
    this.polled = new Polled(app, () => `/ui/api/history?name=${encodeURIComponent(name)}`, (found) => this.show(found));
  }

  /** Begin, once it is known whether there is a topic. */
  greet({ no_history, targets }) {
    this.element.hidden = no_history;
    this.wanted = targets.length > 1 ? targets[this.target] : null;
    if (!no_history && !this.asked) { this.asked = true; this.polled.ask(); }
  }

  leave() { this.polled.leave(); }

  show(found) {
    this.hours = found.targets.find((each) => each.target === this.wanted) ?? found.targets[0] ?? null;
    if (this.hours && !this.hours.hour.length) this.hours = null;
    say(this.state, this.hours ? [t("history_hint"), stateWords(found.state)].filter(Boolean).join(" ") : stateWords(found.state) || t("no_hours"));
    for (const each of [this.canvas, this.scores, this.table]) each.hidden = !this.hours;
    if (!this.hours) return;
    const { hour, events, mean, mean_predicted, error, score, alerts, relative: times } = this.hours;
    this.values.hidden = mean.every((each) => each === null); // summaries of an earlier release have none
    const rows = [];
    for (let i = hour.length - 1; i >= 0 && rows.length < ROWS; i--) {
      rows.push(h("tr", {}, h("th", { scope: "row" }, brief(hour[i])), cell(count(events[i])), cell(number(mean[i])), cell(number(mean_predicted[i])), cell(number(error[i])),
        cell(relative(times[i])), cell(scored(score[i])), cell(count(alerts[i]))));
    }
    this.rows.replaceChildren(table(t("as_hours"), [t("time"), t("events"), t("value"), t("predicted"), t("error"), t("error_usual"), t("score"), t("alerts_started")], rows));
    put(this.values, "aria-label", t("history_values", { name: this.name, n: count(hour.length), mean: number(mean.at(-1)),
      predicted: number(mean_predicted.at(-1)), until: moment(hour.at(-1), false) }));
    put(this.canvas, "aria-label", t("history_label", { name: this.name, n: count(hour.length), alerts: count(alerts.reduce((a, b) => a + b, 0)),
      error: number(error.at(-1)), until: moment(hour.at(-1), false) }));
    this.draw();
  }

  draw() {
    if (!this.hours) return;
    const { hour, mean, mean_predicted, error, score, inside } = this.hours, middle = hour.map((each) => each + HOUR / 2);
    const spans = hour.map((from, i) => ({ from, to: from + inside[i] * 1000, fill: colour("anomaly"), words: [] })).filter(({ from, to }) => to > from);
    const axis = hour.at(-1) - hour[0] > 20 * HOUR ? (ms) => moment(ms, false) : clock;
    chart(this.values, {
      lines: [{ x: middle, y: mean_predicted, stroke: colour("drift"), dash: [6, 3], width: 1.5 }, { x: middle, y: mean, stroke: colour("accent"), width: 1.75 }],
      spans, number: (value) => number(value, 4), clock: axis });
    chart(this.canvas, { lines: [{ x: middle, y: error, stroke: colour("accent"), width: 1.75 }], spans, least: [0, 0], number: (value) => number(value, 4), clock: axis });
    chart(this.scores, { lines: [{ x: middle, y: score, stroke: colour("warn"), width: 1.5 }], level: 1, least: [0, 1.1], number: (value) => number(value, 2), clock: () => "" });
  }
}
