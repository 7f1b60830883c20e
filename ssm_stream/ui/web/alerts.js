// Alerts as episodes: by themselves, and next to the fleet and an entity.

import { Acknowledgement } from "./acknowledge.js";
import { alertLink, entityLink, h, onlyName, printable, say } from "./dom.js";
import { count, length, moment, number, scored, share, t } from "./words.js";

export const SIGN = { started: "▲", ongoing: "●", recovered: "✓" };
const MOST = 200;
const RULES = ["limit", "silence", "stuck"];

/** Whether an episode is open and somebody is to act on it. */
export const isOpen = (episode) => episode.phase !== "recovered" && episode.suppressed_by !== "maintenance";

/** A list of episodes that keeps its elements, so that focus and opened details stay where they are. */
export class Episodes {
  constructor(app, { most = MOST, compact = false, keep = () => true } = {}) {
    Object.assign(this, { app, most, compact, keep });
    this.items = new Map();
    this.list = h("ol", { class: compact ? "episodes compact" : "episodes" });
    this.none = h("p", { class: "muted" });
    this.element = h("div", {}, this.none, this.list);
  }

  draw() {
    const shown = [...this.app.episodes.values()].filter(this.keep);
    shown.sort((a, b) => isOpen(b) - isOpen(a) || b.n - a.n);
    shown.length = Math.min(shown.length, this.most);
    say(this.none, shown.length ? "" : t(this.app.hello?.no_alerts ? "no_alert_topic" : "no_episodes"));
    const wanted = new Set();
    let at = this.list.firstElementChild;
    for (const episode of shown) {
      wanted.add(episode.n);
      let item = this.items.get(episode.n);
      if (!item) {
        item = this.make(episode);
        this.items.set(episode.n, item);
      }
      if (item.episode !== episode) this.fill(item, episode);
      if (item.element === at) at = at.nextElementSibling;
      else this.list.insertBefore(item.element, at);
    }
    for (const [n, item] of this.items) {
      if (!wanted.has(n)) { item.element.remove(); this.items.delete(n); }
    }
  }

  make(episode) {
    const parts = {
      sign: h("span", { class: "sign", "aria-hidden": "true" }),
      who: h("a", { class: "who" }),
      summary: h("p", { class: "summary" }),
      what: h("span", { class: "what" }),
      when: h("a", { class: "when" }),
      acknowledgement: new Acknowledgement(this.app, this.compact),
      score: h("span", { class: "score" }),
      chip: h("span", { class: "chip", hidden: true }, t("in_stop")),
      mute: h("a", { class: "mute-link small" }, t("mute_open")),
      more: h("div", { class: "more" }),
    };
    parts.buttons = [true, false].map((verdict) =>
      h("button", {
        type: "button", class: verdict ? "true" : "false", "aria-pressed": "false",
        onclick: () => this.app.judge(parts.episode, verdict),
      }),
    );
    parts.verdict = h("div", { class: "verdict", role: "group" }, ...parts.buttons);
    parts.details = h("details", { ontoggle: () => this.detail(parts) }, h("summary", {}, t("details")), parts.more);
    const head = h("div", { class: "head" }, parts.sign, parts.who, parts.chip, parts.score);
    parts.element = h("li", { "data-n": episode.n }, head, parts.summary, parts.what, parts.when, parts.acknowledgement.text,
      this.compact ? null : parts.details, h("div", { class: "acts" }, parts.acknowledgement.action, parts.verdict, parts.mute));
    return parts;
  }

