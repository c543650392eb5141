"""The curl of invasion fitness over two traits: the part of selection that has no potential."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fairyring.core.errors import EcologyError
from fairyring.ecology.dynamics.gradient import GradientFit, resample
from fairyring.statistics import samples
from fairyring.statistics.samples import Floats


@dataclass(frozen=True, eq=False)
class InvasionCurl:
    """Works of selection along the edges of a grid, split into the differences of a landscape and what is none.

    Attributes:
        share: of the works' squared norm that no potential explains, in `[0, 1]`, over the rectangle scaled to a unit
            square; 0 where nothing is selected.
        potential: `[n, m]`, of the fitted landscape; mean 0, in units of fitness.
        curl: `[n - 1, m - 1]`, the work once round each cell, over its area: first up along emission.
        mean_curl: over the rectangle, by area.
        mean_curl_error: its standard error over replicates; None without.
        p: chance of as much left over by noise alone; None without replicates.
        null_share: mean share under the fitted landscape, which noise lifts above 0; None likewise.
    """

    share: float
    potential: Floats
    curl: Floats
    mean_curl: float
    mean_curl_error: float | None = None
    p: float | None = None
    null_share: float | None = None


def invasion_curl(
    along_emission: npt.ArrayLike,
    along_response: npt.ArrayLike,
    emission: npt.ArrayLike,
    response: npt.ArrayLike,
    *,
    seed: int = 0,
    resamples: int = 1999,
) -> InvasionCurl:
    """Helmholtz-Hodge decomposition by least squares of selection between neighbours on a grid of residents.

    With s(y; x) the fitness of a rare y among residents x, the work of selection from x to y is half of
    s(y; x) - s(x; y). Where bacteria climb a landscape V, s(y; x) is V(y) - V(x), and works are the differences of V
    whatever its shape and however far apart the neighbours are; what lifts every mutant alike, and what x and y do to
    each other alike (such as that either invades the other), cancels. To second order a work is the line integral of the gradient
    of invasion fitness (Dieckmann & Law 1996). Potentials are fitted to the works by least squares (Bhatia et al. 2013,
    the natural boundary), each weighted by the area it stands for. A rectangle has no holes, so what is left is curl
    alone. It is the least that any landscape leaves over: a rigid rotation of a square scores .84, because a saddle
    imitates part of it.

    Null: any landscape, with each edge's replicates redrawn about their mean; statistic as in `cyclic_test`.

    Args:
        along_emission: `[replicates, n - 1, m]`, works from each resident to the next in emission, each replicate of an
            edge a world (or pair of worlds) of its own; or `[n - 1, m]`, without p.
        along_response: `[replicates, n, m - 1]`, or `[n, m - 1]`: to the next in response.
        emission: `[n]`, increasing, of the residents; n at least 2.
        response: `[m]`, likewise.
        seed: of the resampling.
        resamples: how many.

    Raises:
        EcologyError, StatisticsError: shapes that do not fit, coordinates that do not increase, a single replicate.
    """
    x, y = _axis("emission", emission), _axis("response", response)
    single = np.ndim(along_emission) == 2
    first, second = (
        samples.array(f"works along {name}", np.asarray(works)[None] if single else works, axes=3)
        for name, works in (("emission", along_emission), ("response", along_response))
    )
    shapes = (len(x) - 1, len(y)), (len(x), len(y) - 1)
    fits = (first.shape[1:], second.shape[1:]) == shapes and len(first) == len(second)
    if not fits or (len(first) < 2 and not single):
        raise EcologyError(
            "works",
            given=f"shapes {first.shape[single:]} and {second.shape[single:]}",
            expected=f"{shapes[0]} and {shapes[1]} after an axis of 2 replicates or more, or without that axis",
            do="Let all neighbours on the grid invade each other, in worlds of their own.",
        )
    rng, resamples = samples.generator(seed), samples.resamples(resamples)
    fit, faces, areas = _grid(x, y)
    works = np.concatenate([each.reshape(len(each), -1) for each in (first, second)], axis=1)
    flows = works.mean(axis=0)
    potential = fit.potentials(flows)
    total = fit.energy(flows)
    share = min(fit.energy(flows - fit.incidence @ potential) / total, 1.0) if total > 0.0 else 0.0
    curl = ((faces @ flows) / areas).reshape(len(x) - 1, len(y) - 1)
    mean = float((faces @ flows).sum() / areas.sum())
    found = InvasionCurl(share, potential.reshape(len(x), len(y)), curl, mean)
    if single:
        return found
    noise = resample(list(works.T[:, :, None]), rng, resamples)
    left_over = ((noise.means @ fit.remover().T) ** 2).sum(axis=1)
    explained = total * (1.0 - share)
    return InvasionCurl(
        share,
        found.potential,
        curl,
        mean,
        float(((noise.means @ faces.T).sum(axis=1) / areas.sum()).std()),
        noise.p(left_over, share * total, total),
        float((left_over / np.maximum(left_over + explained, 1e-300)).mean()),
    )


def _axis(name: str, values: npt.ArrayLike) -> Floats:
    found = samples.array(name, values, axes=1)
    if len(found) < 2 or not (np.diff(found) > 0).all():
        raise EcologyError(
            name, given=found.tolist(), expected="2 or more, increasing", do="Sort the grid's points."
        )
    return found


def _grid(x: Floats, y: Floats) -> tuple[GradientFit, Floats, Floats]:
    """The fit, circulation about cells `[cells, edges]`, and the cells' areas.

    Edges are first those along x, `[n - 1, m]`, then those along y, `[n, m - 1]`. Works are in units of fitness whatever
    the traits' units are; weights, the area an edge stands for over its length squared, are those of the unit square.
    """
    n, m = len(x), len(y)
    node = np.arange(n * m).reshape(n, m)
    tails = np.concatenate([node[:-1].ravel(), node[:, :-1].ravel()])
    heads = np.concatenate([node[1:].ravel(), node[:, 1:].ravel()])
    along_x = (n - 1) * m
    edges = np.arange(len(tails))
    incidence = np.zeros((len(edges), n * m))
    incidence[edges, heads], incidence[edges, tails] = 1.0, -1.0
    u, v = x / (x[-1] - x[0]), y / (y[-1] - y[0])
    weights = np.concatenate(
        [(_width(v)[None, :] / np.diff(u)[:, None]).ravel(), (_width(u)[:, None] / np.diff(v)).ravel()]
    )
    cell = np.arange((n - 1) * (m - 1)).reshape(n - 1, m - 1)
    first = edges[:along_x].reshape(n - 1, m)
    second = edges[along_x:].reshape(n, m - 1)
    faces = np.zeros((cell.size, len(edges)))
    for sign, side in ((1.0, first[:, :-1]), (1.0, second[1:]), (-1.0, first[:, 1:]), (-1.0, second[:-1])):
        faces[cell, side] = sign
    return GradientFit(incidence, weights), faces, np.outer(np.diff(x), np.diff(y)).ravel()


def _width(points: Floats) -> Floats:
    """Half the distance between each point's neighbours; at the ends, to the one neighbour."""
    gaps = np.diff(points) / 2.0
    return np.concatenate([gaps, [0.0]]) + np.concatenate([[0.0], gaps])
