"""More of the target: the one-step image is to differ from the target text as the true image does (Eq. 9 to 11).

All arguments are unit vectors (B,E) of one CLIP: of the one-step image (with gradient), of the portrait x_0 and of the
target text.
"""

from torch import Tensor
from torch.nn import functional


def representation_bias(image: Tensor, target_text: Tensor) -> Tensor:
    """Delta (B,E), Eq. 10: from the target text to an image that shows it."""
    # ---- Eq. 10: Delta(x, E_tar) = tau_vision(x) - tau_text(E_tar) ----
    return image - target_text


def enhanced(one_step_image: Tensor, portrait: Tensor, target_text: Tensor) -> Tensor:
    """L_enhanced, Eq. 11, (B,) in [0,2]: the two biases are to point the same way."""
    predicted, true = (representation_bias(image, target_text) for image in (one_step_image, portrait.detach()))
    # ---- Eq. 11: 1 - D_CLIP(Delta(x_{t->0}, E_tar), Delta(x_0, E_tar)) ----
    return 1 - functional.cosine_similarity(predicted, true)


def direct_clip(one_step_image: Tensor, target_text: Tensor) -> Tensor:
    """L_clip, Eq. 9, (B,) in [0,2]: what Fig. 5 compares with, the image held against the text itself."""
    # ---- Eq. 9: 1 - D_CLIP(tau_vision(x_{t->0}), tau_text(E_tar)) ----
    return 1 - functional.cosine_similarity(one_step_image, target_text)
