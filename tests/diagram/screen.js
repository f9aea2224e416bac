// As much of a browser as the page's script asks for, so that a test can click through a page. Reads the page, then acts.
"use strict";
const page = require("fs").readFileSync(process.argv[2], "utf8");
const listeners = new Map();
class Element {
  constructor(name) { Object.assign(this, { name, children: [], attributes: {}, classes: new Set(), text: "", hidden: false, events: {}, value: 0 }); }
  get classList() { const set = this.classes; return { add: c => set.add(c), remove: c => set.delete(c), toggle: (c, on) => (on ? set.add(c) : set.delete(c)) }; }
  set className(name) { this.classes = new Set([name]); }
  set textContent(text) { this.text = String(text); this.children = []; }
  get textContent() { return this.text + this.children.map(c => c.textContent).join(""); }
  set id(name) { known.set(name, this); this.attributes.id = name; }
  append(...more) { for (const one of more) this.children.push(typeof one === "string" ? { textContent: one } : one); }
  replaceChildren() { this.children = []; this.text = ""; }
  setAttribute(name, value) { this.attributes[name] = value; }
  removeAttribute(name) { delete this.attributes[name]; }
  addEventListener(name, act) { this.events[name] = act; }
  querySelectorAll() { return []; }
}
const known = new Map();
const decode = text => text.replace(/&#(x?)([0-9a-f]+);/gi, (_, hex, n) => String.fromCodePoint(parseInt(n, hex ? 16 : 10)))
  .replace(/&quot;/g, '"').replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&");
for (const [, id] of page.matchAll(/ id="([^"]+)"/g)) new Element("g").id = decode(id);
const block = /<script id="data" type="application\/json">(.*?)<\/script>/s.exec(page)[1];
known.get("data").text = block;
const rows = () => known.get("steps").children;
const all = () => [...known.values()];
global.document = {
  getElementById: id => known.get(id) || null,
  createElement: name => new Element(name),
  querySelectorAll: what => (what === "tbody tr" ? rows() : what === ".picked" ? all().filter(e => e.classes.has("picked")) : []),
};
const script = /<script>(.*?)<\/script>/s.exec(page)[1];
eval(script);
const seen = () => all().filter(e => !e.classes.has("later") && /^(s|e)_/.test(e.attributes.id)).map(e => e.attributes.id).sort();
const now = () => all().filter(e => e.classes.has("now")).map(e => e.attributes.id).sort();
const shown = { rows: rows().map(r => r.textContent), at: [] };
const slider = known.get("slider");
if (rows().length) for (let n = 0; n <= slider.max; n++) {
  slider.value = n;
  slider.events.input();
  shown.at.push({ seen: seen(), now: now(), what: known.get("what").textContent, facts: known.get("facts").textContent });
}
shown.clicked = {};
for (const [id, element] of known) if (element.events.click && /^(s|e)_/.test(id)) {
  element.events.click();
  shown.clicked[id] = known.get("what").textContent + "|" + known.get("facts").textContent;
}
console.log(JSON.stringify(shown));
