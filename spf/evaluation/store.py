"""Encodings kept on disk by content: of which bytes, by which network. Whoever asks for the same again gets them."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from spf.evaluation.metric import Encoding
from spf.files import whole

LAYOUT = 1  # of the files


@dataclass(frozen=True)
class Store:
    """A folder of encodings, a file for each chunk of pictures; None keeps nothing."""

    folder: Path | None

    def get(self, key: str, count: int) -> list[Encoding] | None:
        """The ``count`` encodings kept under ``key``, or None where there are none that can be read."""
        file = self._file(key)
        if file is None or not file.is_file():
            return None
        try:
            tensors = load_file(file)
        except (SafetensorError, OSError):  # damaged: made again
            return None
        encodings: list[Encoding] = [{} for _ in range(count)]
        for name, tensor in tensors.items():
            index, _, part = name.partition(".")
            encodings[int(index)][part] = tensor
        return encodings

    def put(self, key: str, encodings: Sequence[Encoding]) -> None:
        """Keep them. Raises OSError, naming the file, where there is no room."""
        file = self._file(key)
        if file is None:
            return
        tensors = {f"{index}.{part}": tensor.contiguous() for index, encoding in enumerate(encodings)
                   for part, tensor in encoding.items()}
        with whole(file) as partial:
            partial.write_bytes(save(tensors))  # a full disk is no OSError of safetensors' own writing

    def _file(self, key: str) -> Path | None:
        return self.folder / key[:2] / f"{key}.safetensors" if self.folder else None


def content_key(about: dict[str, Any], contents: Sequence[Any]) -> str:
    """A name for what a metric (its ``describe()``) makes of these contents, in this order."""
    text = json.dumps([LAYOUT, about, list(contents)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:40]
