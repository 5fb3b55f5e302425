"""Laws: assertions that hold for everything registered. A new entry of a registry is tested by them as it is.

A backbone's laws take a small backbone and a prompt with base text, target text and at least one phrase; a term's a
step that holds all that any term may need; a tuning's a small backbone and such a prompt, and so does a guidance's,
which is a dataclass; a metric's the metric and pairs of different portraits.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from io import BytesIO
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from spf.backbones import Backbone, load_backbone
from spf.evaluation.encoding import Encoder, Pair
from spf.evaluation.measuring import Measured, Share, exactly, measure
from spf.evaluation.metric import Metric
from spf.evaluation.store import Store
from spf.method.objective import Step
from spf.notation import AttentionRecord, Conditions, Guidance, Term, Tuning
from spf.sampling import generate
from spf.text import Prompt
from tests.evaluation.ranks import over_ranks

BackboneLaw = Callable[[Backbone, Prompt, Path], None]
TermLaw = Callable[[Term, Step], None]
TuningLaw = Callable[[Tuning, Backbone, Prompt], None]
GuidanceLaw = Callable[[Guidance, Backbone, Prompt], None]
MetricLaw = Callable[[Metric, Sequence[Pair]], None]


def noisy(backbone: Backbone, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Some x_t (B,C,h,w) and t (B,)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, *backbone.latent_shape(), generator=generator), backbone.process.times(batch, generator)


def one_step_of_the_target_is_x0(backbone: Backbone, prompt: Prompt, folder: Path) -> None:
    x0, t = noisy(backbone)
    noise, process = torch.randn_like(x0), backbone.process
    estimate = process.one_step(process.target(x0, noise, t), process.noised(x0, noise, t), t)
    assert torch.allclose(estimate, x0, atol=1e-4)


def capture_changes_nothing(backbone: Backbone, prompt: Prompt, folder: Path) -> None:
    x_t, t = noisy(backbone)
    conditions = backbone.condition([prompt, prompt.base])
    with_capture = backbone.denoise(x_t, t, conditions, capture=True)
    without = backbone.denoise(x_t, t, conditions)
    assert torch.equal(with_capture.output, without.output)
    assert with_capture.attention and without.attention == ()


def records_have_the_shapes_of_the_legend(backbone: Backbone, prompt: Prompt, folder: Path) -> None:
    x_t, t = noisy(backbone)
    conditions = backbone.condition([prompt, prompt.base])
    for record in backbone.denoise(x_t, t, conditions, capture=True).attention:
        batch, heads, tokens, width = record.query.shape
        assert tokens == record.grid[0] * record.grid[1] and batch == len(x_t)
        assert record.key.shape == record.value.shape == record.query.shape
        assert record.text.shape == (batch, heads, conditions.sequence.shape[1], width)
        assert record.context_key.shape[:2] == (batch, heads) and record.context_key.shape[3] == width


def attention_to_everything_sums_to_one(backbone: Backbone, prompt: Prompt, folder: Path) -> None:
    x_t, t = noisy(backbone)
    for record in backbone.denoise(x_t, t, backbone.condition([prompt] * 2), capture=True).attention:
        batch, heads, keys, _ = record.context_key.shape
        identity = torch.eye(keys).expand(batch, heads, keys, keys)
        attention = functional.scaled_dot_product_attention(record.query, record.context_key, identity)  # (B,H,N,S)
        assert torch.allclose(attention.sum(-1), torch.ones(attention.shape[:-1]), atol=1e-5)


def base_tokens_stand_at_equal_places_in_both_paths(backbone: Backbone, prompt: Prompt, folder: Path) -> None:
    response, reference = backbone.condition([prompt]), backbone.condition([prompt.base])
    assert response.base_tokens.any()
    assert torch.equal(response.base_tokens, reference.base_tokens)
    assert torch.equal(response.phrase_weights, reference.phrase_weights)
    assert response.phrase_weights.any() and not response.phrase_weights[~response.base_tokens].any()
    assert not response.sequence.requires_grad


def prompts_do_not_see_each_other(backbone: Backbone, prompt: Prompt, folder: Path) -> None:
    alone, second = backbone.condition([prompt]), backbone.condition([Prompt(""), prompt])
    assert torch.allclose(alone.sequence[0], second.sequence[1], atol=1e-6)


def the_frozen_copy_shares_what_is_frozen_and_learns_nothing(backbone: Backbone, prompt: Prompt, folder: Path) -> None:
    reference = backbone.frozen_copy()
    assert reference.vae is backbone.vae and reference.encoders is backbone.encoders
    assert not any(weight.requires_grad for weight in reference.parameters()) and not reference.training
    assert any(weight.requires_grad for weight in backbone.denoiser.parameters())
    x_t, t = noisy(backbone)
    conditions = backbone.condition([prompt] * 2)
    before = reference.denoise(x_t, t, conditions).output
    assert torch.allclose(before, backbone.denoise(x_t, t, conditions).output, atol=1e-5)  # memory is aligned otherwise
    with torch.no_grad():
        for weight in backbone.denoiser.parameters():
            weight.add_(0.01)
    assert torch.equal(before, reference.denoise(x_t, t, conditions).output)


def remembered_texts_are_what_the_encoders_say_of_each_alone(backbone: Backbone, prompt: Prompt, folder: Path) -> None:
    """Each is read once, by encoders that stay where they are and belong to no module any more."""
    prompts = [prompt, Prompt(""), prompt.base, Prompt("a man", phrases=("a man",))]
    alone = [backbone.condition([one]) for one in prompts]
    backbone.remember_texts()
    reads: list[nn.Module] = []
    for encoder in backbone.encoders.values():
        encoder.register_forward_pre_hook(lambda module, _: reads.append(module))
    seen, again = backbone.condition(prompts), backbone.condition(prompts[::-1])
    assert len(reads) == len(prompts) * len(backbone.encoders)
    for row, expected in enumerate(alone):
        phrases = expected.phrase_weights.shape[-1]
        for field in ("sequence", "pooled", "base_tokens", "target_tokens"):
            if (due := getattr(expected, field)) is not None:
                assert torch.equal(getattr(seen, field)[row], due[0])
                assert torch.equal(getattr(again, field)[len(prompts) - 1 - row], due[0])
        assert torch.equal(seen.phrase_weights[row, :, :phrases], expected.phrase_weights[0])
        assert not seen.phrase_weights[row, :, phrases:].any()
    assert not any("encoders" in name for name, _ in backbone.named_parameters())
    backbone.save(folder / "whole")
    assert load_backbone(folder / "whole").encoders.keys() == backbone.encoders.keys()
    copy = backbone.frozen_copy().to("meta")
    assert copy.encoders is backbone.encoders and copy.condition([prompt]).sequence.is_meta
    assert {weight.device.type for weight in backbone.encoders.parameters()} == {"cpu"}


def frozen_weights_held_in_less_change_no_bit_under_autocast(backbone: Backbone, prompt: Prompt, folder: Path) -> None:
    """Of a denoiser whose attention learns; what learns stays in float32, and so do its gradients."""
    weights = dict(backbone.denoiser.requires_grad_(False).named_parameters())
    learning = [weights[name].requires_grad_(True) for name in backbone.attention_parameters()]
    (x_t, t), image, seen = noisy(backbone), torch.rand(1, 3, 64, 64), []
    for dtype in (torch.float32, torch.bfloat16):
        backbone.hold_frozen(dtype)
        with torch.autocast("cpu", torch.bfloat16):
            conditions = backbone.condition([prompt] * 2)
            made = backbone.denoise(x_t, t, conditions, capture=True)
            decoded, encoded = backbone.decode(x_t), backbone.encode(image)
        loss = made.output.float().square().mean() + made.attention[0].query.float().mean() + decoded.mean()
        gradients = torch.autograd.grad(loss, learning, allow_unused=True)
        seen.append((conditions.sequence, encoded, decoded, made.output, *gradients))
    for before, after in zip(*seen, strict=True):
        assert before is after is None or torch.equal(before, after)
    held = {name for name, weight in weights.items() if weight.dtype == torch.bfloat16}
    assert held == {name for name, weight in weights.items() if weight.ndim > 1 and not weight.requires_grad}
    matrices = {name: weight for name, weight in backbone.named_parameters() if weight.ndim > 1}
    others = {name for name, weight in matrices.items() if weight.dtype == torch.float32 and not weight.requires_grad}
    assert all(name.startswith("encoders.") and ("embed" in name or "shared" in name or "bias" in name)
               for name in others), others


def stage_two_trains_what_the_records_show(backbone: Backbone, prompt: Prompt, folder: Path) -> None:
    names = set(backbone.attention_parameters())
    weights = dict(backbone.denoiser.named_parameters())
    assert names and names < set(weights)
    x_t, t = noisy(backbone)
    attention = backbone.denoise(x_t, t, backbone.condition([prompt] * 2), capture=True).attention
    sum(tensor.square().sum() for record in attention for tensor in tensors(record)).backward()
    fields = [field for fields in backbone.projections().values() for field in fields.values()]
    read = {f"{module}.weight" for field in fields for module in field.modules}
    assert read <= names and all(weights[name].grad is not None for name in read)


def images_and_latents_have_matching_shapes(backbone: Backbone, prompt: Prompt, folder: Path) -> None:
    image = backbone.decode(noisy(backbone)[0])
    shape = backbone.encode(image.clamp(0, 1)).shape[1:]
    assert shape == backbone.latent_shape(*image.shape[2:]) == backbone.latent_shape()


def a_saved_backbone_comes_back_bit_for_bit(backbone: Backbone, prompt: Prompt, folder: Path) -> None:
    backbone.save(folder / "saved")
    again, (x_t, t) = load_backbone(folder / "saved"), noisy(backbone)
    first, second = (one.denoise(x_t, t, one.condition([prompt] * 2)).output for one in (backbone, again))
    assert torch.equal(first, second)


BACKBONE_LAWS: tuple[BackboneLaw, ...] = (
    one_step_of_the_target_is_x0,
    capture_changes_nothing,
    records_have_the_shapes_of_the_legend,
    attention_to_everything_sums_to_one,
    base_tokens_stand_at_equal_places_in_both_paths,
    prompts_do_not_see_each_other,
    the_frozen_copy_shares_what_is_frozen_and_learns_nothing,
    remembered_texts_are_what_the_encoders_say_of_each_alone,
    frozen_weights_held_in_less_change_no_bit_under_autocast,
    stage_two_trains_what_the_records_show,
    images_and_latents_have_matching_shapes,
    a_saved_backbone_comes_back_bit_for_bit,
)


def neutral_guidance_changes_nothing(guidance: Guidance, backbone: Backbone, prompt: Prompt) -> None:
    """A guidance of strength zero gives the images of no guidance, bit for bit."""
    options = {"steps": 2, "chunk": 1, "progress": False}
    plain = generate(backbone, [prompt], [0], **options)
    assert torch.equal(plain, generate(backbone, [prompt], [0], guidance=guidance, **options))
    conditions = backbone.condition([prompt])
    assert isinstance(guidance.edit([prompt], conditions, backbone), Conditions)


GUIDED = {"steps": 5, "chunk": 2, "progress": False}  # STORM moves x_t in the second and third of five steps


def strength_zero_changes_nothing(guidance: Guidance, backbone: Backbone, prompt: Prompt) -> None:
    neutral = replace(guidance, strength=0.0)
    plain = generate(backbone, [prompt], [0], **GUIDED)
    assert torch.equal(plain, generate(backbone, [prompt], [0], guidance=neutral, **GUIDED))
    neutral_guidance_changes_nothing(neutral, backbone, prompt)


def what_it_edits_changes_and_nothing_else(guidance: Guidance, backbone: Backbone, prompt: Prompt) -> None:
    prompts = [prompt, Prompt(""), prompt, Prompt("laughing")]
    plain, changed = (generate(backbone, prompts, range(4), guidance=one, **GUIDED) for one in (None, guidance))
    moved = (plain != changed).flatten(1).any(1)
    assert moved.tolist() == [guidance.edits(text) for text in prompts] == [True, False, True, False]
    assert changed.isfinite().all() and 0 <= changed.min() <= changed.max() <= 1


def an_image_depends_on_its_prompt_and_seed_alone(guidance: Guidance, backbone: Backbone, prompt: Prompt) -> None:
    """Not on those made beside it, on its place among them or on rows that pad; nor on what was made before."""
    other, third = Prompt("a man in a red shirt", "wearing a striped scarf"), Prompt("")
    first = generate(backbone, [prompt, other], [1, 2], guidance=guidance, **GUIDED)[0]
    again = generate(backbone, [third, prompt, prompt], [3, 1, 1], guidance=guidance, **GUIDED)[1:]
    for image in again:
        steps = ((image - first) * 255).abs().round().amax(0)  # (H,W), in 8-bit steps
        assert steps.max() <= 1 and steps.bool().float().mean() <= 1e-3


GUIDANCE_LAWS: tuple[GuidanceLaw, ...] = (
    strength_zero_changes_nothing,
    what_it_edits_changes_and_nothing_else,
    an_image_depends_on_its_prompt_and_seed_alone,
)


def plain_text_response(record: AttentionRecord) -> Tensor:
    """F (B,H,T,D) as Eq. 3 is printed."""
    return (record.text @ record.key.mT / record.text.shape[-1] ** 0.5).softmax(-1) @ record.value


def plain_text_consistent(step: Step) -> Tensor:
    """Eq. 3, the norm a mean over base tokens, heads and channels, relative to the original's features."""
    gaps = [(plain_text_response(one) - plain_text_response(other)).square().mean((1, 3))  # (B,T)
            / one.value.square().mean((1, 2, 3))[:, None] for one, other in
            zip(step.reference, step.response, strict=True)]
    return (sum(gaps) * step.base_tokens).sum(1) / step.base_tokens.sum(1)


