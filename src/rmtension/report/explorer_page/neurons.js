// Single neurons: where they lie, how they rank, what they do alone, and what they read.

const shownNeurons = new Map(); // "MODEL/REGIME" -> a promise of the block, with each passage's activations at hand

function neuronsOf(model, regime) {
  const key = `${model}/${regime}`;
  if (!shownNeurons.has(key)) shownNeurons.set(key, readNeurons(model, regime)); // whoever asks meanwhile waits for the same
  return shownNeurons.get(key);
}

async function readNeurons(model, regime) {
  const found = await block(`neurons ${model} ${regime}`);
  if (!found) return found;
  const values = floats(found.activations);
  let place = 0;
  for (const neuron of found.neurons) {
    for (const side of ["chosen", "rejected"]) {
      neuron.passages[side] = neuron.passages[side].map(([id, peak, start, length, words]) => {
        const activations = values.subarray(place, place += words.length);
        return { id, peak, start, length, words, activations };
      });
    }
    neuron.key = `${model}/${regime}/${neuron.layer}.${neuron.neuron}`;
  }
  return found;
}

const called = neuron => `Layer ${neuron.layer} \u00b7 neuron ${neuron.neuron}`;
const bySet = found => Object.keys(found.sets).map(set => [set, found.neurons.filter(n => set in n.sets)
  .sort((a, b) => a.sets[set] - b.sets[set])]);

function neuronList(found, state) {
  return bySet(found).map(([set, members]) => element("section", {},
    element("h3", {}, set, element("span", { class: "quiet" }, ` ${plural(found.sets[set].reduce((a, b) => a + b, 0), "neuron")}`)),
    members.length ? element("ol", { class: "neurons" }, members.map(neuron => {
      const here = neuron.key === state.n;
      return element("li", {}, element("a", { href: address({ ...state, n: neuron.key, c: null }), "data-key": neuron.key,
        class: here ? "here" : null, "aria-current": here ? "true" : null },
        element("span", { class: "words" }, called(neuron)),
        element("span", { class: "place" }, `rank ${neuron.sets[set]} by ${found.scorings[set]}`),
        element("span", { class: "margin num", title: "pairs that it turns wrong, and right, where it is zero" },
          `${MINUS}${total(neuron, "lost")} +${total(neuron, "gained")}`)));
    })) : element("p", { class: "quiet" }, "No neuron is in it.")));
}

const total = (neuron, name) => neuron.effects.reduce((sum, effect) => sum + effect[name].length, 0);

function neuronPage(found, neuron, state) {
  const sets = Object.entries(neuron.sets).map(([set, rank]) => element("span", { class: "chip" }, `${set}, rank ${rank}`));
  return element("article", {},
    element("header", {},
      element("h2", { id: "title", tabindex: -1 }, called(neuron)),
      element("p", { class: "facts" }, sets),
      element("p", { class: "steps" }, copied(address({ ...DEFAULTS, n: neuron.key })))),
    element("p", { class: "quiet" }, `${found.model}, regime ${found.regime}, seed ${found.seed}.`),
    alone(neuron), passages(neuron), depth(found, neuron), ranks(neuron), statistics(neuron));
}

// --- where it lies, what it does -----------------------------------------------------------------------------------

function depth(found, neuron) {
  const sets = Object.entries(found.sets);
  const rows = sets.map(([set, layers]) => element("tr", {}, head(set), layers.map((n, layer) => {
    const share = n / found.layers[layer], here = layer === neuron.layer && set in neuron.sets;
    return element("td", { class: `num shade${here ? " ringed" : ""}`, style: { "--a": Math.sqrt(share).toFixed(3) },
      title: `${n} of ${found.layers[layer]} neurons of layer ${layer}` }, n);
  })));
  return element("section", {}, element("h3", {}, "Where it lies"),
    element("p", { class: "quiet" }, "Neurons of each set in each layer, from the bottom; framed where this one is among them."),
    table("Sets by layer", [["set"], ...found.layers.map((_, layer) => [`layer ${layer}`, "num"])], rows, { look: "tight" }));
}

