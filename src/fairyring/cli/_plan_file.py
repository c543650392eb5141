"""A Python file that defines a plan and a population."""

import importlib.util
import inspect
import sys
import tomllib
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from fairyring.core.errors import FairyringError, PlanError

_MODULE = "fairyring_plan_file"


@dataclass(frozen=True)
class PlanFile:
    """What a plan file defines: `plan` and `population`, and optionally the other fields."""

    plan: Any
    population: Any
    test: Any = None
    validation: Any = None
    rounds: int | None = None
    seed: int | None = None
    evaluate_every: int | None = None
    dropout: float | str | None = None
    secure_sum: str | None = None
    keep_client_states: bool | None = None
    stop: Any = None
    keep: Any = None
    init: Any = None
    track: Any = None
    participants: Any = None

    @classmethod
    def read(cls, path: Path, *, population: bool = True) -> "PlanFile":
        """Run the file and collect what it defines. `population` and `test` may be functions that give them.

        Args:
            path: of the file.
            population: whether the population is wanted. A service has none: where it is a function, that is not called.

        Raises:
            PlanError: there is no such file, it raises an error, or it defines no plan or no population.
        """
        module = _run(path)
        defined = {name: getattr(module, name) for name in cls.__dataclass_fields__ if hasattr(module, name)}
        examples = {
            "plan": "plan = fr.Plan(...)",
            "population": "population = fr.Population.from_arrays(...)",
        }
        if not population:
            del examples["population"]
            defined["population"] = None
        for name in ("population", "test"):
            if inspect.isfunction(defined.get(name)):
                with _explained(path):
                    defined[name] = defined[name]()
        for name, example in examples.items():
            if name not in defined:
                raise PlanError(
                    str(path),
                    given=f"a file that defines no {name!r}",
                    expected="a file that defines 'plan' and 'population'",
                    do=f"Add a line such as {example}.",
                )
        for name in ("rounds", "seed", "evaluate_every"):
            value = defined.get(name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                raise PlanError(
                    f"{path}, {name}",
                    given=repr(value),
                    expected="a whole number",
                    do=f"Set it, as in {name} = 100.",
                )
        return cls(**defined)

    def planned_rounds(self, path: Path, given: int | None) -> int:
        """The number of rounds: as `given` on the command line, else that in the file.

        Raises:
            PlanError: there is neither.
        """
        rounds = self.rounds if given is None else given
        if rounds is None:
            raise PlanError(
                str(path),
                given="no number of rounds",
                expected="a number of rounds",
                do="Add a line such as rounds = 100, or give --rounds 100.",
            )
        return rounds

    def options(self, *names: str) -> dict[str, Any]:
        """Those of these fields that the file defines."""
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def settings_from(items: Sequence[str]) -> dict[str, str]:
    """``["local.batch_size=5"]`` as ``{"local.batch_size": "5"}``.

    Raises:
        PlanError: an item has no name or no ``=``.
    """
    settings = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not name.strip() or not equals:
            raise PlanError(
                "--set", given=repr(item), expected="NAME=VALUE", do="Write it as --set local.batch_size=5."
            )
        settings[name.strip()] = value.strip()
    return settings


def settings_in(file: Path | None) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The settings in a TOML file: ``[local]`` and ``batch_size = 5`` as ``{"local.batch_size": "5"}``, and lists, which are for sweeps.

    Raises:
        PlanError: it is not a TOML file.
    """
    single: dict[str, str] = {}
    several: dict[str, list[str]] = {}
    if file is None:
        return single, several
    try:
        content = tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise PlanError(
            str(file), given=f"{error}", expected="a TOML file of settings", do="Correct it, or use --set."
        ) from error

    def collect(table: Mapping[str, Any], path: str) -> None:
        for name, value in table.items():
            whole = f"{path}.{name}" if path else name
            if isinstance(value, Mapping):
                collect(value, whole)
            elif isinstance(value, list):
                several[whole] = [_text(one) for one in value]
            else:
                single[whole] = _text(value)

    collect(content, "")
    return single, several


def modules_beside(file: Path) -> list[ModuleType]:
    """A plan file that was run, and those modules and packages in its folder that it imported: no other machine can import them."""
    folder, found = file.resolve().parent, []
    for name, module in [*sys.modules.items()]:
        if not getattr(module, "__file__", None):
            continue
        path = Path(str(module.__file__)).resolve()
        place = path.parent.parent if path.name == "__init__.py" else path.parent
        if place == folder and name not in ("__main__", "fairyring"):
            found.append(module)
    return found


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _run(path: Path) -> ModuleType:
    if not path.is_file():
        raise PlanError(str(path), given="no such file", expected="a Python file", do="Check the path.")
    spec = importlib.util.spec_from_file_location(_MODULE, path)
    if spec is None or spec.loader is None:
        raise PlanError(
            str(path), given=f"a file named *{path.suffix}", expected="a Python file", do="Name it *.py."
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module  # dataclasses look up their module there
    sys.path.insert(
        0, str(path.parent.resolve())
    )  # a file may import modules from its folder, as with `python FILE`
    try:
        with _explained(path):
            spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent.resolve()))
    return module


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Errors that a file raises name the line."""
    try:
        yield
    except FairyringError as error:
        error.add_note(_place(path, error))
        raise
    except Exception as error:
        raise PlanError(
            _place(path, error),
            given=f"{type(error).__name__}: {error}",
            expected="a file that runs without an error",
            do="Mend the file; --debug shows the full traceback.",
        ) from error


def _place(path: Path, error: Exception) -> str:
    """The file, and its last line in the traceback of the error."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}, line {error.lineno}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    return f"{path}, line {frames[-1].lineno}" if frames else str(path)
