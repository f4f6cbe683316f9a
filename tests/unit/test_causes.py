"""Reward models of known truth, trained from backbones built by hand: what patching, conflict and freezing say where
two objectives need one neuron in opposite ways, and where they use neurons of their own.

A word is four signs: its value F, what most pairs like, M, whose pair it is in, P, and what all like, G. The words' own
weights are so large that training leaves them as they are, and the head reads nothing but what neurons write, so that
only neurons learn; the words of test pairs stand in no train pair. AdamW moves every weight by about the learning rate
a step, so how fast a neuron learns to tell two words apart is known: by what it writes times the step, or where it
writes nothing yet, by what it reads times the step.

opposed: the helpful objective likes F+, the harmless one F-, and in two of three pairs of either the chosen word has
M+, too. Neuron 0 is open to all words and by far the fastest way to the reward. Alone, an objective makes it read F,
its own way round. Together they take F back from each other in every step, and M is left: the neuron reads it until
what two pairs gain is what the third one loses. With c the margin that other neurons give all pairs, k = e^c, that is
where 2 (1 + k / x) = 1 + k x, x = e^m: m = ln 2 where c is 0, and the third pair's margin c - m is below 0 until c is
ln(3) / 2. Neurons 2 and 3, each open to one objective's F alone, give such a margin, but are slow: the mixed reward
model is wrong in those pairs. With neuron 0 held fixed there is no m, and any c will do: freezing repairs all. It takes
both: a neuron that is drawn to something wrong where the objectives cancel each other, and another way.
All are right in the pairs that differ in G, by neurons 1 and 4 which the objectives need in the same way.

alone: the same without neurons 2 and 3. The third pair's margin is -m with neuron 0, and without it there is none to
learn: that freezing repairs cannot be, though patching and gradients say what they say of `opposed`.

disjoint: helpful pairs differ in F, harmless ones in M. Neuron 0 is open to the first alone and neuron 1 to the second;
both begin with a reading the wrong way round. Each objective turns its own one in the steps that it has, and the mixed
one has half as many: it falls short by too little training. Neuron 4, open to both, writes too little to do anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import product
from math import exp, log, sqrt
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest
import torch
from example_results import MADE, SETTINGS
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import AutoModelForSequenceClassification, GPT2Config, PreTrainedTokenizerFast

from rmtension.analysis.claims import CLAIMS
from rmtension.analysis.evidence import ALIKE
from rmtension.analysis.loading import (
    PAIRS_SEEN,
    load_conflicts,
    load_lists,
    load_patched,
    load_scores,
    load_validation,
)
from rmtension.analysis.results import Results
from rmtension.analysis.tables import TABLES
from rmtension.data.comparisons import as_comparisons
from rmtension.engine.attention import PACKED
from rmtension.engine.conflict import conflict
from rmtension.engine.evaluation import evaluate
from rmtension.engine.learner import Learner
from rmtension.engine.lengths import lengths
from rmtension.engine.patching import patch
from rmtension.engine.reading import load_reader
from rmtension.engine.repairs import Frozen
from rmtension.engine.reward_model import pack_comparisons, save_reward_model
from rmtension.engine.training import Trainer
from rmtension.study.measured import compared_sets
from rmtension.study.stages import Conflict, Training
from rmtension.study.study import VALIDATION, Study

CPU = torch.device("cpu")
WIDTH, NEURONS = 16, 12
SIGNS = {"F": 0, "M": 1, "P": 2, "G": 3}
COPIES = "ab"  # of every word: one to train on, and one to be tested on
WORDS = ["pad", "ask", "well", *("".join(word) for word in product("+-", "+-", "+-", "+-", COPIES))]
STEPS, RATE = 30, 2e-3
LOUD = 1e4  # words, beside which a step of theirs is nothing
FAST, HEAD = 150.0, 500.0
REPAIRED = {
    f"frozen-{held}": {"mixes": ["helpful", "harmless"], "method": "frozen", "frozen": held}
    for held in ("shared", "matched")
}
STUDY = Study.model_validate(
    SETTINGS | {"name": "toy", "seeds": [0, 1], "models": {"toy": {"source": MADE}}, "analysis": {"draws": 300}}
    | {"regimes": SETTINGS["regimes"] | REPAIRED}
    | {"ablation": {"percent": 10, "control_draws": 1}, "neurons": {"scorings": ["magnitude"]}}
    | {"benchmarks": {"own-test": {"kind": "regime-test"}, "tasks": {"kind": "synthetic", "per_task": 1}}}
    | {"patching": {"benchmarks": ["own-test"]}, "conflict": {}}
)  # fmt: skip
SINGLES = STUDY.single_regimes()
SELECTED = {"ablation": pl.String, "unit": pl.String, "layer": pl.Int32, "neuron": pl.Int32}
READ = ["patching", "patching_contrasts", "conflict", "conflict_contrasts", "repair", "repair_contrasts"]


class Neuron(NamedTuple):
    """What it reads of a word's signs, how far it is open without them, and what it writes to the reward."""

    reads: Mapping[str, float]
    opens: float
    writes: float


