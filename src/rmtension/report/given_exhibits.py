"""What the report of given reward models shows, in its order: from what one gets right to where in it that comes from.

Tables are those of each model alone, without the rows of all models and without a regime where it says nothing.
"""

from __future__ import annotations

import polars as pl

from rmtension.report.exhibits import FOREMOST, NOT_ABLATED, Exhibit
from rmtension.study.naming import OVERALL

SAME = ("regime", "mixture", "seed", "n_seeds")  # columns that say something of trained reward models alone

ZEROED, WHOLE, SIZED = (
    pl.col("replaced_by") == "zero",
    pl.col("control") == "whole",
    pl.col("control") == "size-matched",
)
ABLATED = ~NOT_ABLATED

# Before the claims: what who looks into a reward model asks.
GIVEN_FOREMOST: dict[str, list[Exhibit]] = {
    "What it gets right": [
        Exhibit("surface", "A line for each reward model, with its interval; below it in each row chance and marks for "
                "rules without a model, by length or by the words that one kind of pairs prefers. What lies at such a "
                "mark, or below it, takes no reward model.", "", "accuracy", ["rule"]),
        Exhibit("benchmark_accuracy", "Percent of comparisons in which every chosen response scores above every "
                "rejected one, on each test split and on each benchmark as a whole (pairs by chance: 50 %).",
                "", "accuracy", ["model"]),
        Exhibit("accuracy", "The same on each task, the models beside each other: look for tasks below chance.",
                "", "accuracy", ["model"]),
        Exhibit("model_contrasts", "Several models side by side: accuracy of the first minus that of the second on the "
                "same comparisons, in points. An interval without 0 is a difference; q is the p-value corrected for "
                "the number of tasks.", "", "difference", ["first", "second"]),
        Exhibit("official", "Scores by the benchmarks' own rules, as it is and without its top neurons.",
                "", "value", ["model", "ablation"]),
    ],
    "Is it length?": [
        Exhibit("length", "Accuracy where the chosen response is the longer one, where it is the shorter one, and the "
                "mean of the two (balanced): far apart, it goes by length. Empty where either side has fewer than 5 "
                "comparisons.", "", "balanced", ["model"], NOT_ABLATED),
        Exhibit("length_correlation", "Whether the longer response gets the higher reward, over pairs of a task: 0 is "
                "no taste for length, 1 is length and nothing else.", "", "correlation", ["model"]),
    ],
    "Where helpful and harmless pull inside it": [
        Exhibit("tension", "What each set of neurons does for either objective: below 0, it is needed. Look for a set "
                "whose loss costs one objective and helps the other: there the two pull against each other. Shared "
                "neurons are found on both kinds of pairs, exclusive ones (-only) on one. Hollow marks are controls: "
                "size-matched parts of a set, and random neurons, as many, as deep and as loud. Where zeros do what "
                "means do not, neurons were thrown off rather than missed.",
                "", "delta", ["orientation", "tasks"], WHOLE),
        Exhibit("tension", "What is left beside the control: the change without a part of each set minus that without "
                "random neurons, as many, as deep and as loud, in points. An interval below 0 is a set that matters "
                "for what it is, and not for its size or loudness.",
                "", "difference", ["orientation", "tasks"], SIZED),
        Exhibit("neuron_overlap", "Shared part of the top neurons found on two kinds of pairs (Jaccard: 1 is the same "
                "set), beside chance, what random sets of those sizes share.", "", "jaccard", ["first", "second"]),
        Exhibit("overlap", "The same as a map: the darker, the more two sets share; in brackets, random sets."),
        Exhibit("shared_ablation", "Task by task: change in accuracy without each set, in points.",
                "", "delta", ["ablation", "control"]),
        Exhibit("shared_contrasts", "Change without the shared neurons minus change without others, in points: below "
                "0, the shared ones matter more; size-matched rows compare like with like (claim C12).",
                "", "difference", ["control", "against"]),
        Exhibit("own_ablation", "The same of the top neurons found on each kind of pairs, by each scoring: do helpful "
                "ones cost helpful tasks and help harmless ones (claim C9)?", "", "delta", ["regime", "scoring"]),
        Exhibit("control_overlap", "Percent of a set that its matched-random control has in common with it: where it "
                "is high, the control says little.", "", "share", ["regime"]),
    ],
    "Where their gradients conflict": [
        Exhibit("conflict_layers", "Cosine of the two objectives' gradients on test pairs, layer by layer: below 0, "
                "what would teach it one objective would unlearn the other. Sampling noise is taken out, so that with "
                "few pairs figures lie beyond 1, or are none."),
        Exhibit("conflict", "The same at the neurons of each set; opposed is the share of the gradients' squares at "
                "weights that the two would move in opposite ways, half by chance.", "", "cosine", ["model"]),
        Exhibit("conflict_contrasts", "The same at shared neurons minus at others, as many: below 0, the objectives "
                "oppose each other more at the shared ones (claim G1).", "", "cosine_difference", ["model"]),
    ],
    "Which neurons": [
        Exhibit("top_neurons", "The first neurons by the main scoring on each kind of pairs, and on which other kinds "
                "they are among the top ones, with their rank there."),
        Exhibit("ablation_curve", "Change in accuracy with the top neurons by each scoring set to zero: a scoring "
                "finds neurons that matter where it falls faster than that of random ones.", "", "delta", ["scoring"]),
        Exhibit("ablation_curve_by_model", "The same as curves."),
        Exhibit("scoring_contrasts", "Change under the first scoring minus change under the second, in points: below "
                "0, the first finds neurons that matter more (claim A1).", "", "difference", ["first", "second"]),
        Exhibit("depth", "Share of the top neurons in each third of the layers, in percent: look for shares away from "
                "those of random neurons.", "", "share", ["third"]),
        Exhibit("thirds", "Change in accuracy, in points, with random neurons of one third of the layers set to zero, "
                "as many and as loud in each (claim D1).", "", "delta", ["third"]),
        Exhibit("set_length", "Whether the top neurons are more active in longer texts, beside random ones as loud: "
                "above 0, and above those, they follow length (claim L3).", "", "correlation", ["set"]),
        Exhibit("length_change", "What an ablation costs once length decides nothing, in points of balanced accuracy.",
                "", "difference", ["ablation", "against"]),
        Exhibit("set_size", "Change in accuracy against the number of neurons set to zero: what lies on the random "
                "curve is explained by size alone.", "", "delta", ["family", "control"]),
    ],
    "Calibration": [
        Exhibit("calibration", "How far its probabilities can be taken at their word: ece and brier are 0 at best. A "
                "temperature above 1 tells of too much confidence, one below 1 of too little.",
                "", "ece", ["model"], NOT_ABLATED),
        Exhibit("calibration_by_model", "Above the diagonal, it is right more often than it is sure; below, it is too "
                "sure. Second rows: without its top neurons."),
        Exhibit("calibration_contrasts", "Changes of these figures without its top neurons: above 0 is worse "
                "(claim K2).", "", "squared_ce_change", ["regime"]),
        Exhibit("reliability", "Bins of confidence that the curves are drawn from, shares and accuracies in percent."),
    ],
}  # fmt: skip
# Behind them:
GIVEN_SECTIONS: dict[str, list[Exhibit]] = {
    "Further looks at its neurons": [
        Exhibit("compression", "Mean absolute score without the top neurons as a share of that with them: below 1, "
                "scores draw towards zero (claim C10).", "", "ratio", ["scoring"]),
        Exhibit("score_histogram", "Shares of the scores in bins, which that figure is drawn from."),
        Exhibit("rmsd", "How far mean activations on chosen and on rejected texts lie apart; the ratio compares it "
                "with the activations' own level: near 0, both use the same neurons (claim C8)."),
        Exhibit("length", "Accuracy on either side of length without a set of neurons.",
                "", "balanced", ["ablation"], ABLATED),
        Exhibit("compatibility", "The same quantity under the setting of the authors' code and under the corrected "
                "one."),
    ],
    **FOREMOST,
    "Setup": [
        Exhibit("models_card", "The reward models: where they come from, and their sizes."),
        Exhibit("data_card", "Pairs that neurons are found on (train) and judged by (test). Nothing was trained."),
        Exhibit("hygiene", "Pairs and comparisons that are left out, or kept though odd: look for counts that are no "
                "small part of the whole."),
        Exhibit("benchmarks_card", "What they were judged on: few comparisons make wide intervals."),
    ],
}  # fmt: skip


UNTRAINED = ("training_card", "compute_card")  # which have nothing to say where nothing is trained


def of_each(table: pl.DataFrame) -> pl.DataFrame:
    """A table as the report of given reward models shows it: without the rows of all models, which are the mean of
    nothing, and without columns that would say the same of every row."""
    rows = table.filter(pl.col("model") != OVERALL) if "model" in table.columns else table
    same = [name for name in SAME if name in rows.columns and rows[name].n_unique() < 2]
    return rows.drop(same)
