"""Non-gradient dynamics: measures of what gradient ascent on one function would rule out, each with a null.

If learners and lineages followed the gradient of some function, dominance would be transitive, traits at rest would be
reversible in time, invasion fitness would have a potential, and the Jacobian of learning would be symmetric. There are four
measures, from the weakest evidence to the strongest: `cyclic_share` of who beats whom, `trait_rotation` of evolving traits,
`invasion_curl` of selection, and `antisymmetric_share` of learning. Each share refers to a chosen norm in chosen coordinates, and
says nothing beyond that.
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