def plain_fine_grained(step: Step) -> Tensor:
    """Eq. 4, the norm a mean over places, heads and channels, relative to the original's."""
    pairs = zip(step.reference, step.response, strict=True)
    return sum((one.query - other.query).square().mean((1, 2, 3)) / one.query.square().mean((1, 2, 3))
               for one, other in pairs)


PLAIN = {"m_text": plain_text_consistent, "m_fine": plain_fine_grained}
"""What each term of alignment is where nothing is controlled."""


def a_term_has_a_loss_for_each_sample_by_itself(term: Term, step: Step) -> None:
    loss = term.compute(step)
    assert loss.shape == (len(step.output),) and (loss > 0).all()
    for row in range(len(loss)):
        assert torch.allclose(term.compute(of_step(step, lambda value, row=row: value[row:row + 1])), loss[row:row + 1])


def a_perfect_step_costs_nothing(term: Term, step: Step) -> None:
    """On target, the paths alike, and the one-step image whichever a term asks for: the portrait or the text.

    Terms of masks hold attention against masks, not one path against the other: their least is in their own tests.
    """
    if term.needs == "masks":
        return
    perfect = perfect_of(step)
    costs = [term.compute(replace(perfect, one_step_image=image)) for image in (step.portrait, step.target_text)]
    assert torch.allclose(torch.stack(costs).amin(0), torch.zeros(len(step.output)), atol=1e-6)


