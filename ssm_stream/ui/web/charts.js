// Lines on a canvas. Colours come from the style sheet, which defines both themes and high contrast.

let colours = {};

/** Read the colours again: the theme has changed. */
export function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["ink", "muted", "line", "accent", "band", "anomaly", "drift", "warn", "ok", "calm", "raised", "card", "warming",
    "limit", "silence", "stuck", "stop"]) {
    colours[name] = style.getPropertyValue(`--${name}`).trim();
  }
  colours.lines = [1, 2, 3, 4, 5, 6, 7, 8].map((i) => style.getPropertyValue(`--line${i}`).trim());
  return colours;
}

export const colour = (name) => colours[name];
export const levelColours = () =>
  [colours.warming, colours.calm, colours.raised, colours.warn, colours.drift, colours.anomaly, colours.silence, colours.limit, colours.stop, colours.line];

/** The canvas's context, as large as the canvas is shown, in CSS pixels. */
export function surface(canvas) {
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (!width || !height) return null;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

/** A line of values without axes. least: a value that is always within */
export function spark(canvas, values, stroke, least = Infinity) {
  const found = surface(canvas);
  if (!found || values.length < 2) return;
  const { context, width, height } = found;
  let low = least, high = -Infinity;
  for (const value of values) {
    if (value === null) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > high) return;
  const span = high - low || 1, step = (width - 4) / (values.length - 1);
  context.beginPath();
  let pen = false;
  values.forEach((value, i) => {
    if (value === null) { pen = false; return; }
    const x = 2 + i * step, y = height - 3 - ((value - low) / span) * (height - 6);
    if (pen) context.lineTo(x, y); else context.moveTo(x, y);
    pen = true;
  });
  context.strokeStyle = stroke;
  context.lineWidth = 1.5;
  context.lineJoin = "round";
  context.stroke();
}

const LONG = 8; // so many times the usual time between two points is a gap

/** The time beyond which two points are not joined. */
function gap(x) {
  if (x.length < 8) return Infinity;
  const steps = [];
  for (let i = Math.max(1, x.length - 200); i < x.length; i++) steps.push(x[i] - x[i - 1]);
  steps.sort((a, b) => a - b);
  return (steps[steps.length >> 1] || Infinity) * LONG;
}

function nice(low, high, most) {
  const raw = (high - low || Math.abs(high) || 1) / most;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5, 10].find((each) => each * power >= raw) ?? 10);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-9; at += step) found.push(Math.abs(at) < step * 1e-9 ? 0 : at);
  return found;
}

/**
 * Series over time.
 *
 * lines: [{x: [ms], y: [number|null], stroke, dash, width}]; band: {x, low, high}; level: a dashed line across;
 * marks: [{x, stroke}]; least: bounds of y that are always shown
 * spans: [{from, to, fill, words, hatched}], stretches of time, named by the first of `words` that fits; bounds: [{at, stroke, words}], lines across that are
 * drawn where they are near; until: the end of the time that is shown, where it is later than the last point
 */
