// The study's data: blocks of compressed JSON in this page, each read when it is first asked for.

const holders = new Map([...document.querySelectorAll("script[data-block]")].map(s => [s.dataset.block, s]));
const read = new Map();

function block(name) {
  if (!read.has(name)) read.set(name, unpacked(holders.get(name)));
  return read.get(name);
}

async function unpacked(holder) {
  if (!holder) return null;
  const stream = new Blob([bytes(holder.textContent)]).stream().pipeThrough(new DecompressionStream("gzip"));
  holder.remove(); // it is read once
  return new Response(stream).json();
}

function bytes(base64) {
  return Uint8Array.fromBase64?.(base64) ?? Uint8Array.from(atob(base64), letter => letter.charCodeAt(0));
}

const floats = base64 => new Float32Array(bytes(base64).buffer);
const MEAN = "mean"; // in place of a seed: the mean over all of them

const [study, columns] = await Promise.all([block("study"), block("comparisons")]);

// --- comparisons -------------------------------------------------------------------------------------------------

let candidates = 0;
const comparisons = columns.comparison_id.map((id, index) => {
  const [benchmark, chosen, rejected] = ["benchmark", "chosen", "rejected"].map(name => columns[name][index]);
  const offset = candidates;
  candidates += chosen.length + rejected.length;
  return {
    index, id, benchmark, chosen, rejected, offset, n: chosen.length + rejected.length,
    key: `${benchmark}:${id}`, task: columns.task[index], orientation: columns.orientation[index],
    prompt: columns.prompt[index],
  };
});
const byKey = new Map(comparisons.map(one => [one.key, one]));
const [tested] = study.tested; // the benchmark that the test pairs of regimes are

// Tokens of each candidate's own, by a model's tokenizer: chosen before rejected; null where unknown.
const tokens = (one, model) => columns.tokens[model][one.index];

// Positive where all chosen responses are longer than all rejected ones, negative where they are shorter, else 0.
function lengthDifference(one, model) {
  const all = tokens(one, model);
  if (!all) return 0;
  const [chosen, rejected] = [all.slice(0, one.chosen.length), all.slice(one.chosen.length)];
  const [longer, shorter] = [Math.min(...chosen) - Math.max(...rejected), Math.max(...chosen) - Math.min(...rejected)];
  return longer > 0 ? longer : shorter < 0 ? shorter : 0;
}

// --- scores ------------------------------------------------------------------------------------------------------

class Scores {
  constructor({ rows, values }) {
    this.values = floats(values);
    this.rows = new Map(rows.map(([model, regime, seed, ablation, units], i) =>
      [JSON.stringify([model, regime, seed, ablation]), { row: i, units }]));
  }

  row(...place) { return this.rows.get(JSON.stringify(place)); }

  // Rewards of all candidates of a comparison, or null where it was not scored.
  rewards(row, one) {
    const start = row.row * candidates + one.offset;
    const found = this.values.subarray(start, start + one.n);
    return Number.isNaN(found[0]) ? null : found;
  }
}

let whole = new Scores(await block("scores"));
const ablated = new Map(); // model -> Scores

async function withAblations(model) {
  if (!ablated.has(model)) ablated.set(model, new Scores(await block(`ablated ${model}`)));
}

const seedsOf = seed => (seed === MEAN ? study.seeds : [seed]);

// Of given reward models all regimes are places of one, whose scores stand under one of them.
const regimes = [...new Set(Object.values(study.stands))];

function rowsOf(model, place, seed, ablation) {
  const regime = ablation === "none" ? study.stands[place] : place;
  const scores = ablation === "none" ? whole : ablated.get(model);
  if (!scores) return [];
  return seedsOf(seed).map(one => ({ scores, ...scores.row(model, regime, one, ablation) })).filter(r => r.row >= 0);
}

// Lowest chosen and highest rejected reward, and the margin between them; of several seeds the means.
function judged(one, model, regime, seed, ablation = "none") {
  const found = [];
  for (const row of rowsOf(model, regime, seed, ablation)) {
    const rewards = row.scores.rewards(row, one);
    if (!rewards) continue;
    const chosen = Math.min(...rewards.subarray(0, one.chosen.length));
    const rejected = Math.max(...rewards.subarray(one.chosen.length));
    found.push({ chosen, rejected, margin: chosen - rejected });
  }
  if (!found.length) return null;
  const mean = name => found.reduce((sum, each) => sum + each[name], 0) / found.length;
  return { chosen: mean("chosen"), rejected: mean("rejected"), margin: mean("margin") };
}

// Rewards of every candidate; of several seeds the means.
function rewardsOf(one, model, regime, seed) {
  const all = rowsOf(model, regime, seed, "none").map(row => row.scores.rewards(row, one)).filter(Boolean);
  return all.length ? Array.from({ length: one.n }, (_, i) => all.reduce((sum, r) => sum + r[i], 0) / all.length) : null;
}

const kept = new Map();

// Margins of all comparisons, NaN where there is none.
function margins(model, regime, seed, ablation = "none") {
  const key = JSON.stringify([model, regime, seed, ablation]);
  if (!kept.has(key)) {
    kept.set(key, Float64Array.from(comparisons, one => judged(one, model, regime, seed, ablation)?.margin ?? NaN));
  }
  return kept.get(key);
}

// How many decimals tell the rewards of a model apart: three, and more where half of its margins are below 0.1.
function decimalsOf(model, regime, seed) {
  const sizes = margins(model, regime, seed).filter(margin => !Number.isNaN(margin)).map(Math.abs).sort();
  const median = sizes[sizes.length >> 1] || 1;
  return Math.min(8, Math.max(3, 2 - Math.floor(Math.log10(median))));
}