function alone(neuron) {
  const rows = neuron.effects.map(e => element("tr", {}, head(e.orientation), cell(e.n),
    cell(number(100 * e.right / e.n, 1)), cell(number(100 * e.right_without / e.n, 1)),
    cell(number(100 * (e.right_without - e.right) / e.n, 1, true)), cell(number(e.margin, 4, true)),
    cell(number(e.change, 4, true))));
  const heads = [["orientation"], ["pairs", "num"], ["% right", "num"], ["without it", "num"], ["change", "num"],
    ["mean margin", "num"], ["change without it", "num"]];
  const flips = [["lost", "Right, and wrong without it"], ["gained", "Wrong, and right without it"]].map(([name, label]) => {
    const ids = neuron.effects.flatMap(effect => effect[name]);
    return ids.length ? element("details", {}, element("summary", {}, `${label}: ${plural(ids.length, "pair")}`),
      element("ul", { class: "flips" }, ids.map(id => element("li", {}, toComparison(id, neuron))))) : null;
  });
  return element("section", {}, element("h3", {}, "What ablating it alone does"),
    element("p", { class: "quiet" }, "This one neuron at zero at every position, on test pairs of the regime."),
    table("Effects of ablating it alone", heads, rows), flips);
}

function toComparison(id, neuron) {
  const key = `${tested}:${id}`, [model, regime] = neuron.key.split("/");
  return byKey.has(key) ? element("a", { href: address({ ...DEFAULTS, model, regime, c: key }) }, id) : element("span", {}, id);
}

// --- what it reads -------------------------------------------------------------------------------------------------

function passages(neuron) {
  const all = [...neuron.passages.chosen, ...neuron.passages.rejected];
  const scale = Math.max(...all.flatMap(one => [...one.activations].map(Math.abs)), 1e-9);
  const side = name => element("div", { class: `side ${name}` }, element("h4", {}, `In ${name} responses`),
    element("ol", { class: "passages" }, neuron.passages[name].map(one => passage(one, scale, neuron))));
  return element("section", {}, element("h3", {}, "What it reads"),
    element("p", { class: "quiet" }, "The responses in which it is most active, by the largest absolute activation on a token of their own. ",
      element("span", { class: "scale" }, legend(-scale), legend(0), legend(scale)), " Point at a token for its value."),
    element("div", { class: "sides" }, side("chosen"), side("rejected")));

  function legend(value) { return token(number(value, 2, true), value, scale); }
}

function passage(one, scale, neuron) {
  return element("li", {},
    element("p", { class: "tokens" }, one.start > 0 ? "\u2026" : "",
      one.words.map((text, i) => token(text, one.activations[i], scale, i === one.peak)),
      one.start + one.words.length < one.length ? "\u2026" : ""),
    element("p", { class: "quiet" }, element("b", { class: "num" }, number(one.activations[one.peak], 3, true)), " ",
      toComparison(one.id, neuron)));
}

function token(text, value, scale, isPeak = false) {
  const visible = text.replaceAll("\n", "\u21b5");
  return element(isPeak ? "mark" : "span", { class: `token ${value < 0 ? "cold" : "hot"}`, title: number(value, 3, true),
    style: { "--a": Math.min(1, Math.abs(value) / scale).toFixed(3) } }, visible);
}

// --- how it scores ---------------------------------------------------------------------------------------------------

function ranks(neuron) {
  const places = Object.keys(neuron.ranks), scorings = Object.keys(neuron.ranks[places[0]]);
  const rows = scorings.map(scoring => element("tr", {}, head(scoring), places.map(regime => {
    const [rank, score] = neuron.ranks[regime][scoring] ?? [null, null];
    return [cell(rank === null ? "\u2013" : counted(rank)), cell(figures(score, 4))];
  })));
  const heads = [["scoring"], ...places.flatMap(regime => [[`${regime}: rank`, "num"], ["score", "num"]])];
  return element("section", {}, element("h3", {}, "How it ranks"),
    element("p", { class: "quiet" }, "Rank 1 is the highest score of all neurons; beside it the neuron at the same place under the other regimes."),
    table("Ranks by scoring and regime", heads, rows));
}

function statistics(neuron) {
  const places = Object.entries(neuron.statistics);
  const names = Object.keys(places[0][1].chosen).filter(name => name !== "n_tokens");
  const rows = places.flatMap(([regime, sides]) => Object.entries(sides).map(([response, values]) =>
    element("tr", {}, head(`${regime}, ${response}`), names.map(name => cell(figures(values[name], 4))))));
  return element("section", {}, element("h3", {}, "Statistics"),
    element("p", { class: "quiet" }, "Over all tokens of the pairs that its regime's statistics are of."),
    table("Statistics by regime and response", [["regime"], ...names.map(name => [name.replaceAll("_", " "), "num"])], rows));
}
