"""``spf test``: from the test triples to customised portraits, from the pairs to numbers, on any number of devices."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningModule

from spf.backbones import load_backbone
from spf.customised import load_lineage, training_of, weights_hash
from spf.evaluation.encoding import Pair
from spf.evaluation.images import PictureError, look_at
from spf.evaluation.measuring import CHUNK, Share, measure
from spf.evaluation.pixel_change import mean_pixel_change
from spf.evaluation.portraits import Request, claim, make_portraits, portrait_file
from spf.evaluation.provenance import provenance
from spf.evaluation.registry import Entry, asked, metric_entry
from spf.evaluation.results import Findings, merged, write_result
from spf.evaluation.store import Store, content_key
from spf.evaluation.triples import Triples
from spf.evaluation.weights import FOLDER, WeightsAbsent, file_hash
from spf.notation import Guidance
from spf.portraits.formats import IMAGE_TYPES
from spf.text import Prompt

CHOSEN = ("step", "samples", "seed", "learning_rate", "tuning", "objective", "sfcm", "guidance", "reads")
"""What a row is told apart by in TensorBoard."""


class PortraitEvaluation(LightningModule):
    """Makes a method's portraits of the test triples, with the originals' seeds, and measures them against these.

    Args:
        row: what the method is called in tables.
        checkpoint: a .ckpt of `spf fit`, or a diffusers folder; without one the base model itself is measured.
        base: the original model; default: the one of the test set.
        start: where the stage 1 lies that a stage 2 started from; default: where it lay then.
        ema: the averaged weights of the training, not its last ones.
        reads: base and target text; or the base text alone, which asks for the original back (Fig. 13).
        guidance: what a method changes while generating.
        neutral: folder of the same portraits with the method's own part at 0 (of STORM those of the model it is laid
            over): how far it moves them is printed, and stands in the result as `pixel_change`.
        images: a folder of anyone's portraits, named by the triples' ids: no model is loaded.
        networks: the published networks, or the miniature's.
        metrics: names, or module:Class of a feature extractor for FID; default: the paper's eight and their kin, but
            on base text alone those that judge by the full text.
        weights: folder of the published networks' files.
        features: folder where encodings are kept for all methods; none: nowhere.
        result: file of the result; default: `result.json` in the run's directory.
    """

    def __init__(
        self,
        row: str = "customised",
        checkpoint: str | None = None,
        base: str | None = None,
        start: str | None = None,
        ema: bool = False,
        reads: Literal["full_text", "base_text"] = "full_text",
        guidance: Guidance | None = None,
        neutral: str | None = None,
        images: str | None = None,
        networks: Literal["published", "miniature"] = "published",
        metrics: list[str] | None = None,
        weights: str = str(FOLDER),
        features: str | None = "runs/features",
        result: str | None = None,
    ) -> None:
        super().__init__()
        self.row, self.checkpoint, self.base, self.start, self.ema = row, checkpoint, base, start, ema
        self.reads, self.guidance, self.images, self.networks = reads, guidance, images, networks
        self.metrics = {name: metric_entry(name) for name in metrics or asked(networks, reads)}
        self.weights, self.result, self.neutral = Path(weights), result, neutral
        self.store = Store(Path(features) if features else None)
        self.backbone: torch.nn.Module | None = None

    # ---- portraits ----

    def setup(self, stage: str) -> None:
        """Load the model where portraits are missing."""
        self.triples: Triples = self.trainer.datamodule.triples
        run = Path(self.trainer.default_root_dir)
        self.portraits = Path(self.images) if self.images else run / "portraits"
        if self.neutral and not portrait_file(Path(self.neutral), self.triples.requests[-1]).is_file():
            raise FileNotFoundError(f"{self.neutral} lacks portraits of these triples: make that row first, or leave "
                                    "model.neutral out")
        if self.images:
            if not self.portraits.is_dir():
                raise FileNotFoundError(f"there is no folder {self.images}: give that of the portraits to measure")
            return
        self._claim(run / "manifest.json")
        self.trainer.strategy.barrier()
        if any(not portrait_file(self.portraits, request).is_file() for request in self.triples.requests):
            self.backbone = self._customised()

    def _claim(self, note: Path) -> None:
        """A run directory holds the portraits of one model, made in one way."""
        self.order = {
            "row": self.row, "originals": str(self.triples.folder), "reads": self.reads, "ema": self.ema,
            "checkpoint": self.checkpoint, "guidance": _named(self.guidance), "base": self.base,
            "checkpoint_sha256": _contents(self.checkpoint),
            "test_set": self.triples.manifest["sha256"], "sampling": asdict(self.triples.sampling),
            "chunk": self.trainer.datamodule.chunk}
        if self.trainer.is_global_zero:
            claim(note, self.order, self.portraits)

    def _customised(self) -> torch.nn.Module:
        base = self.base or self.triples.manifest["base"]
        if self.checkpoint is None:
            original = customised = load_backbone(base)
        else:
            named = self.base if self.checkpoint.endswith(".ckpt") else base  # a checkpoint names its own
            original, *_, customised = load_lineage(self.checkpoint, named, self.ema, self.start).models.values()
        if weights_hash(original.denoiser) != self.triples.manifest["base_sha256"] and self.trainer.is_global_zero:
            print(f"the originals of {self.triples.folder} are by {self.triples.manifest['base']}, which is not the "
                  "model that was customised: what is measured is more than the customisation", flush=True)
        return customised

    def test_step(self, batch: Sequence[Request], batch_idx: int) -> None:
        """Make what is missing of one canonical chunk."""
        if self.backbone is None or not batch:
            return
        asked = [Request(r.id, self._read(r), r.seed) for r in batch]
        make_portraits(self.backbone, asked, self.portraits, self.triples.sampling, self.trainer.datamodule.chunk,
                       self.guidance)

    def _read(self, request: Request) -> Prompt:
        return request.prompt if self.reads == "full_text" else request.prompt.base

    # ---- numbers ----

    def on_test_epoch_end(self) -> None:
        """Measure this rank's share of the pairs; the first rank brings all shares together."""
        self.backbone = None
        self.trainer.strategy.barrier()
        share = Share(self.trainer.global_rank, self.trainer.world_size)
        pairs = [Pair(r.id, self.triples.original(r), self._portrait(r), r.prompt) for r in self.triples.requests]
        findings = Findings()
        for name, entry in self.metrics.items():
            self._measure(name, entry, pairs, share, findings)
        rows = Path(self.trainer.default_root_dir) / "rows"
        findings.write(rows / f"rank{share.rank}.jsonl", {pair.id: _hashes(pair) for pair in pairs})
        self.trainer.strategy.barrier()
        if self.trainer.is_global_zero:
            self._conclude(findings, merged([rows / f"rank{rank}.jsonl" for rank in range(share.world_size)],
                                            [pair.id for pair in pairs]))

    def _portrait(self, request: Request) -> Path:
        """Anyone's portraits may be of any image type."""
        named = [self.portraits / f"{request.id}.{kind}" for kind in ("png", *sorted(IMAGE_TYPES))]
        return next((file for file in named if file.is_file()), named[0])

    def _measure(self, name: str, entry: Entry, pairs: Sequence[Pair], share: Share, findings: Findings) -> None:
        findings.columns[name] = entry.columns
        first = self.trainer.is_global_zero
        if not first:
            self.trainer.strategy.barrier()  # the first rank fetches, the others find
        absent = f"{entry.columns[0].label}: another process lacks the weights; put them where every machine sees them"
        metric = None
        try:
            metric = entry.load(self.networks, self.weights, self.device)
        except WeightsAbsent as error:
            absent = str(error)
        finally:
            if first:
                self.trainer.strategy.barrier()
        # together or not at all: a process that measures alone would wait for the others' sums for ever
        if not self.trainer.strategy.reduce_boolean_decision(metric is not None):
            findings.absent |= {column.key: absent for column in entry.columns}
            if first:
                print(f"- {absent}", flush=True)
            return
        findings.metrics[name] = metric.describe()
        findings.add(name, measure(metric, pairs, self.store, share, device=self.device, progress=first))

    def _conclude(self, findings: Findings, rows: Sequence[dict[str, Any]]) -> None:
        about = self.triples.manifest
        seeds = [self.triples.requests[0].seed, self.triples.requests[-1].seed]
        test_set = {"sha256": about["sha256"], "count": len(self.triples.requests), "seeds": seeds}
        file = Path(self.result or Path(self.trainer.default_root_dir) / "result.json")
        made = {"images": self.images} if self.images else self.order
        if self.checkpoint and self.checkpoint.endswith(".ckpt"):
            made = made | training_of(self.checkpoint)
        made = made | self._edited() | self._moved()
        result = write_result(file, self.row, about["base"], findings, rows, test_set, {
            **provenance(), **made, **about["sampling"], "chunk": self.trainer.datamodule.chunk,
            "config_sha256": content_key({}, [made, findings.metrics]), "metric_chunk": CHUNK,
            "world_size": self.trainer.world_size, "device": str(self.device)})
        printed = [column["key"] for column in result["columns"] if column["key"] in result["summary"]]
        final = {key: result["summary"][key]["mean"] for key in printed}
        self.log_dict(final, rank_zero_only=True)
        if self.logger:  # the HParams tab of TensorBoard: a line a row, what it chose beside what came of it
            chosen = {name: made[name] for name in CHOSEN if name in made}
            self.logger.log_hyperparams({"row": self.row, **chosen}, final)
        for key, failed in result["failures"].items():
            print(f"{key}: {failed['count']} of {len(rows)} pairs could not be measured; {failed['first'][0]}")
        print(f"{len(rows)} pairs measured: {file}", flush=True)

    def _edited(self) -> dict[str, float]:
        """The share of the prompts in which a guidance has something to change."""
        if self.guidance is None or self.images:
            return {}
        edited = [self.guidance.edits(self._read(request)) for request in self.triples.requests]
        share = sum(edited) / len(edited)
        print(f"{type(self.guidance).__name__} has something to change in {share:.1%} of the prompts")
        return {"edited": share}

    def _moved(self) -> dict[str, float]:
        """How far the method's own part moves the portraits."""
        if self.neutral is None:
            return {}
        names = [self._portrait(request).name for request in self.triples.requests]
        change = mean_pixel_change(self.portraits, Path(self.neutral), names)
        print(f"{self.row} moves the portraits of {self.neutral} by {change:.1f} of 255 on average")
        return {"pixel_change": change}


def _named(guidance: Guidance | None) -> str:
    """Its class and its options; what it prints by itself may hold an address, which no second start has again."""
    if guidance is None:
        return "None"
    options = {name: value for name, value in vars(guidance).items() if not name.startswith("_")}
    kind = type(guidance)
    return f"{kind.__module__}:{kind.__qualname__} {options}"


def _contents(checkpoint: str | None) -> str:
    """SHA-256 of a file, or of all weights of a folder; nothing for what the hub keeps under this name."""
    path = Path(checkpoint or "")
    if path.is_file():
        return file_hash(path)
    return content_key({}, [file_hash(file) for file in sorted(path.rglob("*.safetensors"))]) if checkpoint else ""


def _hashes(pair: Pair) -> dict[str, str]:
    try:
        return {"original": look_at(pair.original).sha256, "customised": look_at(pair.customised).sha256}
    except PictureError:
        return {}
