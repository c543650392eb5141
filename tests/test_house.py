"""The rules of the house that a machine can check. ARCHITECTURE.md says why each is there."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import fairyring

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "fairyring"
LEVELS = [
    {"core"},
    {"records", "statistics"},
    {"population", "task", "aggregation", "lowering", "secagg", "ecology"},
    {"privacy", "evaluation", "tracking"},
    {"messages"},
    {"learning", "device"},
    {"rounds", "publishing"},
    {"runs"},
    {"simulation"},
    {"audit", "sweeps", "distributed", "service"},
    {"report"},
    {"cli"},
]
LEVEL_OF = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
# Rooms within a room: others enter them by their front door, and imports between them run downwards too.
SUB_LEVELS = {
    "ecology": [
        {"world", "results"},
        {"history"},
        {"lab", "watch"},
        {"dynamics"},
        {"analysis"},
        {"studies"},
        {"zoo"},
    ],
    "report": [{"kit"}, {"run", "study", "sweep", "comparison"}],
}
SUB_LEVEL_OF = {
    (room, sub): level
    for room, levels in SUB_LEVELS.items()
    for level, subs in enumerate(levels)
    for sub in subs
}
# Rooms that others enter only by their front door: the names in the `__all__` of their `__init__`.
CLOSED = {
    "population",
    "task",
    "lowering",
    "evaluation",
    "runs",
    "simulation",
    "distributed",
    "audit",
    "sweeps",
    "tracking",
    "report",
    "ecology",
    "cli",
}
SMALL = 30  # lines
MODULES = sorted(SOURCE.rglob("*.py"))
# Written in pieces, so that this file does not contain what it looks for.
REGISTRIES = [
    "pypi" + ".org",
    "python" + "hosted.org",
    "npm" + "js.org",
    "conda" + ".anaconda",
    "/opt/" + "pypi",
    "/opt/" + "wheels",
]
PLACES = ["/" + "root/", "/" + "home/", "/work/" + "shared", "/tmp/" + "wt"]


@cache
def tracked() -> list[Path]:
    """Files of the repository: those git knows or would add; all of them where there is no git."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode == 0:
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        paths = [
            p for p in ROOT.rglob("*") if not any(part.startswith(".") for part in p.relative_to(ROOT).parts)
        ]
    return [path for path in paths if path.is_file()]


