"""The study of each subject with its usual sizes."""

from fairyring.core.errors import EcologyError
from fairyring.ecology.studies.chemotaxis import STEPS, ChemotaxisStudy
from fairyring.ecology.studies.coculture import CocultureStudy
from fairyring.ecology.studies.non_gradient import NonGradientStudy
from fairyring.ecology.studies.study import Study
from fairyring.ecology.world import World, World1, World2

SUBJECTS = ("v1", "v2", "jars", "rotation")
_ARMS = (16, 16, 8)  # evolved, scrambled and blind worlds
# The fewest with which every test can come out either way: 10 equal signs for 9 events, 10 worlds above 5.
_QUICK_ARMS, _QUICK_STEPS = (10, 10, 5), 8000
_POPULATIONS = 6
_FIRST_FOLLOWED = (
    3000  # first number of the followed worlds, so that none is also a population of the co-culture
)


def study_of(
    subject: str,
    *,
    settings: World | None = None,
    worlds: int | None = None,
    controls: int | None = None,
    blind: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    quick: bool = False,
) -> Study:
    """The study of a subject, for `conduct`.

    Args:
        subject: "v1": does chemotaxis evolve? "v2": which rewards evolve? "jars": which populations coexist?
            "rotation": are the dynamics non-gradient? The last includes a study of "jars".
        settings: of the worlds; the defaults of the subject's world if None.
        worlds: number of evolved worlds, of populations ("jars"), or of followed worlds ("rotation").
        controls, blind: worlds of these arms; "v1" and "v2" only.
        steps: of each world; for "rotation", steps over which traits are followed.
        seed: of all randomness.
        quick: fewer and shorter worlds, for a first look.

    Raises:
        EcologyError: no such subject, or `controls` or `blind` for a subject that has other controls.
    """
    if subject not in SUBJECTS:
        raise EcologyError("subject", given=repr(subject), expected=", ".join(SUBJECTS), do="Choose one.")
    if subject in ("v1", "v2"):
        defaults = _QUICK_ARMS if quick else _ARMS
        arms = [
            default if given is None else given
            for given, default in zip((worlds, controls, blind), defaults, strict=True)
        ]
        steps = (_QUICK_STEPS if quick else STEPS) if steps is None else steps
        plain_world = World1() if subject == "v1" else World2()
        return ChemotaxisStudy(subject, settings or plain_world, *arms, steps=steps, seed=seed)
    if (controls, blind) != (None, None):
        raise EcologyError(
            "controls, blind",
            given=f"a study of {subject}",
            expected="v1 or v2: a co-culture has its own controls, for each population and pair",
            do="Leave them out.",
        )
    settings, rotating = settings or World2(), subject == "rotation"
    jars = CocultureStudy(
        settings,
        _POPULATIONS if rotating or worlds is None else worlds,
        None if rotating else steps,
        seed=seed,
        quick=quick,
    )
    if not rotating:
        return jars
    return NonGradientStudy(
        settings, worlds, steps=steps, seed=seed, quick=quick, jars=jars, first=_FIRST_FOLLOWED
    )
