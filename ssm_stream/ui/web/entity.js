// One entity: its chart, why it is predicted so, its weights over time, its alerts.

import { Episodes } from "./alerts.js";
import { chart, colour } from "./charts.js";
import { entityLink, h, printable, put, say } from "./dom.js";
import { stateOf, stateWords } from "./fleet.js";
import { EntityHistory } from "./history.js";
import { MuteForm, StopList } from "./stops.js";
import { clock, count, moment, number, scored, share, t } from "./words.js";

const KEPT = 600;
const ROWS = 12;

export class Entity {
  constructor(app, options, name) {
    this.app = app;
    this.name = name;
    this.target = Number(options.get("target") ?? 0) || 0;
    this.points = [[], [], [], [], [], []];
    this.from = app.view instanceof Entity ? app.view.from : undefined;
    this.dirty = true;
    this.build();
  }

  title() { return printable(this.name); }
  query() { return { view: "entity", name: this.name, target: this.target }; }

  build() {
    const figure = (key) => {
      const value = h("dd", {});
      return { value, element: h("div", {}, h("dt", {}, t(key)), value) };
    };
    this.figures = Object.fromEntries(
      ["last_value", "predicted", "interval", "score", "labelled", "from_fleet", "seen"].map((key) => [key, figure(key)]));
    this.state = h("span", { class: "chip" });
    this.targets = h("label", { class: "field", hidden: true });
    this.unknown = h("p", { class: "note", hidden: true }, t("unknown"));
    this.key = h("ul", { class: "legend" });
    this.limitWords = h("p", { class: "muted", hidden: true });
    this.mute = new MuteForm(this.app, this.name);
    this.planned = new StopList(this.app);
    this.canvas = h("canvas", { class: "chart", role: "img" });
    this.scores = h("canvas", { class: "strip", role: "img", "aria-label": t("score") });
    this.hint = h("p", { class: "muted" }, t("sampled"));
    this.rows = h("tbody", {});
    const heads = ["time", "value", "predicted", "lower", "upper", "score"];
    this.table = h("details", { ontoggle: () => { this.dirty = true; this.app.draw(); } }, h("summary", {}, t("as_table")),
      h("div", { class: "scroll" }, h("table", {},
        h("thead", {}, h("tr", {}, ...heads.map((each, i) => h("th", { scope: "col", class: i ? "number" : null }, t(each))))), this.rows)));
    this.why = h("div", { class: "why" });
    this.whyNote = h("p", { class: "muted" });
    this.headsTable = h("div", {});
    this.weights = h("canvas", { class: "chart low", role: "img", hidden: true, "aria-label": t("weights") });
    this.legend = h("ul", { class: "legend" });
    this.list = new Episodes(this.app, { keep: (each) => each.entity === this.name || each.entities.includes(this.name) });
    const card = (title, ...children) => {
      const id = `h-${title}`;
      return h("section", { class: "panel", "aria-labelledby": id }, h("h3", { id }, t(title)), ...children);
    };
    // What is known only of an entity that has had an event.
    this.charted = h("h3", { id: "h-chart" }, t("chart"));
    this.known = [
      h("section", { class: "panel full", "aria-labelledby": "h-chart" }, this.charted,
        this.key, this.canvas, this.scores, this.limitWords, this.hint, this.table),
      card("why", this.whyNote, this.why),
      h("div", { class: "stack" },
        card("weights", this.weights, this.legend, h("p", { class: "muted" }, t("weights_hint"))),
        card("heads", this.headsTable))];
    const muting = h("details", {}, h("summary", {}, t("mute_this")), this.mute.element);
    const openMute = h("button", { type: "button", class: "open-mute", onclick: () => {
      muting.open = true;
      muting.scrollIntoView({ block: "center" });
      this.mute.lasts.focus({ preventScroll: true });
    } }, t("mute_open"));
    this.history = new EntityHistory(this.app, this.name, this.target);
    this.body = h("div", { class: "panels" }, this.known[0], this.history.element,
      h("section", { class: "panel full", "aria-labelledby": "h-alerts" }, h("h3", { id: "h-alerts" }, t("alerts")), this.list.element),
      h("section", { class: "panel full planned", "aria-labelledby": "h-stops" }, h("h3", { id: "h-stops" }, t("stops")), muting, this.planned.element),
      ...this.known.slice(1));
    this.element = h("div", { class: "one" },
      h("p", {}, h("a", { class: "back", href: "#/" }, `← ${t("back")}`)),
      h("div", { class: "title" }, h("h2", {}, printable(this.name)), this.state, this.targets, openMute),
      this.unknown,
      this.known[3] = h("dl", { class: "figures" }, ...Object.values(this.figures).map((each) => each.element)),
      this.body);
    if (this.app.hello) this.greet();
  }

