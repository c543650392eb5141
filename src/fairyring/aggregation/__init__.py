"""How an update is aggregated: stages on the device, the sum, and the inverse stages on the server.

examples -> local training -> delta -> weight -> clip -> rotate -> quantize -> secure sum -> back again
"""

from fairyring.aggregation.clipping import clip
from fairyring.aggregation.composition import chain, complete
from fairyring.aggregation.contract import Auxiliary, BoundStage, Message, MessageSpec, Properties, Stage
from fairyring.aggregation.modular import secure_sum
from fairyring.aggregation.quantization import quantize
from fairyring.aggregation.rotation import rotate
from fairyring.aggregation.selection import top_k
from fairyring.aggregation.sketching import count_sketch
from fairyring.aggregation.subsampling import random_k
from fairyring.aggregation.weighting import weight_by_examples, weight_uniformly

__all__ = [
    "Auxiliary",
    "BoundStage",
    "Message",
    "MessageSpec",
    "Properties",
    "Stage",
    "chain",
    "clip",
    "complete",
    "count_sketch",
    "quantize",
    "random_k",
    "rotate",
    "secure_sum",
    "top_k",
    "weight_by_examples",
    "weight_uniformly",
]
