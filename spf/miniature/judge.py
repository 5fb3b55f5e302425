"""How the reader judge is trained: on painted portraits of both studios, and on portraits that went through the VAE."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2.functional import gaussian_blur

from spf.miniature.canvas import PARTS
from spf.miniature.painter import paint_with_parts
from spf.miniature.people import EVERYTHING, Person, draw_people
from spf.miniature.reader import CHOICES, Reader, Reading, factors
from spf.miniature.training import train
from spf.miniature.truth import through

SEED, PAINTED, DECODED, BATCH = 505, 10_000, 2_000, 64


def train_reader(folder: Path, vae: AutoencoderKL, steps: int = 1500, second_round: int = 1000) -> Reader:
    """Train in two rounds, the second at half the learning rate, and save ``folder/reader/model.safetensors``."""
    torch.manual_seed(SEED)
    reader = Reader().to(memory_format=torch.channels_last).train()
    share = min(1.0, steps / 1000)
    pool = _pool(int(DECODED * share) + BATCH, 0, vae) + _pool(int(PAINTED * share) + BATCH, 1, None)
    train("reader", reader, lambda step: _loss(reader, step, pool), steps, 2e-3, folder / "checkpoints" / "reader.pt")
    train("reader, second round", reader, lambda step: _loss(reader, steps + step, pool), second_round, 1e-3,
          folder / "checkpoints" / "reader_second.pt")
    reader.eval()
    (folder / "reader").mkdir(exist_ok=True)
    save_file({name: value.contiguous() for name, value in reader.state_dict().items()},
              folder / "reader" / "model.safetensors", metadata={"format": "pt"})
    return reader


Pool = list[tuple[list[Person], Tensor, Tensor]]  # people, images (n,3,R,R) uint8, parts (n,R,R) uint8


def _pool(count: int, kind: int, vae: AutoencoderKL | None) -> Pool:
    """Chunks of half a batch; half of them from the away studio."""
    chunks = []
    for start in range(0, count // BATCH * BATCH, BATCH // 2):
        studio = "away" if start % BATCH else "home"
        people = draw_people(BATCH // 2, SEED + kind, EVERYTHING, studio, start=start)
        image, parts = paint_with_parts(people)
        image = image if vae is None else through(vae, image)
        index = torch.stack([parts[name] for name in PARTS], 1).argmax(1)
        chunks.append((people, (image * 255).round().byte(), index.byte()))
    return chunks


def _loss(reader: Reader, step: int, pool: Pool) -> tuple[Tensor, dict[str, float]]:
    rng = np.random.default_rng([SEED, step])
    chunks = [pool[i] for i in rng.choice(len(pool), 2, replace=False)]
    people = [person for chunk in chunks for person in chunk[0]]
    image = _worn(torch.cat([chunk[1] for chunk in chunks]).float() / 255, rng, step)
    parts = torch.cat([chunk[2] for chunk in chunks]).long()
    with torch.autocast("cpu", torch.bfloat16):
        reading = reader(image.contiguous(memory_format=torch.channels_last))
    named, measured = naming_loss(reading, people), (reading.factors - factors(people)).abs()
    segmented = F.cross_entropy(reading.parts, parts)
    loss = named + 8 * F.smooth_l1_loss(reading.factors, factors(people), beta=0.05) + segmented
    return loss, {"naming": named.item(), "factors": measured.mean().item(), "parts": segmented.item()}


def _worn(image: Tensor, rng: np.random.Generator, step: int) -> Tensor:
    """Blur, noise and a slightly wrong exposure, as samples of a small model have them."""
    blurred = gaussian_blur(image, [5, 5], [float(rng.uniform(0.3, 1.3))]) if rng.random() < 0.5 else image
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(step))
    return (blurred * float(rng.uniform(0.96, 1.04)) + float(rng.uniform(0, 0.03)) * noise).clamp(0, 1)


def naming_loss(reading: Reading, people: Sequence[Person]) -> Tensor:
    """Mean cross-entropy of the named factors, the target counting thrice; what a target hides is not asked."""
    labels = torch.tensor(np.stack([[*p.visible_labels(), p.studio == "away"] for p in people]))
    losses = [F.cross_entropy(reading.choices[name], labels[:, k], ignore_index=-1) for k, name in enumerate(CHOICES)]
    return torch.stack([*losses, *2 * [losses[list(CHOICES).index("target")]]]).nanmean()