  greet() {
    const { targets, no_looks, late, horizon, ahead } = this.app.hello;
    this.unable = no_looks;
    this.history.greet(this.app.hello);
    say(this.charted, `${t("chart")}: ${printable(targets[this.target] ?? "")}`);
    say(this.hint, late ? t("late_hint") : ahead ? t("ahead_hint") : horizon ? t("ahead_events_hint", { n: horizon }) : t("sampled"));
    this.targets.hidden = targets.length < 2;
    const select = h("select", { onchange: () => { location.hash = entityLink(this.name, Number(select.value)); } },
      ...targets.map((each, i) => h("option", { value: i, selected: i === this.target }, each)));
    this.targets.replaceChildren(h("span", {}, t("target")), select);
    this.mute.greet();
    this.lookNote();
  }

  lookNote() {
    if (this.look) say(this.whyNote, t("why_of", { time: moment(this.look.ts) }));
    else say(this.whyNote, t(this.unable === "late" ? "look_late" : this.unable ? "look_failed" : "look_soon"));
  }

  restarted() { this.points = [[], [], [], [], [], []]; this.look = null; }

  take(update) {
    if (update.hello) this.greet();
    if (update.entity) {
      this.hold(update.entity.known);
      if (update.entity.known) this.points = [[], [], [], [], [], []];
    }
    if (update.limits) { this.limits = update.limits; this.dirty = true; }
    if (update.stops) { this.stops = update.stops; this.mute.take(update.stops); this.dirty = true; }
    if (update.points) {
      update.points.forEach((column, i) => {
        const all = this.points[i];
        all.push(...column);
        if (all.length > KEPT) all.splice(0, all.length - KEPT);
      });
      this.dirty = true;
    }
    if (update.now) { this.now = update.now; this.hold(true); this.dirty = true; }
    if (update.look) { this.look = update.look; this.lookDirty = true; }
    if (update.weights) { this.over = update.weights; this.lookDirty = true; }
  }

  /** Show what there is: of an entity that another process holds, its history. */
  hold(known) {
    const other = Boolean(known && this.now?.other), shown = known && !other;
    this.unknown.hidden = shown;
    say(this.unknown, t(other ? "other_note" : "unknown", { time: other ? moment(this.now.ts, false) : "" }));
    for (const part of this.known) part.hidden = !shown;
  }

  leave() { this.history.leave(); }

  recolour() { this.legended = null; this.dirty = this.lookDirty = true; this.history.draw(); }

  age() { this.list.age(); }

  draw() {
    // A silent entity has no events that would draw its chart anew.
    if (performance.now() - (this.drawn ?? 0) > 1000) this.dirty = true;
    if (this.dirty) { this.dirty = false; this.drawn = performance.now(); this.drawChart(); }
    if (this.lookDirty) { this.lookDirty = false; this.drawLook(); }
    if (this.app.episodesChanged) {
      this.app.episodesChanged = false;
      this.list.draw();
      this.dirty = true;
      this.app.draw();
    }
  }

