"""Where and how tensors are computed: devices, compiled loops, recorded graphs, random keys."""
