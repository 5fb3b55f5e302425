"""FSDP2: each device holds a share of the denoiser, of its gradients and of its optimizer's moments (Zhao et al. 2023).

Lightning's ``ModelParallelStrategy`` brings the processes together; what is sharded is said here.
"""

import torch
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from spf.backbones import Backbone

COMPUTED = {"32-true": None, "bf16-mixed": torch.bfloat16}
"""By the trainer's precision, that in which a block's weights are gathered; None is that of the weights."""


def shard(backbone: Backbone, mesh: DeviceMesh, precision: str) -> None:
    """Shard the denoiser over the data-parallel devices of ``mesh``, block by block, in place; names stay.

    Raises ValueError for another ``precision`` than those of ``COMPUTED``, or a mesh that is parallel in other ways.
    """
    if precision not in COMPUTED:
        raise ValueError(f"a sharded denoiser needs trainer.precision {' or '.join(COMPUTED)}, not {precision}")
    if mesh["tensor_parallel"].size() > 1:
        raise ValueError("the strategy's tensor_parallel_size is to be 1, and data_parallel_size the number of devices")
    # inputs keep their precision: t in bfloat16 would have three digits; autocast rounds where it may
    policy = MixedPrecisionPolicy(COMPUTED[precision], torch.float32, cast_forward_inputs=False)
    backbone.denoiser.to(memory_format=torch.contiguous_format)  # no other can be sharded
    for part in (*backbone.blocks(), backbone.denoiser):
        fully_shard(part, mesh=mesh["data_parallel"], mp_policy=policy)
