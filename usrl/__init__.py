"""Reinforcement-learning environments for ultrasound segmentation.

Importing the package registers its environments with Gymnasium. The other names are loaded when first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from usrl.registry import register, register_environments

if TYPE_CHECKING:
    from usrl.data.bank import Bank
    from usrl.data.catalogue import load_split
    from usrl.envs.sb3 import TaskVecEnv
    from usrl.evaluation.compare import compare
    from usrl.evaluation.methods import open_segmenter

__version__ = "0.1.0"
__all__ = ["Bank", "TaskVecEnv", "compare", "load_split", "open_segmenter", "register"]

_HOMES = {
    "Bank": "usrl.data.bank",
    "TaskVecEnv": "usrl.envs.sb3",
    "compare": "usrl.evaluation.compare",
    "load_split": "usrl.data.catalogue",
    "open_segmenter": "usrl.evaluation.methods",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'usrl' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register_environments()
