// One comparison: its rewards under each regime, its texts, and what each ablation does to its margin.

const TURN = /(?:^\s*|\r?\n\r?\n)(Human|Assistant):/g;
const colourOf = regime => `var(--regime-${Object.keys(study.regimes).indexOf(regime)})`;

// Turns of a dialogue; words before the first mark have no role.
function turnsOf(text) {
  const marks = [...text.matchAll(TURN)];
  const before = text.slice(0, marks[0]?.index ?? text.length);
  const turns = marks.map((mark, i) =>
    ({ role: mark[1], text: text.slice(mark.index + mark[0].length, marks[i + 1]?.index).replace(/^ /, "") }));
  return before.trim() ? [{ role: "", text: before }, ...turns] : turns;
}

function dialogue(text) {
  return turnsOf(text).filter(turn => turn.text.trim()).map(turn =>
    element("div", { class: `turn ${turn.role.toLowerCase()}` },
      turn.role ? element("b", {}, turn.role) : null, element("p", {}, turn.text.trim())));
}

function comparisonPage(one, state, neighbours) {
  const difference = lengthDifference(one, state.model);
  const length = difference ? `chosen ${difference > 0 ? "longer" : "shorter"} by ${plural(Math.abs(difference), "token")}`
    : tokens(one, state.model) ? "neither side is longer" : "";
  const facts = [one.benchmark, one.task, one.orientation, length].filter(Boolean);
  return element("article", {},
    element("header", {},
      element("h2", { id: "title", tabindex: -1 }, one.id),
      element("p", { class: "facts" }, [...new Set(facts)].map(fact => element("span", { class: "chip" }, fact))),
      element("p", { class: "steps" }, steps(neighbours, state), copied(address({ ...DEFAULTS, c: one.key })))),
    rewardTable(one, state),
    texts(one, state),
    running(one, state),
    ablationTable(one, state));
}

function steps([before, after], state) {
  const link = (to, text, key) => (to
    ? element("a", { href: address({ ...state, c: to.key }), class: "step", "aria-keyshortcuts": key }, text)
    : element("span", { class: "step off" }, text));
  return [link(before, "\u2190 previous", "k"), link(after, "next \u2192", "j")];
}

function copied(hash) {
  const button = element("button", { type: "button", class: "step", onclick: async () => {
    const url = location.href.split("#")[0] + hash;
    try { await navigator.clipboard.writeText(url); } catch { prompt("Link", url); return; }
    button.textContent = "copied";
    setTimeout(() => { button.textContent = "copy link"; }, 1500);
  } }, "copy link");
  return button;
}

// --- rewards -----------------------------------------------------------------------------------------------------

function table(label, heads, rows, { caption = null, look = "" } = {}) {
  return element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label },
    element("table", { class: look },
      caption ? element("caption", {}, caption) : null,
      element("thead", {}, element("tr", {}, heads.map(([text, kind]) => element("th", { scope: "col", class: kind }, text)))),
      element("tbody", {}, rows)));
}

const cell = (content, kind = "num") => element("td", { class: kind }, content);
const head = content => element("th", { scope: "row" }, content);

function rewardTable(one, state) {
  const seed = seedOf(state), bySeed = study.seeds.length > 1;
  const found = regimes.map(regime => [regime, judged(one, state.model, regime, seed)]);
  const each = regime => study.seeds.map(s => judged(one, state.model, regime, s)?.margin ?? NaN);
  const scale = Math.max(...found.flatMap(([regime, r]) => (r ? [r.margin, ...each(regime)] : [])).map(Math.abs)
    .filter(v => !Number.isNaN(v)), 0);
  const rows = found.map(([regime, r]) => element("tr", { class: regime === state.regime ? "here" : null },
    head([element("i", { class: "dot", style: { background: colourOf(regime) } }), regime]),
    cell(verdict(r?.margin ?? NaN, regime), "sign"),
    cell(number(r?.margin, decimals, true)),
    cell(bar(r?.margin ?? NaN, scale, { colour: colourOf(regime), dots: bySeed ? each(regime).filter(v => !Number.isNaN(v)) : [] }), "graph"),
    cell(number(r?.chosen)), cell(number(r?.rejected)),
    bySeed ? each(regime).map(v => cell([number(v, decimals, true), " ", verdict(v)])) : null));
  const chosen = one.chosen.length > 1 ? "lowest chosen" : "chosen", rejected = one.rejected.length > 1 ? "highest rejected" : "rejected";
  const heads = [["regime"], [""], ["margin", "num"], ["", "graph"], [chosen, "num"], [rejected, "num"],
    ...(bySeed ? study.seeds.map(s => [`margin, seed ${s}`, "num"]) : [])];
  return element("section", {}, element("h3", {}, "Rewards"),
    element("p", { class: "quiet" }, `${state.model}, ${seed === MEAN ? `means over ${study.seeds.length} seeds; `
      : `seed ${seed}; `}the margin is chosen less rejected, right where it is above 0.`),
    table("Rewards by regime", heads, rows));
}

