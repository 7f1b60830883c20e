// One alert at an address of its own: what it says, its chart, who attends to it, and what else alarmed at that time.

import { Episodes, isOpen, SIGN } from "./alerts.js";
import { alertLink, h, printable, say } from "./dom.js";
import { Entity } from "./entity.js";
import { EntityHistory } from "./history.js";
import { count, length, moment, t } from "./words.js";

const MOST = 50;
const endOf = (episode) => (episode.phase === "recovered" ? episode.ts : Infinity);
const beginOf = (episode) => episode.since ?? episode.ts;

/** The episodes that were open at some time of another one, those that began nearest to it first. */
export function overlapping(episode, all) {
  const begin = beginOf(episode), end = endOf(episode);
  return [...all]
    .filter((each) => each.n !== episode.n && beginOf(each) <= end && begin <= endOf(each))
    .sort((a, b) => Math.abs(beginOf(a) - begin) - Math.abs(beginOf(b) - begin) || a.n - b.n);
}

export class Alert {
  constructor(app, options, id) {
    Object.assign(this, { app, id, n: undefined });
    this.episode = null;
    this.list = new Episodes(app, { keep: (each) => each.n === this.n });
    this.name = h("h2", {}, t("alerts"));
    this.chip = h("span", { class: "chip" });
    this.missing = h("p", { class: "note", hidden: true }, t("alert_missing"));
    this.chart = h("div", { class: "panels" });
    this.earlier = h("p", { class: "note small", hidden: true });
    this.others = h("ol", { class: "others" });
    this.othersNote = h("p", { class: "muted" });
    this.beside = h("section", { class: "panel", "aria-labelledby": "h-others" }, h("h3", { id: "h-others" }, t("others_then")),
      this.othersNote, h("div", { class: "scroll" }, this.others));
    this.element = h("div", { class: "planned" }, h("p", {}, h("a", { class: "back", href: "#/alerts" }, `← ${t("alerts")}`)),
      h("div", { class: "title" }, this.name, this.chip), this.missing, this.list.element, this.chart, this.beside);
    this.beside.hidden = true;
  }

  title() { return this.episode ? `${t(this.episode.kind)}: ${this.who()}` : t("alerts"); }
  query() { return { view: "alert", id: this.id }; }
  leave() { this.inner?.leave?.(); this.week?.leave(); }
  who() { return this.episode.scope === "fleet" ? t("on_fleet", { n: count(this.episode.count ?? 0) }) : printable(this.episode.entity); }
  recolour() { this.inner?.recolour(); this.week?.draw(); }
  age() { this.list.age(); }

  restarted() {
    this.n = undefined;
    this.inner?.restarted();
  }

  take(update) {
    if (update.alert) {
      // The stream has the views of the entity if it knew the alert when it began.
      const late = this.n === null && update.alert.n !== null;
      this.n = update.alert.n;
      this.missing.hidden = this.n !== null;
      if (late) { this.app.connect(); return; }
    }
    if (update.entity && !this.inner) {
      this.inner = new Entity(this.app, new URLSearchParams({ target: update.entity.target }), update.entity.name);
      this.inner.history.leave(); // it is on the entity's own page, and below where the alert is about days
      this.chart.append(this.inner.known[0]);
      this.inner.canvas.before(this.earlier);
    }
    this.inner?.take(update);
    this.recall();
  }

  /** What creeps does not show in the latest events, but in the last week. */
  recall() {
    if (this.week || !this.inner || !this.app.hello || !this.episode?.change?.startsWith("creeping")) return;
    this.week = new EntityHistory(this.app, this.inner.name, this.inner.target);
    this.chart.append(this.week.element);
    this.week.greet(this.app.hello);
  }

  draw() {
    const changed = this.app.episodesChanged || this.drawn !== this.n;
    this.drawn = this.n;
    this.app.episodesChanged = false;
    if (changed) {
      this.episode = [...this.app.episodes.values()].find((each) => each.n === this.n) ?? null;
      this.list.draw();
      this.show();
      this.recall();
    }
    if (this.inner) {
      if (changed) this.inner.dirty = true;
      this.inner.draw();
      const first = this.inner.points[0][0];
      this.earlier.hidden = !(this.episode && first > beginOf(this.episode));
      if (!this.earlier.hidden) say(this.earlier, t("alert_earlier", { time: moment(beginOf(this.episode), false) }));
    }
  }

  show() {
    const episode = this.episode;
    this.beside.hidden = this.list.element.hidden = !episode;
    if (!episode) return;
    if (!this.opened) {
      this.opened = true;
      this.list.items.get(this.n).details.open = true;
      this.app.label();
    }
    const open = isOpen(episode);
    say(this.name, `${t(episode.kind)}: ${this.who()}`);
    say(this.chip, t(open ? "open" : episode.phase === "recovered" ? "recovered" : "in_stop"));
    this.chip.className = `chip ${open ? episode.kind : ""}`;
    const found = overlapping(episode, this.app.episodes.values());
    say(this.othersNote, found.length ? t("others_note", { n: count(found.length), most: count(Math.min(found.length, MOST)) }) : t("no_others"));
    this.others.replaceChildren(...found.slice(0, MOST).map((each) => this.other(each)));
  }

  /** An alert that was open at that time, as a line. */
  other(each) {
    const apart = beginOf(each) - beginOf(this.episode);
    const when = Math.abs(apart) < 1000 ? t("began_together") : t(apart < 0 ? "began_before" : "began_after", { time: length(Math.abs(apart)) });
    const who = each.scope === "fleet" ? t("on_fleet", { n: count(each.count ?? 0) }) : printable(each.entity);
    const state = each.phase !== "recovered" ? t("open") : t("until", { time: moment(each.ts) });
    return h("li", { class: `${each.kind} ${each.phase}` }, h("span", { class: "sign", "aria-hidden": "true" }, SIGN[each.phase]), " ",
      h("a", { href: alertLink(each.id) }, who), ` ${[t(each.kind), when, state, each.suppressed_by === "maintenance" ? t("in_stop") : ""].filter(Boolean).join(" · ")}`);
  }
}
