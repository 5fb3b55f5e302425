"""The test set (paper, Sec. 4.1): triples of original caption, original portrait and target caption."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from jsonargparse.typing import PositiveInt
from lightning import Fabric
from tqdm import tqdm

from spf.backbones import load_backbone
from spf.customised import weights_hash
from spf.evaluation.captions import requests_of
from spf.evaluation.portraits import Request, Sampling, canonical_chunks, make_portraits, portrait_file
from spf.evaluation.provenance import provenance
from spf.evaluation.weights import file_hash
from spf.files import read_json, read_lines, write_json, write_lines
from spf.sampling import CHUNK
from spf.text import Prompt

ORIGINALS, ROWS, MANIFEST = "originals", "metadata.jsonl", "manifest.json"


@dataclass(frozen=True)
class Triples:
    """A test set that is whole."""

    folder: Path
    requests: list[Request]  # full prompts
    manifest: dict[str, Any]

    @classmethod
    def load(cls, folder: str | Path, limit: int | None = None) -> "Triples":
        """From its folder; every hash of its manifest is checked.

        Raises FileNotFoundError where it is absent or unfinished, ValueError where a file is not the one that was made.
        """
        folder = Path(folder)
        if not (folder / MANIFEST).is_file():
            raise FileNotFoundError(f"{folder} holds no finished test set ({MANIFEST}): make it, or go on making it, "
                                    f"by `spf triples --out {folder}`")
        manifest = read_json(folder / MANIFEST)
        if file_hash(folder / ROWS) != manifest["sha256"]:
            raise ValueError(f"{folder / ROWS} was changed since the test set was made; make a new one, or put it back")
        rows = read_lines(folder / ROWS)[:limit]
        for row in rows:
            file = folder / row["file_name"]
            if not file.is_file() or file_hash(file) != row["sha256"]:
                raise ValueError(f"{file} is missing or not the one that was made; remove {folder / MANIFEST} and the "
                                 "file, then give the `spf triples` command again")
        requests = [Request(row["id"], Prompt(row["base_text"], row["target_text"], tuple(row["phrases"])), row["seed"])
                    for row in rows]
        return cls(folder, requests, manifest)

    @property
    def sampling(self) -> Sampling:
        """How its originals were made, and so how the customised are."""
        return Sampling(**self.manifest["sampling"])

    def original(self, request: Request) -> Path:
        """The original portrait."""
        return portrait_file(self.folder / ORIGINALS, request)


def triples(
    base: str = "miniature",
    count: PositiveInt = 5000,
    out: Path = Path("runs/triples"),
    captions: str = "miniature",
    targets: tuple[str, ...] = (),
    seed: int = 420_000,
    steps: PositiveInt = 20,
    guidance_scale: float = 7.5,
    scheduler: Literal["ddim", "base"] = "ddim",
    precision: Literal["float32", "bfloat16", "float16"] = "float32",
    height: int | None = None,
    width: int | None = None,
    chunk: PositiveInt = CHUNK,
    devices: int | str = "auto",
    num_nodes: int = 1,
) -> Path:
    """Make a test set: originals by the base model, beside their captions, targets and seeds; resumable.

    Args:
        base: the original model: a short name, a diffusers folder, a hub name or a single file.
        count: triples (the paper: 5,000).
        out: folder of the set; what is there already is not made again.
        captions: `miniature`, a .jsonl (base_text, and perhaps target_text, phrases, id) or .txt file, or a folder of
            portraits whose base texts are taken: so the priors of prior preservation are made.
        targets: target texts, or .txt files of them, or names of the painted world's targets; they take turns.
        seed: of the first portrait; the others count up from it.
        steps: solver steps.
        guidance_scale: of classifier-free guidance.
        scheduler: DDIM, or the base model's own.
        precision: of the denoiser.
        height: in pixels; default: the model's own.
        width: in pixels; default: the model's own.
        chunk: portraits made at a time; another one changes their last bits.
        devices: how many a node; under torchrun or SLURM the processes that were started.
        num_nodes: machines.
    """
    requests = requests_of(captions, targets, count, seed)
    fabric = Fabric(devices=devices, num_nodes=num_nodes)
    fabric.launch()
    sampling = Sampling(steps, guidance_scale, scheduler, height, width, precision)
    return _made(fabric, base, requests, sampling, chunk, out)


def _made(fabric: Fabric, base: str, requests: Sequence[Request], sampling: Sampling, size: int, out: Path) -> Path:
    """The originals by all ranks, between the first rank's claim and its conclusion."""
    backbone = load_backbone(base).to(fabric.device)
    about = {"base": base, "base_sha256": weights_hash(backbone.denoiser), "sampling": asdict(sampling), "chunk": size}
    if fabric.is_global_zero:
        _claim(out, about, requests)
    fabric.barrier()
    chunks = canonical_chunks(requests, size)[fabric.global_rank::fabric.world_size]
    for some in tqdm(chunks, unit="chunk", desc=f"originals by {base}", disable=not fabric.is_global_zero):
        make_portraits(backbone, [Request(r.id, r.prompt.base, r.seed) for r in some], out / ORIGINALS, sampling, size)
    fabric.barrier()
    if fabric.is_global_zero:
        _conclude(out, about, requests)
    return out


def _claim(out: Path, about: dict[str, Any], requests: Sequence[Request]) -> None:
    """A folder holds one test set, which is made in one way: a first file says which."""
    note = out / "order.json"
    order = about | {"requests": [[r.id, r.prompt.base_text, r.prompt.target_text, r.seed] for r in requests]}
    if note.is_file():
        if read_json(note) != order:
            raise ValueError(f"{out} holds a test set that was made otherwise; give another --out, or remove it")
    elif out.is_dir() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty and holds no test set; give another --out")
    else:
        write_json(order, note)


def _conclude(out: Path, about: dict[str, Any], requests: Sequence[Request]) -> None:
    files = {request.id: portrait_file(out / ORIGINALS, request) for request in requests}
    write_lines(({"file_name": str(files[r.id].relative_to(out)), "id": r.id, "base_text": r.prompt.base_text,
                  "target_text": r.prompt.target_text, "phrases": list(r.prompt.phrases), "seed": r.seed,
                  "sha256": file_hash(files[r.id])} for r in requests), out / ROWS)
    seeds = [requests[0].seed, requests[-1].seed]
    write_json({"count": len(requests), "seeds": seeds, "sha256": file_hash(out / ROWS), **about, **provenance()},
               out / MANIFEST)
    print(f"{len(requests)} triples are in {out}")
