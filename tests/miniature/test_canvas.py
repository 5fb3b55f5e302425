import torch

from spf.miniature.canvas import PARTS, Canvas, Layer


def layer(canvas: Canvas, rows: int) -> Layer:
    numbers = {"size": torch.arange(rows).view(-1, 1, 1) / 10}
    return Layer(canvas, torch.arange(rows), {"x": torch.zeros(rows, 4, 4)}, numbers, {})


def test_what_is_painted_later_hides_what_was_there_and_its_mask() -> None:
    canvas = Canvas(1, 4, torch.device("cpu"))
    red, blue = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1), torch.tensor([0, 0, 1.0]).view(1, 3, 1, 1)
    canvas.over(torch.tensor([0]), torch.ones(1, 4, 4), red, "background")
    canvas.over(torch.tensor([0]), torch.full((1, 4, 4), 0.25), blue, "skin")
    assert torch.allclose(canvas.image[0, :, 0, 0], torch.tensor([0.75, 0.0, 0.25]))
    masks = dict(zip(PARTS, canvas.masks[0, :, 0, 0].tolist(), strict=True))
    assert masks["background"] == 0.75 and masks["skin"] == 0.25 and sum(masks.values()) == 1


def test_a_shape_is_antialiased_at_its_border() -> None:
    canvas = Canvas(1, 64, torch.device("cpu"))
    share = canvas.coverage(torch.tensor([-1.0, 0.0, 1.0]))
    assert share.tolist() == [1.0, 0.5, 0.0]


def test_only_keeps_rows_and_what_belongs_to_them() -> None:
    canvas = Canvas(3, 4, torch.device("cpu"))
    some = layer(canvas, 3).only([False, True, True]).only([True, True, False])
    assert some.rows.tolist() == [1]
    assert torch.equal(some["size"], torch.tensor([[[0.1]]]))
    some.fill(torch.full((1, 4, 4), -1.0), torch.ones(1, 3, 1, 1), "hair")
    assert canvas.image.sum((1, 2, 3)).tolist() == [0.0, 48.0, 0.0]


def test_filling_no_rows_changes_nothing() -> None:
    canvas = Canvas(2, 4, torch.device("cpu"))
    nobody = layer(canvas, 2).only([False, False])
    nobody.fill(torch.zeros(0, 4, 4), torch.ones(0, 3, 1, 1), "hair")
    assert canvas.image.sum() == 0
