"""A plan run over a population on this machine: the compiled engine and its driver."""

from fairyring.simulation.driver import simulate as simulate
from fairyring.simulation.evaluate import Evaluation as Evaluation
from fairyring.simulation.run import Run as Run
from fairyring.simulation.stopping import EarlyStopping as EarlyStopping
