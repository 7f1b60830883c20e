// Who attends to an alert: shown at it, and written with a name and a note.

import { h, printable, say } from "./dom.js";
import { moment, t } from "./words.js";

let number = 0;

/** At one alert. compact: shows it only */
export class Acknowledgement {
  constructor(app, compact) {
    this.app = app;
    this.text = h("p", { class: "acknowledged", hidden: true });
    this.button = compact ? null : h("button", { type: "button", onclick: () => this.open() }, t("acknowledge"));
    this.action = h("div", { class: "acknowledge" }, this.button);
  }

  fill(episode) {
    this.episode = episode;
    const found = episode.acknowledged;
    this.text.hidden = !found;
    if (found) {
      const who = t("acknowledged_by", { by: printable(found.by), time: found.at ? moment(found.at, false) : "" });
      say(this.text, found.note ? `${who}: ${printable(found.note)}` : who);
    }
    if (!this.button) return;
    const able = !this.app.hello?.no_feedback;
    say(this.button, t(found ? "acknowledge_again" : "acknowledge"));
    this.button.disabled = !able;
    this.button.title = able ? "" : t("no_feedback");
  }

  /** Show the form in place of the button. */
  open() {
    const id = `ack-${number++}`;
    const by = h("input", { type: "text", id: `${id}-by`, required: true, maxlength: 200, value: this.app.name(), autocomplete: "name" });
    const note = h("input", { type: "text", id: `${id}-note`, maxlength: 1000, autocomplete: "off" });
    const close = () => { form.replaceWith(this.button); this.button.focus({ preventScroll: true }); };
    const send = async (event) => {
      event.preventDefault();
      this.app.name(by.value);
      const found = await this.app.post("/ui/acknowledge", { id: this.episode.id, by: by.value, note: note.value });
      this.app.note(found.error ? t("not_sent", { why: found.error }) : "");
      if (!found.error) close();
    };
    const form = h("form", { "aria-label": t("acknowledge_title"), onsubmit: send },
      h("label", { class: "field", for: by.id }, h("span", {}, t("by")), by),
      h("label", { class: "field wide", for: note.id }, h("span", {}, t("note")), note),
      h("button", { type: "submit", class: "main" }, t("acknowledge_now")),
      h("button", { type: "button", onclick: close }, t("cancel")));
    this.button.replaceWith(form);
    (by.value ? note : by).focus();
  }
}
