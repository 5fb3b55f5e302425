"""The targets, each in the place where it is put on: body, skin, face, head, or the whole picture."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from spf.miniature.canvas import EYE_Y, HEAD_Y, MOUTH_Y, PARTS, Canvas, Layer
from spf.miniature.shapes import arc, box, ellipse, ring, stroke, union

Wearers = Callable[[str], Layer]
FRECKLES = ((-0.24, 0.00), (-0.17, 0.05), (-0.25, 0.09), (-0.12, 0.11), (-0.19, 0.14), (-0.06, 0.02), (0.07, 0.03),
            (0.13, 0.10), (0.18, 0.04), (0.25, 0.01), (0.24, 0.10), (0.19, 0.15), (-0.02, 0.29), (0.10, 0.31),
            (-0.12, 0.30), (-0.10, -0.33), (0.02, -0.36), (0.13, -0.32))


def _colour(like: Tensor, *rgb: float) -> Tensor:
    return torch.tensor(rgb, device=like.device)[None, :, None, None]


def on_the_body(target: Wearers) -> None:
    """Armour, scarf, toy bear."""
    for name, put_on in (("armour", _armour), ("scarf", _scarf), ("bear", _bear)):
        layer = target(name)
        put_on(layer, layer.frames["xb"], layer.frames["yb"])


def _armour(layer: Layer, x: Tensor, y: Tensor) -> None:
    steel = _colour(x, 0.62, 0.66, 0.72) * layer.frames["shade_body"][:, None]
    plate = union(box(x, y, 0.0, 1.08, 0.72, 0.47, 0.32), box(x, y, 0.0, 1.4, 0.72, 0.7, 0.1))
    layer.fill(plate, steel, "target")
    layer.fill(box(x, y, 0.0, 0.60, 0.27, 0.12, 0.10), steel * 0.72, "target")
    shoulders = union(ellipse(x, y, -0.55, 0.80, 0.25, 0.18), ellipse(x, y, 0.55, 0.80, 0.25, 0.18))
    layer.fill(shoulders, (steel * 1.25).clamp(0, 1), "target")
    layer.fill(ring(shoulders, 0.026), steel * 0.45, "target")
    layer.fill(stroke(x, y, 0.0, 0.74, 0.0, 1.2, 0.030), steel * 0.45, "target")


def _scarf(layer: Layer, x: Tensor, y: Tensor) -> None:
    band = (torch.sin((x + 0.5 * y) * 18) > 0)[:, None]
    stripes = torch.where(band, _colour(x, 0.86, 0.14, 0.20), _colour(x, 0.97, 0.95, 0.86))
    scarf = union(box(x, y, 0.0, 0.55, 0.36, 0.125, 0.10), box(x, y, 0.20, 0.80, 0.125, 0.28, 0.04))
    layer.fill(scarf, stripes, "target")
    layer.fill(ring(scarf, 0.024), _colour(x, 0.55, 0.08, 0.14), "target")


def _bear(layer: Layer, x: Tensor, y: Tensor) -> None:
    fur, ink = _colour(x, 0.66, 0.42, 0.20), _colour(x, 0.10, 0.06, 0.05)
    ears = union(ellipse(x, y, 0.27, 0.57, 0.085, 0.085), ellipse(x, y, 0.59, 0.57, 0.085, 0.085))
    layer.fill(union(ears, ellipse(x, y, 0.43, 1.04, 0.22, 0.22)), fur * 0.80, "target")
    layer.fill(ellipse(x, y, 0.43, 0.72, 0.22, 0.20), fur, "target")
    layer.fill(ellipse(x, y, 0.43, 0.79, 0.11, 0.085), _colour(x, 0.93, 0.80, 0.60), "target")
    eyes = union(ellipse(x, y, 0.35, 0.67, 0.032, 0.032), ellipse(x, y, 0.51, 0.67, 0.032, 0.032))
    layer.fill(union(eyes, ellipse(x, y, 0.43, 0.76, 0.042, 0.030)), ink, "target")
    layer.fill(ellipse(x, y, 0.20, 0.96, 0.10, 0.08), layer.colours["skin"] * 0.92, "target")


def on_the_skin(target: Wearers) -> None:
    """Freckles, wrinkles, beard, eye shadow: under the eyes and the mouth."""
    layer = target("freckles")
    x, y = layer.frames["x"], layer.frames["y"]
    dots = union(*(ellipse(x, y, a, b, 0.027, 0.027) for a, b in FRECKLES))
    layer.fill(dots, layer.colours["skin"] * _colour(x, 0.66, 0.50, 0.42), "target")
    layer = target("old")
    x, y = layer.frames["x"], layer.frames["y"]
    brow = union(arc(x, y, 0.0, -0.31, 0.15, -0.02, 0.024), arc(x, y, 0.0, -0.39, 0.12, -0.02, 0.024))
    folds = union(*(stroke(x, y, s * 0.13, 0.06, s * 0.21, 0.20, 0.024) for s in (-1, 1)))
    bags = union(*(arc(x, y, s * layer["eye_spacing"], 0.0, 0.075, 0.03, 0.024) for s in (-1, 1)))
    layer.fill(union(brow, folds, bags), layer.colours["skin"] * 0.70, "target")
    _beard(target("beard"))
    layer = target("makeup")
    x, y, size = layer.frames["x"], layer.frames["y"], layer["eye_size"]
    lids = union(*(ellipse(x, y, s * layer["eye_spacing"], EYE_Y - 0.03, size * 1.75, size * 1.55) for s in (-1, 1)))
    layer.fill(lids, _colour(x, 0.46, 0.16, 0.66), "target")
    cheeks = union(*(ellipse(x, y, s * 0.23, 0.09, 0.09, 0.07) for s in (-1, 1)))
    layer.fill(cheeks, _colour(x, 0.95, 0.25, 0.42), "target", opacity=0.6)


def _beard(layer: Layer) -> None:
    x, y = layer.frames["x"], layer.frames["y"]
    widened = x / (1 + 1.1 * layer["jaw"] * y.clamp(min=0) / 0.4)
    chin = ellipse(widened, y, 0.0, HEAD_Y + 0.06, layer["face_width"] + 0.02, layer["face_height"] + 0.05)
    cheeks = ellipse(x, y, 0.0, -0.10, layer["face_width"] * 0.84, 0.26)
    layer.fill(torch.maximum(torch.maximum(chin, -cheeks), 0.02 - y), layer.colours["hair"] * 0.80, "target")


def on_the_face(target: Wearers) -> None:
    """Lipstick, the laugh, glasses."""
    layer = target("makeup")
    x, y, smile = layer.frames["x"], layer.frames["y"], layer["expression"]
    lips = arc(x, y, 0.0, MOUTH_Y - smile / 2, layer["mouth"], smile, 0.050)
    layer.fill(lips, _colour(x, 0.86, 0.04, 0.22), "target")
    layer = target("laughing")
    x, y = layer.frames["x"], layer.frames["y"]
    wide = layer["mouth"] + 0.05
    mouth = torch.maximum(ellipse(x, y, 0.0, MOUTH_Y - 0.04, wide, 0.17), MOUTH_Y - 0.05 - y)
    layer.fill(mouth - 0.02, _colour(x, 0.45, 0.06, 0.10), "target")
    layer.fill(torch.maximum(mouth, y - MOUTH_Y - 0.01), _colour(x, 0.98, 0.98, 0.96), "target")
    layer.fill(torch.maximum(ellipse(x, y, 0.0, MOUTH_Y + 0.12, wide * 0.6, 0.07), mouth), _colour(x, 0.90, 0.35, 0.40),
               "target")
    layer = target("glasses")
    x, y, apart = layer.frames["x"], layer.frames["y"], layer["eye_spacing"]
    rims = union(*(ring(ellipse(x, y, s * apart, EYE_Y, 0.135, 0.135), 0.026) for s in (-1, 1)))
    bridge = stroke(x, y, 0.135 - apart, EYE_Y - 0.02, apart - 0.135, EYE_Y - 0.02, 0.026)
    arms = union(*(stroke(x, y, s * (apart + 0.135), EYE_Y, s * layer["face_width"], EYE_Y - 0.03, 0.026)
                   for s in (-1, 1)))
    layer.fill(union(rims, bridge, arms), _colour(x, 0.05, 0.05, 0.10), "target")


def on_the_head(target: Wearers) -> None:
    """Mohawk, earrings, hat."""
    layer = target("mohawk")
    x, y, top = layer.frames["x"], layer.frames["y"], HEAD_Y - layer["face_height"]
    spikes = union(*(stroke(x, y, 0.35 * lean, top + 0.12, lean, top - 0.30 + 0.9 * abs(lean), 0.048)
                     for lean in (-0.18, -0.09, 0.0, 0.09, 0.18)))
    layer.fill(union(spikes, ellipse(x, y, 0.0, top + 0.07, 0.12, 0.14)), _colour(x, 0.12, 0.38, 0.95), "target")
    layer = target("earrings")
    x, y, ear = layer.frames["x"], layer.frames["y"], layer["face_width"] + 0.03
    hoops = union(*(ring(ellipse(x, y, s * ear, 0.13, 0.075, 0.095), 0.028) for s in (-1, 1)))
    layer.fill(hoops, _colour(x, 0.98, 0.80, 0.15), "target")
    layer = target("hat")
    x, y, wide = layer.frames["x"], layer.frames["y"], layer["face_width"]
    brim = HEAD_Y - 0.48 * layer["face_height"]
    crown = union(box(x, y, 0.0, brim - 0.22, wide * 0.95, 0.24, 0.10), box(x, y, 0.0, brim, wide + 0.24, 0.055, 0.05))
    layer.fill(crown, _colour(x, 0.36, 0.20, 0.10), "target")
    layer.fill(box(x, y, 0.0, brim - 0.09, wide * 0.95, 0.045, 0.01), _colour(x, 0.95, 0.76, 0.22), "target")


def whole_picture(canvas: Canvas, target: Wearers, away: Layer) -> None:
    """The away studio's warm light, then the pencil."""
    warm = _colour(canvas.image, 1.0, 0.80, 0.52)
    image = canvas.image[away.rows]
    canvas.image[away.rows] = 0.72 * image + 0.28 * warm * (0.45 + 0.75 * image.mean(1, keepdim=True))
    layer = target("pencil")
    if len(layer.rows):
        canvas.image[layer.rows] = _pencil(canvas.image[layer.rows], layer.frames["X"] + layer.frames["Y"])
        if canvas.masks is not None:
            canvas.masks[layer.rows] = _colour(canvas.image, *(float(p == "target") for p in PARTS)).expand(
                len(layer.rows), -1, *canvas.masks.shape[2:])


def _pencil(image: Tensor, diagonal: Tensor) -> Tensor:
    """Gray strokes along the edges of (b, 3, R, R), hatched where it was dark."""
    reach = max(1, round(image.shape[-1] / 128))
    gray = image.mean(1, keepdim=True)
    around = F.max_pool2d(F.pad(gray, [reach] * 4, mode="replicate"), 2 * reach + 1, stride=1)
    within = -F.max_pool2d(F.pad(-gray, [reach] * 4, mode="replicate"), 2 * reach + 1, stride=1)
    edges = ((around - within) * 2.6).clamp(0, 1)
    hatching = 0.10 * torch.sin(diagonal * 44)[:, None] * (1 - gray)
    return (0.97 - 0.30 * (1 - gray) - 0.75 * edges + hatching).clamp(0, 1).expand(-1, 3, -1, -1)
