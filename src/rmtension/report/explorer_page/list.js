// Which comparisons are listed, in which order; and the list, of which only what is in sight is made.

const ROW = 68; // pixels of a row
const SORTS = {
  study: ["as in the study", null],
  margin: ["margin", (state, one) => of(state, state.regime)[one.index]],
  closeness: ["closeness to a tie", (state, one) => Math.abs(of(state, state.regime)[one.index])],
  ablation: ["change by the ablation", (state, one) =>
    state.ablation ? of(state, state.regime, state.ablation)[one.index] - of(state, state.regime)[one.index] : NaN],
  length: ["length, chosen less rejected", (state, one) => {
    const all = tokens(one, state.model);
    const mean = list => list.reduce((sum, n) => sum + n, 0) / list.length;
    return all ? mean(all.slice(0, one.chosen.length)) - mean(all.slice(one.chosen.length)) : NaN;
  }],
};
for (const other of regimes) {
  SORTS[`less:${other}`] = [`margin less that of ${other}`, (state, one) =>
    of(state, state.regime)[one.index] - of(state, other)[one.index]];
}

const of = (state, regime, ablation) => margins(state.model, regime, seedOf(state), ablation);
const lower = new Map();

function searched(one) {
  if (!lower.has(one)) lower.set(one, [one.key, one.task, one.prompt, ...one.chosen, ...one.rejected].join("\n").toLowerCase());
  return lower.get(one);
}

function matching(state) {
  const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
  const [right, wrong] = [listed(state.right), listed(state.wrong)].map(list => list.filter(r => regimes.includes(r)));
  const now = state.ablation ? of(state, state.regime, state.ablation) : null;
  const before = of(state, state.regime);
  const flips = { any: (a, b) => (a > 0) !== (b > 0), lost: (a, b) => a > 0 && !(b > 0), gained: (a, b) => !(a > 0) && b > 0 };
  const sides = { longer: d => d > 0, shorter: d => d < 0, neither: d => d === 0 };
  const found = comparisons.filter(one =>
    (!state.benchmark || one.benchmark === state.benchmark) && (!state.task || one.task === state.task) &&
    (!state.orientation || one.orientation === state.orientation) &&
    (!sides[state.longer] || sides[state.longer](lengthDifference(one, state.model))) &&
    right.every(r => of(state, r)[one.index] > 0) && wrong.every(r => of(state, r)[one.index] <= 0) &&
    (!now || (!Number.isNaN(before[one.index] + now[one.index]) &&
      (flips[state.flips] ?? flips.any)(before[one.index], now[one.index]))) &&
    words.every(word => searched(one).includes(word)));
  return ordered(found, state);
}

function ordered(found, state) {
  const by = SORTS[state.sort]?.[1], sign = state.down ? -1 : 1;
  if (!by) return found;
  const keys = new Map(found.map(one => [one, by(state, one)]));
  const last = value => Number(Number.isNaN(value)); // what has no number stands last, whichever way
  return found.sort((a, b) => {
    const [x, y] = [keys.get(a), keys.get(b)];
    return last(x) - last(y) || (last(x) ? 0 : sign * (x - y)) || a.index - b.index;
  });
}

// The last words of the user, on one line.
function headline(one) {
  const turns = turnsOf(one.prompt).filter(turn => turn.role === "Human");
  return (turns.at(-1)?.text || one.prompt || one.chosen[0]).trim().replace(/\s+/g, " ").slice(0, 200) || one.id;
}

class List {
  constructor(box, holder) {
    Object.assign(this, { box, holder, items: [] });
    box.addEventListener("scroll", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(box);
  }

  show(items, state) {
    Object.assign(this, { items, state });
    this.place = items.findIndex(one => one.key === state.c);
    this.holder.style.height = `${items.length * ROW}px`;
    this.draw();
  }

  // Scrolled no further than it takes to see the comparison that is shown.
  reveal() {
    if (this.place < 0) return;
    const top = this.place * ROW, { scrollTop, clientHeight } = this.box;
    if (top < scrollTop) this.box.scrollTop = top;
    else if (top + ROW > scrollTop + clientHeight) this.box.scrollTop = top + ROW - clientHeight;
  }

  draw() {
    const first = Math.max(0, Math.floor(this.box.scrollTop / ROW) - 4);
    const last = Math.min(this.items.length, first + Math.ceil(this.box.clientHeight / ROW) + 9);
    const focused = this.holder.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    const rows = this.items.slice(first, last).map((one, i) => this.row(one, first + i));
    this.holder.replaceChildren(...rows);
    if (focused !== null) this.focus(focused);
  }

  focus(key = this.state.c) {
    const row = [...this.holder.querySelectorAll("a")].find(link => link.dataset.key === key);
    row?.focus({ preventScroll: true });
    return Boolean(row);
  }

  row(one, position) {
    const { state } = this, here = one.key === state.c;
    const margin = of(state, state.regime)[one.index];
    const marks = regimes.map(regime => verdict(of(state, regime)[one.index], regime));
    return element("li", { style: { top: `${position * ROW}px` }, "aria-setsize": this.items.length,
      "aria-posinset": position + 1 },
      element("a", { href: address({ ...state, c: one.key, n: null }), "data-key": one.key, class: here ? "here" : null,
        "aria-current": here ? "true" : null, tabindex: here || (this.place < 0 && position === 0) ? 0 : -1 },
        element("span", { class: "words" }, headline(one)),
        element("span", { class: "margin num" }, number(margin, decimals - 1, true)),
        element("span", { class: "place" }, one.task === one.orientation ? one.task : `${one.task} \u00b7 ${one.orientation}`),
        element("span", { class: "marks" }, marks)));
  }
}
