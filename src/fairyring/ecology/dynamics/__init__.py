"""Non-gradient dynamics: what cannot be the climbing of one hill, each measure against a null without it.

If learners and lineages followed the gradient of some function, beating would be transitive, traits at rest would
wander back and forth alike, invasion fitness would have a potential, and the Jacobian of learning would be symmetric.
Four measures, from the weakest evidence to the strongest: `cyclic_share` of who beats whom, `trait_rotation` of what
evolves, `invasion_curl` of selection itself, `antisymmetric_share` of learning. Each says what was measured and nothing
beyond: a share is of a chosen norm, in chosen coordinates.
"""

from fairyring.ecology.dynamics.curl import InvasionCurl, invasion_curl
from fairyring.ecology.dynamics.cycles import CyclicShare, cyclic_share, cyclic_test
from fairyring.ecology.dynamics.invasion import invasion_fitness
from fairyring.ecology.dynamics.jacobian import antisymmetric_share, learning_jacobian
from fairyring.ecology.dynamics.learners import LearningJacobian, judged, learning_jacobians
from fairyring.ecology.dynamics.traits import TraitRotation, trait_rotation

__all__ = [
    "CyclicShare",
    "InvasionCurl",
    "LearningJacobian",
    "TraitRotation",
    "antisymmetric_share",
    "cyclic_share",
    "cyclic_test",
    "invasion_curl",
    "invasion_fitness",
    "judged",
    "learning_jacobian",
    "learning_jacobians",
    "trait_rotation",
]
