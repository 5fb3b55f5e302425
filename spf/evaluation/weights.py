"""Published weights: which file, from where, under which licence; found on disk, checked, or missed in one line."""

import hashlib
from dataclasses import dataclass
from errno import ENOSPC
from functools import cache
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download, try_to_load_from_cache
from safetensors.torch import load_file
from torch import Tensor, nn

FOLDER = Path("models/evaluation")
"""Where the files are looked for, by their published names."""


class WeightsAbsent(FileNotFoundError):
    """Weights that are not here; its text is one line: which, how to get them, where to put them."""


@dataclass(frozen=True)
class Weights:
    """One published file."""

    name: str  # of the network, for people
    file: str  # as it is published, perhaps in a folder that tells it from others of the same name
    source: str  # https://... of the file, or the id of a hub repository that holds it
    licence: str
    megabytes: int
    sha256: str = ""  # or its first digits; "" where nobody states it
    also: tuple[str, ...] = ()  # other places in the folder

    def find(self, folder: Path = FOLDER) -> Path:
        """The file in ``folder``, else in the hub's cache or from the hub, its hash checked.

        Raises WeightsAbsent, or ValueError for a file with another hash.
        """
        path = self.local(folder) or self._from_hub(folder)
        if not self.is_right(path):
            raise ValueError(f"{path} is not the published {self.name}: its SHA-256 is {file_hash(path)}, not "
                             f"{self.sha256}; remove it and fetch it again: {self.command(folder)}")
        return path

    def local(self, folder: Path = FOLDER) -> Path | None:
        """Where the file lies on this machine: in ``folder``, or in the hub's cache."""
        for file in (self.file, *self.also):
            if (folder / file).is_file():
                return folder / file
        cached = None if self._is_url else try_to_load_from_cache(self.source, Path(self.file).name)
        return Path(cached) if isinstance(cached, str) else None

    def is_right(self, path: Path) -> bool:
        """Whether a file has the published hash; true where none is published."""
        return file_hash(path).startswith(self.sha256)

    def command(self, folder: Path = FOLDER) -> str:
        """What fetches it into ``folder``."""
        place = folder / self.file
        if self.source.endswith(".zip"):
            archive = place.parent.with_suffix(".zip")
            return f"curl -L --create-dirs -o {archive} {self.source} && unzip {archive} -d {place.parent}"
        if self._is_url:
            return f"curl -L --create-dirs -o {place} {self.source}"
        return f"hf download {self.source} {place.name} --local-dir {place.parent}"

    @property
    def _is_url(self) -> bool:
        return self.source.startswith("https://")

    def _from_hub(self, folder: Path) -> Path:
        absent = WeightsAbsent(f"{self.name}: {folder / self.file} is absent ({self.megabytes:,} MB, {self.licence}); "
                               f"fetch it by `{self.command(folder)}`")
        if self._is_url:
            raise absent
        print(f"fetching {self.name}, {self.megabytes:,} MB, {self.licence}", flush=True)
        try:
            return Path(hf_hub_download(self.source, Path(self.file).name))
        except Exception as error:  # the hub's client raises a dozen kinds, and all of them mean the same to a reader
            if isinstance(error, OSError) and error.errno == ENOSPC:  # but a full disk
                raise
            raise absent from error


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal; read again only when the file has changed."""
    status = path.stat()
    return _file_hash(path.resolve(), status.st_size, status.st_mtime_ns)


@cache
def _file_hash(path: Path, size: int, changed: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**24):
            digest.update(block)
    return digest.hexdigest()


def read_weights(path: Path) -> dict[str, Any]:
    """A file's tensors, in its own names, on the CPU and without running pickled code; .safetensors or torch's.

    Raises ValueError for a file that is damaged or holds more than weights.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # either reader raises many kinds
        raise ValueError(f"{path} cannot be read as weights ({type(error).__name__}); fetch it again") from error


def fill(network: nn.Module, weights: dict[str, Tensor], path: Path) -> nn.Module:
    """The network with every weight from ``path``, in float32, frozen, in eval.

    Raises ValueError, naming the first fault, where a weight is missing, unexpected or of another shape.
    """
    try:
        network.load_state_dict(weights, strict=True, assign=True)
    except RuntimeError as error:
        first = " ".join(str(error).splitlines()[1:2]).strip()[:300]
        raise ValueError(f"{path} does not fit {type(network).__name__}: {first}; fetch it again") from error
    return network.float().eval().requires_grad_(False)
