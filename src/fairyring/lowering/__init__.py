"""Programs in the form that suits the hardware: which processors run them (`hardware`), and what is rewritten for a CPU.

A rewritten program computes the same numbers faster: see `lower_for_cpu` and `align_dense`.
"""

from fairyring.lowering._dense import Storage, align_dense
from fairyring.lowering._elementwise import keeps_padding
from fairyring.lowering._hardware import SMALL_MODEL, Hardware, hardware
from fairyring.lowering._pass import lower_for_cpu
from fairyring.lowering._work import multiply_adds

__all__ = [
    "SMALL_MODEL",
    "Hardware",
    "Storage",
    "align_dense",
    "hardware",
    "keeps_padding",
    "lower_for_cpu",
    "multiply_adds",
]
