"""Steps per second of `usrl/ThresholdSelect-v0`, by observation and size of the region.

python benchmarks/threshold.py --json threshold.json
"""

from typing import Any

from stepping import run

CASES: list[tuple[str, int, dict[str, Any]]] = [
    ("threshold single features", 1, {"grid": 1, "action": "raster", "observation": "features"}),
    ("threshold single image", 1, {}),
    ("threshold vector features", 64, {"observation": "features"}),
    ("threshold vector features, one tile", 64, {"grid": 1, "action": "raster", "observation": "features"}),
    ("threshold vector image", 64, {}),
    ("threshold vector image, one tile", 64, {"grid": 1}),
    ("threshold vector image, 16 tiles", 64, {"grid": 4}),
    ("threshold vector image, 36 px", 64, {"side": 36}),
    ("threshold vector image, one tile, 36 px", 64, {"grid": 1, "side": 36}),
    ("threshold vector image, cleaned", 64, {"clean": "largest+holes"}),
]

if __name__ == "__main__":
    run(__doc__, "usrl/ThresholdSelect-v0", CASES)
