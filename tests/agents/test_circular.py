"""Circular convolution beside torch's."""

import pytest
import torch

from usrl.agents.policies import circular_convolution


@pytest.mark.parametrize("dilation", [1, 2, 4])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_it_is_torchs_circular_convolution(kernel: int, dilation: int) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Conv1d(
        3, 7, kernel, dilation=dilation, padding=dilation * (kernel // 2), padding_mode="circular"
    )
    features = torch.randn(4, 9, 3)
    ours = circular_convolution(features, layer.weight, layer.bias, dilation)  # type: ignore[arg-type]
    assert torch.allclose(ours, layer(features.transpose(1, 2)).transpose(1, 2), atol=1e-5)


@pytest.mark.parametrize(("kernel", "dilation"), [(5, 1), (3, 4), (1, 1)])
def test_its_gradient_is_that_of_finite_differences(kernel: int, dilation: int) -> None:
    torch.manual_seed(0)
    shapes = ((2, 8, 3), (2, 3, kernel), (2,))
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(lambda x, w, b: circular_convolution(x, w, b, dilation), inputs)
