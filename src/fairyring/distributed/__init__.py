"""The clients of a round shared among machines, each with a compiled engine of its own."""

from fairyring.distributed.on_ray import RayEngine, ray, send_by_value
from fairyring.distributed.starting import Prepared, prepare
from fairyring.distributed.worker import Cluster, DistributedWorker, NodeLost

__all__ = [
    "Cluster",
    "DistributedWorker",
    "NodeLost",
    "Prepared",
    "RayEngine",
    "prepare",
    "ray",
    "send_by_value",
]