  /** Stretches, lines and marks in the chart, beyond its curves. */
  context() {
    const own = [...this.app.episodes.values()]
      .filter((each) => (each.entity === this.name || each.entities.includes(this.name)) && each.since);
    const now = Math.max(this.app.clock(), this.points[0].at(-1));
    const spans = (this.stops?.spans ?? []).map(([from, to, words]) =>
      ({ from, to, fill: colour("stop"), words: [words && `${t("in_stop")}: ${printable(words)}`, t("in_stop")].filter(Boolean), hatched: true }));
    let until = -Infinity;
    for (const each of own.filter(({ kind }) => kind === "silence" || kind === "stuck" || kind === "limit")) {
      const open = each.phase !== "recovered", to = open ? now : each.ts;
      spans.push({ from: each.since, to, fill: colour(each.kind), words: [t(each.kind)], kind: each.kind });
      if (open && each.kind === "silence") until = now;
    }
    const limits = this.limits ?? [], target = this.app.hello?.targets[this.target];
    const bounds = limits.filter((each) => each.column === target).flatMap((each) =>
      Object.entries(each.bounds).map(([word, at]) => ({ at, stroke: colour("limit"), words: `${t(`bound_${word}`)} ${number(at)}` })));
    const marks = own.map((each) => ({ x: each.since, stroke: colour(each.kind) }));
    const first = this.points[0][0], last = Math.max(until, this.points[0].at(-1));
    this.legends(spans.filter(({ from, to }) => from <= last && to >= first), bounds.length);
    say(this.limitWords, limits.length ? `${t("limits")}: ${limits.map((each) => printable(each.text)).join("; ")}` : "");
    this.limitWords.hidden = !limits.length;
    return { spans, bounds, marks, until, now };
  }

  /** The legend names what is there. */
  legends(spans, limited) {
    const kinds = ["limit", "silence", "stuck"].filter((kind) => spans.some((each) => each.kind === kind) || (limited && kind === "limit"));
    if (spans.some((each) => each.hatched)) kinds.push("stop");
    const names = kinds.join();
    if (this.legended === names) return;
    this.legended = names;
    this.key.replaceChildren(key("accent", t("value")), key("drift", t("predicted"), true), key("band", t("interval")),
      ...kinds.map((kind) => key(kind, t(kind === "stop" ? "in_stop" : kind))));
  }

  drawChart() {
    if (this.stops) this.planned.draw(this.stops);
    const [ts, y, yhat, lower, upper, score] = this.points;
    const last = ts.length - 1, now = this.now;
    if (now) {
      const state = stateOf({ flags: now.flags, warmup: now.warmup, s: now.scores[this.target], other: now.other });
      put(this.state, "class", `chip ${state}`);
      say(this.state, stateWords(state));
      say(this.figures.labelled.value, count(now.labelled));
      say(this.figures.from_fleet.value, share(now.fleet, 0));
      say(this.figures.seen.value, moment(now.ts));
    }
    if (last < 0) return;
    say(this.figures.last_value.value, number(y[last]));
    say(this.figures.predicted.value, number(yhat[last]));
    say(this.figures.interval.value, `${number(lower[last])} – ${number(upper[last])}`);
    say(this.figures.score.value, scored(score[last]));
    const ahead = this.app.hello?.ahead ?? 0;
    const at = ahead ? ts.map((each) => each + ahead) : ts;
    const context = this.context();
    const span = ts[last] - ts[0];
    const axis = span > 36e5 * 20 ? (ms) => moment(ms, false) : clock;
    chart(this.canvas, {
      lines: [
        { x: at, y: yhat, stroke: colour("drift"), dash: [6, 3], width: 1.5 },
        { x: ts, y, stroke: colour("accent"), width: 2 },
      ],
      band: { x: at, low: lower, high: upper }, ...context, number: (value) => number(value, 4), clock: axis,
    });
    chart(this.scores, { lines: [{ x: ts, y: score, stroke: colour("warn"), width: 1.5 }], level: 1, least: [0, 1.1], until: context.until,
      number: (value) => number(value, 2), clock: () => "" });
    const time = performance.now();
    if (time - (this.told ?? -1e9) > 2000) {
      this.told = time;
      put(this.canvas, "aria-label", t("chart_label", { name: this.name, y: number(y[last]), yhat: number(yhat[last]),
        lower: number(lower[last]), upper: number(upper[last]), score: scored(score[last]) }) + this.described(context));
      if (this.table.open) this.drawTable();
    }
  }