def the_control_map_rules_alignment_and_nothing_else(term: Term, step: Step) -> None:
    everywhere, nowhere = (replace(step, sfcm=torch.full_like(step.sfcm, value)) for value in (1.0, 0.0))
    if term.needs == "alignment":
        assert not term.compute(everywhere).any()
        assert torch.allclose(term.compute(nowhere), PLAIN[term.name](step), atol=1e-6)
    else:
        assert torch.equal(term.compute(everywhere), term.compute(nowhere))


def the_gradient_reaches_the_response_and_is_finite(term: Term, step: Step) -> None:
    perfect = replace(perfect_of(step), one_step_image=step.portrait)
    for some, moves in ((step, True), (perfect, False)):
        leaves = of_step(some, lambda value: value.clone().requires_grad_(value.is_floating_point()))
        outputs = {name: getattr(leaves, name) for name in ("output", "one_step_image", "prior_output", "base_output")}
        term.compute(replace(some, response=leaves.response, **outputs)).sum().backward()
        learnt = [*outputs.values(), *chain(*map(tensors, leaves.response))]
        reached = [tensor.grad for tensor in learnt if tensor.grad is not None]
        assert reached and all(gradient.isfinite().all() for gradient in reached)
        assert any(gradient.any() for gradient in reached) or not moves


