"""A function as StableHLO for fixed shapes, for other compilers and formats."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import jax
import numpy as np
from jax.extend.mlir import refine_polymorphic_shapes
from jaxlib.mlir import ir


def lowered(function: Callable[..., Any], *arguments: Any) -> ir.Module:
    """The StableHLO of a function, for a CPU and for these shapes: no shape in it is left open.

    An exported program for any number of rows has dynamic shapes within it also where it is called with a number of them. The pass with
    which JAX refines them when it compiles takes them out, and inlines functions on its way.

    Args:
        function: of JAX arrays.
        arguments: pytrees of arrays, or of their shapes and types.
    """
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype), arguments)
    traced = jax.jit(function, keep_unused=True).trace(*shapes)
    module: Any = traced.lower(lowering_platforms=("cpu",)).compiler_ir("stablehlo")
    content = BytesIO()
    module.operation.write_bytecode(content)
    refined = refine_polymorphic_shapes(
        content.getvalue(), enable_shape_assertions=True, validate_static_shapes=True
    )
    with module.context:
        return ir.Module.parse(refined)