  /** What holds at the end of the chart, in words. */
  described({ spans, now }) {
    const found = spans.filter((each) => each.from <= now && now <= each.to).map((each) => each.words[0]);
    return found.length ? `. ${t("now")}: ${[...new Set(found)].join(", ")}` : "";
  }

  drawTable() {
    const rows = [];
    for (let i = this.points[0].length - 1; i >= 0 && rows.length < ROWS; i--) {
      rows.push(h("tr", {}, h("th", { scope: "row" }, moment(this.points[0][i])),
        ...[1, 2, 3, 4].map((column) => h("td", { class: "number" }, number(this.points[column][i]))),
        h("td", { class: "number" }, scored(this.points[5][i]))));
    }
    this.rows.replaceChildren(...rows);
  }

  drawLook() {
    this.lookNote();
    const look = this.look;
    if (!look) return;
    const most = Math.max(...look.parts.map((part) => Math.abs(part[3])), Math.abs(look.others[1]), Math.abs(look.rest), Math.abs(look.constant), 1e-12);
    const row = (name, value, weight, moved, kind) => {
      const bar = h("span", { class: `moved ${moved < 0 ? "less" : "more"}` });
      bar.style.setProperty("--part", `${(Math.abs(moved) / most) * 50}%`);
      return h("tr", { class: kind }, h("th", { scope: "row" }, name), h("td", { class: "number" }, value),
        h("td", { class: "number" }, weight), h("td", { class: "number" }, kind === "sum" ? number(moved) : signed(moved)),
        h("td", { class: "moves", "aria-hidden": "true" }, kind === "sum" ? "" : bar));
    };
    const rows = [
      row(t("base"), "", "", look.base, "sum"),
      row(t("constant"), "", "", look.constant, "quiet"),
      ...look.parts.map(([name, value, weight, moved, reading]) => {
        const taken = value === null ? t("unknown_value") : number(value, 4);
        return row(printable(name), reading === null ? taken : t("taken_for", { value: taken, reading: number(reading, 4) }), number(weight, 3), moved, "");
      }),
    ];
    if (look.others[0]) rows.push(row(t("others", { n: count(look.others[0]) }), "", "", look.others[1], "quiet"));
    rows.push(row(t("rest"), "", "", look.rest, "quiet"), row(t("predicted"), "", "", look.yhat, "sum total"));
    rows.at(-1).children[3].textContent = number(look.yhat);
    rows.at(-1).children[4].textContent = "";
    this.why.replaceChildren(h("div", { class: "scroll" }, h("table", {},
      h("thead", {}, h("tr", {}, ...["part", "input", "weight", "contribution"].map((each, i) =>
        h("th", { scope: "col", class: i ? "number" : null }, t(each))), h("td", {}))),
      h("tbody", {}, ...rows))));
    this.headsTable.replaceChildren(h("div", { class: "scroll" }, h("table", {},
      h("thead", {}, h("tr", {}, ...["head", "answer", "gate"].map((each, i) =>
        h("th", { scope: "col", class: i ? "number" : null }, t(each))))),
      h("tbody", {}, ...look.answers.map(([head, answer, gate]) => h("tr", {}, h("th", { scope: "row" }, head),
        h("td", { class: "number" }, number(answer)), h("td", { class: "number" }, share(gate))))))));
    this.weights.hidden = !this.over?.ts.length;
    if (this.weights.hidden) return;
    const names = Object.keys(this.over.weights);
    chart(this.weights, {
      lines: names.map((name, i) => ({ x: this.over.ts, y: this.over.weights[name], stroke: colour("lines")[i] })),
      number: (value) => number(value, 3), clock,
    });
    const shown = names.join("\n");
    if (this.shown !== shown) {
      this.shown = shown;
      this.legend.replaceChildren(...names.map((name, i) => key(`line${i + 1}`, printable(name))));
    }
  }
}

const signed = (value) => `${value > 0 ? "+" : value < 0 ? "−" : ""}${number(Math.abs(value), 4)}`;

function key(name, words, dashed = false) {
  return h("li", {}, h("span", { class: `key ${name}${dashed ? " dashed" : ""}`, "aria-hidden": "true" }), words);
}
