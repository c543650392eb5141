"""What Python processes that a test starts do first: once they import JAX, it compiles as the test's own process does."""

import importlib.abc
import importlib.util
import sys
from types import ModuleType
from typing import Any

import fairyring_test_programs  # now: a process may change its path before it imports JAX

HOOKED = "jax._src.compiler"


class AfterImport(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> Any:
        if fullname != HOOKED:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def then_install(module: ModuleType) -> None:
            execute(module)
            fairyring_test_programs.install()

        spec.loader.exec_module = then_install
        return spec


sys.meta_path.insert(0, AfterImport())
