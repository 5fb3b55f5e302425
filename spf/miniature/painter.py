"""Flat-design portraits from signed-distance shapes: any resolution, batched, deterministic, with a mask per part.

Nothing that is judged is thinner than 3 px at 128 px, that is 0.047 of half an image.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from spf.miniature import accessories
from spf.miniature.canvas import EYE_Y, HEAD_Y, MOUTH_Y, PARTS, Canvas, Layer
from spf.miniature.people import Person
from spf.miniature.shapes import arc, box, ellipse, ring, stroke, union

Is = Callable[..., list[bool]]

SKIN = {"pale": (0.97, 0.86, 0.79), "fair": (0.94, 0.75, 0.62), "tan": (0.80, 0.59, 0.43),
        "brown": (0.58, 0.39, 0.27), "dark": (0.37, 0.24, 0.17)}
HAIR = {"black": (0.11, 0.10, 0.12), "brown": (0.40, 0.24, 0.13), "blonde": (0.90, 0.73, 0.36),
        "red": (0.72, 0.27, 0.10), "gray": (0.63, 0.64, 0.67)}
GARMENT = {"red": (0.80, 0.15, 0.18), "blue": (0.17, 0.34, 0.74), "green": (0.16, 0.54, 0.30),
           "white": (0.93, 0.93, 0.91), "brown": (0.46, 0.29, 0.17), "yellow": (0.95, 0.79, 0.20)}
BACKGROUND = {"gray": (0.52, 0.55, 0.59), "teal": (0.13, 0.56, 0.58), "pink": (0.95, 0.65, 0.73),
              "orange": (0.95, 0.56, 0.20), "purple": (0.47, 0.27, 0.63), "cream": (0.94, 0.90, 0.80)}
IRIS = torch.tensor([(0.26, 0.15, 0.09), (0.24, 0.50, 0.28), (0.25, 0.50, 0.85)])
WHITE, INK = (0.97, 0.97, 0.97), (0.06, 0.05, 0.06)
PIVOT = 0.28  # about which the head tilts


def paint(people: Sequence[Person], resolution: int = 128, device: str | torch.device = "cpu") -> Tensor:
    """Portraits (B, 3, R, R) in [0, 1], float32."""
    return _paint(people, resolution, torch.device(device), with_masks=False).image.clamp(0, 1)


def paint_with_parts(people: Sequence[Person], resolution: int = 128,
                     device: str | torch.device = "cpu") -> tuple[Tensor, dict[str, Tensor]]:
    """Portraits (B, 3, R, R) and the visible part masks {name: (B, R, R)} in [0, 1], which sum to 1."""
    canvas = _paint(people, resolution, torch.device(device), with_masks=True)
    assert canvas.masks is not None
    return canvas.image.clamp(0, 1), {name: canvas.masks[:, k] for k, name in enumerate(PARTS)}


def response_region(people: Sequence[Person], resolution: int = 128) -> Tensor:
    """Where the target truly acts: the counterfactual difference (B, R, R) in [0, 1], 1 from a change of 0.1 on."""
    return changed(paint(people, resolution), paint([person.without_target() for person in people], resolution))


def changed(image: Tensor, plain: Tensor) -> Tensor:
    """Where two images (B,3,R,R) differ: (B,R,R) in [0,1], 1 from a difference of 0.1 on."""
    return ((image - plain).abs().amax(1) / 0.1).clamp(max=1)


@torch.no_grad()
def _paint(people: Sequence[Person], resolution: int, device: torch.device, with_masks: bool) -> Canvas:
    canvas = Canvas(len(people), resolution, device, with_masks)
    layer = _scene(people, canvas, resolution, device)

    def is_(name: str, *values: str) -> list[bool]:
        return [person.attributes[name] in values for person in people]

    def target(name: str) -> Layer:
        return layer.only([person.target == name for person in people])

    hair = layer.only([p.target != "mohawk" for p in people])
    _background(layer, is_)
    _hair_behind(hair, is_)
    _body(layer, is_)
    accessories.on_the_body(target)
    _head(layer)
    accessories.on_the_skin(target)
    _features(layer)
    accessories.on_the_face(target)
    _hair_in_front(hair, is_)
    accessories.on_the_head(target)
    accessories.whole_picture(canvas, target, layer.only([p.studio == "away" for p in people]))
    return canvas


def _scene(people: Sequence[Person], canvas: Canvas, resolution: int, device: torch.device) -> Layer:
    numbers = {name: torch.tensor([p.factors[name] for p in people], device=device)[:, None, None]
               for name in (*people[0].identity, *people[0].nuisance)}
    palettes = {"skin": SKIN, "hair_colour": HAIR, "garment_colour": GARMENT, "background_colour": BACKGROUND}
    colours = {name: torch.tensor([palette[p.attributes[name]] for p in people], device=device)[:, :, None, None]
               for name, palette in palettes.items()}
    white = torch.tensor((0.86, 0.86, 0.89), device=device)[None, :, None, None]
    old = torch.tensor([p.target == "old" for p in people], device=device)[:, None, None, None]
    colours["hair"] = torch.where(old, white, colours.pop("hair_colour"))
    colours["iris"] = _iris(numbers["iris"].to("cpu")).to(device)
    grid = (torch.arange(resolution, device=device) + 0.5) / resolution * 2 - 1
    Y, X = (g.expand(len(people), -1, -1) for g in torch.meshgrid(grid, grid, indexing="ij"))
    xb, yb = (X - numbers["offset_x"]) / numbers["zoom"], (Y - numbers["offset_y"]) / numbers["zoom"]
    cos, sin, lift = torch.cos(numbers["tilt"]), torch.sin(numbers["tilt"]), yb - PIVOT
    frames = {"X": X, "Y": Y, "xb": xb, "yb": yb, "x": cos * xb + sin * lift, "y": cos * lift - sin * xb + PIVOT}
    light = numbers["light"]
    frames["shade"] = 1 + (0.42 * light * frames["x"]).clamp(-0.30, 0.10) - 0.04 * light.abs()
    frames["shade_body"] = 1 + (0.30 * light * xb).clamp(-0.25, 0.08)
    return Layer(canvas, torch.arange(len(people), device=device), frames, numbers, colours)


def _iris(place: Tensor) -> Tensor:
    """Brown, green, blue, blended: (B, 1, 1) in [0, 1] -> (B, 3, 1, 1)."""
    brown, green, blue = IRIS[:, None, :]
    place = place[:, 0]
    return torch.where(place < 0.5, torch.lerp(brown, green, 2 * place), torch.lerp(green, blue, 2 * place - 1))[
        :, :, None, None]


def _background(layer: Layer, is_: Is) -> None:
    everywhere = torch.full_like(layer.frames["X"], -1.0)
    layer.fill(everywhere, layer.colours["background_colour"], "background")
    curtain = layer.only(is_("background", "curtain"))
    folds = 1 + 0.20 * torch.sin(curtain.frames["X"] * 20)[:, None]
    curtain.fill(everywhere[: len(curtain.rows)], (curtain.colours["background_colour"] * folds).clamp(0, 1), None)
    fade = layer.only(is_("background", "gradient"))
    ramp = fade.frames["Y"][:, None]
    light = fade.colours["background_colour"] + 0.34 * (-ramp).clamp(min=0)
    fade.fill(everywhere[: len(fade.rows)], (light * (1 - 0.55 * ramp.clamp(min=0))).clamp(0, 1), None)
    window = layer.only(is_("background", "window"))
    X, Y = window.frames["X"], window.frames["Y"]
    pane = box(X, Y, -0.52, -0.50, 0.40, 0.42, 0.03)
    sky = torch.tensor((0.80, 0.91, 0.98), device=X.device)[None, :, None, None].expand(len(X), -1, -1, -1)
    window.fill(pane, sky, None)
    bars = union(stroke(X, Y, -0.52, -0.90, -0.52, -0.10, 0.030), stroke(X, Y, -0.90, -0.50, -0.14, -0.50, 0.030))
    window.fill(union(bars, ring(pane, 0.036)), window.colours["background_colour"] * 0.50, None)


def _hair_behind(layer: Layer, is_: Is) -> None:
    for style, bottom, side in (("long", 0.62, 0.11), ("bob", 0.24, 0.12)):
        hair = layer.only(is_("hair_style", style))
        x, y, wide, high = hair.frames["x"], hair.frames["y"], hair["face_width"], hair["face_height"]
        crown = ellipse(x, y, 0.0, HEAD_Y - 0.03, wide + side, high + 0.09)
        fall = box(x, y, 0.0, (bottom + HEAD_Y) / 2, wide + side, (bottom - HEAD_Y) / 2, 0.10)
        hair.fill(union(crown, fall), hair.colours["hair"] * 0.80, "hair")
    curly = layer.only(is_("hair_style", "curly"))
    curly.fill(_curls(curly), curly.colours["hair"] * 0.84, "hair")
    bun = layer.only(is_("hair_style", "bun"))
    x, y = bun.frames["x"], bun.frames["y"]
    bun.fill(ellipse(x, y, 0.0, HEAD_Y - bun["face_height"] - 0.12, 0.18, 0.16), bun.colours["hair"] * 0.86, "hair")


def _curls(layer: Layer) -> Tensor:
    x, y = layer.frames["x"], layer.frames["y"]
    bumps = 0.04 * torch.sin(torch.atan2(y + 0.12, x) * 11)
    return ellipse(x, y, 0.0, HEAD_Y - 0.07, layer["face_width"] + 0.17, layer["face_height"] + 0.11) - bumps


def _body(layer: Layer, is_: Is) -> None:
    xb, yb = layer.frames["xb"], layer.frames["yb"]
    skin, cloth = layer.colours["skin"], layer.colours["garment_colour"]
    layer.fill(box(xb, yb, 0.0, 0.46, 0.14, 0.28, 0.05), skin * 0.84, "skin")
    shoulders = union(box(xb, yb, 0.0, 1.08, 0.72, 0.47, 0.32), box(xb, yb, 0.0, 1.4, 0.72, 0.7, 0.1))
    layer.fill(shoulders, (cloth * layer.frames["shade_body"][:, None]).clamp(0, 1), "clothes")
    for garment, paint_collar in (("shirt", _shirt), ("jacket", _jacket), ("sweater", _sweater), ("dress", _dress)):
        worn = layer.only(is_("garment", garment))
        paint_collar(worn, worn.frames["xb"], worn.frames["yb"])


def _shirt(layer: Layer, x: Tensor, y: Tensor) -> None:
    layer.fill(ellipse(x, y, 0.0, 0.62, 0.19, 0.14), layer.colours["skin"] * 0.88, "skin")
    wings = union(stroke(x, y, -0.20, 0.63, -0.05, 0.84, 0.06), stroke(x, y, 0.20, 0.63, 0.05, 0.84, 0.06))
    layer.fill(wings, (layer.colours["garment_colour"] * 0.5 + 0.25).clamp(0, 1), "clothes")


def _jacket(layer: Layer, x: Tensor, y: Tensor) -> None:
    inner = torch.full_like(layer.colours["skin"], 0.90)
    opening = torch.maximum(x.abs() - 0.26 * ((1.12 - y) / 0.55).clamp(0, 1), 0.60 - y)
    layer.fill(opening, inner, "clothes")
    layer.fill(ellipse(x, y, 0.0, 0.62, 0.15, 0.11), layer.colours["skin"] * 0.88, "skin")
    lapels = union(stroke(x, y, -0.26, 0.62, -0.05, 1.05, 0.075), stroke(x, y, 0.26, 0.62, 0.05, 1.05, 0.075))
    layer.fill(lapels, layer.colours["garment_colour"] * 0.50, "clothes")


def _sweater(layer: Layer, x: Tensor, y: Tensor) -> None:
    neck = box(x, y, 0.0, 0.58, 0.21, 0.10, 0.08)
    layer.fill(neck, (layer.colours["garment_colour"] * 0.72), "clothes")
    layer.fill(stroke(x, y, -0.70, 0.93, 0.70, 0.93, 0.035), layer.colours["garment_colour"] * 0.72, "clothes")


def _dress(layer: Layer, x: Tensor, y: Tensor) -> None:
    layer.fill(ellipse(x, y, 0.0, 0.62, 0.42, 0.25), layer.colours["skin"] * 0.92, "skin")


def _head(layer: Layer) -> None:
    x, y, wide = layer.frames["x"], layer.frames["y"], layer["face_width"]
    skin, shade = layer.colours["skin"], layer.frames["shade"][:, None]
    ears = union(ellipse(x, y, -wide - 0.005, -0.06, 0.065, 0.095), ellipse(x, y, wide + 0.005, -0.06, 0.065, 0.095))
    layer.fill(ears, skin * 0.86, "skin")
    layer.fill(face(layer), (skin * shade).clamp(0, 1), "skin")
    blush = torch.tensor((0.92, 0.40, 0.36), device=x.device)[None, :, None, None]
    cheeks = union(ellipse(x, y, -wide * 0.56, 0.10, 0.10, 0.075), ellipse(x, y, wide * 0.56, 0.10, 0.10, 0.075))
    layer.fill(cheeks, blush, None, opacity=0.22)


def face(layer: Layer) -> Tensor:
    """Distance to the outline of the face; ``jaw`` widens its lower half."""
    x, y = layer.frames["x"], layer.frames["y"]
    widened = x / (1 + 1.1 * layer["jaw"] * y.clamp(min=0) / 0.4)
    return ellipse(widened, y, 0.0, HEAD_Y + 0.04, layer["face_width"], layer["face_height"])


def _features(layer: Layer) -> None:
    x, y, skin, hair = layer.frames["x"], layer.frames["y"], layer.colours["skin"], layer.colours["hair"]
    apart, size = layer["eye_spacing"], layer["eye_size"]
    white, ink = (torch.tensor(c, device=x.device)[None, :, None, None] for c in (WHITE, INK))
    for side in (-1, 1):
        at = side * apart
        layer.fill(ellipse(x, y, at, EYE_Y, size * 1.30, size * 0.98), white, "eyes")
        layer.fill(ellipse(x, y, at, EYE_Y, size * 0.94, size * 0.94), layer.colours["iris"], "eyes")
        layer.fill(ellipse(x, y, at, EYE_Y, size * 0.36, size * 0.40), ink, "eyes")
        brow = stroke(x, y, side * (apart - 0.075), EYE_Y - 0.142, side * (apart + 0.085), EYE_Y - 0.152, layer["brow"])
        layer.fill(brow, hair * 0.72, "hair")
    tip = EYE_Y + 0.06 + layer["nose"]
    nose = union(stroke(x, y, 0.0, EYE_Y + 0.04, 0.030, tip, 0.024), stroke(x, y, 0.030, tip, -0.025, tip, 0.024))
    layer.fill(nose, skin * 0.74, "skin")
    smile = layer["expression"]
    lips = torch.tensor((0.72, 0.28, 0.30), device=x.device)[None, :, None, None]
    layer.fill(arc(x, y, 0.0, MOUTH_Y - smile / 2, layer["mouth"], smile, 0.029), lips, "mouth")


def _hair_in_front(layer: Layer, is_: Is) -> None:
    smooth = layer.only(is_("hair_style", "short", "long", "bob", "bun"))
    x, y, wide, high = smooth.frames["x"], smooth.frames["y"], smooth["face_width"], smooth["face_height"]
    fringe = y - (HEAD_Y - high * 0.44) - 0.05 * torch.cos(x * 7 + 1)
    cap = torch.maximum(ellipse(x, y, 0.0, HEAD_Y - 0.02, wide + 0.055, high + 0.07), fringe)
    smooth.fill(cap, (smooth.colours["hair"] * smooth.frames["shade"][:, None]).clamp(0, 1), "hair")
    curly = layer.only(is_("hair_style", "curly"))
    x, y, high = curly.frames["x"], curly.frames["y"], curly["face_height"]
    fringe = y - (HEAD_Y - high * 0.42) - 0.05 * torch.cos(x * 20)
    top = torch.maximum(_curls(curly), fringe)
    curly.fill(top, (curly.colours["hair"] * curly.frames["shade"][:, None]).clamp(0, 1), "hair")
    for style, end in (("long", 0.42), ("bob", 0.14)):
        hair = layer.only(is_("hair_style", style))
        x, y, wide = hair.frames["x"], hair.frames["y"], hair["face_width"]
        locks = union(stroke(x, y, -wide - 0.03, -0.40, -wide - 0.035, end, 0.062),
                      stroke(x, y, wide + 0.03, -0.40, wide + 0.035, end, 0.062))
        hair.fill(locks, hair.colours["hair"] * 0.92, "hair")
