"""How clients train and how the server updates the model: local training, algorithms, optimisers, the plan."""

from fairyring.learning.algorithm import Algorithm as Algorithm
from fairyring.learning.algorithm import Report as Report
from fairyring.learning.algorithms import adaptive_clip as adaptive_clip
from fairyring.learning.algorithms import averaging as averaging
from fairyring.learning.algorithms import fednova as fednova
from fairyring.learning.algorithms import fedprox as fedprox
from fairyring.learning.algorithms import scaffold as scaffold
from fairyring.learning.combine import Combine as Combine
from fairyring.learning.local import LocalTraining as LocalTraining
from fairyring.learning.optimizers import fedadagrad as fedadagrad
from fairyring.learning.optimizers import fedadam as fedadam
from fairyring.learning.optimizers import fedavg as fedavg
from fairyring.learning.optimizers import fedavgm as fedavgm
from fairyring.learning.optimizers import fedyogi as fedyogi
from fairyring.learning.overriding import override as override
from fairyring.learning.plan import Plan as Plan
