// The frame of the views: one stream of updates, drawn once a frame; connection, language, theme and address.

import { Alert } from "./alert.js";
import { Alerts } from "./alerts.js";
import { readColours, spark, colour } from "./charts.js";
import { h, printable, put, say } from "./dom.js";
import { Entity } from "./entity.js";
import { Fleet } from "./fleet.js";
import { Report } from "./history.js";
import { Stops } from "./stops.js";
import { chooseLanguage, count, length, number, setZone, share, t } from "./words.js";

const RATE = 40; // updates a second
const SILENCE = 10_000; // ms without a word after which the connection is taken for dead
const LISTED = 20; // targets in the note of a card
const $ = (id) => document.getElementById(id);
const remembered = (name, value) => {
  try {
    if (value !== undefined) localStorage.setItem(`ssm-stream.${name}`, value);
    return localStorage.getItem(`ssm-stream.${name}`);
  } catch { return null; } // storage may be off
};

/** Targets by a figure, the lowest first, or by `sign` -1 the highest; those without one last. */
const worstFirst = (all, figure, sign = 1) => {
  const order = (each) => (figure(each) === null ? Infinity : sign * figure(each));
  return [...all].sort((a, b) => (order(a) === order(b) ? 0 : order(a) - order(b)));
};

/** Counters for benchmarks of the page. */
const counted = (window.ssmStream = { messages: 0, updates: 0, frames: 0, opened: 0 });

class App {
  hello = null;
  episodes = new Map();
  open = 0;
  pulse = null;
  rates = [];
  paused = false;

