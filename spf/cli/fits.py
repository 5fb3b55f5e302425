"""Whether an experiment fits into a device's memory, and which settings make it fit, before any weight is here.

What is estimated is one optimizer step on one device, the first epoch's, where latents are not in memory yet. Sample
grids and panels are not in it, nor what several devices need to exchange gradients.
"""

from collections.abc import Iterator

from jsonargparse import Namespace

from spf.baselines.objective import AnyObjective
from spf.cli.commands import parser
from spf.stages.memory import PRECISIONS, Footprint, Setting, footprint
from spf.stages.weightless import WEIGHTLESS
from spf.tuning import TUNINGS

GIB = 2**30
DEVICES_OWN = 0.1  # share of its memory for context, workspaces of kernels and fragmentation: assumed, not measured
PRECISION_NAMES = {"None": "32-true", "32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed"}


def estimate(training: list[str]) -> Footprint:
    """Of the training that ``spf fit`` would make of these arguments.

    Raises ValueError for a stage or precision of which there is no estimate, FileNotFoundError for an unknown base.
    """
    config = parser("fit").parse_args(["fit", *training]).fit
    stage = config.model.class_path.rpartition(".")[2]
    if stage not in WEIGHTLESS:
        raise ValueError(f"there is no estimate for model.class_path {stage}: give {' or '.join(WEIGHTLESS)}")
    return footprint(WEIGHTLESS[stage](**_options(config.model.init_args)), _setting(config))


def _options(given: Namespace) -> dict:
    """The constructor's, with tuning and objective made; a random denoiser is as large as any."""
    options = {**vars(given), "denoiser": "pretrained"}
    if tuning := options["tuning"]:
        kind = TUNINGS[tuning.class_path.rpartition(".")[2]]
        options["tuning"] = kind(**tuning.get("init_args", Namespace()).as_dict())
    if "objective" in options:
        options["objective"] = AnyObjective(**options["objective"].as_dict())
    return options


def _setting(config: Namespace) -> Setting:
    trainer, data = config.trainer, config.data
    precision = PRECISION_NAMES.get(str(trainer.precision), str(trainer.precision))
    if precision not in PRECISIONS:
        raise ValueError(f"there is no estimate for trainer.precision {precision}: give {', '.join(PRECISIONS)}")
    batches = (data.global_batch_size or data.train_batch_size) > data.train_batch_size
    return Setting(
        data.train_batch_size, data.resolution, precision, "cpu" if trainer.accelerator == "cpu" else "cuda",
        averaged=bool(config.ema.decay), accumulates=batches or trainer.accumulate_grad_batches > 1,
        clips=bool(trainer.gradient_clip_val))


def table(found: Footprint) -> str:
    """A line a part, in GiB, and the sum."""
    rows = {f"weights: {name}": size for name, size in found.weights.items() if size}
    rows |= {"gradients of what learns": found.gradients, "AdamW's two moments": found.optimizer}
    rows |= {"moving average": found.averages} if found.averages else {}
    rows |= {"activations at the peak": found.activations}
    rows |= {"compiled kernels": found.kernels} if found.kernels else {}
    rows |= {"sum": found.total}
    return "\n".join(f"{name:26} {size / GIB:8.2f} GiB" for name, size in rows.items())


def advice(training: list[str], found: Footprint, memory: float) -> Iterator[str]:
    """The verdict for a device of so many GiB, and where it is no, settings one after the other until it is yes."""
    room = (1 - DEVICES_OWN) * memory * GIB
    if found.total <= room:
        yield f"fits into {memory:g} GiB, a tenth of which is left to the device's own"
        return
    yield (f"does not fit into {memory:g} GiB, a tenth of which is left to the device's own; tried, each together with "
           "those above it:")
    options = list[str]()
    for change in changes(parser("fit").parse_args(["fit", *training]).fit):
        options += change
        found = estimate([*training, *options])
        fits = found.total <= room
        yield f"  {' '.join(change):70} {found.total / GIB:8.2f} GiB{': fits' * fits}"
        if fits:
            return
    yield "does not fit with any of these: take a device with more memory"


def changes(config: Namespace) -> Iterator[list[str]]:
    """Options that make a step smaller, first those that change nothing that is learnt; last what is for few texts."""
    model, data, batches = config.model.init_args, config.data, config.trainer.accumulate_grad_batches
    if not model.gradient_checkpointing:
        yield ["--model.gradient_checkpointing", "true"]
    if "objective" in model and (model.objective.enhanced or model.objective.direct_clip):
        if model.decoder == "vae":
            yield ["--model.decoder", "checkpointed"]
        if model.decoded_share * data.train_batch_size >= 2:
            yield ["--model.decoded_share", f"{1 / data.train_batch_size:g}"]
    batch = data.train_batch_size
    while batch % 2 == 0:
        batch, batches = batch // 2, 2 * batches
        accumulated = [] if data.global_batch_size else ["--trainer.accumulate_grad_batches", str(batches)]
        yield ["--data.train_batch_size", str(batch), *accumulated]
    if not model.cache_texts:
        yield ["--model.cache_texts", "true"]
