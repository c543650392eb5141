"""The curl of invasion fitness over two traits: the part of selection without a potential."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fairyring.core.errors import EcologyError
from fairyring.ecology.dynamics.gradient import GradientFit, resample
from fairyring.statistics import samples
from fairyring.statistics.samples import Floats


@dataclass(frozen=True, eq=False)
class InvasionCurl:
    """The work of selection along the edges of a grid, split into the differences of a landscape and a remainder.

    Attributes:
        share: of the squared norm of the work that no potential explains, in `[0, 1]`, with the rectangle scaled to a unit
            square; 0 without selection.
        potential: `[n, m]`, the fitted landscape; mean 0, in units of fitness.
        curl: `[n - 1, m - 1]`, the work around each cell over its area, going up along emission first.
        mean_curl: over the rectangle, weighted by area.
        mean_curl_error: its standard error over replicates; None without replicates.
        p: probability of as large a remainder from noise alone; None without replicates.
        null_share: mean share under the fitted landscape, above 0 because of noise; None without replicates.
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
    """Helmholtz-Hodge decomposition, by least squares, of selection between neighbours on a grid of residents.

    Let s(y; x) be the fitness of a rare y among residents x. The work of selection from x to y is half of
    s(y; x) - s(x; y). If bacteria climb a landscape V, then s(y; x) = V(y) - V(x), and the work is the difference of V, whatever
    its shape and however far apart the neighbours are. What favours every mutant equally, and what x and y do to each other
    equally (such as mutual invasion), cancels. To second order the work is the line integral of the gradient of invasion fitness
    (Dieckmann & Law 1996).

    Potentials are fitted to the work by least squares (Bhatia et al. 2013, the natural boundary), with each edge weighted by the
    area it stands for. A rectangle has no holes, so the remainder is curl alone. It is the smallest remainder of any landscape: a
    rigid rotation of a square scores .84, because a saddle imitates part of it.

    Null: any landscape, with the replicates of each edge resampled about their mean; the statistic is that of `cyclic_test`.

    Args:
        along_emission: `[replicates, n - 1, m]`, work from each resident to the next in emission, where each replicate of an
            edge is a separate world (or pair of worlds); or `[n - 1, m]`, without p.
        along_response: `[replicates, n, m - 1]` or `[n, m - 1]`, to the next in response.
        emission: `[n]`, increasing, of the residents; n is at least 2.
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
            do="Let all neighbours on the grid invade each other, in separate worlds.",
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
    result = InvasionCurl(share, potential.reshape(len(x), len(y)), curl, mean)
    if single:
        return result
    noise = resample(list(works.T[:, :, None]), rng, resamples)
    left_over = ((noise.means @ fit.remover().T) ** 2).sum(axis=1)
    explained = total * (1.0 - share)
    return InvasionCurl(
        share,
        result.potential,
        curl,
        mean,
        float(((noise.means @ faces.T).sum(axis=1) / areas.sum()).std()),
        noise.p(left_over, share * total, total),
        float((left_over / np.maximum(left_over + explained, 1e-300)).mean()),
    )


def _axis(name: str, values: npt.ArrayLike) -> Floats:
    points = samples.array(name, values, axes=1)
    if len(points) < 2 or not (np.diff(points) > 0).all():
        raise EcologyError(
            name, given=points.tolist(), expected="2 or more, increasing", do="Sort the points of the grid."
        )
    return points


def _grid(x: Floats, y: Floats) -> tuple[GradientFit, Floats, Floats]:
    """The fit, the circulation around cells `[cells, edges]`, and the areas of the cells.

    Edges along x, `[n - 1, m]`, come first, then those along y, `[n, m - 1]`. Work is in units of fitness, whatever the units of
    the traits. The weight of an edge is the area it stands for over its squared length, in the unit square.
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
    """Half the distance between the neighbours of each point; at the ends, half the distance to the one neighbour."""
    gaps = np.diff(points) / 2.0
    return np.concatenate([gaps, [0.0]]) + np.concatenate([[0.0], gaps])
