"""Reward models of known truth, built by hand: what patching and conflict say where two objectives need one neuron in
opposite ways, and where they use neurons of their own."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from example_results import MADE, SETTINGS
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import AutoModelForSequenceClassification, GPT2Config, PreTrainedTokenizerFast

from rmtension.analysis.claims import CLAIMS
from rmtension.analysis.judgement import together
from rmtension.analysis.loading import load_conflicts, load_patched, load_scores
from rmtension.analysis.results import Results
from rmtension.analysis.tables import TABLES
from rmtension.data.comparisons import as_comparisons
from rmtension.engine.attention import PACKED
from rmtension.engine.conflict import conflict
from rmtension.engine.evaluation import evaluate
from rmtension.engine.patching import patch
from rmtension.engine.reward_model import save_reward_model
from rmtension.study.measured import compared_sets
from rmtension.study.stages import Conflict
from rmtension.study.study import Study

CPU = torch.device("cpu")
WIDTH, NEURONS = 16, 12
# A word is what its features are: three of them, each there (+) or not (-). Directions are of mean 0 and of one length,
# so that the norm before the neurons only scales them.
FEATURES = {"F": 0, "G": 1, "S": 2}
WORDS = ["pad", "ask", "tell", *("".join(signs) for signs in product("+-", repeat=3))]
STUDY = Study.model_validate(
    SETTINGS | {"name": "toy", "seeds": [0, 1, 2], "models": {"toy": {"source": MADE}}, "analysis": {"draws": 300}}
    | {"ablation": {"percent": 10, "control_draws": 1}, "neurons": {"scorings": ["magnitude"]}}
    | {"benchmarks": {"own-test": {"kind": "regime-test"}}, "patching": {"benchmarks": ["own-test"]}, "conflict": {}}
)  # fmt: skip
PLAIN = [*STUDY.regimes]
SELECTED = {"ablation": pl.String, "unit": pl.String, "layer": pl.Int32, "neuron": pl.Int32}
Made = tuple[str, dict[str, pl.DataFrame]]
Truth = Mapping[
    str, Mapping[int, tuple[Mapping[str, float], float]]
]  # regime -> neuron -> reads features, writes reward
# Of a word with S, likes F; of one without, dislikes it: a reward model that has not made up its mind.
UNDECIDED = {2: ({"F": 2.0, "S": 2.0}, 0.2), 3: ({"F": 2.0, "S": -2.0}, -0.2)}
MUDDLED = {8: ({"G": 2.0, "S": 2.0}, 0.2), 9: ({"G": 2.0, "S": -2.0}, -0.2)}
BOTH = {1: ({"G": 4.0}, 1.0)}  # wanted by both, and learnt by all
OPPOSED: Truth = {
    "helpful": {0: ({"F": 3.0}, 1.0)} | BOTH | UNDECIDED,
    "harmless": {0: ({"F": -3.0}, 1.0)} | BOTH | UNDECIDED,
    "mixed": {0: ({}, 1.0)} | BOTH | UNDECIDED,
}
DISJOINT: Truth = {
    "helpful": {0: ({"F": 3.0}, 1.0), 1: ({}, 1.0), 4: ({"S": 3.0}, 0.3)} | UNDECIDED | MUDDLED,
    "harmless": {0: ({}, 1.0), 1: ({"G": 3.0}, 1.0), 4: ({"S": 3.0}, 0.3)} | UNDECIDED | MUDDLED,
    "mixed": {0: ({}, 1.0), 1: ({}, 1.0), 4: ({"S": 3.0}, 0.3)} | UNDECIDED | MUDDLED,
}
# What the sets of the mixed reward model hold, by truth.
SETS = {
    "opposed": {"shared": 0, "helpful-only": 2, "harmless-only": 3, "shared-matched": 1, "random": 6},
    "disjoint": {"shared": 4, "helpful-only": 0, "harmless-only": 1, "shared-matched": 6, "random": 7},
}
# Objective -> what tells the chosen word from the rejected one, and what else the words have.
PAIRS = {
    "opposed": {
        "helpful": [("+-{}", "--{}"), ("-+{}", "--{}")],
        "harmless": [("--{}", "+-{}"), ("-+{}", "--{}")],
    },
    "disjoint": {"helpful": [("+-{}", "--{}")], "harmless": [("-+{}", "--{}")]},
}


def direction(place: int) -> Tensor:
    vector = torch.zeros(WIDTH)
    vector[2 * place], vector[2 * place + 1] = 1, -1
    return vector


def built(neurons: Mapping[int, tuple[Mapping[str, float], float]], seed: int) -> Any:
    """One layer that only its neurons write to; the others' weights are too small to matter, but have gradients."""
    config = GPT2Config(vocab_size=len(WORDS), n_positions=8, n_embd=WIDTH, n_layer=1, n_head=2, n_inner=NEURONS)
    config.num_labels, config.pad_token_id, config.eos_token_id = 1, 0, 0
    model: Any = AutoModelForSequenceClassification.from_config(config, attn_implementation=PACKED).eval()
    generator, reward = torch.Generator().manual_seed(seed), direction(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0 if "ln_" in name and name.endswith("weight") else 0.0)
        for i, word in enumerate(WORDS):
            for place in FEATURES.values():
                sign = -1 if len(word) > 3 or word[place] != "+" else 1
                model.transformer.wte.weight[i] += sign * direction(place)
        mlp = model.transformer.h[0].mlp
        for weight in (mlp.c_fc.weight, mlp.c_proj.weight):
            weight.copy_(1e-3 * torch.randn(weight.shape, generator=generator))
        for neuron, (reads, writes) in neurons.items():
            mlp.c_fc.weight[:, neuron] += sum(
                (a * direction(FEATURES[f]) for f, a in reads.items()), torch.zeros(WIDTH)
            )
            mlp.c_proj.weight[neuron] += writes * reward
        model.score.weight.copy_(reward[None])
    return model


