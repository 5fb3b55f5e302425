"""The memory of a training step, counted without weights and without allocating: the step itself, on fake tensors.

Persistent parts are counted exactly. The rest is whatever else is alive at the peak of one forward and backward pass of
the stage's own ``training_step``: what is saved for the backward pass, casts, temporaries, each storage once.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from spf.backbones import Backbone
from spf.portraits.datamodule import PortraitBatch
from spf.stages.fine_tuning import StandardFineTuning
from spf.stages.weightless import WeightlessAlignment, portraits
from spf.text import Prompt

PRECISIONS: dict[str, tuple[torch.dtype, torch.dtype | None]] = {
    "32-true": (torch.float32, None), "bf16-mixed": (torch.float32, torch.bfloat16),
    "16-mixed": (torch.float32, torch.float16), "bf16-true": (torch.bfloat16, None), "16-true": (torch.float16, None)}
"""Lightning's name -> the type of the weights, and that of autocast."""


KERNELS = {True: 20 * 2**20, False: 45 * 2**20}
"""Whether a CPU computes in float32 alone -> bytes its compiled kernels keep, whatever the batch (as measured with one
and two portraits; benchmarks/reports). Of a GPU ``spf doctor`` leaves a share to such things."""


@dataclass(frozen=True)
class Footprint:
    """Bytes on one device."""

    weights: dict[str, int]  # by part, each storage once
    gradients: int
    optimizer: int  # AdamW's two moments of what learns
    averages: int  # of ``--ema.decay``
    activations: int  # all else that is alive at the peak
    kernels: int = 0  # what a CPU's compiled kernels keep

    @property
    def total(self) -> int:
        """At the peak."""
        parts = (self.gradients, self.optimizer, self.averages, self.activations, self.kernels)
        return sum(self.weights.values()) + sum(parts)


@dataclass(frozen=True)
class Setting:
    """What decides about a step's memory beside the module.

    Args:
        batch: portraits a device takes at a time.
        resolution: their side in pixels.
        precision: a key of ``PRECISIONS``.
        device: "cuda" or "cpu", which differ in what autocast leaves in float32.
        averaged: whether an EMA is kept.
        accumulates: whether gradients of earlier batches are there while the backward pass runs.
        clips: whether gradients are clipped, with which Lightning takes no fused optimizer.
    """

    batch: int
    resolution: int
    precision: str = "32-true"
    device: str = "cuda"
    averaged: bool = False
    accumulates: bool = False
    clips: bool = False


def footprint(module: StandardFineTuning, given: Setting) -> Footprint:
    """Of a stage without weights (``spf.stages.weightless``), which is used up."""
    batch = portraits(given.batch, given.resolution)
    module.hparams["caption_dropout"] = 0.0  # a text that is kept makes the larger step
    chance = module.chance(batch)  # drawn for real: fake tensors have no values
    module.chance = lambda _: chance
    module.log = lambda *_, **__: None
    stored, autocast = PRECISIONS[given.precision]
    with _Shapes(allow_non_fake_inputs=True), LiveBytes() as live:
        _fake(module, None if stored == torch.float32 else stored)  # weights that are held in less stay so
        if autocast is not None and given.device == "cuda":
            _keep_norms_whole(module)
        weights = _weights(module)
        learn = [weight for weight in module.parameters() if weight.requires_grad]
        gradients = _bytes(learn)
        if module.hparams["cache_texts"]:
            _read_beforehand(module, chance[0])
        before = live.peak = live.now
        _step(module, batch, learn, autocast, given.accumulates)
    spare = gradients if given.clips and given.device == "cuda" else 0  # AdamW's roots, without the fused kernel
    kernels = KERNELS[autocast is None and stored == torch.float32] if given.device == "cpu" else 0
    return Footprint(weights, gradients, 2 * gradients, sum(4 * one.numel() for one in learn) * given.averaged,
                     max(live.peak - before - gradients, spare), kernels)


def _read_beforehand(module: StandardFineTuning, prompts: list[Prompt]) -> None:
    """Texts that are read once, by encoders that stay on the CPU, are nothing that a step does on the device."""
    for model in _models(module):
        model.remember_texts(getattr(torch, module.hparams["frozen_dtype"]))
        model.condition([*prompts, *(prompt.base for prompt in prompts)])


def _models(module: StandardFineTuning) -> list[Backbone]:
    return [module.backbone, *([module.reference] if isinstance(module, WeightlessAlignment) else [])]


