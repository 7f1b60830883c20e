"use strict";
// The sliders of the pilot report. Everything they show follows from the figures of each budget and two costs:
// saved = false alarm × (today's false alarms − these) + missed hour × (these hours of warning − today's).
(function () {
  const box = document.getElementById("what-if");
  const data = JSON.parse(document.getElementById("what-if-data").textContent);
  const find = (name) => box.querySelector('[data-part="' + name + '"]');
  const budget = find("budget");
  const costs = data.labelled ? [find("false_alarm"), find("missed_hour")] : [];
  const count = (value) => value.toLocaleString(data.lang, { maximumSignificantDigits: 3 });
  const amount = (value) => data.currency + " " + (value < 0 ? "−" : "") +
    Math.abs(Number(value.toPrecision(3))).toLocaleString(data.lang);

  function saved(falses, warned, today, price) {
    return price[0] * (today[0] - falses) + price[1] * (warned - today[1]);
  }

  function quantile(sorted, share) {
    const at = share * (sorted.length - 1);
    const low = Math.floor(at);
    const next = sorted[Math.min(low + 1, sorted.length - 1)];
    return sorted[low] + (at - low) * (next - sorted[low]);
  }

  // [value, low, high] of a budget.
  function range(i, price) {
    const point = data.points[i];
    const drawn = data.draws[i].map((d, k) => saved(d[0], d[1], data.today_draws[k], price)).sort((a, b) => a - b);
    return [saved(point.false, point.warned_hours, data.today, price), quantile(drawn, data.edge),
      quantile(drawn, 1 - data.edge)];
  }

  // Costs are set on a scale of ratios: position 0 is a hundredth of what the report was made with, 100 a hundred times.
  const price = () => costs.map((slider, k) => data.costs[k] * Math.pow(100, (slider.value - 50) / 50));

  function curve(ranges, chosen) {
    const all = ranges.flat().concat([0]);
    const low = Math.min(...all);
    const high = Math.max(...all);
    const x = (i) => 20 + (360 * i) / Math.max(ranges.length - 1, 1);
    const y = (v) => 130 - (120 * (v - low)) / (high - low || 1);
    const line = (k) => ranges.map((r, i) => x(i).toFixed(1) + " " + y(r[k]).toFixed(1));
    find("band").setAttribute("d", "M" + line(2).concat(line(1).reverse()).join("L") + "Z");
    find("line").setAttribute("d", "M" + line(0).join("L"));
    find("zero").setAttribute("d", "M10 " + y(0).toFixed(1) + "H390");
    find("dot").setAttribute("cx", x(chosen));
    find("dot").setAttribute("cy", y(ranges[chosen][0]));
  }

  function show() {
    const i = Number(budget.value);
    const point = data.points[i];
    budget.setAttribute("aria-valuetext", point.text);
    find("budget_out").textContent = point.text;
    box.querySelectorAll("tbody tr").forEach((row, k) => row.classList.toggle("chosen", k === i));
    if (!data.labelled) return;
    const now = price();
    costs.forEach((slider, k) => {
      const text = amount(now[k]);
      slider.setAttribute("aria-valuetext", text);
      find(slider.dataset.part + "_out").textContent = text;
    });
    const ranges = data.points.map((_, k) => range(k, now));
    box.querySelectorAll("tbody tr").forEach((row, k) => {
      row.querySelector("[data-saved]").textContent = amount(ranges[k][0]);
    });
    const [value, low, high] = ranges[i];
    find("answer").textContent = data.words.saved + ": " + amount(value) + " (" +
      data.words.range.replace("{low}", amount(low)).replace("{high}", amount(high)) + "); " + data.words.false + ": " +
      count(point.false_a_week || 0) + "; " + data.words.missed + ": " + (data.events - point.found);
    curve(ranges, i);
  }

  box.querySelectorAll(".live").forEach((part) => { part.hidden = false; });
  [budget].concat(costs).forEach((slider) => slider.addEventListener("input", show));
  show();
})();
