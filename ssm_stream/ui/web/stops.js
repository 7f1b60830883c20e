// Planned stops: those of the file and those that were announced, announcing one (muting), and ending it.

import { h, onlyName, printable, say } from "./dom.js";
import { count, moment, t } from "./words.js";

const LENGTHS = ["30m", "1h", "2h", "4h", "8h", "12h", "1d", "2d", "7d"];

/** What an announced stop does now: a word of `chip`. */
export function stateOfStop(stop, clock) {
  if (stop.ended !== null && stop.end_acts) return "ended";
  if (stop.to <= clock) return "over";
  if (stop.ended !== null) return "ending"; // it still acts, until its end is acknowledged
  if (!stop.acts.length) return "waiting";
  return stop.from > clock ? "coming" : "acting";
}

const isDone = (state) => state === "ended" || state === "over";

/** The form that announces a stop. entity: fixed, or null for any. */
export class MuteForm {
  constructor(app, entity = null, given = "") {
    Object.assign(this, { app, entity });
    const field = (id, key, input) => h("label", { class: "field", for: id }, h("span", {}, t(key, { zone: app.hello?.time_zone ?? "" })), input);
    const text = (id, more = {}) => h("input", { type: "text", id, autocomplete: "off", ...more });
    this.who = text("mute-entity", { value: entity === null ? given : onlyName(entity), required: true, maxlength: 512, spellcheck: "false" });
    this.lasts = h("select", { id: "mute-for" }, ...LENGTHS.map((each) => h("option", { value: each, selected: each === "8h" }, lengthWords(each))));
    this.from = h("input", { type: "datetime-local", id: "mute-from" });
    this.reason = text("mute-reason", { maxlength: 1000 });
    this.by = text("mute-by", { required: true, maxlength: 200, value: app.name(), autocomplete: "name" });
    this.learn = h("input", { type: "checkbox", id: "mute-learn" });
    this.button = h("button", { type: "submit", class: "main" }, t("mute"));
    this.status = h("p", { role: "status", class: "small" });
    this.fieldset = h("div", { class: "fields" },
      entity === null ? field("mute-entity", "mute_entity", this.who) : null,
      field("mute-for", "mute_for", this.lasts), this.begin = field("mute-from", "mute_from", this.from),
      field("mute-reason", "reason", this.reason), field("mute-by", "by", this.by));
    this.form = h("form", { class: "mute", "aria-label": t("mute_title"), onsubmit: (event) => { event.preventDefault(); this.send(); } },
      h("p", { class: "muted small" }, t("mute_hint")), this.fieldset,
      h("label", { class: "field check" }, this.learn, h("span", {}, t("mute_learn"))),
      h("p", {}, this.button), this.status);
    this.unable = h("p", { class: "note" }, t("no_control"));
    this.element = h("div", {}, this.form, this.unable);
    this.greet();
  }

  greet() {
    const unable = Boolean(this.app.hello?.no_control);
    this.form.hidden = unable;
    this.unable.hidden = !unable;
    if (this.app.hello) say(this.begin.firstChild, t("mute_from", { zone: this.app.hello.time_zone }));
  }

  async send() {
    this.app.name(this.by.value);
    this.button.disabled = true;
    const found = await this.app.post("/ui/stops", {
      entity: this.who.value, for: this.lasts.value, from: this.from.value || null, reason: this.reason.value,
      by: this.by.value, learn: this.learn.checked ? "adapt" : "hold",
    });
    this.button.disabled = false;
    this.sent = found.id ? found : null;
    say(this.status, found.id ? t("mute_sent") : t("not_sent", { why: found.error }));
    if (found.id) this.reason.value = "";
  }

  /** Say when the stop that was sent has been acknowledged. */
  take(stops) {
    const own = this.sent && stops.announced.find((each) => each.id === this.sent.id);
    if (!own?.acts.length) return;
    say(this.status, t("mute_acts", { entity: printable(own.entity), time: moment(own.to, false), places: places(own) }));
    this.sent = null;
  }
}

const places = (stop) => stop.acts.map(([partition, offset]) => `${partition}-${offset}`).join(", ");

/** `8h` as words. */
function lengthWords(text) {
  const unit = { m: "min", h: "hour", d: "day" }[text.at(-1)];
  return `${count(Number(text.slice(0, -1)))} ${t(unit)}`;
}

/** The list of stops. */
export class StopList {
  constructor(app) {
    this.app = app;
    this.none = h("p", { class: "muted" });
    this.list = h("ul", { class: "stop-list" });
    this.old = h("ul", { class: "stop-list" });
    this.oldTitle = h("summary", {});
    this.past = h("details", { hidden: true }, this.oldTitle, this.old);
    this.element = h("div", { class: "planned" }, this.none, this.list, this.past);
  }

