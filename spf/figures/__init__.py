"""Figures that need a model: its portraits beside the original's, its attention, its control map.

They stand above the stages and the report; pages of what lies on disk already are in ``spf.report.figures``.
"""

from spf.figures import attention, continuous, insertion, motivation
from spf.report import figures as pages

FIGURES = {
    "attention": attention.attention,
    "insertion": insertion.insertion,
    "motivation": motivation.motivation,
    "fidelity": pages.fidelity,
    "qualitative": pages.qualitative,
    "continuous": continuous.continuous,
    "sensitivity": pages.sensitivity,
}
"""``spf figures NAME``: Figures 2a, 2b, 4, 5, 6 (with 9 and 13), 7a (with 17) and 14."""