// --- texts ---------------------------------------------------------------------------------------------------------

function texts(one, state) {
  const rewards = rewardsOf(one, state.model, state.regime, seedOf(state)), lengths = tokens(one, state.model);
  const side = (name, list, start) => element("div", { class: `side ${name}` },
    list.map((text, i) => element("section", { class: "response", "aria-label": `${name}${list.length > 1 ? ` ${i + 1}` : ""}` },
      element("h4", {}, element("span", {}, list.length > 1 ? `${name} ${i + 1} of ${list.length}` : name),
        element("span", { class: "quiet" }, lengths ? plural(lengths[start + i], "token") : ""),
        element("span", { class: "num", title: `reward under ${state.regime}` }, rewards ? number(rewards[start + i]) : "")),
      dialogue(turnsOf(text)[0]?.role ? text : `${lastRole(one)}${text}`))));
  return element("section", {}, element("h3", {}, "Texts"),
    one.prompt.trim() ? element("div", { class: "prompt" }, dialogue(one.prompt)) : null,
    element("div", { class: "sides" }, side("chosen", one.chosen, 0), side("rejected", one.rejected, one.chosen.length)));
}

// A response goes on with the turn that its prompt ends in.
function lastRole(one) {
  const role = [...one.prompt.matchAll(TURN)].at(-1)?.[1];
  return role ? `${role}:` : "";
}

// --- ablations -----------------------------------------------------------------------------------------------------

const KINDS = { own: "Its own top units by each scoring", whole: "What its parts share or have alone",
  control: "Controls of those", third: "Random neurons of a third of the layers" };

function ablationTable(one, state) {
  const names = study.ablations[state.regime], seed = seedOf(state);
  const before = judged(one, state.model, state.regime, seed);
  if (!names.length || !before) return null;
  const found = names.map(([name, kind]) => ({ name, kind, ...judged(one, state.model, state.regime, seed, name) }));
  const scale = Math.max(...found.map(f => Math.abs(f.margin ?? 0)), Math.abs(before.margin));
  const row = ({ name, margin = NaN }) => element("tr", { class: name === state.ablation ? "here" : null },
    head(name), cell(units(state, name)),
    cell(number(margin, decimals, true)), cell(number(margin - before.margin, decimals, true)),
    cell(bar(margin, scale, { from: before.margin, colour: margin < before.margin ? "var(--bad)" : "var(--good)" }), "graph"),
    cell((margin > 0) === (before.margin > 0) ? "" : element("span", { class: margin > 0 ? "good" : "bad" },
      margin > 0 ? "becomes right" : "becomes wrong"), ""));
  const rows = Object.entries(KINDS).flatMap(([kind, label]) => {
    const of = found.filter(f => f.kind === kind);
    return of.length ? [element("tr", { class: "group" }, element("th", { colspan: 6, scope: "colgroup" }, label)), ...of.map(row)] : [];
  });
  return element("section", {}, element("h3", {}, `Ablations of ${state.regime}`),
    element("p", { class: "quiet" }, `From ${number(before.margin, decimals, true)} without any; sets of one size, at zero or, with @mean, at their means. `
      + "Bars go from the margin as it is to that under the ablation."),
    table(`Ablations of ${state.regime}`, [["set"], ["units", "num"], ["margin", "num"], ["change", "num"], ["", "graph"], ["flips"]], rows));
}

// How many neurons or heads a set has, the mean over the seeds looked at.
function units(state, name) {
  const rows = rowsOf(state.model, state.regime, seedOf(state), name);
  return rows.length ? figures(rows.reduce((sum, row) => sum + row.units, 0) / rows.length, 4) : "";
}