def _step(module: StandardFineTuning, batch: PortraitBatch, learn: list[nn.Parameter], autocast: torch.dtype | None,
          accumulates: bool) -> None:
    """In Lightning's order: gradients of the step before are there until the forward pass is through."""
    for weight in learn:
        weight.grad = torch.empty_like(weight)
    with torch.autocast("cpu", autocast, enabled=autocast is not None):
        result = module.training_step(batch, 0)
    if not accumulates:
        for weight in learn:
            weight.grad = None
    (result["loss"] if isinstance(result, dict) else result).backward()


class _Shapes(FakeTensorMode):
    avoid_device_init = True  # all is on the CPU; torch would look for a GPU at each operation


class LiveBytes(TorchDispatchMode):
    """Counts the storages that operations make: ``now`` alive, and the ``peak``, in bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen = set[int]()

    def __torch_dispatch__(self, func: Callable[..., Any], types: Any, args: tuple = (),
                           kwargs: dict[str, Any] | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        place, size = storage._cdata, storage.nbytes()
        if place not in self._seen:
            self._seen.add(place)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._remove, place, size)

    def _remove(self, place: int, size: int) -> None:
        self._seen.discard(place)
        self.now -= size


class _RealTokens:
    """A tokenizer whose tokens are no fake tensors: where phrases stand in them is read."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.model_max_length = tokenizer, tokenizer.model_max_length

    def __call__(self, *given: Any, **options: Any) -> Any:
        with unset_fake_temporarily():
            return self.tokenizer(*given, **options)


def _fake(module: StandardFineTuning, stored: torch.dtype | None) -> None:
    """Every weight becomes a fake one on the CPU, in ``stored`` where Lightning and ``on_fit_start`` see to it."""
    roots: list[tuple[nn.Module, torch.dtype | None]] = [(module, stored)]
    if isinstance(module, WeightlessAlignment):
        reference, *images = module.frozen
        roots += [(reference.denoiser, stored), (reference, None), *((one, None) for one in images)]
    for model in _models(module):
        roots += [(model.encoders, None)]  # no part of the module where texts are read once
        model.tokenizers = {name: _RealTokens(one) for name, one in model.tokenizers.items()}
    done = dict[int, Any]()
    for root, dtype in roots:
        for part in root.modules():
            for held in (part._parameters, part._buffers):
                held.update({name: _faked(value, dtype, done) for name, value in held.items() if value is not None})


def _keep_norms_whole(module: StandardFineTuning) -> None:
    """Autocast on a GPU has these norms in float32; that of the CPU, under which we count, leaves them in half."""
    for root in _roots(module):
        for part in root.modules():
            if isinstance(part, nn.LayerNorm | nn.GroupNorm):
                part.register_forward_pre_hook(lambda _, given: tuple(one.float() for one in given))


def _roots(module: StandardFineTuning) -> list[nn.Module]:
    return [module, *(module.frozen if isinstance(module, WeightlessAlignment) else [])]


def _faked(value: Tensor, dtype: torch.dtype | None, done: dict[int, Any]) -> Tensor:
    """Once for each, also where it is in two places."""
    if id(value) not in done:
        cast = dtype if value.is_floating_point() else None
        empty = torch.empty_like(value, device="cpu", dtype=cast, requires_grad=False)
        learns = value.requires_grad
        fake = nn.Parameter(empty, learns) if isinstance(value, nn.Parameter) else empty
        done[id(value)] = done[id(fake)] = fake
        done[id(fake), "kept"] = value  # an id is one's own as long as one lives
    return done[id(value)]


def _weights(module: StandardFineTuning) -> dict[str, int]:
    """Bytes by part; what is shared counts where it comes first."""
    own = module.backbone
    parts: dict[str, nn.Module] = {"denoiser": own.denoiser, "VAE": own.vae}
    parts |= {} if module.hparams["cache_texts"] else {"text encoders": own.encoders}
    if isinstance(module, WeightlessAlignment):
        parts |= dict(zip(("reference", "CLIP", "tiny decoder"), module.frozen, strict=False))
    seen = set[int]()
    found = dict[str, int]()
    for name, part in parts.items():
        new = [one for one in (*part.parameters(), *part.buffers()) if id(one) not in seen]
        seen |= set(map(id, new))
        found[name] = _bytes(new)
    return found


def _bytes(tensors: list[Any]) -> int:
    return sum(one.numel() * one.element_size() for one in tensors)