  fill(item, episode) {
    item.episode = episode;
    const fleet = episode.scope === "fleet", over = episode.phase === "recovered";
    const suppressed = episode.suppressed_by === "maintenance";
    item.element.className = `episode ${episode.kind} ${episode.phase} ${episode.severity ?? ""}${suppressed ? " suppressed" : ""}`;
    item.chip.hidden = !suppressed;
    item.mute.hidden = fleet || over || suppressed;
    item.mute.setAttribute("href", `#/stops?entity=${encodeURIComponent(onlyName(episode.entity))}`);
    item.mute.setAttribute("aria-label", t("mute_who", { entity: printable(episode.entity) }));
    say(item.sign, SIGN[episode.phase]);
    say(item.who, fleet ? t("on_fleet", { n: count(episode.count ?? 0) }) : printable(episode.entity));
    if (fleet) item.who.removeAttribute("href"); else item.who.setAttribute("href", entityLink(episode.entity));
    say(item.score, episode.top ? scored(episode.top) : "");
    item.score.title = t("top", { score: scored(episode.top) });
    // Of one that is over, what was unusual, too: a verdict is on that.
    const sentences = new Set(over ? [episode.began, episode.summary] : [episode.summary]);
    const told = [...sentences].filter(Boolean).join(" ");
    say(item.summary, printable(told));
    item.summary.hidden = !told;
    say(item.what, words(episode));
    this.time(item, episode);
    item.when.setAttribute("href", alertLink(episode.id));
    item.when.title = t("open_alert");
    item.acknowledgement.fill(episode);
    const able = !this.app.hello?.no_feedback;
    item.verdict.setAttribute("aria-label", `${t("verdict")} ${fleet ? t("fleet") : printable(episode.entity)}`);
    item.buttons.forEach((button, i) => {
      say(button, t(i ? "was_false" : "was_true"));
      button.setAttribute("aria-pressed", String(episode.verdict === !i));
      button.disabled = !able;
      button.title = able ? "" : t("no_feedback");
    });
    if (item.details.open) this.detail(item);
  }

  /** When it began, and how long it lasts: while it goes on up to now, not up to its last report. */
  time(item, episode) {
    const over = episode.phase === "recovered", since = episode.since ?? episode.ts;
    const lasted = (over || !this.app.pulse ? episode.ts : Math.max(episode.ts, this.app.clock())) - since;
    const parts = [moment(since)];
    if (lasted > 0) parts.push(t("lasted", { time: length(lasted) }));
    if (over && episode.absorbed_after) parts.push(t(episode.absorbed_after === 1 ? "absorbed_one" : "absorbed", { n: count(episode.absorbed_after) }));
    say(item.when, `${parts.join(" · ")} ›`);
  }

  /** Show how long those that go on last by now. */
  age() {
    for (const item of this.items.values()) this.time(item, item.episode);
  }

  /** What an opened episode shows. */
  detail(item) {
    const episode = item.episode, out = [];
    if (!item.details.open) return;
    const table = (title, heads, rows) => h("table", {}, h("caption", {}, title),
      h("thead", {}, h("tr", {}, ...heads.map((head, i) => h("th", { scope: "col", class: i ? "number" : null }, head)))),
      h("tbody", {}, ...rows.map(([first, ...rest]) =>
        h("tr", {}, h("th", { scope: "row" }, first), ...rest.map((each) => h("td", { class: "number" }, each))))));
    if (RULES.includes(episode.kind)) {
      const value = typeof episode.value === "number" ? number(episode.value) : printable(String(episode.value ?? "–"));
      out.push(h("p", {}, episode.column ? `${printable(episode.column)} ${value}` : t("no_events_since", { time: moment(episode.since) })));
    } else {
      out.push(h("p", {}, `${t("value")} ${number(episode.y)} · ${t("predicted")} ${number(episode.yhat)} · ` +
        `${t("interval")} ${number(episode.yhat_lower)} – ${number(episode.yhat_upper)}`));
    }
    if (episode.contributions?.length) {
      out.push(table(t("causes"), [t("part"), t("contribution")],
        episode.contributions.map((each) => [printable(each.feature), share(each.share, 0)])));
    }
    if (episode.weight_change?.length) {
      out.push(table(t("changed_weights"), [t("part"), t("before"), t("after")],
        episode.weight_change.map((each) => [printable(each.feature), number(each.before, 3), number(each.after, 3)])));
    }
    if (episode.entities?.length) {
      out.push(h("p", {}, `${t("which")}: `, ...episode.entities.slice(0, 30).flatMap((name, i) =>
        [i ? ", " : "", h("a", { href: entityLink(name) }, printable(name))])));
    }
    out.push(h("p", { class: "muted" }, h("code", {}, episode.id)));
    item.more.replaceChildren(...out);
  }
}