def texts() -> list[tuple[str, str]]:
    found = []
    for path in tracked():
        content = path.read_bytes()
        if b"\0" not in content:
            found.append((str(path.relative_to(ROOT)), content.decode("utf-8")))
    assert len(found) > 20
    return found


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@cache
def imports(path: Path) -> list[tuple[int, str]]:
    """`(line, module)` of every fairyring module imported anywhere in a file, but for type checkers only."""
    tree = tree_of(path)
    found: list[tuple[int, str]] = []

    def visit(node: ast.AST) -> None:
        if (
            isinstance(node, ast.If)
            and ast.unparse(node.test) == "TYPE_CHECKING"
            and path == SOURCE / "__init__.py"
        ):
            return
        if isinstance(node, ast.Import):
            found.extend((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import hides which room it enters"
            found.extend((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return [(line, name) for line, name in found if name.split(".")[0] == "fairyring"]


# What some operating system lacks, in pieces as above.
OF_ONE_SYSTEM = [
    *(
        "fcnt" + "l",
        "msvcr" + "t",
        "sched_get" + "affinity",
        "os.get" + "uid",
        "os.sys" + "conf",
        "O_DIRECT" + "ORY",
    ),
    *(
        "/pro" + "c/",
        "MADV" + "_",
        "os.fo" + "rk",
        "os.ki" + "ll",
        "os.pre" + "ad",
        "os.pwri" + "te",
        "import res" + "ource\n",
    ),
]


def test_only_one_module_calls_what_an_operating_system_may_lack() -> None:
    platforms = SOURCE / "core" / "platforms.py"
    found = [
        (str(path.relative_to(SOURCE)), name)
        for path in MODULES
        for name in OF_ONE_SYSTEM
        if path != platforms and name in path.read_text("utf-8")
    ]
    assert found == []
    assert sum(name in platforms.read_text("utf-8") for name in OF_ONE_SYSTEM) > 6


def room_of(path: Path) -> str | None:
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else None


def test_every_room_has_a_level() -> None:
    rooms = {path.name for path in SOURCE.iterdir() if (path / "__init__.py").is_file()}
    assert rooms == set(LEVEL_OF)


def imports_run_downwards(path: Path) -> None:
    room = room_of(path)
    for line, name in imports(path):
        parts = name.split(".")
        other = parts[1] if len(parts) > 1 else None
        if other not in LEVEL_OF or other == room:
            continue
        if (
            room is None
        ):  # the front door: it knows only errors, and the command line for `python -m fairyring`
            allowed = "cli" if path.name == "__main__.py" else "core"
            assert other == allowed, f"{path}:{line} imports {name} when fairyring is imported"
            continue
        assert LEVEL_OF[other] < LEVEL_OF[room], f"{path}:{line}: {room} may not import {name}"
        private = [part for part in parts[2:] if part.startswith("_")]
        assert not private, f"{path}:{line}: {name} is private to its room"


def sub_room_of(path: Path) -> tuple[str, str] | None:
    parts = path.relative_to(SOURCE).parts
    return (parts[0], parts[1]) if len(parts) > 2 and parts[:2] in SUB_LEVEL_OF else None


def faces(path: Path) -> set[str]:
    """The names in a front door's `__all__`."""
    for node in tree_of(path).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    raise AssertionError(f"{path} has no __all__")


def module_of(name: str) -> str:
    """The longest part of a dotted name that is a module of ours."""
    parts = name.split(".")[1:]
    for end in range(len(parts), 0, -1):
        path = SOURCE.joinpath(*parts[:end])
        if path.with_suffix(".py").is_file() or (path / "__init__.py").is_file():
            return ".".join(["fairyring", *parts[:end]])
    return "fairyring"


def closed_rooms_are_entered_by_their_front_door(path: Path) -> None:
    if room_of(path) is None:
        return
    for line, name in imports(path):
        parts = name.split(".")
        other = parts[1] if len(parts) > 1 else None
        if other not in CLOSED or other == room_of(path) or (other, *parts[2:3]) in SUB_LEVEL_OF:
            continue  # sub-rooms have a test of their own
        assert len(parts) > 2, f"{path}:{line}: import names from fairyring.{other}, not the room"
        assert parts[2] in faces(SOURCE / other / "__init__.py"), (
            f"{path}:{line}: {name} is private to its room"
        )


def test_a_small_file_with_one_user_is_part_of_its_user() -> None:
    names = {
        path: ".".join(["fairyring", *path.relative_to(SOURCE).with_suffix("").parts]) for path in MODULES
    }
    users: dict[str, set[Path]] = {}
    for path in MODULES:
        for _, name in imports(path) if path.name != "__init__.py" else ():
            users.setdefault(module_of(name), set()).add(path)
    small = [path for path in MODULES if path.read_text("utf-8").count("\n") < SMALL]
    lonely = [
        names[path] for path in small if path.name != "__init__.py" and len(users.get(names[path], ())) == 1
    ]
    assert lonely == []


def torch_is_imported_only_where_a_module_of_it_is_there(path: Path) -> None:
    """`task/pytorch` is imported within a call; the table of operators needs no torch at all."""
    inside = path.is_relative_to(SOURCE / "task" / "pytorch")
    if inside and "operators" not in path.parts:
        return
    tree = tree_of(path)
    nodes = ast.walk(tree) if inside else tree.body
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    nodes = ast.walk(tree) if inside else tree.body
    names += [str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)]
    room = "fairyring.task.pytorch"
    assert [n for n in names if n.split(".")[0] == "torch" or (n.startswith(room) and not inside)] == []


def onnx_is_imported_only_where_a_model_is_written(path: Path) -> None:
    body = tree_of(path).body
    names = [alias.name for node in body if isinstance(node, ast.Import) for alias in node.names]
    names += [str(node.module) for node in body if isinstance(node, ast.ImportFrom)]
    assert [name for name in names if name.split(".")[0] == "onnx"] == []


@pytest.mark.parametrize("room", SUB_LEVELS)
def test_every_sub_room_has_a_level_and_no_file_stands_between_them(room: str) -> None:
    assert {path.name for path in (SOURCE / room).iterdir() if (path / "__init__.py").is_file()} == {
        sub for subs in SUB_LEVELS[room] for sub in subs
    }
    assert [path.name for path in (SOURCE / room).glob("*.py")] == ["__init__.py"]


def sub_rooms_are_entered_by_their_front_door_and_downwards(path: Path) -> None:
    if room_of(path) is None:
        return
    own = sub_room_of(path)
    for line, name in imports(path):
        parts = name.split(".")
        entered = (parts[1], parts[2]) if len(parts) > 2 else None
        if entered not in SUB_LEVEL_OF or entered == own:
            continue
        where = f"{path}:{line} imports {name}"
        if own is not None and own[0] == entered[0]:
            assert SUB_LEVEL_OF[entered] < SUB_LEVEL_OF[own], f"{where}: {own[1]} may not enter {entered[1]}"
        door = SOURCE / entered[0] / entered[1] / "__init__.py"
        assert len(parts) == 3 or (len(parts) == 4 and parts[3] in faces(door)), (
            f"{where}: not by its front door"
        )


@pytest.mark.parametrize("room", SUB_LEVELS)
def test_there_are_no_circles_between_files(room: str) -> None:
    """Also none by an import within a function."""
    known = {}
    for path in (SOURCE / room).rglob("*.py"):
        name = ".".join(["fairyring", *path.relative_to(SOURCE).with_suffix("").parts]).removesuffix(
            ".__init__"
        )
        known[name] = {module_of(of) for _, of in imports(path)} - {name}
    while free := {name for name, others in known.items() if not others & known.keys()}:
        known = {name: others for name, others in known.items() if name not in free}
    assert known == {}


def no_pickle_eval_or_exec(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            assert not {n.split(".")[0] for n in names} & {
                "pickle",
                "cPickle",
                "dill",
                "cloudpickle",
                "joblib",
                "marshal",
                "shelve",
            }
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec"}, f"{path}:{node.lineno}"
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert isinstance(node.value, ast.Constant), f"{path}:{node.value.lineno}"
            assert node.value.value is False, f"{path}:{node.value.lineno}"


RULES = (
    imports_run_downwards,
    closed_rooms_are_entered_by_their_front_door,
    sub_rooms_are_entered_by_their_front_door_and_downwards,
    torch_is_imported_only_where_a_module_of_it_is_there,
    onnx_is_imported_only_where_a_model_is_written,
    no_pickle_eval_or_exec,
)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_a_file_keeps_the_rules(path: Path) -> None:
    for rule in RULES:
        rule(path)


def test_what_is_compiled_answers_ctrl_c() -> None:
    """A bare `jax.jit` that is called holds the main thread while XLA works: core makes the call in another one."""
    traced_only = {"learning/code.py", "learning/forward.py", "learning/program.py", "runs/static.py"}
    quick = {"privacy/canaries.py", "ecology/lab/arenas.py"}  # a few lines
    called_apart = {"privacy/_matching.py"}
    found = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if re.search(r"(?<!`)\bjax\.jit\b(?!`)", path.read_text("utf-8")) and "core" not in path.parts
    }
    assert found == traced_only | quick | called_apart


def test_files_stay_readable() -> None:
    long = {
        name: text.count("\n") for name, text in texts() if name.endswith(".py") and text.count("\n") >= 800
    }
    assert not long


def test_no_registry_and_no_place_of_one_machine() -> None:
    found = [(name, word) for name, text in texts() for word in REGISTRIES + PLACES if word in text]
    assert not found


def test_no_lock_file_with_addresses() -> None:
    names = {path.name for path in tracked()}
    assert not names & {"uv.lock", "pylock.toml", "poetry.lock", "Pipfile.lock", "package-lock.json"}


def test_constraints_pin_everything_and_nothing_else() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    assert lines
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9._-]+==[^\s;@]+", line)] == []
    pinned = {line.split("==")[0] for line in lines}
    asked = re.findall(r'"([a-z][a-z0-9-]*)>=', (ROOT / "pyproject.toml").read_text("utf-8"))
    assert set(asked) - {"hatchling"} <= pinned


def test_import_is_quick_and_brings_in_no_jax() -> None:
    # The best of three, in a fresh interpreter each: a busy machine is not what is measured.
    code = (
        "import sys, time; t = time.perf_counter(); import fairyring; t = time.perf_counter() - t;"
        "heavy = sorted({'jax', 'numpy', 'optax', 'equinox', 'flax', 'torch', 'keras', 'sklearn', 'matplotlib', 'rich'} & set(sys.modules));"
        "print(t, *heavy)"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(3)
    ]
    times, heavy = [float(run.split()[0]) for run in runs], runs[0].split()[1:]
    assert heavy == []
    assert min(times) < 0.3


def test_public_names_are_the_same_everywhere() -> None:
    tree = ast.parse((SOURCE / "__init__.py").read_text("utf-8"))
    guarded = [n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    for_checkers = {
        alias.asname or alias.name
        for n in guarded
        for i in n.body
        if isinstance(i, ast.ImportFrom)
        for alias in i.names
    }
    eager = {
        alias.asname or alias.name
        for n in tree.body
        if isinstance(n, ast.ImportFrom) and n.module and n.module.startswith("fairyring")
        for alias in n.names
        if not (alias.asname or "").startswith("_")
    }
    assert for_checkers == set(fairyring._ROOM_OF)
    assert set(fairyring.__all__) == for_checkers | eager
    assert fairyring.__all__ == sorted(fairyring.__all__)


@pytest.mark.parametrize("name", sorted(set(fairyring.__all__) - {"__version__"}))
def test_public_names_resolve_and_are_documented(name: str) -> None:
    value = getattr(fairyring, name)
    text = (value.__doc__ or "").strip()
    assert len(text) > 20, f"fairyring.{name} has no docstring"
    assert not text.startswith(f"{name}("), f"fairyring.{name} has only the docstring dataclass made"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'federate'"):
        _ = fairyring.federate
    assert "Plan" in dir(fairyring)


def test_the_api_page_lists_every_public_name() -> None:
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    missing = [
        name for name in fairyring.__all__ if name != "__version__" and not re.search(rf"\b{name}\b", page)
    ]
    assert not missing


def test_the_readme_is_short_and_its_commands_exist() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(re.sub(r"```.*?```", "", text, flags=re.DOTALL).split()) < 700
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE))
    named = set(re.findall(r"(?:`|^    )make ([a-z]+)", text, flags=re.MULTILINE))
    assert {"demo", "test"} <= named <= targets


def test_what_the_makefile_names_is_there() -> None:
    named = re.findall(r"\btests/[\w/.]+", (ROOT / "Makefile").read_text("utf-8"))
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []
