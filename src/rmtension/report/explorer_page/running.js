// The running reward: what a reward model would give a response if it ended behind each of its tokens.

const shownRunning = new Map(); // model -> key of a comparison -> its texts, each with its rewards by regime

async function runningOf(model) {
  if (shownRunning.has(model)) return;
  const found = await block(`running ${model}`), texts = new Map();
  shownRunning.set(model, texts);
  const rewards = Object.entries(found.rewards).map(([regime, values]) => [regime, floats(values)]);
  let place = 0;
  for (const [benchmark, id, response, words] of found.texts) {
    const key = `${benchmark}:${id}`, start = place;
    place += words.length;
    if (!texts.has(key)) texts.set(key, []);
    const values = Object.fromEntries(rewards.map(([regime, all]) => [regime, all.subarray(start, place)]));
    texts.get(key).push({ response, words, values, seed: found.seed });
  }
}

function running(one, state) {
  const texts = shownRunning.get(state.model)?.get(one.key);
  if (!texts) return null;
  const known = Object.keys(texts[0].values), regime = known.includes(study.stands[state.regime]) ? study.stands[state.regime] : known[0];
  const lines = scaled(texts.map(text => ({ ...text, rewards: text.values[regime] })));
  const readout = element("p", { class: "quiet readout", role: "status" }, summary(lines));
  const rows = lines.map(line => element("p", { class: `tokens ${line.response}` }, element("b", {}, line.response), " ",
    changes(line)));
  const section = element("section", { class: "running" }, element("h3", {}, "Where they part"),
    element("p", { class: "quiet" }, `Reward under ${regime}, seed ${texts[0].seed}, if the response ended behind each token; below, `
      + "tokens coloured by what each adds to it or takes from it."),
    chart(lines), readout, element("div", { class: "strips" }, rows));
  follow(section, lines, readout);
  return section;
}

// Colours are relative to the largest step in any of the texts, the first token of a response, which has none, left out.
function changes(line) {
  const steps = [...line.rewards].map((reward, i) => (i ? reward - line.rewards[i - 1] : 0));
  return line.words.map((text, i) => {
    const made = token(text, steps[i], line.scale);
    made.dataset.token = i;
    made.title = `${number(line.rewards[i])} (${number(steps[i], decimals, true)})`;
    return made;
  });
}

function scaled(lines) {
  const steps = lines.flatMap(line => [...line.rewards].slice(1).map((reward, i) => Math.abs(reward - line.rewards[i])));
  const scale = Math.max(...steps, 1e-9);
  return lines.map(line => ({ ...line, scale }));
}

// The lines that are judged: the lowest chosen and the highest rejected one at the end.
function decisive(lines) {
  const end = line => line.rewards.at(-1);
  const of = (response, better) => lines.filter(line => line.response === response)
    .reduce((a, b) => (better(end(b), end(a)) ? b : a));
  return [of("chosen", (x, y) => x < y), of("rejected", (x, y) => x > y)];
}

function summary(lines) {
  const [chosen, rejected] = decisive(lines), n = Math.max(chosen.words.length, rejected.words.length);
  const ahead = Array.from({ length: n }, (_, i) => valueAt(chosen, i) - valueAt(rejected, i));
  const differ = Array.from({ length: n }, (_, i) => i).find(i => chosen.words[i] !== rejected.words[i]);
  const last = Math.sign(ahead.at(-1));
  let since = n - 1;
  while (since > 0 && Math.sign(ahead[since - 1]) === last) since--;
  if (!last) return "They end alike.";
  const who = last > 0 ? "The chosen response" : "The rejected response";
  return `They differ from token ${differ + 1} on. ${who} is ahead for good from token ${since + 1} on, at the end by ${number(Math.abs(ahead.at(-1)))}.`;
}

const valueAt = (line, i) => line.rewards[Math.min(i, line.rewards.length - 1)];

// --- the chart -------------------------------------------------------------------------------------------------------

const WIDE = 1000, HIGH = 220;

function chart(lines) {
  const all = lines.flatMap(line => [...line.rewards]), n = Math.max(...lines.map(line => line.words.length));
  const low = Math.min(...all), high = Math.max(...all), span = high - low || 1; // where 0 is says nothing of a reward
  const x = i => (n > 1 ? i / (n - 1) : 0.5) * WIDE, y = value => HIGH - (value - low) / span * HIGH;
  const path = line => [...line.rewards].map((value, i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  return element("div", { class: "chart" },
    element("span", { class: "quiet num high" }, number(high, decimals - 1)), element("span", { class: "quiet num low" }, number(low, decimals - 1)),
    element("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", role: "img", "aria-label": summary(lines) },
      low < 0 && high > 0 ? element("line", { x1: 0, x2: WIDE, y1: y(0), y2: y(0), class: "zero" }) : null,
      element("line", { x1: -9, x2: -9, y1: 0, y2: HIGH, class: "cursor" }),
      lines.map(line => element("path", { d: path(line), class: line.response })),
      lines.map(line => element("path", { d: `M${x(line.words.length - 1)} ${y(line.rewards.at(-1))}h0`, class: `end ${line.response}` }))),
    element("p", { class: "quiet legend" }, ["chosen", "rejected"].map(side => element("span", { class: side }, side)),
      `${plural(n, "token")} \u2192`));
}

// Pointing at the chart or a token tells the rewards there, and marks the tokens.
function follow(section, lines, readout) {
  const svg = section.querySelector("svg"), cursor = svg.querySelector(".cursor"), usual = readout.textContent;
  const n = Math.max(...lines.map(line => line.words.length));
  const strips = [...section.querySelectorAll(".strips p")];
  function show(i) {
    section.querySelectorAll(".pointed").forEach(one => one.classList.remove("pointed"));
    const place = n > 1 ? i / (n - 1) * WIDE : WIDE / 2;
    cursor.setAttribute("x1", i === null ? -9 : place);
    cursor.setAttribute("x2", i === null ? -9 : place);
    if (i === null) { readout.textContent = usual; return; }
    strips.forEach(strip => strip.querySelector(`[data-token="${i}"]`)?.classList.add("pointed"));
    const said = lines.map(line => `${line.response} ${i < line.words.length
      ? `\u201c${line.words[i].trim()}\u201d ${number(line.rewards[i])}` : `ended at ${number(line.rewards.at(-1))}`}`);
    readout.textContent = `Token ${i + 1}: ${said.join(", ")}.`;
  }
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect();
    show(Math.round(Math.max(0, Math.min(1, (event.clientX - box.left) / box.width)) * (n - 1)));
  });
  section.addEventListener("pointerover", event => {
    const index = event.target.dataset?.token;
    if (index !== undefined) show(Number(index));
  });
  section.addEventListener("pointerleave", () => show(null));
}
