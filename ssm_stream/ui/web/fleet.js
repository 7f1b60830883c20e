// The fleet: a square for every entity, tiles for those of the page, and the last alerts next to them.

import { Episodes } from "./alerts.js";
import { colour, levelColours, spark, surface } from "./charts.js";
import { entityLink, h, printable, put, say } from "./dom.js";
import { brief, count, number, scored, t } from "./words.js";

const KEPT = 48; // values of a tile's line
const SIZE = 120;
const SORTS = ["attention", "score", "name", "value", "seen"];
const STATES = ["", "open", "anomaly", "drift", "limit", "silence", "stuck", "stopped", "warmup", "other"];
const STATE_WORDS = { "": "all", open: "any_open", anomaly: "anomaly", drift: "drift", limit: "limit", silence: "silence", stuck: "stuck", stopped: "in_stop", warmup: "warming", other: "elsewhere" };
const DRAWN = SIZE + 1; // entities from which on the map shows more than the tiles

export class Fleet {
  constructor(app, options) {
    this.app = app;
    this.options = {
      q: options.get("q") ?? "", state: options.get("state") ?? "", sort: options.get("sort") ?? "attention",
      up: options.get("up") ?? "", page: options.get("page") ?? "0",
    };
    this.tiles = [];
    this.dirty = new Set();
    this.levels = [];
    this.names = [];
    this.page = null;
    // What is out of sight is drawn when it comes into sight.
    this.sight = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) target.tile.seen = isIntersecting;
      this.app.draw();
    }, { rootMargin: "100px" });
    this.build();
  }

  title() { return t("fleet"); }
  query() { return { view: "fleet", size: SIZE, ...this.options }; }

  build() {
    const option = (value, words, chosen) => h("option", { value, selected: value === chosen }, words);
    this.search = h("input", { type: "search", id: "q", value: this.options.q, autocomplete: "off", spellcheck: "false",
      oninput: () => { clearTimeout(this.typing); this.typing = setTimeout(() => this.set({ q: this.search.value }), 200); } });
    const state = h("select", { id: "state", onchange: () => this.set({ state: state.value }) },
      ...STATES.map((each) => option(each, t(STATE_WORDS[each]), this.options.state)));
    const sort = h("select", { id: "sort", onchange: () => this.set({ sort: sort.value, up: "" }) },
      ...SORTS.map((each) => option(each, t(each), this.options.sort)));
    this.way = h("button", { type: "button", id: "way", onclick: () => this.set({ up: this.options.up ? "" : "1" }) });
    this.previous = h("button", { type: "button", onclick: () => this.turn(-1) }, t("previous"));
    this.following = h("button", { type: "button", onclick: () => this.turn(1) }, t("next"));
    this.range = h("span", { class: "range", role: "status" });
    this.canvas = h("canvas", { class: "map", role: "img", onclick: (event) => this.pick(event),
      onmousemove: (event) => this.hover(event), onmouseleave: () => say(this.under, t("map_hint")) });
    this.under = h("p", { class: "under muted" }, t("map_hint"));
    this.mapBox = h("section", { class: "mapbox", "aria-label": t("map"), hidden: true }, this.canvas, this.under);
    this.list = h("ul", { class: "tiles", "aria-label": t("tiles"), onkeydown: (event) => this.move(event) });
    this.none = h("p", { class: "muted none" });
    this.feed = new Episodes(this.app, { most: 14, compact: true });
    this.element = h("div", { class: "columns" },
      h("div", {},
        h("h2", { class: "unseen" }, t("fleet")),
        this.mapBox,
        h("form", { class: "toolbar", role: "search", onsubmit: (event) => event.preventDefault() },
          h("label", { class: "field wide" }, h("span", {}, t("filter")), this.search),
          h("label", { class: "field" }, h("span", {}, t("state")), state),
          h("label", { class: "field" }, h("span", {}, t("sort")), sort),
          this.way,
          h("span", { class: "pages" }, this.previous, this.range, this.following)),
        this.none, this.list),
      h("aside", { "aria-label": t("feed") },
        h("h2", {}, t("feed"), " ", h("a", { class: "small", href: "#/alerts" }, t("all_alerts"))), this.feed.element));
    this.showWay();
  }

  showWay() {
    say(this.way, this.options.up ? "▲" : "▼");
    const words = t((this.options.sort === "name") !== Boolean(this.options.up) ? "ascending" : "descending");
    put(this.way, "aria-label", words);
    this.way.title = words;
  }

  /** Other options: a new stream, and an address to come back to. */
  set(options) {
    Object.assign(this.options, { page: "0" }, options);
    const query = new URLSearchParams(Object.entries(this.options).filter(([name, value]) =>
      value && !(name === "sort" && value === "attention") && !(name === "page" && value === "0")));
    history.replaceState(null, "", `#/${query.size ? `?${query}` : ""}`);
    this.showWay();
    if (!this.app.paused) this.app.connect();
  }

  turn(by) { this.set({ page: String(Math.max((this.page?.page ?? 0) + by, 0)) }); }

  leave() { this.sight.disconnect(); }

  restarted() {
    this.levels = [];
    this.names = [];
    this.mapBox.hidden = true;
  }

  take(update) {
    if (update.page) this.lay(update.page);
    else if (update.pulse && this.page) this.empty();
    if (update.tick) this.tick(update.tick);
    if (update.map) {
      this.names = update.map.names;
      this.levels = Array.from(update.map.levels, Number);
      this.mapDirty = "all";
    }
    if (update.cells) {
      const [places, levels] = update.cells;
      places.forEach((place, i) => { this.levels[place] = levels[i]; });
      if (this.mapDirty !== "all") (this.mapDirty ??= []).push(...places);
    }
  }

  /** Other entities, or another order: the elements stay, and get other names. */
  lay(page) {
    this.page = page;
    const held = document.activeElement?.closest?.(".tile")?.dataset.name;
    while (this.tiles.length < page.names.length) this.tiles.push(this.tile());
    while (this.tiles.length > page.names.length) {
      const { element } = this.tiles.pop();
      this.sight.unobserve(element);
      element.remove();
    }
    page.names.forEach((name, i) => {
      const tile = this.tiles[i];
      if (tile.entity !== name) {
        tile.entity = name;
        say(tile.name, printable(name));
        tile.link.setAttribute("href", entityLink(name));
        tile.link.dataset.name = name;
      }
      tile.spark = page.spark[i];
      this.dirty.add(i);
      // The focus follows the entity, not the place.
      if (held === name && document.activeElement !== tile.link) tile.link.focus({ preventScroll: true });
    });
    const from = page.page * SIZE + (page.matching ? 1 : 0);
    say(this.range, t("range", { from: count(from), to: count(page.page * SIZE + page.names.length), of: count(page.matching) }));
    this.previous.disabled = page.page === 0;
    this.following.disabled = page.page + 1 >= page.pages;
    this.empty();
  }

  /** Why there are no tiles. */
  empty() {
    const { page } = this, waiting = (this.app.pulse?.events ?? 0) > 0;
    say(this.none, page.names.length ? "" : t(page.total ? "none_match" : waiting ? "no_predictions" : "none_yet"));
  }

  tile() {
    const tile = {
      name: h("span", { class: "name" }), value: h("span", { class: "value" }), score: h("span", { class: "score" }),
      state: h("span", { class: "state" }), line: h("canvas", { class: "spark", "aria-hidden": "true" }),
      aside: h("span", { class: "predicted" }), spark: [],
    };
    tile.link = h("a", { class: "tile" }, h("span", { class: "row" }, tile.name, tile.state), tile.line,
      h("span", { class: "row" }, tile.value, tile.score), tile.aside);
    tile.element = h("li", {}, tile.link);
    tile.element.tile = tile;
    this.list.append(tile.element);
    this.sight.observe(tile.element);
    return tile;
  }

  tick([places, ts, y, yhat, lower, upper, score, warmup, flags, target, other]) {
    places.forEach((place, i) => {
      const tile = this.tiles[place];
      if (!tile) return;
      if (tile.ts !== undefined && tile.ts !== ts[i]) {
        tile.spark.push(y[i]);
        if (tile.spark.length > KEPT) tile.spark.shift();
      }
      Object.assign(tile, { ts: ts[i], y: y[i], yhat: yhat[i], lower: lower[i], upper: upper[i], s: score[i],
        warmup: warmup[i], flags: flags[i], target: target[i], other: other[i] });
      this.dirty.add(place);
    });
  }

  age() { this.feed.age(); }

  draw() {
    for (const place of this.dirty) {
      const tile = this.tiles[place];
      if (tile && !tile.seen) continue;
      if (tile) this.drawTile(tile);
      this.dirty.delete(place);
    }
    if (this.mapDirty) this.drawMap();
    if (this.app.episodesChanged) {
      this.app.episodesChanged = false;
      this.feed.draw();
    }
  }

  drawTile(tile) {
    const state = stateOf(tile);
    put(tile.link, "class", `tile ${state}`);
    const targets = this.app.hello?.targets ?? [];
    say(tile.value, number(tile.y));
    if (tile.other) say(tile.aside, t("summary_of", { time: brief(tile.ts) }));
    else say(tile.aside, `${t("predicted")} ${number(tile.yhat)}${targets.length > 1 ? ` · ${targets[tile.target]}` : ""}`);
    say(tile.score, tile.warmup ? "" : scored(tile.s));
    say(tile.state, state === "calm" ? "" : stateWords(state));
    spark(tile.line, tile.spark, colour(COLOUR_OF[state]));
  }

  recolour() {
    this.tiles.forEach((_, i) => this.dirty.add(i));
    this.mapDirty = "all";
  }

  // The map.

  drawMap() {
    const n = this.levels.length;
    this.mapBox.hidden = n < DRAWN;
    const width = this.canvas.clientWidth || this.element.clientWidth;
    if (this.mapBox.hidden || !width) { this.mapDirty = null; return; }
    let cell = Math.max(3, Math.min(22, Math.floor(Math.sqrt((width * 110) / n))));
    const across = Math.max(1, Math.floor(width / cell)), rows = Math.ceil(n / across);
    if (this.across !== across || this.cell !== cell || this.rows !== rows) {
      Object.assign(this, { across, cell, rows });
      this.canvas.style.height = `${rows * cell}px`;
      this.mapDirty = "all";
    }
    const colours = levelColours(), gap = cell > 6 ? 2 : cell > 3 ? 1 : 0;
    let context;
    if (this.mapDirty === "all" || this.mapDirty.length > n / 3) {
      context = surface(this.canvas)?.context;
      if (!context) return;
      colours.forEach((fill, level) => {
        context.fillStyle = fill;
        for (let i = 0; i < n; i++) {
          if (this.levels[i] === level) context.fillRect((i % across) * cell, Math.floor(i / across) * cell, cell - gap, cell - gap);
        }
      });
    } else {
      context = this.canvas.getContext("2d");
      for (const i of this.mapDirty) {
        context.fillStyle = colours[this.levels[i]];
        context.fillRect((i % across) * cell, Math.floor(i / across) * cell, cell - gap, cell - gap);
      }
    }
    this.mapDirty = null;
    const now = performance.now();
    if (now - (this.told ?? -1e9) > 2000) {
      this.told = now;
      const of = (level) => count(this.levels.filter((each) => each === level).length);
      put(this.canvas, "aria-label", t("map_summary",
        { n: count(n), anomaly: of(5), drift: of(4), beyond: of(3), warming: of(0), rule: of(6), limit: of(7), stopped: of(8), elsewhere: of(9) }));
    }
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const x = Math.floor((event.clientX - box.left) / this.cell), y = Math.floor((event.clientY - box.top) / this.cell);
    return x < this.across ? y * this.across + x : -1;
  }

  hover(event) {
    const i = this.at(event);
    if (this.names[i] === undefined) return;
    say(this.under, `${printable(this.names[i])} · ${t(LEVELS[this.levels[i]])}`);
  }

  pick(event) {
    const name = this.names[this.at(event)];
    if (name !== undefined) location.hash = entityLink(name);
  }

  /** Arrows move between tiles. */
  move(event) {
    const at = this.tiles.findIndex((tile) => tile.link === document.activeElement);
    if (at < 0) return;
    const top = this.tiles[0].element.offsetTop;
    const across = Math.max(this.tiles.findIndex((tile) => tile.element.offsetTop > top), 0) || this.tiles.length;
    const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across, Home: -at, End: this.tiles.length - 1 - at }[event.key];
    if (by === undefined) return;
    const next = this.tiles[at + by];
    if (next) { event.preventDefault(); next.link.focus(); }
  }
}

const LEVELS = ["warming", "calm", "raised", "beyond", "drift", "anomaly", "silence_stuck", "limit", "in_stop", "elsewhere"];
const COLOUR_OF = { warming: "muted", calm: "accent", raised: "warn", beyond: "anomaly", drift: "drift", anomaly: "anomaly",
  both: "anomaly", limit: "limit", silence: "silence", stuck: "stuck", stopped: "stop", elsewhere: "muted" };

/** The word of a state. */
export const stateWords = (state) => t(state === "stopped" ? "in_stop" : state);

/** The state of a tile, or of an entity's page, as a word. */
export function stateOf({ flags = 0, warmup, s = 0, other }) {
  const anomaly = flags & 5, drift = flags & 10;
  if (flags & 16) return "limit";
  if (anomaly && drift) return "both";
  if (anomaly) return "anomaly";
  if (flags & 32) return "silence";
  if (flags & 64) return "stuck";
  if (drift) return "drift";
  if (flags & 128) return "stopped";
  if (other) return "elsewhere";
  if (warmup) return "warming";
  return s > 1 ? "beyond" : s > 0.7 ? "raised" : "calm";
}