def pairs(truth: str, objective: str) -> pl.DataFrame:
    texts = [
        [f"{prompt} {side.format(sign)}" for side in sides]
        for prompt, sign, sides, _ in product(("ask", "tell"), "+-", PAIRS[truth][objective], range(6))
    ]
    rows = [(f"{objective}/test/{i}", *sides, objective, objective) for i, sides in enumerate(texts)]
    return pl.DataFrame(rows, ["comparison_id", "chosen", "rejected", "source", "orientation"], orient="row")


def tokenizer() -> Any:
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="pad"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="pad", pad_token="pad")


def write(frame: pl.DataFrame, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(file)
    return file


def members(truth: str) -> pl.DataFrame:
    """Its sets of a neuron each; images of the exclusive ones are themselves."""
    rows = []
    for one in compared_sets(STUDY, "mixed"):
        is_image = one.set == "shared" and one.control == "matched-random"
        rows.append((one.name, "neuron", 0, SETS[truth]["shared-matched" if is_image else one.set]))
    return pl.DataFrame(rows, SELECTED, orient="row")


@pytest.fixture(scope="module", params=["opposed", "disjoint"])
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[str, pl.DataFrame]]:
    """Which truth it is, and the tables of a study of it."""
    truth: str = request.param
    folder = tmp_path_factory.mktemp(truth)
    tests = {name: pairs(truth, name) for name in ("helpful", "harmless")}
    files = {name: write(frame, folder / f"data/{name}/test.parquet") for name, frame in tests.items()}
    read = {name: as_comparisons(frame) for name, frame in tests.items()}
    read["mixed"] = pl.concat(read.values())
    selected = members(truth)
    for seed in STUDY.seeds:
        of = {regime: folder / f"reward_models/{regime}/{seed}" for regime in PLAIN}
        for regime, place in of.items():
            save_reward_model(built((OPPOSED if truth == "opposed" else DISJOINT)[regime], seed), tokenizer(), place)
            found = conflict(place, files, [("helpful", "harmless")], Conflict(), 512, 999, CPU)
            write(found, folder / f"conflicts/toy/{regime}/seed-{seed}.parquet")
            scores = evaluate(place, read[regime], selected, ["none"], None, "", 999, CPU)
            write(scores, folder / f"scores/toy/{regime}/seed-{seed}/own-test.parquet")
        write(selected, folder / f"selected/toy/mixed/seed-{seed}/sets.parquet")
        donors = {name: of[name] for name in ("helpful", "harmless")}
        sets = [one.name for one in compared_sets(STUDY, "mixed")]
        patched = patch(of["mixed"], donors, read["mixed"], selected, sets, 999, CPU)
        write(patched, folder / f"patched/toy/mixed/seed-{seed}/own-test.parquet")
    sizes = selected.group_by("ablation").agg(n_neurons=pl.len())
    keys = pl.DataFrame([("toy", "mixed", seed) for seed in STUDY.seeds], ["model", "regime", "seed"], orient="row")
    no = pl.DataFrame()
    results = Results(
        STUDY, load_scores(folder, STUDY), lists=no, sizes=keys.join(sizes, how="cross"), control_overlaps=no,
        neurons=no, activations=no, lengths=no, words=no, validation=no, texts=no,
        patched=load_patched(folder, STUDY), conflicts=load_conflicts(folder, STUDY), pairs_seen=no,
    )  # fmt: skip
    names = ("patching", "patching_contrasts", "conflict", "conflict_contrasts", "conflict_layers")
    return truth, {name: TABLES[name](results) for name in names}


def test_the_toys_are_what_they_are_said_to_be(made: Made) -> None:
    """Each part is always right, the mixed one falls short, and the neuron that a part decides by brings all of it
    back."""
    truth, tables = made
    patching = tables["patching"].filter(model="all models", control="whole")
    assert patching["gap_mean"].to_list() == [{"opposed": 25, "disjoint": 50}[truth]] * 6
    decisive = {"opposed": ["shared", "shared"], "disjoint": ["helpful-only", "harmless-only"]}[truth]
    for donor, name in zip(("helpful", "harmless"), decisive, strict=True):
        recovery = dict(patching.filter(donor=donor).select("set", "recovery_mean").rows())
        assert {key for key, share in recovery.items() if share == 1} == {name} and set(recovery.values()) == {0, 1}


def test_shared_neurons_are_found_where_the_objectives_need_one_in_opposite_ways(
    made: Made,
) -> None:
    truth, tables = made
    found = {claim: CLAIMS[claim](tables, STUDY) for claim in ("P1", "G1")}
    verdicts = {claim: together([row["verdict"] for row in rows]) for claim, rows in found.items()}
    assert {claim: len({row["part"] for row in rows}) for claim, rows in found.items()} == {"P1": 2, "G1": 2}
    shared = tables["conflict"].filter(model="all models", regime="mixed", set="shared", control="whole")
    if truth == "opposed":
        assert verdicts == {"P1": "holds", "G1": "holds"} and shared["cosine_mean"][0] < -0.5
    else:
        assert "holds" not in verdicts.values() and shared["cosine_mean"][0] > -0.1
