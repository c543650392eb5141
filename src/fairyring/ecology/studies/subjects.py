"""Each subject's study with its usual sizes."""

from fairyring.core.errors import EcologyError
from fairyring.ecology.studies.chemotaxis import STEPS, ChemotaxisStudy
from fairyring.ecology.studies.jars import CocultureStudy
from fairyring.ecology.studies.rotation import NonGradientStudy
from fairyring.ecology.studies.study import Study
from fairyring.ecology.world import World, World1, World2

SUBJECTS = ("v1", "v2", "jars", "rotation")
_ARMS = (16, 16, 8)  # evolved, scrambled and blind worlds
# The fewest with which every test there is can come out either way: 10 signs alike of 9 events, 10 worlds above 5.
_QUICK_ARMS, _QUICK_STEPS = (10, 10, 5), 8000
_POPULATIONS = 6
_FIRST_FOLLOWED = 3000  # numbers of the worlds that are followed: they are not the twins of those in the jars


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
    """The study of a subject, to be made by `conduct`.

    Args:
        subject: "v1", whether chemotaxis evolves; "v2", which rewards do; "jars", who lives with whom; "rotation", whether
            what is learned is the optimum of anything, with a study of jars in it.
        settings: of the worlds; the subject's plain world if None.
        worlds: evolved worlds, populations of jars, or worlds that are followed.
        controls, blind: worlds of these arms, of v1 and v2.
        steps: of each world; of rotation, for which traits are followed.
        seed: of all chance.
        quick: fewer and shorter worlds, for a first look.

    Raises:
        EcologyError: no such subject, or control worlds of a subject that has controls of its own.
    """
    if subject not in SUBJECTS:
        raise EcologyError("subject", given=repr(subject), expected=", ".join(SUBJECTS), do="Choose one.")
    if subject in ("v1", "v2"):
        usual = _QUICK_ARMS if quick else _ARMS
        arms = [
            often if given is None else given
            for given, often in zip((worlds, controls, blind), usual, strict=True)
        ]
        steps = (_QUICK_STEPS if quick else STEPS) if steps is None else steps
        plain_world = World1() if subject == "v1" else World2()
        return ChemotaxisStudy(subject, settings or plain_world, *arms, steps=steps, seed=seed)
    if (controls, blind) != (None, None):
        raise EcologyError(
            "controls, blind",
            given=f"a study of {subject}",
            expected="v1 or v2: jars have all their controls, one of each population and pair",
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
