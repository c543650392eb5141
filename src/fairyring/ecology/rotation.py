"""What cannot be the climbing of one hill: cycles, rotation and curl, each against a null without them.

If learners and lineages followed the gradient of some function, beating would be transitive, traits at rest would
wander back and forth alike, invasion fitness would have a potential, and the Jacobian of learning would be symmetric.
Four measures, from the weakest evidence to the strongest: `cyclic_share` of who beats whom, `trait_rotation` of what
evolves, `invasion_curl` of selection itself, `antisymmetric_share` of learning. Each says what was measured and nothing
beyond: a share is of a chosen norm, in chosen coordinates.
"""

from fairyring.ecology._rotation_curl import InvasionCurl, invasion_curl
from fairyring.ecology._rotation_hodge import CyclicShare, cyclic_share, cyclic_test
from fairyring.ecology._rotation_jacobian import antisymmetric_share, learning_jacobian
from fairyring.ecology._rotation_traits import TraitRotation, trait_rotation

__all__ = [
    "CyclicShare",
    "InvasionCurl",
    "TraitRotation",
    "antisymmetric_share",
    "cyclic_share",
    "cyclic_test",
    "invasion_curl",
    "learning_jacobian",
    "trait_rotation",
]
