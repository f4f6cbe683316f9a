"""Cards (paper, Tables 5-9): what models, training, hygiene and compute were, read from a study's own files.

Wall times are left out: they differ from run to run, and the tables of two runs are to be the same bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl
import polars.selectors as cs

from rmtension.analysis.data_cards import origin
from rmtension.base.errors import UserError
from rmtension.base.files import made_here, read_json, read_table, reading, scan_table
from rmtension.base.sums import summable
from rmtension.data.comparisons import COMPARISONS, PAIRS
from rmtension.data.hygiene import HYGIENE, benchmark_counts, counts, opening
from rmtension.data.tasks import unexpected_counts, wanted_tasks
from rmtension.study.benchmarks import OwnBenchmark, PublishedBenchmark
from rmtension.study.naming import BUFFER
from rmtension.study.study import Study

# What families of backbones call the same number in their config.json.
SIZES = {
    "layers": ("num_hidden_layers", "n_layer"),
    "width": ("hidden_size", "n_embd"),
    "heads": ("num_attention_heads", "n_head"),
    "neurons_per_layer": ("intermediate_size", "n_inner"),
    "vocabulary": ("vocab_size",),
    "positions": ("max_position_embeddings", "n_positions"),
}
OPTIMISERS = {  # by training.memory
    "full": "AdamW without weight decay, linear decay to zero",
    "lean": "Adafactor without weight decay, linear decay to zero",
}
ARITHMETIC = {"no": "float32", "bf16": "bfloat16"}  # accelerate's names of it
LOG = {
    "step": pl.Int64(),
    "tokens": pl.Int64(),
    "validation_loss": pl.Float64(),
    "validation_accuracy": pl.Float64(),
}  # read of a training's
STABLE = {"n_pairs": pl.Int32(), "of_pairs": pl.Int32(), "agreement": pl.Float64()}
COUNTS = ("train_pairs", "train_left_out", "validation_pairs", "validation_left_out")


def models_card(folder: Path, study: Study) -> pl.DataFrame:
    """model, kind, source, revision, family; layers, width, heads, neurons_per_layer, vocabulary, positions (most
    tokens of a text), neurons; parameters of the backbone, with the output layer of a language model if it is stored
    and not tied to the embeddings. Sizes that config.json leaves to its family are null; UserError where it leaves out
    those that neurons are counted by."""
    rows = []
    for model, settings in study.models.items():
        backbone = folder / "backbones" / model
        config = read_json(backbone / "config.json")
        with made_here(backbone / "config.json"):
            family, sizes = config["model_type"], sizes_of(backbone / "config.json", config)
        counts = sizes | {"parameters": parameters(backbone, config)}
        rows.append({"model": model} | origin(settings.source) | {"family": family} | counts)
    return pl.DataFrame(rows, schema_overrides=dict.fromkeys(SIZES, pl.Int64))


def sizes_of(file: Path, config: dict[str, Any]) -> dict[str, int | None]:
    """SIZES and neurons, of the content of a config.json; see models_card."""
    said = config | (config.get("text_config") or {})  # of a model that reads pictures, too: those of its text part
    sizes = {size: next((said[name] for name in names if said.get(name)), None) for size, names in SIZES.items()}
    if config["model_type"] == "gpt2" and sizes["width"]:  # which leaves it out
        sizes["neurons_per_layer"] = sizes["neurons_per_layer"] or 4 * sizes["width"]
    layers, neurons = sizes["layers"], sizes["neurons_per_layer"]
    if not (layers and neurons):
        names = SIZES["neurons_per_layer" if layers else "layers"]
        raise UserError(f"{file}: says neither {' nor '.join(names)}; give the model a config.json that does")
    return sizes | {"neurons": layers * neurons}


def parameters(backbone: Path, config: dict[str, Any]) -> int:
    """Number of weights in a folder's safetensors files, from their headers (length in 8 bytes, then JSON)."""
    shapes: dict[str, list[int]] = {}
    for path in sorted(backbone.glob("*.safetensors")):
        with reading(path), path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        shapes |= {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
    if config.get("tie_word_embeddings"):
        shapes.pop("lm_head.weight", None)
    return sum(math.prod(shape) for name, shape in shapes.items() if not BUFFER.search(name))


def trainings(folder: Path, study: Study) -> pl.DataFrame:
    """A row for each reward model, of what its folder says of its training; columns as in training_card, and tokens.

    Of one that was adopted, merged or is an ensemble, its folder says only that.
    """
    rows = []
    chosen = study.training.model_dump(mode="json")
    for model, regime, seed in product(study.models, study.regimes, study.seeds):
        place = folder / f"reward_models/{model}/{regime}/seed-{seed}"
        which = {"model": model, "regime": regime, "seeds": str(seed)}
        said = read_json(place / "provenance.json")
        if "adopted" in said:
            rows.append(which | {"adopted": str(seed)})
            continue
        with made_here(place / "provenance.json"):
            which["method"] = said["method"]
        if "settings" not in said:
            rows.append(which)
            continue
        log = read_table(place / "training.parquet", LOG)
        with made_here(place / "provenance.json"):
            settings = {key: said["settings"]["training"][key] for key in chosen}
            ran, counts, versions = said["device"], said["pairs"], said["environment"]
        looks = log.drop_nulls("validation_loss")
        # The weights that were kept: the first of lowest loss, or the last.
        kept = looks.sort("validation_loss", maintain_order=True)[0] if settings["keep"] == "best" else looks[-1]
        rows.append(
            which | {"epochs": said["settings"]["epochs"]} | {"optimiser": OPTIMISERS[settings["memory"]]}
            | settings | {"steps": len(log), "tokens": log["tokens"].sum()}
            | {name if "left_out" in name else f"{name}_pairs": count for name, count in counts.items()}
            | {"kept_step": kept["step"].item(), "kept_loss": kept["validation_loss"].item()}
            | {"kept_accuracy": 100 * kept["validation_accuracy"].item()}
            | {"device": ran["type"], "arithmetic": ARITHMETIC.get(ran["precision"], "")}
            | {"libraries": ", ".join(f"{name} {version}" for name, version in versions.items())}
        )  # fmt: skip
    # Named here, since with nothing but adopted reward models most columns are empty.
    columns = dict.fromkeys(["model", "regime", "seeds", "adopted", "method"], str) | {"epochs": int, "optimiser": str}
    columns |= {key: type(value or 0) for key, value in chosen.items()} | dict.fromkeys(
        ["steps", "tokens", *COUNTS], int
    )
    columns |= dict.fromkeys(["kept_step", "kept_loss", "kept_accuracy"], float)
    return pl.DataFrame(rows, schema=columns | dict.fromkeys(["device", "arithmetic", "libraries"], str))


def training_card(folder: Path, study: Study) -> pl.DataFrame:
    """model, regime, seeds, adopted (those of the seeds whose reward model was trained elsewhere: of these, nothing
    else is said), method (of a merged one and of an ensemble neither); epochs, optimiser and the study's training
    settings; steps; of the train split and of the one that chose the weights: pairs, and pairs left out as empty or too
    long; the step whose weights were kept, and their loss (nats a pair) and accuracy (percent) on the latter split;
    device, arithmetic, libraries. Outcomes are means over seeds.
    """
    counts = cs.ends_with("_pairs", "_left_out") - cs.by_name("evaluation_pairs")
    outcomes = cs.by_name("steps", "kept_step", "kept_loss", "kept_accuracy") | counts
    settings = (cs.numeric() - outcomes).drop_nulls().first()
    return grouped(trainings(folder, study).drop("tokens"), settings, summable(outcomes.as_expr()).mean())


def compute_card(folder: Path, study: Study) -> pl.DataFrame:
    """model, regime, stage, seeds; steps and tokens (of packed pairs: a shared prefix counts once, padding does not)
    of all seeds together; device."""
    columns = ["model", "regime", pl.lit("train").alias("stage"), "seeds", "steps", "tokens", "device"]
    return grouped(trainings(folder, study).select(columns), cs.numeric().sum())


def grouped(trained: pl.DataFrame, *numbers: pl.Expr) -> pl.DataFrame:
    """One row for each model and regime: `numbers`, and all different words."""
    words = (cs.string() - cs.by_name("model", "regime")).unique(maintain_order=True).str.join(", ")
    return trained.group_by("model", "regime", maintain_order=True).agg(*numbers, words).select(trained.columns)


def hygiene(folder: Path, study: Study) -> pl.DataFrame:
    """regime, model (where it depends on a tokenizer), source of the pairs or benchmark, split or task; reason,
    treatment (left out, kept or neither): n of so many pairs or comparisons. Training includes the validation split.
    With activations.stable also how many pairs statistics took."""
    frames = [
        read_table(folder / f"data/{regime}/hygiene.parquet", HYGIENE)
        .with_columns(regime=pl.lit(regime), model=pl.lit(""))
        for regime in study.regimes
    ]  # fmt: skip
    trained = trainings(folder, study).drop_nulls("train_pairs")  # not those that were adopted
    for row in trained.unique(["model", "regime"], keep="first", maintain_order=True).to_dicts():
        for split, pairs in (("train", "train"), (row["select_on"], "validation")):
            n = row[f"{pairs}_left_out"]
            long = counts("", split, {"a side too long, or without a token": n}, row[f"{pairs}_pairs"] + n, "left out")
            frames.append(long.with_columns(pl.lit(row[key]).alias(key) for key in ("regime", "model")))
    frames += stable_counts(folder, study)
    questions = {regime: training_questions(folder, regime) for regime in study.regimes}
    for name, benchmark in study.benchmarks.items():
        if benchmark.kind == "regime-test":
            continue
        texts = read_table(folder / f"benchmarks/{name}.parquet", COMPARISONS)
        frames.append(benchmark_counts(name, texts))
        asked = texts.select(opening(pl.col("chosen").list.first())).to_series()
        for regime, known in questions.items():
            seen = int(asked.is_in(known.implode()).sum())
            found = counts(name, "", {"the opening question occurs in training": seen}, len(texts))
            frames.append(found.with_columns(regime=pl.lit(regime)))
        if isinstance(benchmark, PublishedBenchmark | OwnBenchmark) and benchmark.max_per_task is None:
            for task in unexpected_counts(wanted_tasks(name, benchmark), texts["task"]).to_dicts():
                n, expected = task["n"], task["n_prompts"]
                frames.append(counts(name, task["task"], {"comparisons, of those expected": n}, expected, ""))
    order = ["regime", "model", "source", "split", "reason", "treatment", "n", "of"]
    return pl.concat(frames, how="diagonal").select(order).with_columns(cs.string().fill_null(""))


def stable_counts(folder: Path, study: Study) -> Iterator[pl.DataFrame]:
    """Of each reward model whose statistics were read until they stood still, how many of how many pairs that took."""
    if study.standing is None:
        return
    for model, regime, seed in product(study.models, study.with_neurons(), study.seeds):
        path = folder / f"activations/{model}/{regime}/seed-{seed}.parquet"
        n, of, agreement = scan_table(path, STABLE).select(*STABLE).head(1).collect().row(0)
        agree = "not known" if agreement is None else f"{agreement:.4g}"
        found = counts("", "train", {f"read for seed {seed}; agreement of their halves {agree}": n}, of, "")
        yield found.with_columns(regime=pl.lit(regime), model=pl.lit(model))


def training_questions(folder: Path, regime: str) -> pl.Series:
    """The opening questions of a regime's training and validation pairs."""
    splits = [scan_table(folder / f"data/{regime}/{split}.parquet", PAIRS) for split in ("train", "validation")]
    return pl.concat(splits).select(opening(pl.col("chosen")).unique()).collect().to_series()


CARDS: dict[str, Callable[[Path, Study], pl.DataFrame]] = {
    "models_card": models_card,
    "hygiene": hygiene,
    "training_card": training_card,
    "compute_card": compute_card,
}


def cards(folder: Path, study: Study) -> dict[str, pl.DataFrame]:
    """Every other card of the study whose results are in `folder`; UserError where a file is missing."""
    return {name: card(folder, study) for name, card in CARDS.items()}
