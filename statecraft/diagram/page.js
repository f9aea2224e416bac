"use strict";
// What is shown comes from the block of data alone and is only ever set as text, never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const make = (name, text, parent) => {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
};

function facts(title, pairs) {
  $("what").textContent = title;
  const list = $("facts");
  list.replaceChildren();
  for (const [name, value] of pairs) {
    if (!value || !value.length) continue;
    make("dt", name, list);
    make("dd", Array.isArray(value) ? value.join("\n") : value, list);
  }
}

function pick(element, title, pairs) {
  for (const old of document.querySelectorAll(".picked")) old.classList.remove("picked");
  element.classList.add("picked");
  facts(title, pairs);
}

function ofState(state) {
  return [["kind", state.kind], ["bounds", state.facts], ["tools", state.tools], ["says", state.doc], ["here", state.notes]];
}

function ofRow(row) {
  return [["from", row.source || "every state"], ["event", row.event], ["guard", row.guard], ["to", row.target], ["here", row.notes]];
}

function clickable(id, title, pairs) {
  const element = $(id);
  if (!element) return;
  element.setAttribute("tabindex", "0");
  element.setAttribute("role", "button");
  element.setAttribute("aria-label", title);
  for (const link of element.querySelectorAll("a")) link.replaceWith(...link.childNodes);
  element.addEventListener("click", () => pick(element, title, pairs));
  element.addEventListener("keydown", event => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); pick(element, title, pairs); }
  });
}

for (const state of data.states) clickable(state.id, state.name, ofState(state));
for (const row of data.rows) clickable(row.id, `${row.source || "anywhere"} → ${row.target}`, ofRow(row));

function ofStep(step) {
  return [
    ["event", step.event], ["at", step.at], ["took", step.took], ["by", step.actor], ["guards", step.guards],
    ["calls", step.calls], ["said", step.payload],
  ];
}

function show(number) {
  const seen = new Set();
  for (const step of data.steps.slice(0, number + 1)) { seen.add(step.row); seen.add("s_" + step.target); }
  const now = data.steps[number];
  for (const { id } of [...data.states, ...data.rows]) {
    const element = $(id);
    if (!element) continue;
    element.classList.toggle("later", !seen.has(id));
    element.classList.toggle("now", id === "s_" + now.target || id === now.row);
  }
  for (const row of document.querySelectorAll("tbody tr")) row.removeAttribute("aria-current");
  const line = $("step_" + number);
  if (line) line.setAttribute("aria-current", "step");
  $("slider").value = number;
  $("slider").setAttribute("aria-valuetext", `step ${now.number}: ${now.event} to ${now.target}`);
  $("place").textContent = `#${now.number} of ${data.steps[data.steps.length - 1].number}`;
  facts(now.source ? `#${now.number}: ${now.source} → ${now.target}` : `#${now.number}: starts in ${now.target}`, ofStep(now));
}

function change(cell, each) {
  const line = make("div", undefined, cell);
  line.className = "change";
  make("b", each.field + " ", line);
  if (each.before) { make("del", each.before, line); line.append(" → "); }
  make("ins", each.after || "(nothing)", line);
}

if (data.steps.length) {
  const last = data.steps.length - 1;
  data.steps.forEach((step, index) => {
    const row = make("tr", undefined, $("steps"));
    row.id = "step_" + index;
    for (const text of [`#${step.number}`, step.source ? `${step.source} → ${step.target}` : step.target, step.event, step.took]) make("td", text, row);
    const cell = make("td", undefined, row);
    step.changes.forEach(each => change(cell, each));
    row.addEventListener("click", () => show(index));
  });
  const slider = $("slider");
  let timer = 0;
  const halt = () => { clearInterval(timer); timer = 0; $("play").textContent = "Play"; };
  const go = to => { halt(); show(Math.min(last, Math.max(0, to))); };
  slider.max = last;
  slider.addEventListener("input", () => go(+slider.value));
  $("back").addEventListener("click", () => go(+slider.value - 1));
  $("on").addEventListener("click", () => go(+slider.value + 1));
  $("play").addEventListener("click", () => {
    if (timer) return halt();
    if (+slider.value === last) show(0);
    $("play").textContent = "Stop";
    timer = setInterval(() => { +slider.value < last ? show(+slider.value + 1) : halt(); }, 900);
  });
  $("replay").hidden = $("table").hidden = false;
  show(last);
} else {
  facts("Click a state or an arrow", [["tells", "its bounds, its guard, and what is known about it"]]);
}
