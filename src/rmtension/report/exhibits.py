"""What the report shows, in its order: tables, the figures of the same names, and how to read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

EVERY_ROW = pl.lit(True)
OF_GRADIENTS = pl.col("pairs") == "both"  # of both objectives at once
NOT_ABLATED = pl.col("ablation") == "none"


@dataclass(frozen=True)
class Exhibit:
    """A table, the figure of the same name, and how to read them; either may be missing in a study.

    Of the rows (`where`), those of all models become a grid of `value`: `across` side by side, other keys down; with
    further values `beside` it, all keys down. A long grid is in a closed box unless it `is_open`.
    """

    table: str
    read: str
    paper: str = ""
    value: str = ""
    across: Sequence[str] = ()
    where: pl.Expr = EVERY_ROW
    beside: Sequence[str] = ()
    is_open: bool = False


# The page's order: heading -> exhibits. Before the claims:
FOREMOST: dict[str, list[Exhibit]] = {
    "What is found where the truth is known": [
        Exhibit("answer_key", "Not of this study's reward models but of made ones, into whose weights neurons are "
                "planted: for one objective, for both alike (agreed), in opposite ways (opposed), for length, and loud "
                "ones that do nothing. Percent of each kind that a scoring finds: believe one that finds those that "
                "matter and leaves out the loud ones.", "", "share", ["kind"], is_open=True),
        Exhibit("answer_key_effects", "Change in accuracy, in points, with a kind at zero: neurons matter to the pairs "
                "that they are planted for. In the last rows the reward model of both, in which opposed ones are "
                "silent.", "", "zeroed", ["kind"], ~OF_GRADIENTS),
        Exhibit("answer_key_effects", "Patching that reward model with a single-objective one's values at a kind: the "
                "share that comes back of what it falls short by. Opposed neurons, and those that please the other "
                "objective alone, are why it falls short.",
                "", "recovery", ["kind"], ~OF_GRADIENTS & (pl.col("reward_model") == "both")),
        Exhibit("answer_key_effects", "Share of the gradients' square at weights that the two objectives would move in "
                "opposite ways, in that reward model: half is chance. Loud neurons have much of it, too: the share "
                "alone does not tell neurons that are fought over from such as nothing reads yet.",
                "", "opposed", ["kind"], OF_GRADIENTS),
    ],
}  # fmt: skip
# Behind them:
SECTIONS: dict[str, list[Exhibit]] = {
    "Setup": [
        Exhibit("models_card", "The backbones: look at their sizes.", "Table 5"),
        Exhibit("data_card", "Pairs of each regime and split: look at their numbers and lengths.", "Table 6"),
        Exhibit("hygiene", "Pairs and comparisons that are left out, or kept though odd or seen in training: look for "
                "counts that are no small part of the whole."),
        Exhibit("training_card", "How the reward models were trained, after which step their weights were kept, and "
                "what these come to on the split that chose them, so too well.", "Table 7"),
        Exhibit("benchmarks_card", "What they were judged on: few comparisons make wide intervals.", "Table 8"),
        Exhibit("compute_card", "What training took, all seeds together.", "Table 9"),
    ],
    "Accuracy": [
        Exhibit("benchmark_accuracy", "Percent of comparisons in which every chosen response scores above every "
                "rejected one: see first whether each regime has learnt its own test split (pairs by chance: 50 %).",
                "Table 10", "accuracy", ["regime"]),
        Exhibit("accuracy", "Percent correct on each task: look whether each regime leads on the tasks of its own "
                "orientation, and how far the mixed one stays behind it.",
                "Tables 13, 14", "accuracy", ["regime"]),
        Exhibit("radar", "The same, means over models: look where a regime's line leaves the others'; chance differs "
                "between tasks.", "Figure 2"),
        Exhibit("radar_by_model", "The same for each model."),
        Exhibit("model_contrasts", "Accuracy of the first model's reward model minus the second's, in points, on the "
                "same comparisons.", "", "difference", ["first", "second"]),
    ],
    "Is it length?": [
        Exhibit("surface", "What rules without a model get right, by length or by the words that a regime's train "
                "pairs prefer: look where a hollow mark or a triangle lies within a regime's interval or above it, as "
                "there its reward models are not shown to know more than that rule.", "", "accuracy", ["rule"]),
        Exhibit("length", "Accuracy where the chosen response is the longer one, where it is the shorter one, and the "
                "mean of the two (balanced): far apart, the reward model goes by length. Empty where either side has "
                "fewer than 5 comparisons; an average is over the tasks that have both.",
                "", "balanced", ["regime"], NOT_ABLATED),
        Exhibit("length_contrasts", "Balanced accuracy of the first regime minus the second's, in points: what is left "
                "of a lead once length decides nothing (control `length` of the claims).",
                "", "difference", ["first", "second"]),
        Exhibit("length_lead", "Whether one regime leads where the longer response wins, over tasks (claim L1): near "
                "1, the regimes differ along length; near 0, in something else.", "", "correlation", ["tasks"]),
        Exhibit("length_correlation", "Whether the longer response gets the higher reward, over pairs of a task: 0 is "
                "no taste for length, 1 is length and nothing else.", "", "correlation", ["regime"]),
    ],
    "Contrasts between regimes": [
        Exhibit("contrasts", "Accuracy of the first regime minus the second's, in points: an interval without 0 is a "
                "difference; q is the p-value corrected for the number of tasks.",
                "claims C1 to C3", "difference", ["first", "second"]),
    ],
    "Retention and agreement": [
        Exhibit("retention", "Share of the comparisons that a single-objective reward model gets right and the mixed "
                "one does, too: low values mark tasks on which mixing loses what could be learnt.",
                "Tables 1, 15", "retention", ["regime"], NOT_ABLATED),
        Exhibit("agreement", "Comparisons that the mixed and one single-objective reward model both get right, as a "
                "share of those that either does: 1 is full agreement.",
                "Tables 11, 12", "overlap", ["regime", "single"]),
    ],
    "Score shift": [
        Exhibit("score_shift", "Scores on comparisons that both get right: closeness below 0 means that the mixed "
                "reward model's scores lie closer to zero than the single-objective one's, by their mean size.",
                "Figure 3, claim C5", "closeness", ["response"]),
        Exhibit("score_histogram", "Shares of the scores in bins, which the figures of scores are drawn from."),
    ],
    "Calibration": [
        Exhibit("calibration", "How far probabilities can be taken at their word: ece and brier are 0 at best, and ece "
                "is above 0 by chance too, the more so the fewer pairs there are; squared_ce is not. A "
                "temperature above 1 tells of too much confidence, and the rescaled log loss is what is left of the "
                "loss without it (claims K1, K2).", "claims C5, C10", "ece", ["regime", "ablation"]),
        Exhibit("calibration_by_model", "The same curves for each model: above the diagonal, a reward model is right "
                "more often than it is sure; below, it is too sure."),
        Exhibit("calibration_contrasts", "Changes of these figures on the same comparisons, in a mixed reward model "
                "against its parts, and in any one without its own top neurons: above 0 is worse.",
                "", "squared_ce_change", ["regime", "against"]),
        Exhibit("reliability", "Bins of confidence that the curves are drawn from, shares and accuracies in percent."),
    ],
    "Neurons that matter": [
        Exhibit("ablation_curve", "Accuracy with the top neurons by each scoring set to zero: a scoring finds neurons "
                "that matter where its curve falls faster than that of random neurons.",
                "Figures 5, 6", "delta", ["scoring"]),
        Exhibit("ablation_curve_by_model", "The same curves for each model: look whether all agree."),
        Exhibit("scoring_contrasts", "Change under the first scoring minus change under the second, in points: below "
                "0, the first finds neurons that matter more.", "claims C6, A1", "difference", ["first", "second"]),
    ],
    "Where they lie": [
        Exhibit("depth", "Share of the top neurons in each third of the layers, in percent: look for shares away from "
                "those of random neurons.", "Figure 4", "share", ["third"]),
        Exhibit("thirds", "Change in accuracy, in points, with random neurons of one third of the layers set to zero, "
                "as many and as loud in each: lower in the late third than in the early one, late neurons matter more.",
                "claim D1", "delta", ["third"]),
        Exhibit("top_neurons", "The first neurons by the main scoring, and of which other regimes' oriented neurons "
                "they are, with their rank there."),
    ],
    "Chosen against rejected texts": [
        Exhibit("rmsd", "How far mean activations on chosen and on rejected texts lie apart; the ratio compares it "
                "with the activations' own level: near 0, both use the same neurons.", "Table 16"),
    ],
    "Overlap and stability of the sets": [
        Exhibit("neuron_overlap", "Shared part of two regimes' top neurons (Jaccard: 1 is the same set): compare it "
                "with chance, what random sets of those sizes share.", "section 5", "jaccard", ["first", "second"]),
        Exhibit("overlap", "The same as a map: the darker, the more two sets share; in brackets, random sets."),
        Exhibit("neuron_retention", "Share of the single-objective reward models' top neurons that are the mixed "
                "one's, too.", "section 5", "retained", ["regime"]),
        Exhibit("stability", "Shared part of the top neurons of two seeds (Jaccard): near chance, a set depends on the "
                "seed rather than on the regime.", "", "jaccard", ["regime"]),
    ],
    "Ablating a reward model's own neurons": [
        Exhibit("own_ablation", "Change in accuracy without a reward model's own top neurons, in points: look for "
                "losses on its own orientation beside gains on the other, beyond those of random neurons, and whether "
                "they are there too where neurons are replaced by their means instead of by zeros.",
                "Tables 2, 3, 20, 21", "delta", ["regime", "scoring"]),
        Exhibit("compression", "Mean absolute score after ablation as a share of that before: below 1, scores draw "
                "towards zero.", "Figure 7, claim C10", "ratio", ["scoring"]),
    ],
    "Ablating shared and exclusive neurons": [
        Exhibit("shared_ablation", "Change in accuracy of the mixed reward model, in points: whole sets differ in "
                "size; the size-matched, matched-random and random ones are all equally large.",
                "Tables 4, 17, 18", "delta", ["ablation", "control"]),
        Exhibit("shared_contrasts", "Change without the shared neurons minus change without others, in points: below "
                "0, the shared ones matter more; size-matched rows compare like with like.",
                "claim C12", "difference", ["control", "against"]),
        Exhibit("tension", "What each set does for each of the two objectives, on an orientation's tasks and on its "
                "test split: delta in points, and as difference what it is beyond random neurons, as many, as deep and "
                "as loud.", "", "delta", ["orientation", "tasks"]),
        Exhibit("control_overlap", "Percent of a set that its matched-random control has in common with it: where it "
                "is high, loudness alone nearly fixes the set, and the control says little.",
                "", "share", ["regime"]),
    ],
    "Patching: what a part's activations bring back": [
        Exhibit("patching", "Accuracy of the mixed reward model with a single-objective one's activations at a set of "
                "neurons, minus its own, in points. The gap is what it falls short by, recovery the share of it that "
                "comes back (claim P1). Compare a set with its matched-random one: activations of a better reward "
                "model may help wherever they are.", "", "delta", beside=["baseline", "gap"], is_open=True),
        Exhibit("patching_contrasts", "Change by patching shared neurons minus change by patching others, as many: "
                "above 0, the shared ones bring back more.", "", "difference", ["donor", "tasks"]),
    ],
    "Conflict: where the objectives' gradients oppose each other": [
        Exhibit("conflict", "Cosine of the two objectives' gradients on held-out pairs, at the weights of a set's "
                "neurons: below 0, a step for one objective is a step against the other. Look at the reward models of "
                "the mixed one's parts (claim G1): in the mixed one the two oppose each other at any neuron the more, "
                "the nearer training came to where their sum is nothing, and that is no evidence. Sampling noise is "
                "taken out, so that with few pairs figures lie beyond 1, or are none; n_noise counts reward models in "
                "which there is nothing else.", "", "cosine", ["regime"]),
        Exhibit("conflict_contrasts", "The same at shared neurons minus at others, as many: below 0, the objectives "
                "oppose each other more at the shared ones. In the mixed one that, too, may say no more than where "
                "training came nearer to its end.", "", "cosine_difference", ["regime"]),
        Exhibit("conflict_layers", "The same of all neurons of a layer: look where a line goes below 0."),
    ],
    "Repairs: what helps": [
        Exhibit("repair", "Other ways of joining the two objectives, held against the mixed reward model, on the "
                "test split of either part and on the tasks of its orientation: gain is what one adds to its "
                "accuracy, gap what the single-objective one would, closed the share of the gap (claims R1 to R4). "
                "Look for intervals above 0 on both orientations, by length-balanced accuracy too (n_tasks of "
                "of_tasks have it), then at the cost: pairs that training takes, and reward models that score a text. "
                "What helps one orientation and harms the other is another mixture.",
                "", "gain", beside=["baseline", "gap"], is_open=True),
        Exhibit("repair_contrasts", "Accuracy of the first repair minus that of the second, in points (claim R2): an "
                "interval without 0 tells the two apart.", "", "difference", ["orientation", "measure"]),
    ],
    "Length and neurons": [
        Exhibit("set_length", "Whether the oriented neurons are more active in longer texts, beside random neurons as "
                "loud (claim L3): above 0, and above those, they follow length.", "", "correlation", ["set"]),
        Exhibit("length", "Accuracy on either side of length once a set of neurons is zeroed: compare it with that of "
                "the whole reward model, further up.", "", "balanced", ["ablation"], ~NOT_ABLATED),
        Exhibit("length_change", "Change in balanced accuracy, in points: what an ablation costs once length decides "
                "nothing (control `length` of the claims).", "", "difference", ["ablation", "against"]),
    ],
    "Set size": [
        Exhibit("set_size", "Change in accuracy against the number of neurons set to zero: what lies on the random "
                "curve is explained by size alone.", "", "delta", ["family", "control"]),
    ],
    "Retention under ablation": [
        Exhibit("retention", "Retention once a set of neurons is zeroed in the mixed reward model: compare it with "
                "retention without ablation, further up.", "Table 19", "retention", ["ablation"], ~NOT_ABLATED),
    ],
    "Official metrics": [
        Exhibit("official", "Scores by the benchmarks' own rules; everything else on this page follows the paper's. A "
                "metric of which a subset is missing has no value: see 'What this study did not measure'.",
                "", "value", ["regime", "ablation"]),
    ],
    "Authors' choices beside corrected ones": [
        Exhibit("compatibility", "The same quantity under the setting of the authors' code and under the corrected "
                "one: where they differ little, the choice does not matter here."),
    ],
}  # fmt: skip
