"""Programs rewritten for the CPU they run on: same numbers, faster forms. See `lower_for_cpu` and `align_dense`."""

from fairyring.lowering._dense import Storage, align_dense
from fairyring.lowering._elementwise import keeps_padding
from fairyring.lowering._pass import lower_for_cpu

__all__ = ["Storage", "align_dense", "keeps_padding", "lower_for_cpu"]
