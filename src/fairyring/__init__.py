"""fairyring: federated learning in which many clients train one model together while each keeps its data.

The usual import is `import fairyring as fr`. A plan (`Plan`) says what is trained and what travels, `simulate` runs it over a
`Population`, and `write_report` shows what came of it. `fairyring.privacy` has accounting, the ledger and audits;
`fairyring.ecology` simulates worlds of evolving learners.

The public names are here. Each is fetched from its subpackage when it is first used, so that `import fairyring` is quick and does
not import JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fairyring._version import __version__
from fairyring.core.errors import (
    BudgetSpent,
    DataUnavailable,
    EcologyError,
    FairyringError,
    LedgerDamaged,
    LedgerMismatch,
    MessageRefused,
    MissingExtra,
    ModelError,
    NotForDevices,
    PerformanceWarning,
    PlanError,
    PopulationError,
    PopulationWarning,
    PrivacyError,
    PrivacyWarning,
    RunDamaged,
    RunError,
    RunMismatch,
    SecureSumError,
    SessionAborted,
    StatisticsError,
    StorageError,
    TrackerWarning,
    TrainingDiverged,
    TrainingWarning,
    WireError,
)

if TYPE_CHECKING:
    from fairyring import device as device
    from fairyring import ecology as ecology
    from fairyring import privacy as privacy
    from fairyring import tracking as tracking
    from fairyring.aggregation import chain as chain
    from fairyring.aggregation import clip as clip
    from fairyring.aggregation import count_sketch as count_sketch
    from fairyring.aggregation import quantize as quantize
    from fairyring.aggregation import random_k as random_k
    from fairyring.aggregation import rotate as rotate
    from fairyring.aggregation import secure_sum as secure_sum
    from fairyring.aggregation import top_k as top_k
    from fairyring.aggregation import weight_by_examples as weight_by_examples
    from fairyring.aggregation import weight_uniformly as weight_uniformly
    from fairyring.audit import Audited as Audited
    from fairyring.audit import Verified as Verified
    from fairyring.audit import audit_run as audit_run
    from fairyring.audit import membership as membership
    from fairyring.audit import verify_run as verify_run
    from fairyring.distributed import ray as ray
    from fairyring.evaluation import Evaluation as Evaluation
    from fairyring.learning import Algorithm as Algorithm
    from fairyring.learning import Combine as Combine
    from fairyring.learning import LocalTraining as LocalTraining
    from fairyring.learning import Plan as Plan
    from fairyring.learning import Report as Report
    from fairyring.learning import adaptive_clip as adaptive_clip
    from fairyring.learning import cohort as cohort
    from fairyring.learning import combine as combine
    from fairyring.learning import fedadagrad as fedadagrad
    from fairyring.learning import fedadam as fedadam
    from fairyring.learning import fedavg as fedavg
    from fairyring.learning import fedavgm as fedavgm
    from fairyring.learning import fednova as fednova
    from fairyring.learning import fedprox as fedprox
    from fairyring.learning import fedyogi as fedyogi
    from fairyring.learning import override as override
    from fairyring.learning import scaffold as scaffold
    from fairyring.population import Population as Population
    from fairyring.population import S3Storage as S3Storage
    from fairyring.population import load as load
    from fairyring.population import partition as partition
    from fairyring.population import summary_statistics as summary_statistics
    from fairyring.privacy import Budget as Budget
    from fairyring.privacy import Membership as Membership
    from fairyring.privacy import correlated_noise as correlated_noise
    from fairyring.privacy import distributed_noise as distributed_noise
    from fairyring.privacy import gaussian_noise as gaussian_noise
    from fairyring.records import RoundRecord as RoundRecord
    from fairyring.report import write_comparison as write_comparison
    from fairyring.report import write_report as write_report
    from fairyring.rounds import EarlyStopping as EarlyStopping
    from fairyring.runs import Run as Run
    from fairyring.runs import SavedRun as SavedRun
    from fairyring.runs import TrainedModel as TrainedModel
    from fairyring.runs import load_run as load_run
    from fairyring.simulation import simulate as simulate
    from fairyring.sweeps import Comparison as Comparison
    from fairyring.sweeps import Sweep as Sweep
    from fairyring.sweeps import SweepRun as SweepRun
    from fairyring.sweeps import compare as compare
    from fairyring.sweeps import read_sweep as read_sweep
    from fairyring.sweeps import sweep as sweep
    from fairyring.task import Metric as Metric
    from fairyring.task import PooledMetric as PooledMetric
    from fairyring.task import classification as classification
    from fairyring.task import from_sklearn as from_sklearn
    from fairyring.task import lora as lora
    from fairyring.task import metrics as metrics
    from fairyring.task import multi_label as multi_label
    from fairyring.task import next_token as next_token
    from fairyring.task import regression as regression
    from fairyring.task import zoo as zoo

__all__ = [
    "Algorithm",
    "Audited",
    "Budget",
    "BudgetSpent",
    "Combine",
    "Comparison",
    "DataUnavailable",
    "EarlyStopping",
    "EcologyError",
    "Evaluation",
    "FairyringError",
    "LedgerDamaged",
    "LedgerMismatch",
    "LocalTraining",
    "Membership",
    "MessageRefused",
    "Metric",
    "MissingExtra",
    "ModelError",
    "NotForDevices",
    "PerformanceWarning",
    "Plan",
    "PlanError",
    "PooledMetric",
    "Population",
    "PopulationError",
    "PopulationWarning",
    "PrivacyError",
    "PrivacyWarning",
    "Report",
    "RoundRecord",
    "Run",
    "RunDamaged",
    "RunError",
    "RunMismatch",
    "S3Storage",
    "SavedRun",
    "SecureSumError",
    "SessionAborted",
    "StatisticsError",
    "StorageError",
    "Sweep",
    "SweepRun",
    "TrackerWarning",
    "TrainedModel",
    "TrainingDiverged",
    "TrainingWarning",
    "Verified",
    "WireError",
    "__version__",
    "adaptive_clip",
    "audit_run",
    "chain",
    "classification",
    "clip",
    "cohort",
    "combine",
    "compare",
    "correlated_noise",
    "count_sketch",
    "device",
    "distributed_noise",
    "ecology",
    "fedadagrad",
    "fedadam",
    "fedavg",
    "fedavgm",
    "fednova",
    "fedprox",
    "fedyogi",
    "from_sklearn",
    "gaussian_noise",
    "load",
    "load_run",
    "lora",
    "membership",
    "metrics",
    "multi_label",
    "next_token",
    "override",
    "partition",
    "privacy",
    "quantize",
    "random_k",
    "ray",
    "read_sweep",
    "regression",
    "rotate",
    "scaffold",
    "secure_sum",
    "simulate",
    "summary_statistics",
    "sweep",
    "top_k",
    "tracking",
    "verify_run",
    "weight_by_examples",
    "weight_uniformly",
    "write_comparison",
    "write_report",
    "zoo",
]

_ROOMS = {
    "population": ("Population", "S3Storage", "load", "partition", "summary_statistics"),
    "task": (
        "Metric",
        "PooledMetric",
        "classification",
        "from_sklearn",
        "lora",
        "metrics",
        "multi_label",
        "next_token",
        "regression",
        "zoo",
    ),
    "aggregation": (
        "chain",
        "clip",
        "count_sketch",
        "quantize",
        "random_k",
        "rotate",
        "secure_sum",
        "top_k",
        "weight_by_examples",
        "weight_uniformly",
    ),
    "learning": (
        "Algorithm",
        "Combine",
        "Comparison",
        "LocalTraining",
        "Plan",
        "Report",
        "adaptive_clip",
        "cohort",
        "combine",
        "compare",
        "fedadagrad",
        "fedadam",
        "fedavg",
        "fedavgm",
        "fednova",
        "fedprox",
        "fedyogi",
        "override",
        "scaffold",
    ),
    "privacy": ("Budget", "Membership", "correlated_noise", "distributed_noise", "gaussian_noise"),
    "records": ("RoundRecord",),
    "rounds": ("EarlyStopping",),
    "evaluation": ("Evaluation",),
    "runs": ("Run", "SavedRun", "TrainedModel", "load_run"),
    "simulation": ("simulate",),
    "distributed": ("ray",),
    "audit": ("Audited", "Verified", "audit_run", "membership", "verify_run"),
    "sweeps": ("Comparison", "compare", "Sweep", "SweepRun", "read_sweep", "sweep"),
    "report": ("write_comparison", "write_report"),
}

_MODULES = {"partition", "cohort", "combine", "device", "ecology", "metrics", "privacy", "tracking", "zoo"}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names} | {
    "device": "",
    "ecology": "",
    "privacy": "",
    "tracking": "",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'fairyring' has no attribute {name!r}")
    room = f"fairyring.{_ROOM_OF[name]}".rstrip(".")
    try:
        value = import_module(f"{room}.{name}") if name in _MODULES else getattr(import_module(room), name)
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("fairyring."):
            raise
        raise NotForDevices(name) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