/** An episode as text. */
export function words(episode) {
  const parts = [`${t(episode.kind)} · ${t(episode.phase)}`];
  if (episode.kind === "limit" && episode.limit) parts.push(printable(episode.limit));
  else if (RULES.includes(episode.kind)) parts.push(episode.column ? printable(episode.column) : t("no_events"));
  if (episode.severity === "critical") parts.push(t("critical"));
  if (episode.suppressed_by === "maintenance") parts.push(t("suppressed_stop"));
  const ended = episode.ended_by ?? "recovered";
  if (episode.phase === "recovered" && ended !== "recovered") parts.push(t(`ended_${ended}`));
  else if (episode.phase === "recovered") parts.push(t({ drift: "learned_again", limit: "within_again", silence: "back_again", stuck: "moves_again" }[episode.kind] ?? "normal_again"));
  else if (episode.kind === "anomaly" && episode.channel) parts.push(t(`channel_${episode.channel}`));
  else if (episode.change) parts.push(t(`change_${episode.change}`));
  if (episode.target) parts.push(printable(episode.target));
  return parts.join(" · ");
}

/** All alerts. */
export class Alerts {
  constructor(app, options) {
    this.app = app;
    this.kind = options.get("kind") ?? "";
    this.only = options.get("open") === "1";
    this.text = "";
    this.hide = options.get("suppressed") === "0";
    this.list = new Episodes(app, { keep: (episode) => this.keeps(episode) });
    const select = h("select", { id: "kind", onchange: () => { this.kind = select.value; app.draw(); } },
      ...["", "anomaly", "drift", "limit", "silence", "stuck"].map((kind) => h("option", { value: kind, selected: kind === this.kind }, t(kind || "all"))));
    const box = h("input", { type: "checkbox", id: "only", onchange: () => { this.only = box.checked; app.draw(); } });
    box.checked = this.only;
    const hide = h("input", { type: "checkbox", id: "hide", onchange: () => { this.hide = hide.checked; app.draw(); } });
    hide.checked = this.hide;
    this.search = h("input", { type: "search", id: "q", autocomplete: "off", oninput: () => {
      this.text = this.search.value.toLowerCase();
      app.draw();
    } });
    this.hint = h("p", { class: "muted", hidden: true }, t("no_feedback"));
    this.element = h("div", {}, h("h2", {}, t("alerts")),
      h("form", { class: "toolbar", role: "search", onsubmit: (event) => event.preventDefault() },
        h("label", { class: "field wide" }, h("span", {}, t("filter")), this.search),
        h("label", { class: "field" }, h("span", {}, t("kind")), select),
        h("label", { class: "field check" }, box, h("span", {}, t("only_open"))),
        h("label", { class: "field check" }, hide, h("span", {}, t("hide_suppressed")))),
      this.hint, this.list.element);
  }

  title() { return t("alerts"); }
  query() { return { view: "alerts" }; }
  take() {}
  age() { this.list.age(); }

  keeps(episode) {
    return (!this.kind || episode.kind === this.kind) && (!this.only || isOpen(episode)) &&
      !(this.hide && episode.suppressed_by === "maintenance") &&
      (!this.text || episode.entity.toLowerCase().includes(this.text) ||
        episode.entities.some((name) => name.toLowerCase().includes(this.text)));
  }

  draw() {
    this.hint.hidden = !this.app.hello?.no_feedback;
    this.list.draw();
  }
}
