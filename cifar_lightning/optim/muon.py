"""Muon: momentum whose every update is turned into an orthogonal matrix of about the same direction.

After Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024,
kellerjordan.github.io/posts/muon).
torch.optim.Muon takes matrices only; this one takes convolution weights, and the rest of the net as well, so that
Lightning has one optimizer to look after.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.sgd import sgd

# The quintic whose repetition lifts every singular value from near 0 to near 1 in the fewest steps, from the write-up.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """U V^T of each matrix's singular value decomposition U S V^T, roughly: S becomes numbers near 1.

    Newton-Schulz iterations, on all matrices at once. Each iteration multiplies X by a polynomial of X X^T from the
    left. All these polynomials commute, so they are multiplied up first, in the square of the shorter side, which is
    less work than to carry X along.

    Args:
        matrices: float32 or bfloat16 (..., M, N).
        steps: iterations, at least 1; 5 bring singular values from 0.01 up to between about 0.7 and 1.2.

    Returns:
        (..., M, N) in the dtype of `matrices`.
    """
    if matrices.shape[-2] > matrices.shape[-1]:
        return orthogonalise(matrices.mT, steps).mT
    if matrices.ndim != 3:
        return orthogonalise(matrices.reshape(-1, *matrices.shape[-2:]), steps).view(matrices.shape)
    gram = matrices @ matrices.mT
    squares = gram.diagonal(dim1=-2, dim2=-1).sum(-1).clamp(min=1e-14).view(-1, 1, 1)  # of the Frobenius norms
    gram /= squares
    product = polynomial = _quintic(gram)
    for _ in range(steps - 1):
        gram = polynomial @ (gram @ polynomial)
        polynomial = _quintic(gram)
        product = polynomial @ product
    return (product / squares.sqrt()) @ matrices


def _quintic(gram: Tensor) -> Tensor:
    """What an iteration multiplies X by, from X X^T (..., M, M)."""
    a, b, c = COEFFICIENTS
    polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    polynomial.diagonal(dim1=-2, dim2=-1).add_(a)
    return polynomial


class MuonSGD(Optimizer):
    """Muon for convolution weights, SGD with Nesterov momentum for dense weights and for vectors, each with its rate.

    Muon's step of a weight W, flattened to (M, N) with M its outputs, and with gradient G: the average
    `B = momentum B + (1 - momentum) G`, then `W = W - lr max(1, M / N)^0.5 orthogonalise(G + momentum (B - G))`, which
    is torch.optim.Muon's. A scheduler scales all three rates alike.

    Args:
        params: all parameters of a net; those that need no gradient are left out.
        lr: Muon's rate, for weights of three and more dimensions.
        momentum: Muon's.
        dense_lr: SGD's rate for weights of two dimensions.
        vector_lr: SGD's rate for biases and the like.
        sgd_momentum: of both.
        weight_decay: torch.optim.SGD's times the rate, so that changing a rate leaves the decay as it is; of dense
            weights and vectors.
        steps: of `orthogonalise`.
        normalise: give each convolution weight the Frobenius norm `M^0.5` before its step, as airbench94_muon does.

    Raises ValueError: a value is out of range.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.24,
        momentum: float = 0.6,
        dense_lr: float = 0.67,
        vector_lr: float = 0.05,
        sgd_momentum: float = 0.85,
        weight_decay: float = 0.0,
        steps: int = 3,
        normalise: bool = True,
    ) -> None:
        rates = {"lr": lr, "dense_lr": dense_lr, "vector_lr": vector_lr, "weight_decay": weight_decay}
        for name, value in rates.items():
            if not value >= 0:
                raise ValueError(f"{name} must be at least 0, got {value}")
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        for name, value in {"momentum": momentum, "sgd_momentum": sgd_momentum}.items():
            if not 0 <= value < 1:
                raise ValueError(f"{name} must be from 0 to below 1, got {value}")
        params = list(params)
        if any(isinstance(parameter, dict) for parameter in params):
            raise ValueError("MuonSGD has groups of its own, with lr, dense_lr and vector_lr: it takes no others")
        trained = [parameter for parameter in params if parameter.requires_grad]
        sgd_group = {"method": "sgd", "momentum": sgd_momentum}
        groups: list[dict[str, Any]] = [
            {
                "params": [parameter for parameter in trained if parameter.ndim > 2],
                "lr": lr,
                "method": "muon",
                "momentum": momentum,
                "steps": steps,
                "normalise": normalise,
            },
            {"params": [p for p in trained if p.ndim == 2], "lr": dense_lr, **sgd_group},
            {"params": [p for p in trained if p.ndim < 2], "lr": vector_lr, **sgd_group},
        ]
        for group in groups[1:]:
            group["weight_decay"] = weight_decay / group["lr"] if group["lr"] else 0.0
        super().__init__([group for group in groups if group["params"]], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of every parameter that has a gradient; returns what `closure` does."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            (_muon_step if group["method"] == "muon" else _sgd_step)(self, group)
        return loss


def _muon_step(optimizer: Optimizer, group: dict[str, Any]) -> None:
    parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
    if not parameters:
        return
    for parameter in parameters:
        if not optimizer.state[parameter]:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in parameters]
    averages = [optimizer.state[parameter]["momentum_buffer"] for parameter in parameters]
    torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
    updates = torch._foreach_lerp(gradients, averages, group["momentum"])
    if group["normalise"]:
        norms = torch._foreach_norm(parameters)
        torch._foreach_clamp_min_(norms, 1e-7)
        torch._foreach_div_(norms, [len(parameter) ** 0.5 for parameter in parameters])
        torch._foreach_div_(parameters, norms)
    # Weights of one shape are orthogonalised together: many small products in a row leave a GPU waiting.
    by_shape: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = defaultdict(list)
    for parameter, update in zip(parameters, updates, strict=True):
        # Columns as they lie in memory, which spares copies of channels_last weights: to Muon their order is all one.
        order = (0, *sorted(range(1, parameter.ndim), key=parameter.stride, reverse=True))
        matrix = update.permute(order).flatten(1)
        by_shape[tuple(matrix.shape)].append((parameter.permute(order), matrix))
    # 'medium' allows products in bfloat16. On a CPU without AMX torch makes no use of that by itself.
    is_rough = torch.get_float32_matmul_precision() == "medium"
    for (rows, columns), pairs in by_shape.items():
        stacked = torch.stack([matrix for _, matrix in pairs]).to(torch.bfloat16 if is_rough else torch.float32)
        directions = orthogonalise(stacked, group["steps"])
        size = group["lr"] * max(1.0, rows / columns) ** 0.5
        for (weight, _), direction in zip(pairs, directions, strict=True):
            weight.add_(direction.view(weight.shape).to(weight.dtype), alpha=-size)


def _sgd_step(optimizer: Optimizer, group: dict[str, Any]) -> None:
    parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
    states = [optimizer.state[parameter] for parameter in parameters]
    buffers = [state.get("momentum_buffer") for state in states]
    sgd(
        parameters,
        [parameter.grad for parameter in parameters],
        buffers,
        weight_decay=group["weight_decay"],
        momentum=group["momentum"],
        lr=group["lr"],
        dampening=0.0,
        nesterov=True,
        maximize=False,
    )
    for state, buffer in zip(states, buffers, strict=True):
        state["momentum_buffer"] = buffer
