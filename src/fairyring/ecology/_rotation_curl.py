"""The curl of invasion fitness over two traits: the part of selection that has no potential."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fairyring.core.errors import EcologyError
from fairyring.ecology import _samples
from fairyring.ecology._rotation_residual import GradientFit, resample
from fairyring.ecology._samples import Floats


@dataclass(frozen=True, eq=False)
class InvasionCurl:
    """A field of selection split into the gradient of a landscape and what is none.

    Attributes:
        share: of the field's squared norm that no potential explains, in `[0, 1]`, over the rectangle scaled to a unit
            square; 0 for a field of zeros.
        potential: `[n, m]`, of the fitted landscape; mean 0, in units of fitness.
        curl: `[n - 1, m - 1]`, d g_response / d emission - d g_emission / d response, of each cell.
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
    gradients: npt.ArrayLike,
    emission: npt.ArrayLike,
    response: npt.ArrayLike,
    *,
    paired: bool = False,
    seed: int = 0,
    resamples: int = 1999,
) -> InvasionCurl:
    """Helmholtz-Hodge decomposition by least squares of invasion-fitness gradients on a grid of residents.

    A rare mutant's fitness among residents has a gradient at each resident point (Dieckmann & Law 1996). Along each edge
    of the grid its two ends' mean is the work of one step; potentials are fitted to these works by least squares (Bhatia
    et al. 2013, the natural boundary), each weighted by the area it stands for. A rectangle has no holes, so what is left
    is curl alone. It is the least that any landscape leaves over: a rigid rotation of a square scores .84, because a
    saddle imitates part of it. Edges take the field to be linear between points: a coarse grid mistakes fourth-order
    terms for curl.

    Null: the fitted landscape, with each point's replicates redrawn about their mean; statistic as in `cyclic_test`.

    Args:
        gradients: `[replicates, n, m, 2]`, fitness per unit of emission and of response, each replicate a world (or
            pair of worlds) of its own; or `[n, m, 2]`, without p.
        emission: `[n]`, increasing, of the residents; n at least 2.
        response: `[m]`, likewise.
        paired: replicate r of all points is one world, or shares its seed.
        seed: of the resampling.
        resamples: how many.

    Raises:
        EcologyError: shapes that do not fit, coordinates that do not increase, a single replicate.
    """
    x, y = _axis("emission", emission), _axis("response", response)
    single = np.ndim(gradients) == 3
    g = _samples.array("gradients", np.asarray(gradients)[None] if single else gradients, axes=4)
    if g.shape[1:] != (len(x), len(y), 2) or (len(g) < 2 and not single):
        raise EcologyError(
            "gradients",
            given=f"shape {g.shape[single:]}",
            expected=f"[replicates, {len(x)}, {len(y)}, 2] with 2 replicates or more, or without that axis",
            do="Measure both directions at every point of the grid, in worlds of their own.",
        )
    rng, resamples = _samples.generator(seed), _samples.resamples(resamples)
    work, fit, faces, areas = _grid(x, y)
    flows = work @ g.mean(axis=0).ravel()
    potential = fit.potentials(flows)
    total = fit.energy(flows)
    share = min(fit.energy(flows - fit.incidence @ potential) / total, 1.0) if total > 0.0 else 0.0
    curl = ((faces @ flows) / areas).reshape(len(x) - 1, len(y) - 1)
    mean = float((faces @ flows).sum() / areas.sum())
    found = InvasionCurl(share, potential.reshape(len(x), len(y)), curl, mean)
    if single:
        return found
    points = list(np.moveaxis(g.reshape(len(g), -1, 2), 1, 0))
    noise = resample(points, rng, resamples, paired=paired)
    noisy = noise.means @ work.T
    left_over = ((noisy @ fit.remover().T) ** 2).sum(axis=1)
    explained = total * (1.0 - share)
    return InvasionCurl(
        share,
        found.potential,
        curl,
        mean,
        float(((noisy @ faces.T).sum(axis=1) / areas.sum()).std()),
        noise.p(left_over, share * total, total),
        float((left_over / np.maximum(left_over + explained, 1e-300)).mean()),
    )


def _axis(name: str, values: npt.ArrayLike) -> Floats:
    found = _samples.array(name, values, axes=1)
    if len(found) < 2 or not (np.diff(found) > 0).all():
        raise EcologyError(
            name, given=found.tolist(), expected="2 or more, increasing", do="Sort the grid's points."
        )
    return found


def _grid(x: Floats, y: Floats) -> tuple[Floats, GradientFit, Floats, Floats]:
    """Work along edges `[edges, n m 2]`, the fit, circulation about cells `[cells, edges]`, and the cells' areas.

    Edges are first those along x, `[n - 1, m]`, then those along y, `[n, m - 1]`. Works are in units of fitness whatever
    the traits' units are; weights, the area an edge stands for over its length squared, are those of the unit square.
    """
    n, m = len(x), len(y)
    node = np.arange(n * m).reshape(n, m)
    tails = np.concatenate([node[:-1].ravel(), node[:, :-1].ravel()])
    heads = np.concatenate([node[1:].ravel(), node[:, 1:].ravel()])
    along_x = (n - 1) * m
    steps = np.concatenate([np.repeat(np.diff(x), m), np.tile(np.diff(y), n)])
    edges = np.arange(len(tails))
    incidence = np.zeros((len(edges), n * m))
    incidence[edges, heads], incidence[edges, tails] = 1.0, -1.0
    work = np.zeros((len(edges), n * m, 2))
    direction = (edges >= along_x).astype(int)
    for end in (tails, heads):
        work[edges, end, direction] = steps / 2.0
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
    return (
        work.reshape(len(edges), -1),
        GradientFit(incidence, weights),
        faces,
        np.outer(np.diff(x), np.diff(y)).ravel(),
    )


def _width(points: Floats) -> Floats:
    """Half the distance between each point's neighbours; at the ends, to the one neighbour."""
    gaps = np.diff(points) / 2.0
    return np.concatenate([gaps, [0.0]]) + np.concatenate([[0.0], gaps])
