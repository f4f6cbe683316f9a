"""The shared-prefix engine against the naive way: each text alone through the plain transformers model."""

from __future__ import annotations

import copy
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CONFIGS, FULL, SLIDING, VOCABULARY, block, head_size, plain, plain_activations, random_model
from torch.nn.functional import logsigmoid, scaled_dot_product_attention

from rmtension.base.device import arithmetic
from rmtension.base.errors import UserError
from rmtension.engine import ablation
from rmtension.engine.ablation import Mask, ablated
from rmtension.engine.activations import activation_statistics, mean_absolute
from rmtension.engine.architectures import activation_modules, layer_sizes, longest_text
from rmtension.engine.evaluation import candidate_scores
from rmtension.engine.learner import bradley_terry, margins
from rmtension.engine.packing import Batch, Packed, Tokens, batches, collate, group_by_length, pack
from rmtension.engine.reward_model import score

CPU = torch.device("cpu")
MODELS = {family: random_model(family) for family in CONFIGS}
# OLMo-2's norms behind its blocks blow up the rounding of what little an ablation leaves.
PRECISE = {family: random_model(family).double() for family in CONFIGS}
BASES = {family: random_model(family, seed=1) for family in CONFIGS}

# Token 0 is both padding and end of text, and may stand anywhere in a text: also at its end.
token = st.integers(0, VOCABULARY - 1)
text = st.lists(token, min_size=1, max_size=12)