export function chart(canvas, { lines, band, marks = [], level, least, number, clock, spans = [], bounds = [], until }) {
  const found = surface(canvas);
  if (!found) return;
  const { context, width, height } = found;
  const left = 56, right = 10, top = 8, bottom = 22;
  let from = Infinity, to = -Infinity, low = Infinity, high = -Infinity;
  for (const { x, y } of lines) {
    for (let i = 0; i < x.length; i++) {
      if (x[i] < from) from = x[i];
      if (x[i] > to) to = x[i];
      if (y[i] === null || y[i] === undefined) continue;
      if (y[i] < low) low = y[i];
      if (y[i] > high) high = y[i];
    }
  }
  if (from > to || low > high) return;
  if (until > to) to = Math.min(until, to + (to - from || 1000) * 0.35);
  if (band) {
    // A new entity's interval may be very wide: it is cut rather than all else made flat.
    const reach = (high - low || Math.abs(high) || 1) * 0.6;
    for (let i = 0; i < band.x.length; i++) {
      if (band.low[i] !== null && band.low[i] < low) low = Math.max(band.low[i], low - reach);
      if (band.high[i] !== null && band.high[i] > high) high = Math.min(band.high[i], high + reach);
    }
  }
  if (least) { low = Math.min(low, least[0]); high = Math.max(high, least[1]); }
  // A bound that is far away is named at the edge: it would make all else flat.
  const reach = high - low || Math.abs(high) || 1, near = [low - reach, high + reach];
  for (const { at } of bounds) {
    if (at >= near[0] && at <= near[1]) { low = Math.min(low, at); high = Math.max(high, at); }
  }
  if (level !== undefined) high = Math.max(high, level * 1.15);
  const room = (high - low || Math.abs(high) || 1) * 0.05;
  if (!least) low -= room;
  high += room;
  const px = (at) => left + ((at - from) / (to - from || 1)) * (width - left - right);
  const py = (at) => height - bottom - ((at - low) / (high - low || 1)) * (height - top - bottom);
  context.font = "12px system-ui, sans-serif";
  context.textBaseline = "middle";
  context.textAlign = "right";
  context.lineWidth = 1;
  for (const at of nice(low, high, Math.max(2, Math.floor((height - bottom) / 44)))) {
    const y = Math.round(py(at)) + 0.5;
    context.strokeStyle = colours.line;
    context.beginPath(); context.moveTo(left, y); context.lineTo(width - right, y); context.stroke();
    context.fillStyle = colours.muted;
    context.fillText(number(at), left - 6, y);
  }
  context.textBaseline = "alphabetic";
  context.textAlign = "left";
  context.fillStyle = colours.muted;
  context.fillText(clock(from), left, height - 6);
  context.textAlign = "right";
  if (width > 300) context.fillText(clock(to), width - right, height - 6);
  context.save();
  context.beginPath(); context.rect(left, top, width - left - right, height - top - bottom); context.clip();
  for (const span of spans) shade(context, span, px, from, to, top, height - bottom);
  for (const { x, stroke } of marks) {
    if (x < from || x > to) continue;
    context.strokeStyle = stroke; context.lineWidth = 2; context.setLineDash([3, 3]);
    context.beginPath(); context.moveTo(px(x), top); context.lineTo(px(x), height - bottom); context.stroke();
    context.setLineDash([]);
  }
  if (band && band.x.length > 1) {
    context.fillStyle = colours.band;
    context.beginPath();
    let open = [];
    const far = gap(band.x);
    const close = () => {
      for (const [x, , down] of open.reverse()) context.lineTo(x, down);
      open = [];
      context.closePath();
    };
    for (let i = 0; i < band.x.length; i++) {
      if (band.low[i] === null || band.high[i] === null) { if (open.length) close(); continue; }
      if (open.length && band.x[i] - band.x[i - 1] > far) close();
      const x = px(band.x[i]), up = py(band.high[i]);
      if (open.length) context.lineTo(x, up); else context.moveTo(x, up);
      open.push([x, up, py(band.low[i])]);
    }
    if (open.length) close();
    context.fill();
  }
  if (level !== undefined) {
    context.strokeStyle = colours.anomaly; context.setLineDash([5, 4]); context.lineWidth = 1;
    context.beginPath(); context.moveTo(left, py(level)); context.lineTo(width - right, py(level)); context.stroke();
    context.setLineDash([]);
  }
  for (const bound of bounds) {
    const y = Math.min(Math.max(py(bound.at), top + 1), height - bottom - 1), away = bound.at > high ? "↑ " : bound.at < low ? "↓ " : "";
    context.strokeStyle = context.fillStyle = bound.stroke;
    context.textAlign = "right";
    if (!away) {
      context.lineWidth = 1.5; context.setLineDash([8, 4]);
      context.beginPath(); context.moveTo(left, y); context.lineTo(width - right, y); context.stroke();
      context.setLineDash([]);
    }
    context.fillText(away + bound.words, width - right - 4, y < top + 16 ? y + 13 : y - 4);
  }
  for (const { x, y, stroke, dash, width: thick = 1.75 } of lines) {
    context.strokeStyle = stroke; context.lineWidth = thick; context.lineJoin = "round";
    context.setLineDash(dash ?? []);
    context.beginPath();
    let pen = false;
    const far = gap(x);
    for (let i = 0; i < x.length; i++) {
      if (i && x[i] - x[i - 1] > far) pen = false;
      if (y[i] === null || y[i] === undefined) { pen = false; continue; }
      if (pen) context.lineTo(px(x[i]), py(y[i])); else context.moveTo(px(x[i]), py(y[i]));
      pen = true;
    }
    context.stroke();
    context.setLineDash([]);
  }
  context.restore();
}

/** A stretch of time in a chart, with its name where there is room. */
function shade(context, { from: begin, to: end, fill, words, hatched }, px, from, to, top, foot) {
  if (begin > to || end < from) return;
  const x = px(Math.max(begin, from)), width = Math.max(px(Math.min(end, to)) - x, 2);
  context.save();
  context.beginPath(); context.rect(x, top, width, foot - top); context.clip();
  context.fillStyle = context.strokeStyle = fill;
  context.globalAlpha = hatched ? 0.12 : 0.16;
  context.fillRect(x, top, width, foot - top);
  if (hatched) {
    context.globalAlpha = 0.4; context.lineWidth = 1;
    context.beginPath();
    for (let at = x - (foot - top); at < x + width; at += 9) { context.moveTo(at, foot); context.lineTo(at + foot - top, top); }
    context.stroke();
  }
  context.globalAlpha = 1;
  const fits = words.find((each) => context.measureText(each).width < width - 8);
  if (fits) {
    context.textAlign = "left"; context.fillStyle = colours.ink;
    context.fillText(fits, x + 4, foot - (hatched ? 6 : 20));
  }
  context.restore();
}