def perfect_of(step: Step) -> Step:
    """Every output as it should be, and the paths alike."""
    return replace(step, output=step.target, response=step.reference, prior_output=step.prior_target,
                   base_output=step.reference_output)


def tensors(record: AttentionRecord) -> list[Tensor]:
    return [value for value in vars(record).values() if isinstance(value, Tensor)]


def of_step(step: Step, change: Callable[[Tensor], Tensor]) -> Step:
    """A step with every one of its tensors changed, those of its records too."""
    def changed(value: object) -> object:
        if isinstance(value, Tensor):
            return change(value)
        return tuple(map(record, value)) if isinstance(value, tuple) else value

    def record(one: AttentionRecord) -> AttentionRecord:
        return replace(one, **{name: change(value) for name, value in vars(one).items() if isinstance(value, Tensor)})

    return Step(**{name: changed(value) for name, value in vars(step).items()})


TERM_LAWS: tuple[TermLaw, ...] = (
    a_term_has_a_loss_for_each_sample_by_itself,
    a_perfect_step_costs_nothing,
    the_control_map_rules_alignment_and_nothing_else,
    the_gradient_reaches_the_response_and_is_finite,
)


def a_learnt_step(model: Backbone, weights: list[nn.Parameter], prompt: Prompt) -> None:
    """One step of an optimizer, large enough to be seen."""
    x_t, t = noisy(model)
    optimizer = torch.optim.Adam(weights, lr=1e-2)
    model.denoise(x_t, t, model.condition([prompt] * 2)).output.square().mean().backward()
    optimizer.step()