@st.composite
def candidates(draw: st.DrawFn, most: int = 6, least: int = 1) -> list[Tokens]:
    """Texts over a shared prefix of any length; some are themselves a prefix of their siblings."""
    prefix = draw(st.lists(token, max_size=20))
    own = draw(st.lists(st.lists(token, max_size=12), min_size=least, max_size=most))
    if draw(st.booleans()) and len(own) > 1:
        own[1] = own[0][: len(own[0]) // 2]
    return [np.array([*prefix, *o] or [1], dtype=np.int64) for o in own]


@st.composite
def comparisons(draw: st.DrawFn, pairs: bool = False) -> list[tuple[list[Tokens], int]]:
    """Several comparisons: their candidates, and how many of them are chosen."""
    result = []
    for _ in range(draw(st.integers(1, 4))):
        texts = draw(candidates(most=2, least=2) if pairs else candidates())
        result.append((texts, 1 if pairs else draw(st.integers(0, len(texts)))))
    return result


def packed(data: list[tuple[list[Tokens], int]]) -> list[Packed]:
    return [pack(texts[:n], texts[n:]) for texts, n in data]


def naive_score(model: Any, text: Tokens) -> torch.Tensor:
    """The reward of one text alone, in transformers' own attention, read at its last token by hand."""
    with plain(model):
        states = model.base_model(torch.from_numpy(text)[None]).last_hidden_state
    reward: torch.Tensor = model.score(states[0, -1])[0]
    return reward


def random_mask(model: Any, share: float, seed: int = 0) -> Mask:
    """That share of the neurons and of the heads, on average."""
    generator = torch.Generator().manual_seed(seed)
    layers, *sizes = layer_sizes(model.config)
    return Mask(*(torch.rand(layers, size, generator=generator) < share for size in sizes))


exact = settings(max_examples=20)
every_family = pytest.mark.parametrize("family", sorted(CONFIGS))


@every_family
@exact
@given(data=comparisons(), budget=st.integers(1, 200))
def test_scores_equal_each_text_alone_for_any_batching(data: list[Any], budget: int, family: str) -> None:
    model = MODELS[family]
    ours = candidate_scores(model, packed(data), [random_mask(model, 0)], budget, CPU)[0]
    with torch.no_grad():
        naive = [naive_score(model, text).item() for texts, _ in data for text in texts]
    np.testing.assert_allclose(ours, naive, atol=1e-5, rtol=0)


@every_family
@exact
@given(data=comparisons(pairs=True))
def test_gradients_equal_separate_sequences(data: list[Any], family: str) -> None:
    model = PRECISE[family]
    batch = collate(packed(data), range(len(data)))
    ours = torch.autograd.grad(bradley_terry(margins(score(model, batch), batch)), list(model.parameters()))
    naive_margins = torch.stack([naive_score(model, a) - naive_score(model, b) for (a, b), _ in data])
    loss = -logsigmoid(naive_margins).sum()
    naive = torch.autograd.grad(loss, list(model.parameters()))
    for one, other in zip(ours, naive, strict=True):
        scale = other.abs().max().clamp(min=1.0)
        torch.testing.assert_close(one / scale, other / scale, atol=1e-5, rtol=0)


def naive_head_norms(model: Any, text: Tokens) -> torch.Tensor:
    """Norm [layers, tokens, heads] of every head's output on one text alone, head by head."""
    layers, _, heads = layer_sizes(model.config)
    inputs: list[torch.Tensor] = []
    handles = [
        block(model, layer).projection.register_forward_pre_hook(lambda _m, x: inputs.append(x[0][0]))
        for layer in range(layers)
    ]
    with torch.no_grad(), plain(model):
        model.base_model(torch.from_numpy(text)[None])
    for handle in handles:
        handle.remove()
    size = head_size(model)
    by_head = [[layer[:, h * size : (h + 1) * size] for h in range(heads)] for layer in inputs]
    return torch.stack([torch.stack([h.square().sum(1).sqrt() for h in layer], dim=1) for layer in by_head])


@every_family
@settings(exact, max_examples=8)
@given(data=comparisons(pairs=True), budget=st.integers(1, 200))
def test_statistics_equal_a_pass_over_each_text(data: list[Any], budget: int, family: str) -> None:
    trained, base = MODELS[family].double(), BASES[family].double()
    try:
        ours = activation_statistics(trained, base, packed(data), budget, CPU)
        alone = mean_absolute(trained, packed(data), budget, CPU)
        for side, response in enumerate(("chosen", "rejected")):
            a = torch.cat([plain_activations(trained, torch.from_numpy(texts[side])) for texts, _ in data], dim=1)
            b = torch.cat([plain_activations(base, torch.from_numpy(texts[side])) for texts, _ in data], dim=1)
            rows = ours.neurons.filter(response=response).sort("layer", "neuron")
            assert set(rows["n_tokens"]) == {a.shape[1]}
            expected = {
                "mean": a.mean(1),
                "mean_abs": a.abs().mean(1),
                "rms": a.square().mean(1).sqrt(),
                "frac_positive": (a > 0).double().mean(1),
                "change_rms": (a - b).square().mean(1).sqrt(),
            }
            for name, values in expected.items():
                np.testing.assert_allclose(rows[name], values.flatten(), rtol=1e-6, atol=1e-12, err_msg=name)
            np.testing.assert_allclose(alone[:, side], a.abs().mean(1), rtol=1e-6, atol=1e-12)
            norms = torch.cat([naive_head_norms(trained, texts[side]) for texts, _ in data], dim=1)
            heads = ours.heads.filter(response=response).sort("layer", "head")
            assert set(heads["n_tokens"]) == {a.shape[1]}
            np.testing.assert_allclose(heads["mean_norm"], norms.mean(1).flatten(), rtol=1e-6)
    finally:
        trained.float(), base.float()


def test_mean_absolute_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="no comparison: all were left out"):
        mean_absolute(MODELS["gpt2"], [], 100, CPU)


def test_float32_statistics_stay_close(family: str) -> None:
    rng = np.random.default_rng(0)
    texts = [[rng.integers(0, VOCABULARY, 30), rng.integers(0, VOCABULARY, 20)] for _ in range(20)]
    data = [pack(t[:1], t[1:]) for t in texts]
    ours = activation_statistics(MODELS[family], BASES[family], data, 100, CPU).neurons.filter(response="chosen")
    a = torch.cat([plain_activations(MODELS[family], torch.from_numpy(t[0])) for t in texts], dim=1).double()
    scale = a.square().mean(1).sqrt().flatten().numpy()
    for name, values in {"mean": a.mean(1), "mean_abs": a.abs().mean(1)}.items():
        error = np.abs(ours.sort("layer", "neuron")[name].to_numpy() - values.flatten().numpy())
        assert (error <= 1e-6 * scale).all()


