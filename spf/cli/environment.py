"""Who started this process."""

from lightning.pytorch.plugins.environments import SLURMEnvironment, TorchElasticEnvironment


def slurm() -> list[SLURMEnvironment]:
    """Where SLURM started this process: its ranks, without Lightning's own requeueing, which saves in mid-step."""
    ours = SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()
    return [SLURMEnvironment(auto_requeue=False)] if ours else []