def output_of(model: Backbone, prompt: Prompt) -> Tensor:
    """With the target text and without."""
    x_t, t = noisy(model)
    with torch.no_grad():
        return model.denoise(x_t, t, model.condition([prompt, prompt.base])).output


def tuning_starts_at_the_original(tuning: Tuning, backbone: Backbone, prompt: Prompt) -> None:
    """Bit for bit, also where something is added: it adds exact zeros to the same kernels' results."""
    before = output_of(backbone, prompt)
    tuning.apply(backbone)
    assert torch.equal(output_of(backbone, prompt), before)


def only_what_is_returned_learns(tuning: Tuning, backbone: Backbone, prompt: Prompt) -> None:
    learning = tuning.apply(backbone)
    weights = dict(backbone.named_parameters())
    names = {name for name, weight in weights.items() if weight.requires_grad}
    assert {id(weights[name]) for name in names} == set(map(id, learning)) and len(learning) == len(names)
    assert names and all(name.startswith("denoiser.") for name in names)
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    buffers = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
    a_learnt_step(backbone, learning, prompt)
    changed = {name for name, weight in weights.items() if not torch.equal(weight, before[name])}
    assert changed and changed <= names
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in backbone.named_buffers())
    tuning.begin(backbone, 10)
    tuning.after_step(backbone, 1)
    assert torch.as_tensor(tuning.penalty(backbone)).detach() >= 0


def what_is_captured_still_trains(tuning: Tuning, backbone: Backbone, prompt: Prompt) -> None:
    x_t, t = noisy(backbone)
    conditions = backbone.condition([prompt] * 2)
    before = backbone.denoise(x_t, t, conditions, capture=True).attention
    learning = tuning.apply(backbone)
    attention = backbone.denoise(x_t, t, conditions, capture=True).attention
    assert [record.layer for record in attention] == [record.layer for record in before]
    assert all(torch.equal(one.query, other.query) for one, other in zip(attention, before, strict=True))
    sum(record.query.square().mean() + record.text.square().mean() for record in attention).backward()
    gradients = [weight.grad for weight in learning if weight.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients) and any(gradient.any() for gradient in gradients)