@every_family
@exact
@given(
    data=comparisons(),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
    by_means=st.booleans(),
    round_=st.sampled_from([4, 7, ablation.ROUND]),
)
def test_ablated_scores_equal_a_naive_hook_and_edited_weights(
    data: list[Any], share: float, seed: int, by_means: bool, round_: int, family: str
) -> None:
    """Neurons set to zero or their means one by one, heads by removing what the output projection makes of them.

    Whether layers are computed without their ablated neurons, or whole: they are small beside what is round.
    """
    mask = random_mask(PRECISE[family], share, seed)
    means = torch.randn(mask.neurons.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    mask = mask._replace(means=means if by_means else None)
    with patch.object(ablation, "ROUND", round_):
        ours = candidate_scores(PRECISE[family], packed(data), [mask], 60, CPU)[0]

    model = copy.deepcopy(PRECISE[family])
    size = head_size(model)
    with torch.no_grad():
        for layer, head in mask.heads.nonzero().tolist():
            block(model, layer).from_heads[head * size : (head + 1) * size] = 0

    def set_one_by_one(layer: int, output: torch.Tensor) -> torch.Tensor:
        output = output.clone()
        for neuron in mask.neurons[layer].nonzero().flatten().tolist():
            output[..., neuron] = means[layer, neuron].item() if by_means else 0
        return output

    for layer, module in enumerate(activation_modules(model)):
        module.register_forward_hook(lambda _m, _i, output, layer=layer: set_one_by_one(layer, output))
    with torch.no_grad():
        naive = [naive_score(model, text).item() for texts, _ in data for text in texts]
    np.testing.assert_allclose(ours, naive, atol=1e-5, rtol=0)


WINDOWED: dict[str, dict[str, Any]] = {
    "gemma2": {"layer_types": [SLIDING, FULL, SLIDING]},
    "gemma3_text": {"layer_types": [FULL, SLIDING, SLIDING]},
    "ministral": {"layer_types": [FULL, SLIDING, SLIDING]},
    "mistral": {},
    "olmo3": {"layer_types": [SLIDING, SLIDING, FULL]},
    "phi3": {},
    "qwen2": {"layer_types": [FULL, FULL, SLIDING], "use_sliding_window": True},
    "qwen3": {"layer_types": [SLIDING, FULL, SLIDING], "use_sliding_window": True},
    "smollm3": {"layer_types": [SLIDING, FULL, SLIDING], "use_sliding_window": True},
}


@pytest.mark.parametrize("window", [1, 2, 6, 13, 20, 21, 60])
@pytest.mark.parametrize("family", WINDOWED)
def test_windows_slide_over_texts_and_not_over_the_batch(family: str, window: int) -> None:
    """Shorter and longer than prefixes, responses, both together; another window shows in every one of them."""
    model, other = (
        random_model(family, sliding_window=size, **WINDOWED[family]).double() for size in (window, window + 1)
    )
    rng = np.random.default_rng(window)
    data = []
    for prefix, *own in ((12, 8, 3, 30), (0, 9, 14), (25, 0, 20), (3, 1, 1)):
        start, *ends = (rng.integers(1, VOCABULARY, n) for n in (prefix, *own))
        data.append(([np.concatenate([start, end]) for end in ends], 1))
    ours = candidate_scores(model, packed(data), [random_mask(model, 0)], 90, CPU)[0]
    texts = [text for of, _ in data for text in of]
    with torch.no_grad():
        naive, others = (np.array([naive_score(m, text).item() for text in texts]) for m in (model, other))
    np.testing.assert_allclose(ours, naive, atol=1e-6, rtol=0)
    longer = np.array([len(text) > window for text in texts])
    assert (np.abs(ours - others)[longer] > 1e-5).all() and longer.any() == (window < 45)
    np.testing.assert_allclose(ours[~longer], others[~longer], atol=1e-6)


@every_family
def test_less_precision_rounds_and_no_more(family: str) -> None:
    """Products in bfloat16 keep about two digits; rewards and statistics stay float32, so that few are equal."""
    rng = np.random.default_rng(0)
    texts = [rng.integers(0, VOCABULARY, (2, 30)) for _ in range(40)]
    pairs, model, mask = [pack([a], [b]) for a, b in texts], MODELS[family], random_mask(MODELS[family], 0.2)
    found = {}
    for precision in ("float32", "tensorfloat32", "bfloat16"):
        with arithmetic(precision, CPU):
            scores = candidate_scores(model, pairs, [mask], 300, CPU)[0]
            statistics = activation_statistics(model, BASES[family], pairs, 300, CPU).neurons
        found[precision] = scores, statistics["mean"].to_numpy(), statistics["change_rms"].to_numpy()
    for exact, tensorfloat32, rounded in zip(*found.values(), strict=True):
        np.testing.assert_array_equal(tensorfloat32, exact)  # which a CPU has not
        assert len(np.unique(rounded)) > 0.98 * len(np.unique(exact))
        assert 1e-4 < np.sqrt(np.square(rounded - exact).mean()) / exact.std() < 0.05
    assert torch.get_float32_matmul_precision() == "highest" and not torch.is_autocast_enabled("cpu")


def test_a_layer_is_computed_without_what_is_ablated(model: Any) -> None:
    """Of 24 neurons of a layer 14 stay, and two more; 23; none, where of the MLP its last bias is left."""
    mask = random_mask(model, 0)
    mask.neurons[0, :10] = mask.neurons[1, :1] = mask.neurons[2] = True
    computed: list[int] = []
    for module in activation_modules(model):
        module.register_forward_hook(lambda _m, _i, output: computed.append(output.shape[-1]))
    text = np.arange(1, 15)
    with torch.no_grad(), patch.object(ablation, "ROUND", 4), ablated(model, mask):
        ours = naive_score(model, text)
    assert computed == [16, 24, 0]
    with torch.no_grad():
        for layer, off in enumerate(mask.neurons):
            block(model, layer).from_neurons[off] = 0
        assert ours.item() == pytest.approx(naive_score(model, text).item(), abs=1e-5)


def test_zeroing_a_neuron_removes_its_column(model: Any) -> None:
    """Ablating neuron j equals a network without row j of the projection behind the activation."""
    mask = random_mask(model, 0)
    mask.neurons[1, 5] = True
    text = np.arange(1, 15)
    with torch.no_grad(), ablated(model, mask):
        ours = naive_score(model, text)
    with torch.no_grad():
        block(model, 1).from_neurons[5] = 0
        assert ours.item() == pytest.approx(naive_score(model, text).item(), abs=1e-6)


def test_a_head_is_a_slice_of_what_its_values_feed(model: Any) -> None:
    """Without its values a head is silent, as if ablated, and no other head of the layer hears of it."""
    text, n_heads = np.arange(1, 15), model.config.num_attention_heads
    sharing = n_heads // getattr(model.config, "num_key_value_heads", n_heads)  # heads that share their values
    silent = list(range(n_heads - sharing, n_heads))
    mask = random_mask(model, 0)
    mask.heads[0, silent] = True
    with torch.no_grad(), ablated(model, mask):
        ours = naive_score(model, text)
    before = naive_head_norms(model, text)[0]
    with torch.no_grad():
        for values in block(model, 0).values:
            values[:] = 0
        assert ours.item() == pytest.approx(naive_score(model, text).item(), abs=1e-6)
    statistics = activation_statistics(model, model, [pack([text], [text])], 100, CPU).heads
    after = statistics.filter(layer=0, response="chosen").sort("head")["mean_norm"].to_numpy()
    expected = before.mean(0).numpy()
    expected[silent] = 0
    np.testing.assert_allclose(after, expected, rtol=1e-5)


def test_hooks_are_gone_after_an_exception(model: Any) -> None:
    text = np.arange(1, 10)
    with torch.no_grad():
        before = naive_score(model, text)
        with (
            pytest.raises(RuntimeError),
            ablated(model, random_mask(model, 1)),
        ):
            assert naive_score(model, text) != before
            raise RuntimeError
        assert naive_score(model, text) == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@given(data=comparisons())
def test_packing_keeps_every_text(data: list[Any]) -> None:
    """Each candidate's tokens and positions can be read back, and the prefix is as long as it can be."""
    for (texts, n), one in zip(data, packed(data), strict=True):
        prefix = one.segments == 0
        for i, text in enumerate(texts, start=1):
            own = prefix | (one.segments == i)
            assert one.tokens[own].tolist() == text.tolist()
            assert one.positions[own].tolist() == list(range(len(text)))
            assert one.tokens[one.ends[i - 1]] == text[-1] and own[one.ends[i - 1]]
        longest = prefix.sum()
        nexts = {tuple(text[: longest + 1]) for text in texts}
        assert len(nexts) > 1 or any(len(text) == longest for text in texts)
        assert one.n_chosen == n


@given(lengths=st.lists(st.integers(1, 50), max_size=40), budget=st.integers(1, 120))
def test_groups_hold_every_comparison_within_the_budget(lengths: list[int], budget: int) -> None:
    groups = group_by_length(lengths, range(len(lengths)), budget)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or sum(lengths[i] for i in group) <= budget


def seen(batch: Batch) -> list[list[int]]:
    """What each token of a batch sees in attention, itself included."""
    looking = [text[: i + 1] for texts in batch.texts for text in texts for i in range(len(text))]
    return [sorted(looking[i].tolist()) for i in batch.place.tolist()]


def test_siblings_and_other_comparisons_do_not_see_each_other() -> None:
    one = pack([np.array([1, 2, 3])], [np.array([1, 2, 4, 5]), np.array([1, 2])])
    batch = next(batches([pack([np.array([6])], []), one], 100))
    #      6    | 1    2       | 3          | 4          5
    assert seen(batch) == [[0], [1], [1, 2], [1, 2, 3], [1, 2, 4], [1, 2, 4, 5]]
    assert batch.positions.tolist() == [0, 0, 1, 2, 2, 3]
    assert batch.end.tolist() == [0, 3, 5, 2]


@pytest.mark.parametrize(("precision", "key_heads"), [("float32", 4), ("bfloat16", 2)])
def test_keys_are_as_fused_attention_on_a_gpu_takes_them(precision: str, key_heads: int) -> None:
    """A copy for each head in float32, where nothing fused knows shared ones; in bfloat16 as they are."""
    model, text = random_model("llama"), np.arange(5)
    spy = patch.object(torch.nn.functional, "scaled_dot_product_attention", wraps=scaled_dot_product_attention)
    with spy as attention, torch.no_grad(), arithmetic(precision, CPU):
        score(model, collate([pack([text], [text[::-1].copy()])], [0]))
    assert attention.call_count
    for call in attention.call_args_list:
        query, key, value, *_ = call.args
        assert (query.shape[1], key.shape[1], value.shape[1]) == (4, key_heads, key_heads)


def test_a_model_of_another_attention_is_refused() -> None:
    """It would let texts see each other, and say nothing."""
    model = copy.deepcopy(MODELS["gpt2"])
    model.set_attn_implementation("sdpa")
    with pytest.raises(ValueError, match="packed"):
        score(model, next(batches([pack([np.array([1])], [])], 10)))


def test_no_text_moves_the_positions_of_others() -> None:
    """LongRoPE turns all of a batch by its long factors where one text is longer than those pretrained on."""
    factors = {"short_factor": [1.0, 1.0], "long_factor": [3.0, 9.0], "factor": 4.0}
    rope = {"rope_type": "longrope", "rope_theta": 500.0, "original_max_position_embeddings": 16}
    model = random_model("llama", rope_parameters=rope | factors)
    by_layer = {"full_attention": rope | factors, "sliding_attention": {"rope_type": "default", "rope_theta": 5.0}}
    layered = random_model("olmo3", rope_parameters=by_layer)
    assert [longest_text(m.config) for m in (model, layered, MODELS["llama"])] == [16, 16, 64]

    def score_beside(length: int) -> float:
        packed = [pack([np.arange(1, n + 1)], []) for n in (8, length)]
        return float(candidate_scores(model, packed, [random_mask(model, 0)], 100, CPU)[0][0])

    assert score_beside(16) == pytest.approx(score_beside(8), abs=1e-6)
    assert abs(score_beside(17) - score_beside(8)) > 1e-3
