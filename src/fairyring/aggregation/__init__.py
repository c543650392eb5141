"""How an update is aggregated: stages on the device, the sum, and the inverse stages on the server.

examples -> local training -> delta -> weight -> clip -> rotate -> quantize -> secure sum -> back again

Names are imported on first use: a device that packs its report needs no JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairyring.aggregation.clipping import clip as clip
    from fairyring.aggregation.composition import chain as chain
    from fairyring.aggregation.composition import complete as complete
    from fairyring.aggregation.contract import Auxiliary as Auxiliary
    from fairyring.aggregation.contract import BoundStage as BoundStage
    from fairyring.aggregation.contract import Message as Message
    from fairyring.aggregation.contract import MessageSpec as MessageSpec
    from fairyring.aggregation.contract import Properties as Properties
    from fairyring.aggregation.contract import Stage as Stage
    from fairyring.aggregation.modular import secure_sum as secure_sum
    from fairyring.aggregation.quantization import quantize as quantize
    from fairyring.aggregation.rotation import rotate as rotate
    from fairyring.aggregation.selection import top_k as top_k
    from fairyring.aggregation.sketching import count_sketch as count_sketch
    from fairyring.aggregation.subsampling import random_k as random_k
    from fairyring.aggregation.weighting import weight_by_examples as weight_by_examples
    from fairyring.aggregation.weighting import weight_uniformly as weight_uniformly

_MODULES = {
    "clipping": ("clip",),
    "composition": ("chain", "complete"),
    "contract": ("Auxiliary", "BoundStage", "Message", "MessageSpec", "Properties", "Stage"),
    "modular": ("secure_sum",),
    "quantization": ("quantize",),
    "rotation": ("rotate",),
    "selection": ("top_k",),
    "sketching": ("count_sketch",),
    "subsampling": ("random_k",),
    "weighting": ("weight_by_examples", "weight_uniformly"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_MODULE_OF)  # pyright: ignore[reportUnsupportedDunderAll] the names above


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'fairyring.aggregation' has no attribute {name!r}")
    value = getattr(import_module(f"fairyring.aggregation.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
