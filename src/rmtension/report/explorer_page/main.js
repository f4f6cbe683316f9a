// The page as a whole: what the address asks for is shown, and what is chosen goes into the address.

const list = new List(at("list-box"), at("list"));
let state = asked(), found = [], neuronOrder = [], drawing = 0;

function go(changes, replace = false) {
  const to = address({ ...state, ...changes });
  if (to !== (location.hash || "#")) history[replace ? "replaceState" : "pushState"](null, "", to);
  return show();
}

async function show() {
  const turn = ++drawing, before = state;
  state = asked();
  const isNeurons = state.n !== null;
  decimals = decimalsOf(state.model, state.regime, seedOf(state));
  const regime = study.explored.includes(state.regime) ? state.regime : study.explored[0];
  const neurons = isNeurons ? await neuronsOf(state.model, regime) : null;
  if (state.ablation || state.c !== null) await withAblations(state.model);
  if (state.c !== null) await runningOf(state.model);
  if (turn !== drawing) return; // something else has been asked for meanwhile
  document.body.dataset.view = isNeurons ? "neurons" : "comparisons";
  document.body.dataset.open = (isNeurons ? state.n : state.c) ? "detail" : "list";
  controls();
  if (isNeurons) showNeurons(neurons);
  else showComparisons(before);
}

function showComparisons(before) {
  found = matching(state);
  list.show(found, state);
  at("count").textContent = found.length === comparisons.length ? `all ${plural(found.length, "comparison")}`
    : `${counted(found.length)} of ${plural(comparisons.length, "comparison")}`;
  at("nothing").hidden = found.length > 0;
  const one = byKey.get(state.c);
  if (one) {
    const place = found.indexOf(one), around = place < 0 ? [null, null] : [found[place - 1], found[place + 1]];
    detail(comparisonPage(one, state, around), state.c);
    list.reveal();
  } else if (state.c !== null) {
    detail(element("p", { class: "empty" }, `There is no comparison ${state.c} on this page.`), state.c);
  } else {
    detail(welcome(), null);
  }
}

function showNeurons(found) {
  const box = at("neuron-list");
  if (!found) {
    box.replaceChildren(element("p", { class: "empty" }, "No neurons are shown of this study."));
    return detail("", null);
  }
  box.replaceChildren(...neuronList(found, state));
  neuronOrder = [...box.querySelectorAll("a")].map(link => link.dataset.key).filter((key, i, all) => all.indexOf(key) === i);
  const neuron = found.neurons.find(one => one.key === state.n);
  if (neuron) detail(neuronPage(found, neuron, state), state.n);
  else if (state.n) detail(element("p", { class: "empty" }, `There is no neuron ${state.n} on this page.`), state.n);
  else detail(element("p", { class: "empty" }, "Choose a neuron: its passages, ranks and effects come here."), null);
}

let shownKey = null;

function detail(content, key) {
  at("detail").replaceChildren(content);
  if (key !== shownKey) at("detail-box").scrollTop = 0;
  if (key !== shownKey && getComputedStyle(at("side")).display === "none") scrollTo(0, 0);
  shownKey = key;
}

function welcome() {
  const [first] = found;
  return element("div", { class: "empty" },
    element("p", {}, "Choose a comparison: its texts and scores come here."),
    element("p", { class: "quiet" }, at("drawn").textContent),
    first ? element("p", {}, element("a", { href: address({ ...state, c: first.key }) }, "Open the first one")) : null);
}

// --- controls --------------------------------------------------------------------------------------------------------

const distinct = name => [...new Set(comparisons.map(one => one[name]))];
const named = names => names.map(name => [name, name]);
const any = word => [["", [["", word]]]];

