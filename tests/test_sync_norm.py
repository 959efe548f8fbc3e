"""The batch norm of several processes equals nn.BatchNorm3d on the whole batch."""

import copy
import socket

import pytest
import torch
import torch.distributed as dist
from torch import nn

from ig65m.train.sync_norm import SyncBatchNorm3d, synchronise_norms

pytestmark = pytest.mark.slow


def make():
    """A convolution and two batch norms in float64, clips, and weights of a loss."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.BatchNorm3d(3, eps=1e-3), nn.Conv3d(3, 4, (1, 3, 3)), nn.BatchNorm3d(4, momentum=0.3)).double()
    for norm in (net[0], net[2]):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return net, 5 + 3 * torch.randn(5, 3, 2, 6, 6).double(), torch.randn(5, 4, 2, 4, 4).double()


def part(rank, port, results):
    """Train a step with clips 0, 1, 2 in one process and 3, 4 in the other."""
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    net, clips, weights = make()
    synchronise_norms(net)
    own = slice(0, 3) if rank == 0 else slice(3, 5)
    x = clips[own].requires_grad_()
    y = net(x)
    (y.square() * weights[own]).sum().backward()
    gradients = [parameter.grad for parameter in net.parameters()]
    half = SyncBatchNorm3d(3)(clips[own].bfloat16())
    shown = net.eval()(clips[own])
    torch.save([y.detach(), x.grad, gradients, net.state_dict(), half, shown.detach()], f"{results}/{rank}")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    results = tmp_path_factory.mktemp("parts")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(part, (port, str(results)), nprocs=2)
    return [torch.load(results / str(rank), weights_only=True) for rank in range(2)]


def test_two_processes_equal_one_batch_norm(parts):
    net, clips, weights = make()
    x = clips.clone().requires_grad_()
    y = net(x)
    (y.square() * weights).sum().backward()
    (y0, dx0, gradients0, state0, *_), (y1, dx1, gradients1, state1, *_) = parts
    exact = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(torch.cat([y0, y1]), y.detach(), **exact)
    torch.testing.assert_close(torch.cat([dx0, dx1]), x.grad, **exact)
    for parameter, one, other in zip(net.parameters(), gradients0, gradients1, strict=True):
        torch.testing.assert_close(one + other, parameter.grad, **exact)
    for name, value in net.state_dict().items():
        torch.testing.assert_close(state0[name], value, **exact)
        assert torch.equal(state0[name], state1[name]), name
    net.eval()
    torch.testing.assert_close(torch.cat([parts[0][5], parts[1][5]]), net(clips).detach(), **exact)


def test_bfloat16_is_normalised_in_float32(parts):
    _, clips, _ = make()
    found = torch.cat([each[4] for each in parts])
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, nn.BatchNorm3d(3)(clips.bfloat16().float()).bfloat16())


def test_alone_it_is_batch_norm_with_the_same_weights():
    net, clips, _ = make()
    other = copy.deepcopy(net)
    weights = dict(other.named_parameters())
    synchronise_norms(other)
    assert isinstance(other[0], SyncBatchNorm3d)
    assert all(parameter is weights[name] for name, parameter in other.named_parameters())
    assert (other[2].momentum, other[0].eps) == (0.3, 1e-3)
    assert torch.equal(net(clips), other(clips))
    assert list(net.state_dict()) == list(other.state_dict())
    for name, value in net.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