def the_learnt_weights_are_the_whole_difference(tuning: Tuning, backbone: Backbone, prompt: Prompt) -> None:
    model, fresh = backbone.frozen_copy(), backbone.frozen_copy()
    a_learnt_step(model, tuning.apply(model), prompt)
    state = {name: weight for name, weight in model.denoiser.named_parameters() if weight.requires_grad}
    assert not torch.allclose(output_of(model, prompt), output_of(fresh, prompt))
    tuning.apply(fresh)
    assert state.keys() == {name for name, weight in fresh.denoiser.named_parameters() if weight.requires_grad}
    assert not fresh.denoiser.load_state_dict(state, strict=False).unexpected_keys
    assert torch.equal(output_of(model, prompt), output_of(fresh, prompt))


def a_frozen_copy_of_what_is_tuned_stays(tuning: Tuning, backbone: Backbone, prompt: Prompt) -> None:
    model = backbone.frozen_copy()
    learning = tuning.apply(model)
    a_learnt_step(model, learning, prompt)
    copied = model.frozen_copy()
    before = output_of(copied, prompt)
    assert torch.equal(before, output_of(model, prompt))
    assert not any(weight.requires_grad for weight in copied.parameters())
    a_learnt_step(model, learning, prompt)
    assert torch.equal(output_of(copied, prompt), before) and not torch.equal(output_of(model, prompt), before)


def what_a_tuning_keeps_is_saved_and_goes_on(tuning: Tuning, backbone: Backbone, prompt: Prompt) -> None:
    """A second model that takes over the weights and the state takes the same second step."""
    models = [backbone.frozen_copy() for _ in range(2)]
    learning = [tuning.apply(model) for model in models]
    tuning.begin(models[0], 4)
    a_tuned_step(tuning, models[0], learning[0], prompt, 1)
    with torch.no_grad():
        for weight, learnt in zip(learning[1], learning[0], strict=True):
            weight.copy_(learnt)
    torch.save(tuning.state(models[0]), saved := BytesIO())
    saved.seek(0)
    tuning.load_state(models[1], torch.load(saved, weights_only=True))
    tuning.begin(models[1], 4)
    for model, weights in zip(models, learning, strict=True):
        for step in (2, 3, 4):
            a_tuned_step(tuning, model, weights, prompt, step)
    assert all(torch.equal(one, other) for one, other in zip(*learning, strict=True))


def a_tuned_step(tuning: Tuning, model: Backbone, weights: list[nn.Parameter], prompt: Prompt, step: int) -> None:
    a_learnt_step(model, weights, prompt)
    tuning.after_step(model, step)
    model.zero_grad()


def what_is_merged_is_an_ordinary_denoiser(tuning: Tuning, backbone: Backbone, prompt: Prompt) -> None:
    """Of the names it had, with what it has learnt; and a LoRA that was added is the whole difference."""
    model, original = backbone.frozen_copy(), output_of(backbone, prompt)
    a_learnt_step(model, tuning.apply(model), prompt)
    learnt = output_of(model, prompt)
    low_rank = tuning.merge(model)
    assert (output_of(model, prompt) - learnt).abs().max() < 0.01 * (learnt - original).abs().max()
    assert tuning.exportable == (model.state_dict().keys() == backbone.state_dict().keys())
    if low_rank:
        with torch.no_grad():
            for layer in low_rank.layers:
                backbone.denoiser.get_parameter(f"{layer}.weight").add_(low_rank.change(layer))
        assert torch.equal(output_of(model, prompt), output_of(backbone, prompt))


TUNING_LAWS: tuple[TuningLaw, ...] = (
    tuning_starts_at_the_original,
    only_what_is_returned_learns,
    what_is_captured_still_trains,
    the_learnt_weights_are_the_whole_difference,
    a_frozen_copy_of_what_is_tuned_stays,
    what_a_tuning_keeps_is_saved_and_goes_on,
    what_is_merged_is_an_ordinary_denoiser,
)


UNCHANGED = {"fid": 0.0, "lpips": 0.0, "id": 1.0, "id_detected": 1.0, "face_found": 1.0, "clip_i": 1.0,
             "clip_t_gain": 0.0, "clip_t_drift": 0.0, "seg_cons": 100.0, "seg_cov": 100.0}
