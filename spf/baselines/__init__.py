"""Other methods, each as a choice in one seam; none brings a loop, a pipeline or a sampler of its own.

What is minimised: ``tokencompose`` (``masks`` says where phrases are), ``preservation``; ``objective`` has all weights.
What is changed while generating: ``magnet``, ``storm`` (whose cost is ``arrangement``); ``effect`` says how much.
"""

from spf.baselines.magnet import Magnet
from spf.baselines.storm import Storm
from spf.notation import Guidance

GUIDANCES: dict[str, type[Guidance]] = {kind.__name__: kind for kind in (Magnet, Storm)}
"""By the name that a YAML gives."""

__all__ = ["GUIDANCES", "Magnet", "Storm"]
