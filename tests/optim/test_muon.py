"""Muon: orthogonal updates, torch's own on matrices, each kind of weight at its own rate."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from cifar_lightning.optim import muon
from cifar_lightning.optim.muon import MuonSGD, orthogonalise


@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (24, 24), (3, 8, 20)])
def test_singular_values_become_about_one(shape: tuple[int, ...], seeded: None) -> None:
    singular_values = torch.linalg.svdvals(orthogonalise(torch.randn(shape), steps=5).float())
    assert singular_values.min() > 0.6
    assert singular_values.max() < 1.3


def test_the_directions_stay(seeded: None) -> None:
    left, _ = torch.linalg.qr(torch.randn(12, 12))
    right, _ = torch.linalg.qr(torch.randn(30, 12))
    matrix = left @ torch.diag(torch.linspace(0.3, 1, 12)) @ right.T
    cosine = torch.cosine_similarity(orthogonalise(matrix).float().flatten(), (left @ right.T).flatten(), dim=0)
    assert cosine > 0.97


def test_several_matrices_at_once_are_as_each_by_itself(seeded: None) -> None:
    matrices = torch.randn(4, 8, 20)
    together = orthogonalise(matrices, steps=3).float()
    for matrix, result in zip(matrices, together, strict=True):
        torch.testing.assert_close(orthogonalise(matrix, steps=3).float(), result, rtol=0.03, atol=0.01)


def test_the_size_of_the_gradient_makes_no_difference(seeded: None) -> None:
    matrix = torch.randn(8, 20)
    torch.testing.assert_close(orthogonalise(matrix), orthogonalise(1024 * matrix), rtol=0, atol=0.01)


def test_a_zero_gradient_gives_zero() -> None:
    assert orthogonalise(torch.zeros(4, 6)).eq(0).all()


@pytest.mark.parametrize("shape", [(16, 40), (40, 16)])
def test_on_matrices_it_is_torchs_own(shape: tuple[int, int], seeded: None) -> None:
    start, target = torch.randn(shape), torch.randn(shape)
    theirs, ours = nn.Parameter(start.clone()), nn.Parameter(start.clone().view(*shape, 1, 1))
    reference = torch.optim.Muon([theirs], lr=0.1, momentum=0.9, weight_decay=0.0, ns_steps=5)
    tested = MuonSGD([ours], lr=0.1, momentum=0.9, steps=5, normalise=False)
    for _ in range(10):
        for optimizer, weight in ((reference, theirs), (tested, ours)):
            optimizer.zero_grad()
            ((weight.flatten(1) - target) ** 2).sum().backward()
            optimizer.step()
    moved = (theirs - start).norm()
    assert (theirs - ours.flatten(1)).norm() < 0.02 * moved
    assert moved > 1


def test_sgd_for_dense_weights_and_vectors_each_at_its_rate(seeded: None) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    tested = MuonSGD(net.parameters(), lr=0.1, dense_lr=0.3, vector_lr=0.02, sgd_momentum=0.8, weight_decay=0.006)
    dense, vectors = [net[2].weight], [net[0].bias, net[2].bias]
    copies = [[nn.Parameter(weight.detach().clone()) for weight in group] for group in (dense, vectors)]
    reference = torch.optim.SGD(
        [
            {"params": copies[0], "lr": 0.3, "weight_decay": 0.006 / 0.3},
            {"params": copies[1], "lr": 0.02, "weight_decay": 0.006 / 0.02},
        ],
        momentum=0.8,
        nesterov=True,
    )
    before = net[0].weight.detach().clone()
    for _ in range(4):
        for ours, theirs in zip([*dense, *vectors], [*copies[0], *copies[1]], strict=True):
            ours.grad = torch.randn_like(ours)
            theirs.grad = ours.grad.clone()
        net[0].weight.grad = torch.randn_like(net[0].weight)
        tested.step()
        reference.step()
    for ours, theirs in zip([*dense, *vectors], [*copies[0], *copies[1]], strict=True):
        torch.testing.assert_close(ours, theirs)
    assert not torch.equal(net[0].weight, before)


def test_normalise_keeps_the_weights_size(seeded: None) -> None:
    weight = nn.Parameter(50 * torch.randn(8, 4, 3, 3))
    weight.grad = torch.randn_like(weight)
    MuonSGD([weight], lr=0.01, normalise=True).step()
    assert weight.norm().item() == pytest.approx(8**0.5, rel=0.02)


def test_a_weight_of_zeros_or_of_low_precision_takes_its_step(seeded: None) -> None:
    for weight in (nn.Parameter(torch.zeros(4, 3, 3, 3)), nn.Parameter(torch.randn(4, 3, 3, 3).bfloat16())):
        before = weight.detach().clone()
        weight.grad = torch.randn_like(weight)
        MuonSGD([weight], lr=0.1).step()
        assert weight.isfinite().all()
        assert not torch.equal(weight, before)


def test_where_products_may_be_rough_it_is_bfloat16(seeded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    dtypes = list[torch.dtype]()

    def noted(matrices: Tensor, steps: int) -> Tensor:
        dtypes.append(matrices.dtype)
        return orthogonalise(matrices, steps)

    monkeypatch.setattr(muon, "orthogonalise", noted)
    start, moves = torch.randn(32, 16, 3, 3), []
    gradient = torch.randn_like(start)
    before = torch.get_float32_matmul_precision()
    try:
        for precision in ("highest", "medium"):
            torch.set_float32_matmul_precision(precision)
            weight = nn.Parameter(start.clone())
            weight.grad = gradient.clone()
            MuonSGD([weight], normalise=False).step()
            moves.append(weight.detach() - start)
    finally:
        torch.set_float32_matmul_precision(before)
    assert dtypes == [torch.float32, torch.bfloat16]
    assert (moves[1] - moves[0]).norm() < 0.05 * moves[0].norm()


def test_a_frozen_weight_and_one_without_gradient_stay(seeded: None) -> None:
    frozen, idle = nn.Parameter(torch.randn(4, 3, 3, 3), requires_grad=False), nn.Parameter(torch.randn(4, 3, 3, 3))
    used = nn.Parameter(torch.randn(4))
    copies = [frozen.clone(), idle.clone()]
    optimizer = MuonSGD([frozen, idle, used])
    used.grad = torch.ones(4)
    optimizer.step()
    assert torch.equal(frozen, copies[0])
    assert torch.equal(idle, copies[1])
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 1]


def test_its_state_goes_on_exactly(seeded: None) -> None:
    def make() -> tuple[list[nn.Parameter], MuonSGD]:
        weights = [nn.Parameter(torch.ones(4, 3, 3, 3)), nn.Parameter(torch.ones(4, 2)), nn.Parameter(torch.ones(4))]
        return weights, MuonSGD(weights, weight_decay=0.01)

    gradients = [[torch.randn(shape) for shape in ((4, 3, 3, 3), (4, 2), (4,))] for _ in range(4)]

    def steps(weights: list[nn.Parameter], optimizer: MuonSGD, chosen: list[list[Tensor]]) -> None:
        for gradient in chosen:
            for weight, value in zip(weights, gradient, strict=True):
                weight.grad = value.clone()
            optimizer.step()

    whole, optimizer = make()
    steps(whole, optimizer, gradients)
    first, optimizer = make()
    steps(first, optimizer, gradients[:2])
    second, resumed = make()
    resumed.load_state_dict(optimizer.state_dict())
    for weight, value in zip(second, first, strict=True):
        weight.data.copy_(value)
    steps(second, resumed, gradients[2:])
    assert all(torch.equal(one, other) for one, other in zip(whole, second, strict=True))


@pytest.mark.parametrize(
    "make",
    [
        lambda weight: MuonSGD([weight], lr=-1.0),
        lambda weight: MuonSGD([weight], momentum=1.0),
        lambda weight: MuonSGD([weight], sgd_momentum=-0.1),
        lambda weight: MuonSGD([weight], steps=-1),
    ],
)
def test_values_out_of_range_are_refused(make: Callable[[nn.Parameter], MuonSGD]) -> None:
    with pytest.raises(ValueError, match="must be"):
        make(nn.Parameter(torch.zeros(2, 2, 1, 1)))
