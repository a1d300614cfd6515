"""U-Nets that see frames over time: recurrent layers at the bottleneck.

A network maps images (B, C, S, S). On clips it is shown B windows of T frames, (B * T, C, S, S), window by
window: a plain network takes them one by one, and a recurrent layer takes them apart again.

Source:
    Shi et al. (2015), Convolutional LSTM network, NeurIPS, arXiv:1506.04214; Ballas et al. (2016), Delving
    deeper into convolutional networks for learning video representations, ICLR, arXiv:1511.06432 (ConvGRU);
    Anas, Mousavi and Abolmaesumi (2018), A deep learning approach for real time prostate segmentation in
    freehand ultrasound guided biopsy, Medical Image Analysis 48:107-116, doi:10.1016/j.media.2018.05.010;
    van den Noort, Sirmacek and Slump (2021), Recurrent U-net for automatic pelvic floor muscle segmentation
    on 3D ultrasound, arXiv:2107.13833.
"""

from typing import Any

import torch
from monai.networks.nets.unet import UNet
from torch import Tensor, nn

from usrl.networks.schedule import list_answers

KERNEL = 3


class ConvGate(nn.Module):
    """The gates of a recurrent layer: convolutions of the input, of all frames at once, and of the state."""

    def __init__(self, channels: int, hidden: int, gates: int) -> None:
        super().__init__()
        self.of_input = nn.Conv2d(channels, gates * hidden, KERNEL, padding=KERNEL // 2)
        self.of_state = nn.Conv2d(hidden, gates * hidden, KERNEL, padding=KERNEL // 2, bias=False)


class ConvLSTM(nn.Module):
    """Maps frames (B, T, C, h, w) to states (B, T, H, h, w), from the first frame to the last."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.gate = ConvGate(channels, hidden, 4)
        with torch.no_grad():  # a memory that forgets nothing at first
            self.gate.of_input.bias[hidden : 2 * hidden] += 1  # type: ignore[index]

    def forward(self, frames: Tensor) -> Tensor:
        """Return the states of each frame."""
        batch, length, *_, height, width = frames.shape
        given = self.gate.of_input(frames.flatten(0, 1)).unflatten(0, (batch, length))  # (B, T, 4H, h, w)
        state = memory = frames.new_zeros(batch, self.hidden, height, width)
        states = []
        for place in range(length):
            gates = given[:, place] + self.gate.of_state(state)
            enter, forget, leave, value = gates.chunk(4, dim=1)  # (B, H, h, w) each
            memory = forget.sigmoid() * memory + enter.sigmoid() * value.tanh()
            state = leave.sigmoid() * memory.tanh()
            states.append(state)
        return torch.stack(states, dim=1)


class ConvGRU(nn.Module):
    """Maps frames (B, T, C, h, w) to states (B, T, H, h, w), from the first frame to the last."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.gate = ConvGate(channels, hidden, 2)
        self.value = ConvGate(channels, hidden, 1)

    def forward(self, frames: Tensor) -> Tensor:
        """Return the states of each frame."""
        batch, length, *_, height, width = frames.shape
        flat = frames.flatten(0, 1)
        gates, values = (
            gate.of_input(flat).unflatten(0, (batch, length)) for gate in (self.gate, self.value)
        )
        state = frames.new_zeros(batch, self.hidden, height, width)
        states = []
        for place in range(length):
            update, reset = (gates[:, place] + self.gate.of_state(state)).sigmoid().chunk(2, dim=1)
            value = (values[:, place] + self.value.of_state(reset * state)).tanh()
            state = (1 - update) * state + update * value
            states.append(state)
        return torch.stack(states, dim=1)


class Recurrence(nn.Module):
    """Adds to frames' features what a recurrent layer knows of their neighbours.

    Maps (B * T, C, h, w) to the same shape, where T is ``length``. `show_windows` sets it; it is 1 otherwise.

    Args:
        channels: C.
        layer: The recurrent layer.
        both_ways: Whether a second layer goes from the last frame to the first. Each then has half of C.
    """

    def __init__(self, channels: int, layer: type[ConvLSTM] | type[ConvGRU], *, both_ways: bool) -> None:
        super().__init__()
        self.length = 1
        ways = 2 if both_ways else 1
        self.ways = nn.ModuleList(layer(channels, channels // ways) for _ in range(ways))
        self.join = nn.Conv2d(channels // ways * ways, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return the features, with what is known from the other frames of their window."""
        frames = features.unflatten(0, (-1, self.length))  # (B, T, C, h, w)
        states = [self.ways[0](frames)]
        if len(self.ways) > 1:
            states.append(self.ways[1](frames.flip(1)).flip(1))
        joined: Tensor = self.join(torch.cat(states, dim=2).flatten(0, 1))
        return features + joined


class RecurrentUNet(UNet):
    """MONAI's U-Net with a recurrent layer behind its deepest convolutions.

    Args:
        layer: The recurrent layer.
        both_ways: See `Recurrence`.
        arguments: Those of `monai.networks.nets.UNet`.
    """

    def __init__(
        self, layer: type[ConvLSTM] | type[ConvGRU], arguments: dict[str, Any], *, both_ways: bool
    ) -> None:
        self._layer, self._both_ways = layer, both_ways
        super().__init__(**arguments)

    def _get_bottom_layer(self, in_channels: int, out_channels: int) -> nn.Module:
        bottom = super()._get_bottom_layer(in_channels, out_channels)
        return nn.Sequential(bottom, Recurrence(out_channels, self._layer, both_ways=self._both_ways))


def show_windows(network: nn.Module, windows: Tensor) -> list[Tensor]:
    """Return the logits (B, T, 1, S, S) of windows of frames, float32, (B, T, S, S).

    They are several in training if the network answers so; see `usrl.networks.schedule.list_answers`.
    """
    length = windows.shape[1]
    frames = windows.flatten(0, 1)[:, None].contiguous(memory_format=torch.channels_last)
    layers = [module for module in network.modules() if isinstance(module, Recurrence)]
    try:
        for layer in layers:
            layer.length = length
        answers = list_answers(network(frames))
    finally:
        for layer in layers:
            layer.length = 1  # images that come otherwise do not belong together
    return [logits.unflatten(0, (-1, length)) for logits in answers]
