"""Programs rewritten for the CPU they run on: same numbers, faster forms. See `lower_for_cpu`."""

from fairyring.lowering._pass import lower_for_cpu

__all__ = ["lower_for_cpu"]