class Truth(NamedTuple):
    neurons: Mapping[int, Neuron]
    sets: Mapping[str, int]  # what the mixed reward model's sets hold, a neuron each
    pairs: Mapping[str, list[tuple[str, str]]]  # objective -> chosen and rejected word
    mixed_steps: int
    gap: float  # by which the mixed reward model falls short on either orientation
    decisive: list[str]  # the set by which the gap is closed, patched from the first and from the second


AGREED = Neuron({"G": 15}, 0, 0)
ONE_FOR_BOTH = {0: Neuron({}, 4, FAST), 1: AGREED, 4: AGREED}
SLOW = {2: Neuron({"F": 15, "P": 15}, -50, 0), 3: Neuron({"F": -15, "P": -15}, -50, 0)}
ONE_EACH = {
    0: Neuron({"F": -0.02, "P": 15}, 0, FAST),
    1: Neuron({"M": -0.02, "P": -15}, 0, FAST),
    4: Neuron({}, 4, 1),
    5: Neuron({}, 4, 0),
}
OPPOSITE = {  # two that like M, one that does not, and one of G alone
    "helpful": [("+++-", "--+-"), ("+++-", "--+-"), ("+-+-", "-++-"), ("++++", "+++-")],
    "harmless": [("-+--", "+---"), ("-+--", "+---"), ("----", "++--"), ("++-+", "++--")],
}
APART = {
    "helpful": [("+++-", "-++-"), ("+-+-", "--+-")] * 2,
    "harmless": [("++--", "+---"), ("-+--", "----")] * 2,
}
OF_ONE = {"shared": 0, "shared-matched": 1, "helpful-only": 2, "harmless-only": 3, "random": 4}
OF_TWO = {"shared": 4, "shared-matched": 5, "helpful-only": 0, "harmless-only": 1, "random": 6}
TRUTHS = {
    "opposed": Truth(ONE_FOR_BOTH | SLOW, OF_ONE, OPPOSITE, STEPS, 25, ["shared"] * 2),
    "alone": Truth(ONE_FOR_BOTH, OF_ONE, OPPOSITE, STEPS, 25, ["shared"] * 2),
    "disjoint": Truth(ONE_EACH, OF_TWO, APART, STEPS // 2, 100, ["helpful-only", "harmless-only"]),
}
Made = tuple[str, dict[str, pl.DataFrame], dict[str, list[float]]]


def direction(place: int) -> Tensor:
    """All are of mean 0 and of one length, so that the norm before the neurons only scales them."""
    vector = torch.zeros(WIDTH)
    vector[2 * place], vector[2 * place + 1] = 1, -1
    return vector


def built(neurons: Mapping[int, Neuron], seed: int) -> Any:
    """One layer that only its neurons write to, and a head that reads nothing else; the neurons not named have weights
    too small to matter, but gradients."""
    config = GPT2Config(
        vocab_size=len(WORDS), n_positions=8, n_embd=WIDTH, n_layer=1, n_head=2, n_inner=NEURONS,
        bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    config.num_labels = 1
    model: Any = AutoModelForSequenceClassification.from_config(config, attn_implementation=PACKED).eval()
    generator, reward = torch.Generator().manual_seed(seed), direction(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0 if "ln_" in name and name.endswith("weight") else 0.0)
        for i, word in enumerate(WORDS):
            for place in SIGNS.values():
                model.transformer.wte.weight[i] += (LOUD if word[place : place + 1] == "+" else -LOUD) * direction(
                    place
                )
        mlp = model.transformer.h[0].mlp
        for weight in (mlp.c_fc.weight, mlp.c_proj.weight):
            weight.copy_(1e-3 * torch.randn(weight.shape, generator=generator))
        for place, neuron in neurons.items():
            reads = [weight * direction(SIGNS[sign]) for sign, weight in neuron.reads.items()]
            mlp.c_fc.weight[:, place] = sum(reads, torch.zeros(WIDTH))
            mlp.c_fc.bias[place] = neuron.opens
            mlp.c_proj.weight[place] = neuron.writes * reward
        model.transformer.ln_f.weight.copy_(reward.abs())
        model.score.weight.copy_(HEAD * reward[None])
    return model


def pairs(truth: Truth, objective: str, copy: str) -> pl.DataFrame:
    """Each four times: in two of them the chosen response is longer by a word, in two the rejected one."""
    longer = [("well ", ""), ("", "well ")]
    rows = [
        (f"{objective}/{copy}/{i}", *(f"ask {more}{word}{copy}" for more, word in zip(by, two, strict=True)),
         objective, objective)
        for i, (two, by) in enumerate(product(truth.pairs[objective] * 2, longer))
    ]  # fmt: skip
    return pl.DataFrame(rows, ["comparison_id", "chosen", "rejected", "source", "orientation"], orient="row")


def tokenizer() -> Any:
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="pad"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="pad", pad_token="pad")


def trained(truth: Truth, regime: str, seed: int, folder: Path) -> Any:
    """A regime's reward model, by steps of all its pairs at once."""
    model, frozen = built(truth.neurons, seed), STUDY.regimes[regime].frozen
    parts = STUDY.regimes[regime].mixes or [regime]
    frame = as_comparisons(pl.concat([pairs(truth, part, "a") for part in parts]))
    _, packed = pack_comparisons(tokenizer(), frame["chosen"].to_list(), frame["rejected"].to_list(), 8)
    settings = Training(learning_rate=RATE, pairs_per_step=len(packed), gradient_clip=1e9, keep="last")
    held = truth.sets["shared-matched" if frozen == "matched" else "shared"]
    learner = partial(Frozen, pl.DataFrame({"layer": [0], "neuron": [held]})) if frozen else Learner
    steps = STEPS if regime in SINGLES else truth.mixed_steps
    trainer = Trainer(model, settings, epochs=steps, seed=seed, budget=1000, learner=learner)
    trainer.fit(packed, packed, folder / "checkpoint", "", minutes=1000)
    return model


def by_kind(truth: Truth, scores: pl.DataFrame) -> list[float]:
    """Mean margin of each of an objective's pairs as they are listed, over objectives and seeds."""
    kind = pl.col("comparison_id").cast(pl.String).str.split("/").list.last().cast(pl.Int32) // 2
    margin = pl.col("chosen_scores").list.first() - pl.col("rejected_scores").list.first()
    return (
        scores.group_by(kind % len(truth.pairs["helpful"]))
        .agg(margin.mean())
        .sort("comparison_id")
        .to_series(1)
        .to_list()
    )


def write(frame: pl.DataFrame, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(file)
    return file


def members(truth: Truth) -> pl.DataFrame:
    """Its sets of a neuron each; images of the exclusive ones are themselves."""
    rows = []
    for one in compared_sets(STUDY, "mixed"):
        is_image = one.set == "shared" and one.control == "matched-random"
        rows.append((one.name, "neuron", 0, truth.sets["shared-matched" if is_image else one.set]))
    return pl.DataFrame(rows, SELECTED, orient="row")


@pytest.fixture(scope="module", params=TRUTHS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Which truth it is, the tables of a study of it, and mean margins of each regime: see by_kind."""
    truth, folder = TRUTHS[request.param], tmp_path_factory.mktemp(request.param)
    tests = {name: pairs(truth, name, "b") for name in SINGLES}
    files = {name: write(frame, folder / f"data/{name}/test.parquet") for name, frame in tests.items()}
    read = {name: as_comparisons(frame) for name, frame in tests.items()}
    both, selected = pl.concat(read.values()), members(truth)
    for seed in STUDY.seeds:
        of = {regime: folder / f"reward_models/{regime}/{seed}" for regime in STUDY.regimes}
        for regime, place in of.items():
            save_reward_model(trained(truth, regime, seed, folder), tokenizer(), place)
            scores = folder / f"scores/toy/{regime}/seed-{seed}"
            for name in ("own-test", "tasks", VALIDATION):
                on = both if name == "tasks" else read.get(regime, both)
                found = evaluate(place, on, selected, ["none"], None, "", 999, CPU)
                write(found, scores / f"{name}.parquet")
        for regime in STUDY.plain_regimes():
            found = conflict(of[regime], files, [("helpful", "harmless")], Conflict(), 512, 999, CPU)
            write(found, folder / f"conflicts/toy/{regime}/seed-{seed}.parquet")
        write(selected, folder / f"selected/toy/mixed/seed-{seed}/sets.parquet")
        donors, sets = {name: of[name] for name in SINGLES}, [one.name for one in compared_sets(STUDY, "mixed")]
        patched = patch(of["mixed"], donors, both, selected, sets, 999, "float32", CPU)
        write(patched, folder / f"patched/toy/mixed/seed-{seed}/own-test.parquet")
    keys = pl.DataFrame([("toy", "mixed", seed) for seed in STUDY.seeds], ["model", "regime", "seed"], orient="row")
    read_by = lengths(load_reader(place), both).with_columns(pl.lit("toy").alias("model"))
    in_tokens = pl.concat([read_by.with_columns(pl.lit(name).alias("benchmark")) for name in STUDY.benchmarks])
    seen = [("toy", regime, seed, 1) for regime, seed in product(STUDY.regimes, STUDY.seeds)]
    no = pl.DataFrame()
    results = Results(
        STUDY, load_scores(folder, STUDY), load_lists(folder, STUDY),
        sizes=keys.join(selected.group_by("ablation").agg(n_neurons=pl.len()), how="cross"), control_overlaps=no,
        neurons=[], activations=[], lengths=in_tokens, words=no,
        texts=no,
        validation=load_validation(folder, STUDY),
        patched=load_patched(folder, STUDY), conflicts=load_conflicts(folder, STUDY),
        pairs_seen=pl.DataFrame(seen, PAIRS_SEEN, orient="row"),
        loudness=pl.DataFrame(schema={"model": pl.String, "regime": pl.String, "loudness": pl.Float64}),
    )  # fmt: skip
    on_tasks = results.lists.filter(benchmark="tasks").with_columns(pl.col("regime").cast(pl.String))
    of_regimes = {regime: by_kind(truth, on_tasks.filter(regime=regime)) for regime in STUDY.regimes}
    return request.param, {name: TABLES[name](results) for name in READ}, of_regimes


def test_the_toys_are_what_they_are_said_to_be(made: Made) -> None:
    """Each part is always right, the mixed one falls short, and the neuron that a part decides by brings all of it
    back."""
    truth, tables, _ = made
    patching = tables["patching"].filter(model="all models", control="whole")
    assert patching["gap_mean"].to_list() == [TRUTHS[truth].gap] * 6
    for donor, name in zip(SINGLES, TRUTHS[truth].decisive, strict=True):
        recovery = dict(patching.filter(donor=donor).select("set", "recovery_mean").rows())
        assert {key for key, share in recovery.items() if share == 1} == {name} and set(recovery.values()) == {0, 1}
    closed = tables["repair"].filter(model="all models", measure="accuracy").select("regime", "closed_mean")
    shares = {"frozen-shared": float(truth == "opposed"), "frozen-matched": 0.0}
    places = 2 * 3  # tasks and test splits, of either orientation and of both
    assert closed.rows() == [(regime, share) for regime, share in shares.items() for _ in range(places)]


def test_training_ends_where_it_was_reckoned_to(made: Made) -> None:
    truth, _, margins = made
    if truth == "disjoint":
        assert all(-0.5 < margin < -0.3 for regime in ("mixed", *REPAIRED) for margin in margins[regime])
        return
    for regime in ("mixed", "frozen-matched"):
        of_two, _, of_one, agreed = margins[regime]
        m, c = (of_two - of_one) / 2, (of_two + of_one) / 2
        k = exp(c)
        assert m == pytest.approx(log((1 + sqrt(1 + 8 * k**2)) / (2 * k)), abs=0.1) and c < log(3) / 2 < agreed
        assert c == pytest.approx(0.15 if truth == "opposed" else 0, abs=0.03)
    of_two, _, of_one, agreed = margins["frozen-shared"]
    assert of_two == pytest.approx(of_one, abs=0.02) and agreed > 0.3
    assert of_one > 0.15 if truth == "opposed" else of_one < 0.01


def is_borne_out(row: Mapping[str, Any], of: str = "") -> bool:
    """By its verdict; of four pairs that are all alike, which decide nothing, by the estimate."""
    if row[f"{of}verdict"] == "undecided" and ALIKE in row["note"]:
        beyond = row[f"{of}estimate"] - (0 if of else row["threshold"])
        return bool(beyond > 0 if row["direction"] == "above" else beyond < 0)
    return bool(row[f"{of}verdict"] == "holds")


def test_claims_of_causes_hold_where_the_objectives_need_one_neuron_in_opposite_ways(made: Made) -> None:
    truth, tables, _ = made
    found = {claim: CLAIMS[claim](tables, STUDY) for claim in ("P1", "G1", "R2")}
    assert {claim: len({row["part"] for row in rows}) for claim, rows in found.items()} == {"P1": 2, "G1": 4, "R2": 4}
    hold = {claim for claim, rows in found.items() if all(map(is_borne_out, rows))}
    assert hold == {"opposed": {"P1", "G1", "R2"}, "alone": {"P1", "G1"}, "disjoint": set()}[truth]
    assert all(is_borne_out(row, "control_") for claim in hold for row in found[claim] if row["control"])
    shared = tables["conflict"].filter(model="all models", regime="mixed", set="shared", control="whole")
    assert shared["cosine_mean"][0] < -0.9 if "G1" in hold else shared["cosine_mean"][0] == pytest.approx(0, abs=0.01)