"""What each column says of a portrait that stayed as it was."""
OF_THE_PORTRAIT = {"kid", "clip_t", "clip_t_full", "repaint", "target_read"}
"""Columns that say of a portrait more than how it differs from its original; KID is 0 only on average."""
SYMMETRIC = {"fid", "kid", "lpips", "id", "id_detected", "clip_i", "seg_cons", "seg_cov"}
NOWHERE = Store(None)


def columns_of(found: Measured) -> dict[str, list[float]]:
    """By key, in the order of the pairs' ids; what is said of all pairs together is a list of one."""
    rows = [found.rows[name] for name in sorted(found.rows)]
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: [row[key] for row in rows if key in row] for key in keys} | {
        key: [value] for key, value in found.whole.items()}


def alike(one: Measured, other: Measured, tolerance: float) -> bool:
    """Whether all numbers are, each within its own scale."""
    a, b = columns_of(one), columns_of(other)
    return a.keys() == b.keys() and not one.failures | other.failures and all(
        abs(x - y) <= tolerance * max(1, abs(x)) for key in a for x, y in zip(a[key], b[key], strict=True))


def every_column_has_its_law(metric: Metric, pairs: Sequence[Pair]) -> None:
    keys = {column.key for column in metric.columns}
    assert keys <= UNCHANGED.keys() | OF_THE_PORTRAIT
    found = columns_of(measure(metric, pairs, NOWHERE))
    assert keys <= found.keys() and all(torch.tensor(values).isfinite().all() for values in found.values())


def what_stayed_as_it_was_scores_best(metric: Metric, pairs: Sequence[Pair]) -> None:
    changed = columns_of(measure(metric, pairs, NOWHERE))
    same = columns_of(measure(metric, [replace(pair, customised=pair.original) for pair in pairs], NOWHERE))
    for column in metric.columns:
        if column.key in UNCHANGED:
            assert all(abs(value - UNCHANGED[column.key]) < 1e-5 for value in same[column.key]), column
            if column.key in SYMMETRIC:
                worse = [b - a if column.higher_is_better else a - b
                         for a, b in zip(changed[column.key], same[column.key], strict=True)]
                assert min(worse) > 1e-4, column


def neither_batch_nor_order_moves_a_number(metric: Metric, pairs: Sequence[Pair]) -> None:
    whole = measure(metric, pairs, NOWHERE)
    assert alike(whole, measure(metric, pairs, NOWHERE, chunk=1), 1e-4)
    assert alike(whole, measure(metric, pairs[::-1], NOWHERE), 1e-4)
    assert whole == measure(metric, pairs, NOWHERE)


def shares_make_the_rows_of_the_whole(metric: Metric, pairs: Sequence[Pair]) -> None:
    """Bit for bit; and numbers of all pairs together within rounding."""
    whole, shares = (measure(metric, pairs, NOWHERE, chunk=1),
                     [measure(metric, pairs, NOWHERE, Share(rank, 2), chunk=1) for rank in range(2)])
    assert shares[0].rows | shares[1].rows == whole.rows and not shares[0].rows.keys() & shares[1].rows.keys()
    for key in whole.whole:
        ranks = [metric.whole(len(pairs))[key] for _ in range(3)]
        with exactly():
            _, *sides = Encoder(metric, NOWHERE).encode(list(enumerate(pairs)), {})
            together = over_ranks(ranks, *(torch.stack([one[ranks[0].whole_of] for one in side]) for side in sides),
                                  chunk=1)
        assert abs(float(together) - whole.whole[key]) <= 1e-4 * max(1, abs(whole.whole[key]))


def likeness_has_no_direction(metric: Metric, pairs: Sequence[Pair]) -> None:
    back = [replace(pair, original=pair.customised, customised=pair.original) for pair in pairs]
    one, other = (columns_of(measure(metric, some, NOWHERE)) for some in (pairs, back))
    for key in SYMMETRIC & one.keys():
        assert all(abs(x - y) <= 1e-5 * max(1, abs(x)) for x, y in zip(one[key], other[key], strict=True)), key


METRIC_LAWS: tuple[MetricLaw, ...] = (
    every_column_has_its_law,
    what_stayed_as_it_was_scores_best,
    neither_batch_nor_order_moves_a_number,
    shares_make_the_rows_of_the_whole,
    likeness_has_no_direction,
)
