"""Every operator of the table against PyTorch, in value and gradient, with the attributes that it has.

The cases of a kind are one module, so they are exported and compiled together. All numbers of a case are cut from one vector, so the
gradient of that vector is compared, and with it those of weights and biases.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from fairyring.task.pytorch import Program, Weights, export  # noqa: E402
from fairyring.task.pytorch import operators as table  # noqa: E402

LENGTH = 2048
Case = tuple[tuple[tuple[int, ...], ...], Callable[..., Any]]


def case(*shapes: tuple[int, ...], of: Callable[..., Any]) -> Case:
    """A function of arrays of these shapes."""
    return shapes, of


def positive(x: Any) -> Any:
    return x.abs() + 0.5


def unit(x: Any) -> Any:
    return torch.sigmoid(x) * 0.9 + 0.05


def whole(x: Any) -> Any:
    """Small whole numbers."""
    return (x * 2).floor().to(torch.int64)


def tokens(x: Any, rows: int) -> Any:
    return (x.abs() * 7).to(torch.int64) % rows


def convolutions() -> Iterator[Case]:
    image, kernel = (2, 4, 9, 8), (6, 4, 3, 3)
    for stride, padding, dilation in [(1, 0, 1), (2, 1, 1), ((1, 2), (2, 0), (2, 1)), (1, (0, 3), 2)]:
        yield case(
            image, kernel, (6,),
            of=lambda x, w, b, s=stride, p=padding, d=dilation: F.conv2d(x, w, b, s, p, d),
        )  # fmt: skip
    for padding in ("same", "valid"):
        yield case(image, (4, 4, 2, 4), of=lambda x, w, p=padding: F.conv2d(x, w, None, 1, p, 2))
    yield case(image, (6, 2, 3, 3), (6,), of=lambda x, w, b: F.conv2d(x, w, b, 2, 1, 1, 2))
    yield case(image, (8, 1, 3, 3), of=lambda x, w: F.conv2d(x, w, padding=1, groups=4))
    yield case((4, 9, 8), kernel, of=lambda x, w: F.conv2d(x, w))
    yield case((2, 3, 11), (4, 3, 5), (4,), of=lambda x, w, b: F.conv1d(x, w, b, 2, 3, 2))
    yield case((2, 4, 11), (4, 2, 4), of=lambda x, w: F.conv1d(x, w, padding="same", groups=2))
    yield case((1, 2, 5, 6, 4), (3, 2, 2, 3, 2), (3,), of=lambda x, w, b: F.conv3d(x, w, b, (1, 2, 1), 1))
    yield case((1, 2, 4, 4, 4), (3, 2, 3, 3, 3), of=lambda x, w: F.conv3d(x, w, padding="same"))
    for stride, padding, more, dilation in [(1, 0, 0, 1), (2, 1, 1, 1), ((3, 2), (1, 2), (2, 0), (1, 2))]:
        yield case(
            (2, 4, 5, 4), (4, 3, 3, 3), (3,),
            of=lambda x, w, b, s=stride, p=padding, m=more, d=dilation: F.conv_transpose2d(x, w, b, s, p, m, 1, d),
        )  # fmt: skip
    yield case((2, 4, 5, 4), (4, 2, 3, 2), of=lambda x, w: F.conv_transpose2d(x, w, stride=2, groups=2))
    yield case((2, 3, 7), (3, 2, 4), (2,), of=lambda x, w, b: F.conv_transpose1d(x, w, b, 2, 1))
    yield case((1, 2, 3, 3, 3), (2, 2, 2, 2, 2), of=lambda x, w: F.conv_transpose3d(x, w, stride=2))
    yield case(
        image, kernel,
        of=lambda x, w: torch.ops.aten.convolution(x, w, None, [2, 1], [1, 0], [1, 1], False, [0, 0], 1),
    )  # fmt: skip
    yield case(
        (2, 6, 4, 4), kernel,
        of=lambda x, w: torch.ops.aten.convolution(x, w, None, [2, 2], [1, 1], [1, 1], True, [1, 1], 1),
    )  # fmt: skip
    for mode in ("reflect", "circular", "replicate"):
        yield case(image, of=lambda x, m=mode: F.pad(x, (2, 1, 1, 2), m))
    yield case(image, of=lambda x: F.pad(x, (1, -2, 0, 3), value=1.5))

    yield from products()


def products() -> Iterator[Case]:
    yield case((5, 7), (3, 7), (3,), of=F.linear)
    yield case((2, 3, 7), (4, 7), of=F.linear)
    yield case((7,), (4, 7), (4,), of=F.linear)
    yield case((2, 3, 4), (4, 5), of=torch.matmul)
    yield case((4,), (2, 4, 3), of=torch.matmul)
    yield case((2, 1, 3, 4), (5, 4, 2), of=torch.matmul)
    yield case((3, 4), (4, 5), of=torch.mm)
    yield case((2, 3, 4), (2, 4, 5), of=torch.bmm)
    yield case((3, 4), (4,), of=torch.mv)
    yield case((4,), (4,), of=torch.dot)
    yield case((4,), (3,), of=torch.outer)
    yield case((5,), (3, 4), (4, 5), of=lambda x, a, b: torch.addmm(x, a, b, beta=0.5, alpha=2))
    yield case((3, 5), (3, 4), (4, 5), of=torch.addmm)
    yield case((2, 3, 5), (2, 3, 4), (2, 4, 5), of=lambda x, a, b: torch.baddbmm(x, a, b, beta=2, alpha=0.5))
    yield case((2, 3, 4), (2, 5, 4), of=lambda a, b: torch.einsum("bik,bjk->bij", a, b))
    yield case(
        (3, 4), (2, 4, 5), (3, 5),
        of=lambda a, w, b: torch.ops.aten._trilinear(a, w, b, [1, 3], [0], [1, 2], [2, 3]),
    )  # fmt: skip


def pools() -> Iterator[Case]:
    image = (2, 3, 9, 10)
    for size, stride, padding, dilation, ceil in [
        (2, None, 0, 1, False),
        (3, 2, 1, 1, True),
        ((2, 3), (2, 1), (1, 0), (2, 1), False),
        (3, 3, 1, 2, True),
        (2, 2, 1, 1, True),
    ]:
        yield case(
            image,
            of=lambda x, a=(size, stride, padding, dilation, ceil): F.max_pool2d(x, *a[:4], ceil_mode=a[4]),
        )
    yield case((3, 9, 10), of=lambda x: F.max_pool2d(x, 2))
    yield case((2, 3, 11), of=lambda x: F.max_pool1d(x, 3, 2, 1, ceil_mode=True))
    yield case((1, 2, 5, 6, 4), of=lambda x: F.max_pool3d(x, 2, ceil_mode=True))
    yield case(
        (2, 3, 4, 4), of=lambda x: torch.relu(x).max_pool2d(2) if False else F.max_pool2d(torch.relu(x), 2)
    )
    for ceil, padded, divisor in itertools.product((False, True), (False, True), (None, 3)):
        yield case(
            image,
            of=lambda x, a=(ceil, padded, divisor): F.avg_pool2d(x, 3, 2, 1, a[0], a[1], a[2]),
        )
    yield case(image, of=lambda x: F.avg_pool2d(x, (2, 4), (3, 2), (1, 2), True, False))
    yield case((2, 3, 11), of=lambda x: F.avg_pool1d(x, 4, 3, 2, True, False))
    yield case((1, 2, 5, 6, 4), of=lambda x: F.avg_pool3d(x, 3, 2, 1, True, False))
    for size in (1, 3, (3, 5), (None, 2), (4, 7), (12, 1)):
        yield case(image, of=lambda x, s=size: F.adaptive_avg_pool2d(x, s))
    yield case((2, 3, 11), of=lambda x: F.adaptive_avg_pool1d(x, 4))
    yield case((1, 2, 5, 6, 4), of=lambda x: F.adaptive_avg_pool3d(x, (2, 3, 3)))
    yield case(image, of=lambda x: F.adaptive_max_pool2d(x, (3, 4)))
    yield case((2, 3, 11), of=lambda x: F.adaptive_max_pool1d(x, 4))
    yield case((1, 2, 5, 6, 4), of=lambda x: F.adaptive_max_pool3d(x, 2))
    yield case(image, of=lambda x: torch.ops.aten._adaptive_avg_pool2d(x, (2, 5)))
    yield case((1, 2, 5, 6, 4), of=lambda x: torch.ops.aten._adaptive_avg_pool3d(x, (1, 2, 2)))
    yield case(image, of=lambda x: torch.ops.aten.max_pool2d_with_indices(x, (3, 3), (2, 2), (1, 1))[0])
    yield case((2, 3, 11), of=lambda x: F.max_pool1d_with_indices(x, 3)[0])
    yield case((1, 2, 5, 6, 4), of=lambda x: torch.ops.aten.max_pool3d_with_indices(x, (2, 2, 2))[0])


def normalisations() -> Iterator[Case]:
    image = (2, 6, 4, 5)
    yield case(image, (6,), (6,), of=lambda x, w, b: F.group_norm(x, 3, w, b, 1e-3))
    yield case(image, of=lambda x: F.group_norm(x, 2))
    yield case((3, 6), (6,), (6,), of=lambda x, w, b: F.group_norm(x, 2, w, b))
    yield case((2, 3, 8), (8,), (8,), of=lambda x, w, b: F.layer_norm(x, (8,), w, b, 1e-3))
    yield case((2, 3, 8), (3, 8), of=lambda x, w: F.layer_norm(x, (3, 8), w))
    yield case((2, 3, 8), (8,), of=lambda x, w: F.rms_norm(x, (8,), w))
    yield case((2, 3, 8), of=lambda x: F.rms_norm(x, (3, 8), eps=0.1))
    yield case(image, (6,), (6,), of=lambda x, w, b: F.instance_norm(x, weight=w, bias=b, eps=1e-2))
    yield case((2, 6, 9), of=lambda x: F.instance_norm(x))
    yield case(image, of=lambda x: F.local_response_norm(x, 3))
    yield case((3, 8), of=lambda x: F.normalize(x, dim=1))
    yield case((3, 8), of=lambda x: F.normalize(x, p=1.5, dim=0))
    yield case((3, 8), (3, 1), of=lambda v, g: torch._weight_norm(v, g, 0))
    yield case((3, 8), (1, 8), of=lambda v, g: torch.ops.aten._weight_norm_interface(v, g, 1)[0])
    yield case((2, 3, 8), (8,), (8,), of=lambda x, w, b: torch.native_layer_norm(x, (8,), w, b, 1e-5)[0])
    yield case(image, (6,), (6,), of=lambda x, w, b: torch.native_group_norm(x, w, b, 2, 6, 20, 3, 1e-5)[0])


def activations() -> Iterator[Case]:
    kinks = [-6.0, -3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0, 6.0, 30.0]

    def with_kinks(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda x: function(torch.cat([x * 3, torch.tensor(kinks) + 0 * x[:10]]))

    for function in [
        torch.relu, F.relu6, F.hardtanh, F.elu, F.selu, F.celu, F.leaky_relu, F.gelu, F.silu, F.mish, F.hardswish,
        F.hardsigmoid, F.softplus, F.softsign, F.tanhshrink, torch.sigmoid, torch.tanh, F.logsigmoid, F.hardshrink,
        F.softshrink,
        lambda x: F.hardtanh(x, -0.5, 3.0),
        lambda x: F.elu(x, 0.7),
        lambda x: torch.ops.aten.elu(x, 0.5, 2.0, 0.3),
        lambda x: F.celu(x, 0.6),
        lambda x: F.leaky_relu(x, 0.2),
        lambda x: F.gelu(x, approximate="tanh"),
        lambda x: F.softplus(x, 2.0, 1.5),
        lambda x: F.hardshrink(x, 1.2),
        lambda x: F.softshrink(x, 0.8),
        lambda x: F.threshold(x, 0.4, -2.0),
        lambda x: F.rrelu(x, 0.1, 0.5),
    ]:  # fmt: skip
        yield case((24,), of=with_kinks(function))
    yield case((2, 3, 4), (3,), of=F.prelu)
    yield case((2, 3, 4), (2, 3, 4), of=torch.ops.aten._prelu_kernel)
    yield case((7,), (1,), of=F.prelu)
    yield case((2, 6, 3), of=lambda x: F.glu(x, 1))
    yield case((7,), of=lambda x: torch.logit(unit(x)))
    yield case((7,), of=lambda x: torch.logit(unit(x), eps=0.2))
    yield case((2, 3, 4), of=lambda x: F.softmax(x, 1))
    yield case((2, 3, 4), of=lambda x: F.softmin(x, -1))
    yield case((2, 3, 4), of=lambda x: F.log_softmax(x, -1, dtype=torch.float32))
    yield case((2, 3, 4), of=lambda x: torch.ops.aten._softmax(x, 1, False))
    yield case((2, 3, 4), of=lambda x: torch.ops.aten._log_softmax(x, 1, False))
    yield case((2, 3, 4), of=lambda x: torch._safe_softmax(x.masked_fill(x > 0, -torch.inf), -1))


def recurrences() -> Iterator[Case]:
    def with_weights(module: Any, *shapes: tuple[int, ...]) -> Case:
        weights = [tuple(p.shape) for p in module.parameters()]

        def run(*arrays: Any) -> Any:
            names = [name for name, _ in module.named_parameters()]
            inputs, own = arrays[: len(shapes)], dict(zip(names, arrays[len(shapes) :], strict=True))
            state = inputs[1] if len(inputs) == 2 else tuple(inputs[1:]) or None
            return torch.func.functional_call(module, own, (inputs[0], state))

        return (*shapes, *weights), run

    yield with_weights(nn.LSTM(3, 4), (5, 2, 3))
    yield with_weights(nn.LSTM(3, 4, 2, bidirectional=True, batch_first=True), (2, 5, 3))
    yield with_weights(nn.LSTM(3, 4, bias=False), (5, 3))
    yield with_weights(nn.LSTM(3, 4, proj_size=2), (5, 2, 3), (1, 2, 2), (1, 2, 4))
    yield with_weights(nn.GRU(3, 4), (5, 2, 3), (1, 2, 4))
    yield with_weights(nn.GRU(3, 4, 2, bias=False, bidirectional=True, batch_first=True), (2, 5, 3))
    yield with_weights(nn.RNN(3, 4), (5, 2, 3))
    yield with_weights(nn.RNN(3, 4, nonlinearity="relu", batch_first=True), (2, 5, 3), (1, 2, 4))
    yield with_weights(nn.LSTMCell(3, 4), (2, 3), (2, 4), (2, 4))
    yield with_weights(nn.GRUCell(3, 4), (2, 3), (2, 4))
    yield with_weights(nn.GRUCell(3, 4), (3,), (4,))
    yield with_weights(nn.RNNCell(3, 4), (2, 3), (2, 4))
    yield with_weights(nn.RNNCell(3, 4, nonlinearity="relu"), (2, 3), (2, 4))


def attentions() -> Iterator[Case]:
    q, k = (2, 4, 5, 3), (2, 4, 6, 3)
    attend = F.scaled_dot_product_attention
    yield case(q, k, (2, 4, 6, 2), of=attend)
    yield case(q, k, k, of=lambda q, k, v: attend(q, k, v, is_causal=True, scale=0.3))
    yield case(q, k, k, (5, 6), of=lambda q, k, v, m: attend(q, k, v, m > -0.3))
    yield case(q, k, k, (5, 6), of=lambda q, k, v, m: attend(q, k, v, m.cumsum(0) > 99))
    yield case(q, k, k, (2, 1, 5, 6), of=lambda q, k, v, m: attend(q, k, v, m))
    yield case(
        q,
        k,
        k,
        (5, 6),
        of=lambda q, k, v, m: attend(q, k, v, torch.zeros(5, 6).masked_fill(m > 0, -torch.inf)),
    )
    yield case(q, (2, 2, 6, 3), (2, 2, 6, 3), of=lambda q, k, v: attend(q, k, v, enable_gqa=True))


def shapes() -> Iterator[Case]:
    box = (2, 3, 4)
    for function in [
        lambda x: x.view(6, -1), lambda x: x.reshape(4, 6), lambda x: x.flatten(1), lambda x: x.flatten(-2),
        lambda x: x.unflatten(-1, (2, -1)), lambda x: x.ravel(), lambda x: x.permute(2, 0, 1),
        lambda x: x.transpose(0, -1), lambda x: x[0].t(), lambda x: x[0].T, lambda x: x.mT, lambda x: x.movedim(0, -1),
        lambda x: x.movedim((0, 1), (1, 2)), lambda x: x.swapaxes(1, 2), lambda x: x[:1].squeeze(),
        lambda x: x[:1].squeeze(0), lambda x: x.squeeze(1), lambda x: x[:1, :1].squeeze((0, 1)),
        lambda x: x.unsqueeze(-1), lambda x: x.unsqueeze(1),
        lambda x: x[:, :1].expand(-1, 6, -1), lambda x: x.expand(5, -1, -1, -1), lambda x: x[:1].expand_as(x),
        lambda x: x.broadcast_to(2, 2, 3, 4), lambda x: x.flip(0, -1), lambda x: x.roll(2), lambda x: x.roll((1, -2), (0, 2)),
        lambda x: x.repeat(2, 1, 3), lambda x: x.repeat(2, 1, 1, 2), lambda x: x.tile(2, 1), lambda x: x.repeat_interleave(3, 1),
        lambda x: x.repeat_interleave(2), lambda x: torch.cat([x, x * 2], -1), lambda x: torch.stack([x, x * 2], 1),
        lambda x: x.chunk(3, 2), lambda x: x.split(3, 2),
        lambda x: x.split([1, 2], 1), lambda x: x.tensor_split(3, 2), lambda x: x.tensor_split((1, 2), 1),
        lambda x: x.unbind(1), lambda x: x[1], lambda x: x[:, -1], lambda x: x[..., 1:-1:2], lambda x: x[:, 5:],
        lambda x: x.narrow(2, 1, 2), lambda x: x.select(-1, -2), lambda x: x.diagonal(1, 1, 2), lambda x: x.unfold(2, 3, 1),
        lambda x: x.unfold(1, 2, 1), lambda x: x.tril(1), lambda x: x.triu(-1), lambda x: x.contiguous().clone() + x.detach(),
        lambda x: x.to(torch.float64).float(), lambda x: x.double() * 2, lambda x: x.type_as(x), lambda x: x.to(x),
        lambda x: x.view_as(x), lambda x: x.reshape_as(x), lambda x: F.pad(x, (1, 2)), lambda x: x.numel() * x,
        lambda x: x.to("cpu", torch.float32), lambda x: torch.ops.aten.split.sizes(x, [1, 2], 1),
        lambda x: torch.ops.aten._unsafe_view(x, [6, 4]), lambda x: torch.ops.aten.constant_pad_nd(x, [1, -1], 2.0),
        lambda x: torch.ops.aten.reflection_pad1d(x, [1, 2]), lambda x: torch.ops.aten.reflection_pad2d(x, [1, 2, 1, 0]),
        lambda x: torch.ops.aten.reflection_pad3d(x[None], [1, 2, 1, 0, 1, 1]),
        lambda x: torch.ops.aten.replication_pad1d(x, [1, 2]), lambda x: torch.ops.aten.replication_pad2d(x, [1, 2, 1, 0]),
        lambda x: torch.ops.aten.replication_pad3d(x[None], [1, 2, 1, 0, 1, 1]), lambda x: torch.ops.aten.alias(x),
        lambda x: torch.ops.aten._to_copy(x, dtype=torch.bfloat16), lambda x: torch.ops.aten.contiguous(x.mT),
        lambda x: torch.ops.aten.to.dtype_layout(x, dtype=torch.float16), lambda x: torch.ops.aten.to.other(x, x.half()),
    ]:  # fmt: skip
        yield case(box, of=function)
    yield case((2, 8, 3, 2), of=lambda x: F.pixel_shuffle(x, 2))
    yield case((2, 2, 4, 6), of=lambda x: F.pixel_unshuffle(x, 2))
    yield case((2, 6, 2, 2), of=lambda x: F.channel_shuffle(x, 3))


def resampled() -> Iterator[Case]:
    yield case((1, 2, 3, 2, 4), of=lambda x: F.interpolate(x, scale_factor=2))
    yield case((1, 2, 3, 2, 4), of=lambda x: F.interpolate(x, (2, 5, 3), mode="trilinear"))
    yield case((1, 2, 3, 2, 4), of=lambda x: F.interpolate(x, (2, 5, 3), mode="nearest-exact"))
    yield case((1, 2, 5), of=lambda x: F.interpolate(x, 8, mode="nearest-exact"))
    for factor in (2, 1.7, 0.6):
        yield case((1, 2, 5, 4), of=lambda x, f=factor: F.interpolate(x, scale_factor=f))
        yield case((1, 2, 5, 4), of=lambda x, f=factor: F.interpolate(x, scale_factor=f, mode="bilinear"))
    yield case((1, 2, 5, 4), of=lambda x: F.interpolate(x, (7, 3), mode="bilinear", align_corners=True))
    yield case((1, 2, 5, 4), of=lambda x: F.interpolate(x, (7, 3), mode="nearest-exact"))
    yield case((1, 2, 5), of=lambda x: F.interpolate(x, 8, mode="linear"))
    yield case((1, 2, 5), of=lambda x: F.interpolate(x, 10))
    yield case((2, 2, 6, 5), of=lambda x: F.unfold(x, (2, 3), (2, 1), (1, 0), (1, 2)))


def indices() -> Iterator[Case]:
    yield case((7, 3), (2, 4), of=lambda w, i: F.embedding(tokens(i, 7), w))
    yield case((7, 3), (2, 4), of=lambda w, i: F.embedding(tokens(i, 7), w, padding_idx=2))
    yield case((5, 4), (6,), of=lambda x, i: x[tokens(i, 5)])
    yield case((5, 4, 3), (6,), of=lambda x, i: x[:, tokens(i, 4), tokens(-i, 3)])
    yield case((5, 4, 3), (2,), of=lambda x, i: x[tokens(i, 5), :, tokens(-i, 3)])
    yield case((5, 4), (6,), of=lambda x, i: x.index_select(1, tokens(i, 4)))
    yield case((5, 4), (5, 2), of=lambda x, i: x.gather(1, tokens(i, 4)))
    yield case((5, 4), (3, 4), of=lambda x, i: x.gather(0, tokens(i, 5)))
    yield case((5, 4), (5, 2), (5, 2), of=lambda x, i, s: x.scatter(1, i.argsort(1), s))
    yield case((5, 4), (5, 1), of=lambda x, i: x.scatter(1, i.argsort(1), 2.5))
    yield case((5, 4), (5, 3), (5, 3), of=lambda x, i, s: x.scatter_add(1, tokens(i, 4), s))
    yield case((5, 4), (6,), (6, 4), of=lambda x, i, s: x.index_add(0, tokens(i, 5), s, alpha=0.5))
    yield case((6,), of=lambda i: F.one_hot(tokens(i, 5), 5).float())
    yield case((5, 4), (5, 4), of=lambda x, m: x.masked_fill(m > 0, 2.5))
    yield case((5, 4), (5, 4), (), of=lambda x, m, v: x.masked_fill(m > 0, v))
    yield case((5, 4), (4,), of=lambda x, s: torch.select_scatter(x, s, 0, -2))
    yield case((5, 4), (2, 4), of=lambda x, s: torch.slice_scatter(x, s, 0, 1, 4, 2))
    yield case((5, 4), of=lambda x: x.sort(1, descending=True))
    yield case((5, 4), of=lambda x: x.sort(0))
    yield case((5, 4), of=lambda x: x.argsort(-1))
    yield case((5, 4), of=lambda x: x.topk(2))
    yield case((5, 4), of=lambda x: x.topk(3, 0, largest=False))

    yield case(
        (5, 4), (2, 3), (3,), of=lambda x, i, v: x.index_put((tokens(i, 5), tokens(i, 4)), v, accumulate=True)
    )
    yield case((5, 4), (4,), of=lambda x, v: x.index_put((torch.tensor([1, 3]),), v))
    yield case((5, 4), (5,), (), of=lambda x, m, v: x.index_put((m > 0,), v))


def write(x: Any, v: Any) -> Any:
    x = x * 1
    x[1:3] = v
    x[:, 0] += 2
    x[x > 1] = 0.5
    x[torch.tensor([0, 4])] *= 3
    return x


def creations() -> Iterator[Case]:
    for function in [
        lambda x: x + torch.zeros(3) + torch.ones(2, 3) + torch.full((3,), 2.5),
        lambda x: x + x.new_zeros(3) + x.new_ones(3) + x.new_full((2, 1), 1.5) + x.new_empty(3) * 0,
        lambda x: x + torch.zeros_like(x) + torch.ones_like(x) + torch.full_like(x, 3) + torch.empty_like(x) * 0,
        lambda x: x + torch.arange(3) + torch.arange(1, 4) + torch.arange(6.0, 0.0, -2.0) + torch.linspace(0, 1, 3),
        lambda x: x @ torch.eye(3) @ torch.eye(3, 4), lambda x: x + torch.scalar_tensor(2.0) + torch.tensor([1.0, 2, 3]),
        lambda x: x + torch.empty(3) * 0, lambda x: torch.fill(x, 2.0), lambda x: torch.fill(x, x[0, 0]),
        lambda x: torch.ops.aten.copy(x.detach(), x[0].detach() * 2), lambda x: x + 0 * torch.ops.aten.empty_permuted([2, 3], [1, 0]),
    ]:  # fmt: skip
        yield case((2, 3), of=function)


def arithmetics() -> Iterator[Case]:
    for function in [
        torch.abs, torch.neg, torch.exp, torch.exp2, torch.expm1, torch.square, torch.sin, torch.cos, torch.tan, torch.atan,
        torch.sinh, torch.cosh, torch.erf, torch.erfc, torch.sign, torch.floor, torch.ceil, torch.round, torch.trunc, torch.frac,
        torch.reciprocal, lambda x: torch.round(x, decimals=1), lambda x: 2 ** x, lambda x: x ** 2, lambda x: x ** 3.0,
        lambda x: x ** -2, lambda x: 3 - x, lambda x: 1 / x, lambda x: x / 2, lambda x: x - 1.5, lambda x: x + 1, lambda x: x * 3,
        lambda x: x % 0.7, lambda x: torch.fmod(x, 0.7), lambda x: x.detach() // 0.7, lambda x: x.clamp(-0.5, 0.7),
        lambda x: x.clamp(min=-0.1), lambda x: x.clamp_min(0.2), lambda x: x.clamp_max(0.2), lambda x: x.clamp(max=0.3),
        lambda x: torch.div(x, 0.7, rounding_mode="floor"), lambda x: torch.div(x, 0.7, rounding_mode="trunc"),
        lambda x: torch.rsub(x, 2, alpha=3), lambda x: torch.nan_to_num(torch.log(x), 1.0, 2.0, -3.0),
        lambda x: torch.isnan(torch.log(x)), lambda x: torch.isinf(x / 0), lambda x: torch.isfinite(x / 0), lambda x: x > 0,
        lambda x: (x > 0).logical_not(), lambda x: ~(x > 0), lambda x: ~whole(x), lambda x: whole(x) / 2, lambda x: whole(x) // 2,
        lambda x: whole(x) % 3, lambda x: whole(x) + 0.5, lambda x: (x > 0) + (x > 1), lambda x: (x == 0) | (x != 0) & (x <= 1),
        lambda x: whole(x) & 3 | 4 ^ whole(x), lambda x: x * (x >= 0), lambda x: (x < 0).sum() * x, lambda x: torch.lerp(x, x * 2, 0.3),
        lambda x: torch.where(x > 0, x, 0.0), lambda x: torch.where(x > 0, 1.0, x), lambda x: torch.where(x > 0, 1.0, 2.0),
        lambda x: torch.maximum(x, x), lambda x: x.half() * 2, lambda x: x.bfloat16() + 1,
        lambda x: torch.ops.aten.__or__.Scalar(whole(x), 5), lambda x: torch.ops.aten.__xor__.Scalar(whole(x), 5),
        lambda x: torch.ops.aten.add.Scalar(x, 2, 3), lambda x: torch.ops.aten.sub.Scalar(x, 2, 3), lambda x: torch.ops.aten.mul.Scalar(x, 2),
        lambda x: torch.ops.aten.div.Scalar(x, 2), lambda x: torch.ops.aten.div.Scalar_mode(x, 0.7, rounding_mode="floor"),
        lambda x: torch.bitwise_and(whole(x), 6), lambda x: torch.bitwise_or(whole(x), 6), lambda x: torch.bitwise_xor(whole(x), 6),
        lambda x: torch.bitwise_and(whole(x), whole(-x)), lambda x: torch.bitwise_or(whole(x), whole(-x)),
        lambda x: torch.bitwise_xor(whole(x), whole(-x)), lambda x: torch.ops.aten.floor_divide.Scalar(x.detach(), 0.7),
        lambda x: x.bfloat16() * torch.tensor(2.5), lambda x: x * x.detach(), lambda x: x.sigmoid() * 0.5,
    ]:  # fmt: skip
        yield case((11,), of=function)
    for function in [
        torch.log, torch.log1p, torch.log2, torch.log10, torch.sqrt, torch.rsqrt, lambda x: x ** 0.5, lambda x: x ** 1.7,
    ]:  # fmt: skip
        yield case((7,), of=lambda x, f=function: f(positive(x)))
    for function in [torch.asin, torch.acos, torch.erfinv]:
        yield case((7,), of=lambda x, f=function: f(unit(x)))
    for function in [
        torch.add, torch.sub, torch.mul, torch.div, torch.maximum, torch.minimum, torch.atan2, torch.hypot, torch.logaddexp,
        torch.max, torch.min, torch.remainder, torch.fmod, torch.eq, torch.ne, torch.lt, torch.le, torch.gt, torch.ge,
        lambda x, y: torch.add(x, y, alpha=2), lambda x, y: torch.sub(x, y, alpha=0.5), lambda x, y: torch.rsub(x, y, alpha=2),
        lambda x, y: torch.div(x, y, rounding_mode="floor"), lambda x, y: torch.div(x, y, rounding_mode="trunc"), lambda x, y: x.detach() // y.detach(),
        lambda x, y: positive(x) ** y, lambda x, y: torch.logical_and(x > 0, y > 0), lambda x, y: torch.logical_or(x > 0, y > 0),
        lambda x, y: torch.logical_xor(x > 0, y > 0), lambda x, y: (x > 0) & (y > 0), lambda x, y: (x > 0) | (y > 0), lambda x, y: (x > 0) ^ (y > 0),
        lambda x, y: torch.where(x > y, x, y), lambda x, y: torch.lerp(x, y, x), lambda x, y: x.clamp(y, y + 1),
        lambda x, y: torch.addcmul(x, x, y, value=0.5), lambda x, y: torch.addcdiv(x, x, positive(y), value=2),
        lambda x, y: whole(x) + y,
    ]:  # fmt: skip
        yield case((3, 5), (5,), of=function)


def reductions() -> Iterator[Case]:
    for function in [
        lambda x: x.sum(), lambda x: x.sum(1), lambda x: x.sum((0, -1), keepdim=True), lambda x: x.sum(dtype=torch.float64),
        lambda x: (x > 0).sum(1), lambda x: x.mean(), lambda x: x.mean((1, 2), keepdim=True), lambda x: x.mean(-1),
        lambda x: x.prod(), lambda x: x.prod(1, keepdim=True), lambda x: x.var(), lambda x: x.var(1), lambda x: x.var((0, 2), unbiased=False),
        lambda x: x.var(1, correction=2, keepdim=True), lambda x: x.std(), lambda x: x.std(2, unbiased=False), lambda x: x.std(1, correction=0),
        lambda x: torch.var_mean(x, 1, correction=1), lambda x: x.amax(1), lambda x: x.amax((0, 2), keepdim=True),
        lambda x: x.amin(-1), lambda x: x.max(), lambda x: x.min(), lambda x: x.max(1), lambda x: x.max(-1, keepdim=True), lambda x: x.min(0),
        lambda x: x.argmax(), lambda x: x.argmax(1, keepdim=True), lambda x: x.argmin(-1), lambda x: (x > 0).all(), lambda x: (x > -1).all(1),
        lambda x: (x > 0).any(), lambda x: (x > 1).any(-1, keepdim=True), lambda x: x.logsumexp(1), lambda x: x.logsumexp((0, 2), keepdim=True),
        lambda x: x.cumsum(1), lambda x: x.cumsum(-1, dtype=torch.float64), lambda x: x.cumprod(1), lambda x: torch.relu(x).amax(2),
        lambda x: torch.relu(x).max(2)[0], lambda x: (x > 0).any((0, 1)), lambda x: (x > 0).all((0, 1)),
        lambda x: torch.ops.aten.std(x), lambda x: torch.ops.aten.std(x, False), lambda x: torch.ops.aten.var(x, False),
        lambda x: torch.ops.aten.norm.Scalar(x, 3), lambda x: torch.ops.aten.norm.ScalarOpt_dim(x, None, [1], True),
    ]:  # fmt: skip
        yield case((2, 4, 3), of=function)
    for p in (2, 1, 3.5, float("inf"), float("-inf")):
        yield case((3, 8), of=lambda x, p=p: torch.linalg.vector_norm(x, p, dim=-1, keepdim=True))
    yield case((3, 8), of=lambda x: torch.linalg.vector_norm(x, 0))
    yield case((3, 8), of=lambda x: torch.norm(x) + torch.norm(x, p=3, dim=1))
    yield case((3, 8), of=lambda x: torch.linalg.vector_norm(x * 0, dim=1) + torch.std(x * 0, 1))


def taken_apart() -> Iterator[Case]:
    """What is not in the table, but is made of what is."""
    yield case((5, 4), (4,), of=write)
    yield case((3, 4), (3, 5), (2, 4, 5), (2,), of=F.bilinear)
    for function in [
        lambda x: torch.hstack([x, x]), lambda x: torch.vstack([x, x]), lambda x: torch.meshgrid(x[0], x[1], indexing="ij"),
        lambda x: torch.var_mean(x, 1), lambda x: torch.std_mean(x, 1), lambda x: torch.count_nonzero(x > 0, 1),
        lambda x: x.clone().fill_(2.0) + x.clone().zero_() + x.clone().copy_(x[:1]), lambda x: x.clone().fill_(x[0, 0]),
        lambda x: F.cosine_similarity(x, x[:1]), lambda x: F.pairwise_distance(x, x[:1]), lambda x: F.mse_loss(x, x.flip(0)),
        lambda x: F.cross_entropy(x, torch.tensor([1, 0])), lambda x: x.mul(2).add_(1).sin(),
        lambda x: torch.triu(torch.ones(3, 3), diagonal=1) @ x.mT, lambda x: torch.std(x, 1, correction=0.5),
        without_gradient, lambda x: F.huber_loss(x, x.flip(1)),
    ]:  # fmt: skip
        yield case((2, 3), of=function)


def without_gradient(x: Any) -> Any:
    """`run_decompositions` forgets no_grad and detach."""
    with torch.no_grad():
        y = x * 2
    x = x.clone().mul_(3)
    return x * y + x.detach() * x


KINDS = {
    operators.__name__.rpartition(".")[2]: (list(cases()), operators.OPERATORS)
    for cases, operators in (
        (activations, table.activations),
        (arithmetics, table.arithmetic),
        (attentions, table.attention),
        (convolutions, table.convolutions),
        (creations, table.creation),
        (indices, table.indexing),
        (normalisations, table.normalisation),
        (pools, table.pools),
        (recurrences, table.recurrent),
        (reductions, table.reductions),
        (resampled, table.resampling),
        (shapes, table.shapes),
    )
}
KINDS["what is taken apart"] = list(taken_apart()), {}
# They make no arrays: what they are used for is tested with whole models.
NUMBERS = {
    "aten.item.default",
    "aten._local_scalar_dense.default",
    "aten.sym_size.int",
    "aten.sym_numel.default",
}
# They are in graphs only, and have nothing to compute.
KEPT = {"aten.lift_fresh_copy.default"}


class Cases(nn.Module):
    """The outputs of all cases. Each has a row of numbers of its own, so that its gradient is its own."""

    def __init__(self, cases: list[Case]) -> None:
        super().__init__()
        self.cases = cases
        self.unused = nn.Parameter(torch.ones(()))

    def forward(self, x: Any) -> Any:
        outputs = []
        for row, (wanted, function) in zip(x[0].unbind(), self.cases, strict=True):
            sizes = [int(np.prod(shape)) for shape in wanted]
            parts = row.split([*sizes, LENGTH - sum(sizes)])
            arrays = [part.view(shape) for part, shape in zip(parts, wanted, strict=False)]
            outputs.append(flat([function(*arrays)]))
        return outputs


def flat(value: Any) -> list[Any]:
    return [leaf for one in value for leaf in flat(one)] if isinstance(value, list | tuple) else [value]


def as_float(x: Any) -> Any:
    return x.detach().float().numpy()


@pytest.mark.dealt(3, "kind")
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("kind", KINDS)
def test_operators_are_those_of_pytorch(kind: str) -> None:
    rng = np.random.default_rng(len(kind))
    cases, operators = KINDS[kind]
    module = Cases(cases)
    x = rng.normal(size=(2, len(cases), LENGTH)).astype(np.float32)
    exported = export(module, x.shape, torch.float32, train=False)
    met = {str(node.target) for node in exported.graph.nodes}
    assert sorted(operators.keys() - met - NUMBERS - KEPT) == [], "operators of the table without a case"
    program = Program(exported, Weights(module))
    given = torch.tensor(x, requires_grad=True)
    theirs = module(given)
    cotangents = [[rng.normal(size=t.shape).astype(np.float32) for t in case] for case in theirs]

    def total(x: jax.Array) -> tuple[jax.Array, Any]:
        outputs = program({"unused": jnp.ones(())}, x, None)
        graded = [
            jnp.sum(out.astype(jnp.float32) * weight)
            for of_case, weights, wanted in zip(outputs, cotangents, theirs, strict=True)
            for out, weight, t in zip(of_case, weights, wanted, strict=True)
            if t.requires_grad
        ]
        return sum(graded, jnp.zeros(())), outputs

    gradient, ours = jax.jit(jax.grad(total, has_aux=True))(x)
    graded = [
        (t.float() * torch.tensor(weight)).sum()
        for of_case, weights in zip(theirs, cotangents, strict=True)
        for t, weight in zip(of_case, weights, strict=True)
        if t.requires_grad
    ]
    (wanted,) = torch.autograd.grad(sum(graded, torch.zeros(())), given)
    for row, (mine, right) in enumerate(zip(ours, theirs, strict=True)):
        low = any(t.dtype in (torch.bfloat16, torch.float16) for t in right)
        for own, value in zip(mine, right, strict=True):
            assert own.shape == tuple(value.shape), f"case {row} of {kind}"
            assert jnp.issubdtype(own.dtype, jnp.floating) == value.is_floating_point(), (
                f"case {row} of {kind}"
            )
            bound = 2e-2 if low else 2e-5
            np.testing.assert_allclose(
                np.asarray(own, np.float32),
                as_float(value),
                rtol=bound,
                atol=bound,
                err_msg=f"case {row} of {kind}",
            )
        bound = 5e-2 if low else 2e-4
        np.testing.assert_allclose(
            gradient[0, row],
            wanted[0, row],
            rtol=bound,
            atol=bound,
            err_msg=f"gradient of case {row} of {kind}",
        )