  /** Draw the stops anew where they, or what they do, has changed. */
  draw(stops) {
    const clock = this.app.clock();
    const states = stops.announced.map((stop) => stateOfStop(stop, clock));
    if (this.stops === stops && this.states === states.join()) return;
    // An open form stays: what is typed is not lost to an update.
    if (this.list.querySelector("form")) { this.states = null; return; }
    Object.assign(this, { stops, states: states.join() });
    const items = stops.announced.map((stop, i) => [this.item(stop, states[i]), isDone(states[i])]);
    const now = items.filter(([, done]) => !done).map(([item]) => item), done = items.filter(([, done]) => done).map(([item]) => item);
    this.list.replaceChildren(...now, ...stops.file.map((stop) => this.filed(stop)));
    this.old.replaceChildren(...done);
    this.past.hidden = !done.length;
    say(this.oldTitle, t("stops_past", { n: count(done.length) }));
    say(this.none, this.list.children.length ? "" : t("no_stops"));
    this.none.hidden = this.list.children.length > 0;
  }

  item(stop, state) {
    const words = [stop.reason, stop.by && t("announced_by", { by: stop.by })].filter(Boolean).map(printable).join(" · ");
    const acts = state === "waiting" ? t("stop_waits") : stop.acts.length ? t("stop_acts", { places: places(stop) }) : "";
    const ended = stop.ended !== null ? t(stop.end_acts ? "stop_ended" : "stop_end_waits", { time: moment(stop.ended, false) }) : "";
    const item = h("li", { class: "stop", "data-id": stop.id },
      h("div", { class: "head" }, h("span", { class: "who" }, printable(stop.entity)), h("span", { class: `chip ${state}` }, t(`stop_${state === "ended" ? "over" : state}`))),
      h("p", {}, `${moment(stop.from, false)} – ${moment(stop.to, false)}`),
      words ? h("p", {}, words) : null,
      h("p", { class: "muted" }, [t(`learn_${stop.learn}`), acts, ended].filter(Boolean).join(" · ")));
    if (!isDone(state) && state !== "ending" && !this.app.hello?.no_control) {
      const button = h("button", { type: "button", onclick: () => button.replaceWith(this.ending(stop, item, button)) }, t("end_stop"));
      item.append(h("p", {}, button));
    }
    return item;
  }

  /** The form that ends a stop, in place of its button. */
  ending(stop, item, button) {
    const id = `end-${stop.id}`;
    const by = h("input", { type: "text", id, required: true, maxlength: 200, value: this.app.name(), autocomplete: "name" });
    const send = async (event) => {
      event.preventDefault();
      this.app.name(by.value);
      const found = await this.app.post("/ui/stops", { ends: stop.id, by: by.value });
      form.replaceWith(found.id ? h("p", { role: "status" }, t("stop_end_sent")) : button);
      if (!found.id) this.app.note(t("not_sent", { why: found.error }));
      this.app.draw();
    };
    const form = h("form", { onsubmit: send }, h("label", { class: "field", for: id }, h("span", {}, t("by")), by),
      h("button", { type: "submit", class: "main" }, t("end_now")),
      h("button", { type: "button", onclick: () => form.replaceWith(button) }, t("cancel")));
    return form;
  }

  /** A stop of the file. */
  filed(stop) {
    return h("li", { class: "stop file" },
      h("div", { class: "head" }, h("span", { class: "who" }, stop.entity === "*" ? t("every_entity") : printable(stop.entity)), h("span", { class: "chip" }, t("stop_file"))),
      h("p", {}, printable(stop.text)),
      h("p", { class: "muted" }, [t(`learn_${stop.learn}`), stop.limits ? t("stop_limits") : ""].filter(Boolean).join(" · ")));
  }
}

/** The view of all stops. */
export class Stops {
  constructor(app, options) {
    this.app = app;
    this.form = new MuteForm(app, null, options.get("entity") ?? "");
    this.list = new StopList(app);
    this.stops = null;
    this.element = h("div", { class: "planned" }, h("h2", {}, t("stops")),
      h("section", { class: "panel", "aria-labelledby": "h-mute" }, h("h3", { id: "h-mute" }, t("mute_title")), this.form.element),
      this.list.element);
  }

  title() { return t("stops"); }
  query() { return { view: "stops" }; }
  restarted() { this.stops = null; }

  take(update) {
    if (update.hello) this.form.greet();
    if (update.stops) { this.stops = update.stops; this.form.take(update.stops); }
  }

  draw() {
    this.app.episodesChanged = false;
    if (this.stops) this.list.draw(this.stops);
  }
}