function controls() {
  const set = (id, groups) => options(at(id), groups, state[id]);
  set("model", [["", named(study.models)]]);
  set("seed", [["", several.map(s => [s, s === MEAN ? "mean over seeds" : `seed ${s}`])]]);
  set("regime", [["", named(Object.keys(study.regimes))]]);
  set("benchmark", [...any("any benchmark"), ["", distinct("benchmark").map(b => [b, `${b} (${counted(columns.totals[b][0])})`])]]);
  const tasks = comparisons.filter(one => !state.benchmark || one.benchmark === state.benchmark).map(one => one.task);
  set("task", [...any("any task"), ["", named([...new Set(tasks)])]]);
  set("orientation", [...any("any orientation"), ["", named(distinct("orientation"))]]);
  set("longer", [...any("any length"), ["", [["longer", "chosen longer"], ["shorter", "chosen shorter"], ["neither", "neither"]]]]);
  const names = study.ablations[state.regime] ?? [];
  const groups = Object.entries(KINDS).map(([kind, label]) => [label, named(names.filter(n => n[1] === kind).map(n => n[0]))]);
  set("ablation", [...any("no ablation"), ...groups.filter(([, members]) => members.length)]);
  set("flips", [["", [["any", "either way"], ["lost", "right to wrong"], ["gained", "wrong to right"]]]]);
  at("flips").disabled = !state.ablation;
  set("sort", [["", Object.entries(SORTS).map(([name, [label]]) => [name, label])]]);
  at("down").textContent = state.down ? "\u2193 greatest first" : "\u2191 least first";
  at("down").disabled = state.sort === "study";
  if (document.activeElement !== at("q")) at("q").value = state.q;
  at("verdicts").replaceChildren(...regimes.map(regime => {
    const now = listed(state.right).includes(regime) ? "right" : listed(state.wrong).includes(regime) ? "wrong" : "any";
    const sign = { right: "\u2714", wrong: "\u2718", any: "\u00b7" }[now];
    return element("button", { type: "button", class: `tri ${now}`, "data-regime": regime, "aria-label": `${regime}: ${now}`,
      title: `${regime}: ${now}; press for the next of any, right, wrong`, onclick: () => turnTo(regime, now) },
      element("span", { "aria-hidden": "true" }, sign), ` ${regime}`);
  }));
  const active = ["benchmark", "task", "orientation", "longer", "right", "wrong", "ablation"].filter(name => state[name]);
  at("clear").hidden = !active.length && !state.q;
  at("active").textContent = active.length ? ` (${active.length})` : "";
  for (const [id, view] of [["view-comparisons", "comparisons"], ["view-neurons", "neurons"]]) {
    if (document.body.dataset.view === view) at(id).setAttribute("aria-current", "page");
    else at(id).removeAttribute("aria-current");
  }
}

function turnTo(regime, now) {
  const next = { any: "right", right: "wrong", wrong: "any" }[now];
  const without = name => listed(state[name]).filter(one => one !== regime);
  const lists = { right: without("right"), wrong: without("wrong") };
  lists[next]?.push(regime);
  go({ right: lists.right.join(","), wrong: lists.wrong.join(",") }, true)
    .then(() => at("verdicts").querySelector(`[data-regime="${CSS.escape(regime)}"]`)?.focus());
}

const CLEARED = { q: "", benchmark: "", task: "", orientation: "", longer: "", right: "", wrong: "", ablation: "", flips: "any" };

for (const name of ["seed", "regime", "benchmark", "task", "orientation", "longer", "ablation", "flips", "sort"]) {
  at(name).addEventListener("change", event => go({ [name]: event.target.value,
    ...(name === "benchmark" ? { task: "" } : {}), ...(name === "regime" ? { ablation: "" } : {}),
    ...(name === "regime" && state.n ? { n: "" } : {}) }, true).then(toTop));
}
at("model").addEventListener("change", event => go({ model: event.target.value, ...(state.n ? { n: "" } : {}) }, true).then(toTop));
at("q").addEventListener("input", event => go({ q: event.target.value }, true).then(toTop));
at("down").addEventListener("click", () => go({ down: state.down ? "" : "1" }, true).then(toTop));
at("clear").addEventListener("click", () => go(CLEARED, true).then(toTop));
at("view-comparisons").addEventListener("click", event => { event.preventDefault(); go({ n: null }); });
at("view-neurons").addEventListener("click", event => { event.preventDefault(); go({ n: "", c: null }); });
at("back").addEventListener("click", () => go(state.n !== null ? { n: "" } : { c: null }));
at("help-button").addEventListener("click", () => at("help").showModal());

function toTop() { if (list.place < 0) at("list-box").scrollTop = 0; else list.reveal(); }

// --- keys ------------------------------------------------------------------------------------------------------------

function step(by) {
  if (state.n !== null) {
    const place = neuronOrder.indexOf(state.n), next = neuronOrder[place < 0 ? 0 : place + by];
    if (next !== undefined) go({ n: next }).then(() => at("neuron-list").querySelector(".here")?.scrollIntoView({ block: "nearest" }));
    return;
  }
  const place = found.findIndex(one => one.key === state.c), next = found[place < 0 ? 0 : place + by];
  const isFocused = at("list").contains(document.activeElement);
  if (next) go({ c: next.key }).then(() => isFocused && list.focus());
}

addEventListener("keydown", event => {
  const typing = event.target.closest("input, select, textarea");
  if (event.ctrlKey || event.metaKey || event.altKey || at("help").open) return;
  if (event.key === "Escape") {
    if (typing) typing.blur();
    else if (document.body.dataset.open === "detail") at("back").click();
    return;
  }
  if (typing) return;
  const arrows = event.target === document.body || at("side").contains(event.target);
  const by = { j: 1, k: -1, ...(arrows ? { ArrowDown: 1, ArrowUp: -1 } : {}) }[event.key];
  if (by) { event.preventDefault(); step(by); }
  else if (event.key === "/") { event.preventDefault(); at("q").focus(); at("q").select(); }
  else if (event.key === "?") at("help").showModal();
});

addEventListener("popstate", show);
await show();
at("filters").open = matchMedia("(min-width: 55rem) and (min-height: 62rem)").matches || at("active").textContent !== "";
document.body.dataset.ready = "true";