  constructor() {
    this.language = chooseLanguage(remembered("language"));
    this.setTheme(remembered("theme") || "auto");
    addEventListener("hashchange", () => this.go());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.recolour());
    addEventListener("resize", () => this.draw());
    document.addEventListener("visibilitychange", () => {
      // Nobody looks: the process need not tell.
      if (document.hidden) { this.close(); } else if (!this.paused) { this.connect(); }
    });
    $("pause").addEventListener("click", () => this.setPaused(!this.paused));
    $("theme").addEventListener("click", () => {
      const next = { auto: "dark", dark: "light", light: "auto" }[this.theme];
      remembered("theme", next);
      this.setTheme(next);
      this.label();
    });
    $("language").addEventListener("click", () => {
      this.language = chooseLanguage(this.language === "ja" ? "en" : "ja");
      remembered("language", this.language);
      this.label();
      this.go(true);
    });
    $("skip").addEventListener("click", (event) => { event.preventDefault(); $("main").focus(); });
    addEventListener("keydown", (event) => this.key(event));
    setInterval(() => this.watch(), 1000);
    this.label();
    this.go();
  }

  // Where we are.

  /** The view that the address names. */
  go(again = false) {
    const [path, query = ""] = location.hash.replace(/^#/, "").split("?");
    const options = new URLSearchParams(query);
    const parts = path.split("/").filter(Boolean);
    const one = parts[1] && { entity: Entity, alert: Alert }[parts[0]];
    const kind = one || ({ alerts: Alerts, stops: Stops, report: Report }[parts[0]] ?? Fleet);
    if (!again && kind === Fleet && this.view instanceof Fleet && this.view.quiet) { this.view.quiet = false; return; }
    this.view?.leave?.();
    let name = null;
    try { name = one ? decodeURIComponent(parts[1]) : null; } catch { name = parts[1]; }
    this.view = new kind(this, options, name);
    $("main").replaceChildren(this.view.element);
    $("main").className = document.documentElement.dataset.view = kind.name.toLowerCase();
    this.label();
    if (!again && this.been) $("main").focus({ preventScroll: true });
    this.been = true;
    if (!this.paused) this.connect();
    this.draw();
  }

  label() {
    document.title = `${this.view?.title?.() ?? t("fleet")} – ssm-stream`;
    say($("skip"), t("skip"));
    put($("views"), "aria-label", t("views"));
    put($("pulse"), "aria-label", t("process"));
    say($("pause"), t(this.paused ? "resume" : "pause"));
    put($("pause"), "aria-pressed", String(this.paused));
    say($("theme"), t(`theme_${this.theme}`));
    say($("language"), t("language"));
    put($("language"), "aria-label", t("language_label"));
    put($("language"), "lang", this.language === "ja" ? "en" : "ja");
    const here = this.view instanceof Alerts || this.view instanceof Alert ? "alerts" : this.view instanceof Stops ? "stops"
      : this.view instanceof Report ? "report" : "fleet";
    this.badge = h("span", { class: "badge", hidden: !this.open }, count(this.open));
    $("views").replaceChildren(
      h("a", { href: "#/", "aria-current": here === "fleet" ? "page" : null }, t("fleet")),
      h("a", { href: "#/alerts", "aria-current": here === "alerts" ? "page" : null }, t("alerts"), " ", this.badge),
      h("a", { href: "#/stops", "aria-current": here === "stops" ? "page" : null }, t("stops")),
      h("a", { href: "#/report", "aria-current": here === "report" ? "page" : null }, t("report")),
    );
    this.status(this.state ?? "connecting");
    this.cards = null;
    this.showPulse();
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches?.("input, select, textarea")) return;
    if (event.key === "/" && this.view.search) { event.preventDefault(); this.view.search.focus(); }
    else if (event.key === "Escape" && this.view instanceof Entity) location.hash = this.view.from ?? "#/";
    else if (event.key === "Escape" && this.view instanceof Alert) location.hash = "#/alerts";
  }

  // The look.

  setTheme(theme) {
    this.theme = theme;
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    this.recolour();
  }

  recolour() {
    readColours();
    this.view?.recolour?.();
    this.draw();
  }

  // The stream.

  /** Open a new stream for what the view shows. */
  connect() {
    this.close();
    if (document.hidden) return;
    const rate = matchMedia("(prefers-reduced-motion: reduce)").matches ? 2 : RATE;
    const query = new URLSearchParams({ ...this.view.query(), rate });
    this.source = new EventSource(`/ui/stream?${query}`);
    this.heard = performance.now();
    counted.opened += 1;
    this.source.onmessage = (event) => this.take(JSON.parse(event.data));
    this.source.onerror = () => this.lost();
    if (this.state !== "live") this.status("connecting");
  }

  close() {
    this.source?.close();
    this.source = null;
    clearTimeout(this.retry);
  }

  /** The browser retries by itself unless it was refused. */
  lost() {
    this.status("away");
    if (this.source?.readyState !== EventSource.CLOSED) return;
    this.close();
    this.retry = setTimeout(async () => {
      try {
        const answer = await fetch("/ui/stream?rate=0", { method: "HEAD" });
        this.note(answer.status === 401 ? t("token") : "");
      } catch { this.note(""); }
      if (!this.paused && !this.source) this.connect();
    }, 1500);
  }

  watch() {
    if (!this.paused && !document.hidden && this.source && performance.now() - this.heard > SILENCE) {
      this.status("away");
      this.connect();
    }
  }

  setPaused(paused) {
    this.paused = paused;
    if (paused) { this.close(); this.status("paused"); } else { this.connect(); }
    this.label();
  }

  status(state) {
    this.state = state;
    put($("link"), "class", `link ${state}`);
    say($("link"), t(state));
    document.documentElement.dataset.link = state;
  }

  note(text) {
    say($("note"), text);
    $("note").hidden = !text;
  }

  take(update) {
    this.heard = performance.now();
    counted.messages += 1;
    if (update.hello) this.greet(update.hello, update.rates);
    if (this.state !== "live") { this.status("live"); this.note(""); }
    if (update.pulse) this.takePulse(update.pulse);
    if (update.episodes) this.takeEpisodes(update.episodes);
    this.view.take(update);
    counted.waiting = (counted.waiting ?? 0) + 1;
    this.draw();
  }

  greet(hello, rates) {
    const before = this.hello;
    this.hello = hello;
    this.rates = rates;
    if (before && before.assets !== hello.assets) { this.note(t("other_release")); location.reload(); return; }
    setZone(hello.time_zone);
    say($("topic"), hello.shadow ? `${hello.topic} · ${t("shadow")}` : hello.topic);
    if (!before || before.boot !== hello.boot) {
      this.episodes.clear();
      this.view.restarted?.();
    }
  }

  /** Draw once in the next frame what has arrived until then. */
  draw() {
    if (this.drawing) return;
    this.drawing = true;
    requestAnimationFrame(() => {
      this.drawing = false;
      this.view.draw();
      counted.frames += 1;
      counted.updates += counted.waiting ?? 0;
      counted.waiting = 0;
    });
  }

  // What stands above every view.

  takePulse(pulse) {
    this.pulse = pulse;
    this.pulsed = performance.now();
    if (pulse.rate !== null) {
      this.rates.push([pulse.at, pulse.rate, pulse.lag]);
      if (this.rates.length > 180) this.rates.shift();
    }
    this.showPulse();
    this.view.age?.();
  }

  showPulse() {
    const pulse = this.pulse;
    if (!this.cards) {
      const card = (key) => {
        const value = h("dd", {}), note = h("dd", { class: "small" });
        return { value, note, element: h("div", { class: "card" }, h("dt", {}, t(key)), value, note) };
      };
      this.cards = Object.fromEntries(
        ["events_s", "lag", "entities", "open_alerts", "inside", "coverage", "error"].map((key) => [key, card(key)]),
      );
      this.rateLine = h("canvas", { class: "rate", "aria-hidden": "true" });
      this.cards.events_s.element.append(this.rateLine);
      $("pulse").replaceChildren(h("dl", {}, ...Object.values(this.cards).map((each) => each.element)));
    }
    if (!pulse) return;
    const { events_s, lag, entities, open_alerts, inside, coverage, error } = this.cards;
    say(events_s.value, pulse.rate === null ? "–" : count(pulse.rate));
    say(events_s.note, t("predictions", { n: count(pulse.predictions) }));
    spark(this.rateLine, this.rates.map((each) => each[1]), colour("accent"), 0);
    say(lag.value, pulse.lag === null ? "–" : count(pulse.lag));
    say(lag.note, pulse.ready ? t("messages") : t("not_ready"));
    say(entities.value, count(pulse.entities));
    say(entities.note, t("up", { time: length(pulse.up * 1000) }));
    say(open_alerts.value, count(this.open));
    open_alerts.element.classList.toggle("alarmed", this.open > 0);
    say(open_alerts.note, pulse.dead_letters ? t("dead", { n: count(pulse.dead_letters) }) : " ");
    const episodes = pulse.episodes;
    say(inside.value, episodes.map((each) => (each.share === null ? "–" : share(each.share))).join(" · "));
    inside.value.className = "pair";
    say(inside.note, episodes.map((each) => t("inside_note", { kind: t(each.kind), n: count(each.started), longest: count(each.longest) })).join("; "));
    inside.element.title = inside.note.textContent;
    // Of several targets the cards have the worst one, and name it: another one would hide it.
    const ratio = ({ mae, persistence }) => (mae !== null && persistence ? mae / persistence : null);
    const covered = worstFirst(pulse.quality, (each) => each.coverage), wrong = worstFirst(pulse.quality, ratio, -1);
    const name = (each) => (pulse.quality.length > 1 ? `${printable(each.target)} · ` : "");
    say(coverage.value, covered[0].coverage === null ? "–" : share(covered[0].coverage));
    say(coverage.note, name(covered[0]) + (this.hello ? t("wanted", { level: share(this.hello.level, 0) }) : ""));
    say(error.value, wrong[0].mae === null ? "–" : number(wrong[0].mae, 4));
    const relative = (each) => (ratio(each) === null ? "" : `${ratio(each).toFixed(2)} × ${t("of_persistence")}`);
    say(error.note, (name(wrong[0]) + relative(wrong[0])) || " ");
    const lines = (all, words) => (all.length < 2 ? "" : all.slice(0, LISTED).map((each) => name(each) + words(each)).join("\n"));
    coverage.element.title = lines(covered, (each) => (each.coverage === null ? "–" : share(each.coverage)));
    error.element.title = lines(wrong, (each) => `${each.mae === null ? "–" : number(each.mae, 4)} ${relative(each)}`);
  }

  takeEpisodes({ fresh, open, items }) {
    if (fresh) this.episodes.clear();
    for (const item of items) {
      const known = this.episodes.get(item.n);
      this.episodes.set(item.n, item);
      if (!fresh && !known) this.announce(item);
    }
    while (this.episodes.size > 500) this.episodes.delete(this.episodes.keys().next().value);
    this.open = open;
    this.episodesChanged = true;
    say(this.badge, count(open));
    this.badge.hidden = !open;
    this.showPulse();
  }

  /** The time of the stream now, ms. */
  clock() { return this.pulse ? this.pulse.clock + (performance.now() - this.pulsed) : Date.now(); }

  /** The name of whoever acts here, kept in this browser. */
  name(given) { return (given === undefined ? remembered("name") : remembered("name", given.trim())) ?? ""; }

  /** New alerts are announced to screen readers, one at a time. */
  announce(episode) {
    const now = performance.now();
    if (episode.suppressed_by === "maintenance") return;
    if (now - (this.announced ?? 0) < 3000) return;
    this.announced = now;
    const who = episode.scope === "fleet" ? t("on_fleet", { n: count(episode.count ?? 0) }) : episode.entity;
    say($("announce"), `${t(episode.kind)}: ${who}, ${t("score")} ${number(episode.score, 3)}`);
  }

  /** Send a verdict on an alert. */
  async judge(episode, verdict) {
    const said = t(verdict ? "said_true" : "said_false");
    const found = await this.post("/ui/feedback", { id: episode.id, true: verdict });
    if (!found.error) say($("announce"), t("sent", { verdict: said }));
    this.note(found.error ? t("not_sent", { why: found.error }) : "");
  }

  /** Send what somebody does here; the answer has `error` if it was not taken. */
  async post(path, content) {
    try {
      const answer = await fetch(path, {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-Ssm-Stream": "1" },
        body: JSON.stringify(content),
      });
      const found = await answer.json();
      return answer.ok ? found : { error: found.error ?? answer.statusText };
    } catch (error) {
      return { error: error.message };
    }
  }
}

window.app = new App();
