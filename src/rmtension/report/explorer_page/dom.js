// Small tools: elements, numbers, and what is asked for in the address.

function element(tag, properties = {}, ...children) {
  const made = tag === "svg" || SHAPES.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, one] of Object.entries(value)) made.style.setProperty(key, one);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter(child => child !== null && child !== undefined && child !== false));
  return made;
}

const SHAPES = new Set(["rect", "line", "circle", "path", "text", "g"]);
const at = id => document.getElementById(id);
const MINUS = "\u2212";

let decimals = 3; // of rewards; see decimalsOf

function number(value, digits = decimals, signed = false) {
  if (value === null || value === undefined || Number.isNaN(value)) return "\u2013";
  const text = Math.abs(value).toFixed(digits);
  const zero = Number(text) === 0;
  return (value < 0 && !zero ? MINUS : signed && !zero ? "+" : "") + text;
}

// The same in so many significant digits.
function figures(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "\u2013";
  return (value < 0 ? MINUS : "") + Number(Math.abs(value).toPrecision(digits));
}

const counted = n => n.toLocaleString("en-US");
const plural = (n, word) => `${counted(n)} ${word}${n === 1 ? "" : "s"}`;

// Right, wrong or not scored: by a sign, a colour and a word.
function verdict(margin, word = "") {
  const [sign, look, said] = margin === null || Number.isNaN(margin) ? ["\u2013", "none", "not scored"]
    : margin > 0 ? ["\u2714", "good", "right"] : ["\u2718", "bad", "wrong"];
  return element("span", { class: `mark ${look}`, role: "img", title: `${word}${word && ": "}${said}`,
    "aria-label": `${word}${word && ": "}${said}` }, sign);
}

// A bar from zero, `scale` being the length of either side.
function bar(value, scale, { colour = "var(--accent)", dots = [], from = 0, label = "" } = {}) {
  const x = v => 50 + 48 * Math.max(-1, Math.min(1, v / (scale || 1)));
  const ends = [x(from), x(value)];
  return element("svg", { class: "bar", viewBox: "0 0 100 16", preserveAspectRatio: "none", "aria-hidden": "true" },
    element("line", { x1: 50, x2: 50, y1: 0, y2: 16, class: "zero" }),
    Number.isNaN(value) ? null : element("rect", { x: Math.min(...ends), width: Math.abs(ends[0] - ends[1]) || 0.3, y: 4,
      height: 8, style: { fill: colour } }),
    dots.map(dot => element("line", { x1: x(dot), x2: x(dot), y1: 1, y2: 15, class: "dot" })));
}

function options(select, groups, chosen) {
  const option = ([value, text]) => element("option", { value, selected: value === chosen }, text);
  select.replaceChildren(...groups.map(([label, list]) =>
    label ? element("optgroup", { label }, list.map(option)) : list.map(option)).flat());
}

// --- the address ---------------------------------------------------------------------------------------------------

const several = [...(study.seeds.length > 1 ? [MEAN] : []), ...study.seeds.map(String)];
const DEFAULTS = {
  c: null, n: null, model: study.models[0], seed: several[0], regime: study.mixed[0] ?? Object.keys(study.regimes)[0],
  q: "", benchmark: "", task: "", orientation: "", longer: "", right: "", wrong: "", ablation: "", flips: "any",
  sort: "study", down: "",
};

function asked() {
  const given = new URLSearchParams(location.hash.slice(1).replaceAll("+", "%2B"));
  const state = Object.fromEntries(Object.entries(DEFAULTS).map(([name, value]) => [name, given.get(name) ?? value]));
  const [model, regime] = (state.n ?? "").split("/");
  if (study.models.includes(model)) state.model = model;
  if (!study.models.includes(state.model)) state.model = DEFAULTS.model;
  if (!several.includes(state.seed)) state.seed = DEFAULTS.seed;
  if (!(state.regime in study.regimes)) state.regime = DEFAULTS.regime;
  if (regime in study.regimes) state.regime = regime;
  return state;
}

function address(state) {
  const said = Object.entries(state).filter(([name, value]) => value !== DEFAULTS[name] && value !== null);
  const plain = text => encodeURIComponent(text).replaceAll("%2F", "/").replaceAll("%3A", ":");
  return "#" + said.map(([name, value]) => `${name}=${plain(value)}`).join("&");
}

const seedOf = state => (state.seed === MEAN ? MEAN : Number(state.seed));
const listed = text => (text ? text.split(",") : []);
