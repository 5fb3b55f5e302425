"""What is timed on: the shipped miniatures, or SD 1.5 at its real size with random weights; and a batch for each."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, PNDMScheduler
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTextConfig, CLIPTextModel

from spf.backbones import BASES
from spf.backbones.clip_bpe import clip_tokenizer
from spf.backbones.unet import SD15_CONFIG, UNetBackbone, random_unet
from spf.clip import CLIPS, VIT_L_14
from spf.miniature.painter import paint
from spf.miniature.people import CLAIMS, base_text, draw_people, phrase, target_text
from spf.portraits.datamodule import PortraitBatch

SEED = 510_000


@dataclass(frozen=True)
class Base:
    """A base model, the CLIP of its losses, and a tiny decoder for it."""

    name: str  # of the folder of its stage1.yaml and stage2.yaml in experiments
    folders: dict[str, str]  # what a recipe would have to fetch, by the recipe's own keys
    tiny: str  # folder of an AutoencoderTiny with random weights
    batch: Callable[[int], PortraitBatch]  # makes so many portraits


@contextmanager
def prepared(name: str) -> Iterator[Base]:
    """``miniature``, ``miniature_mmdit`` or ``sd15``; what has random weights lies in a folder for as long (3 GB)."""
    with TemporaryDirectory() as place:
        folder = Path(place)
        torch.manual_seed(SEED)
        if name in ("miniature", "miniature_mmdit"):
            folders, batch = {"base": BASES[name], "clip": CLIPS["miniature"]}, painted
            _tiny(folder / "tiny", channels=16, width=32)
        else:
            folders, batch = {"base": str(folder / "base"), "clip": str(folder / "clip")}, random_portraits
            _tiny(folder / "tiny", channels=4, width=64)
            _random_sd15(folder / "base")
            _random_clip(folder / "clip")
        yield Base(name, folders, str(folder / "tiny"), batch)


def painted(count: int) -> PortraitBatch:
    """Portraits of the away studio with glasses, 128 pixels, each with its five phrases."""
    people = draw_people(count, SEED, ("glasses",), "away")
    phrases = [tuple(phrase(person, name) for name in CLAIMS) for person in people]
    return PortraitBatch(paint(people, 128), [base_text(person) for person in people],
                         [target_text("glasses")] * count, phrases, [str(index) for index in range(count)])


def random_portraits(count: int) -> PortraitBatch:
    """Noise of 512 pixels under the prompt of Fig. 3."""
    images = torch.rand(count, 3, 512, 512, generator=torch.Generator().manual_seed(SEED))
    phrases = ("A woman", "in a brown jacket", "with a curtain background")
    return PortraitBatch(images, [", ".join([" ".join(phrases[:2]), phrases[2]])] * count, ["blonde hair"] * count,
                         [phrases] * count, [str(index) for index in range(count)])


def _random_sd15(folder: Path) -> None:
    backbone = UNetBackbone(
        random_unet(SD15_CONFIG / "unet"),
        AutoencoderKL.from_config(AutoencoderKL.load_config(SD15_CONFIG / "vae")),
        CLIPTextModel(CLIPTextConfig.from_pretrained(SD15_CONFIG / "text_encoder")),
        clip_tokenizer(),
        PNDMScheduler.from_pretrained(SD15_CONFIG / "scheduler"))
    backbone.save(folder, torch.float16)


def _random_clip(folder: Path) -> None:
    CLIPModel(CLIPConfig(**VIT_L_14)).half().save_pretrained(folder)
    CLIPImageProcessor().save_pretrained(folder)
    clip_tokenizer().save_pretrained(folder)


def _tiny(folder: Path, channels: int, width: int) -> None:
    blocks = {"encoder_block_out_channels": (width,) * 4, "decoder_block_out_channels": (width,) * 4}
    AutoencoderTiny(latent_channels=channels, **blocks).save_pretrained(folder)
