"""Film the shipped agent on an image that it has not seen. Run `python docs/examples/film.py [FILE]`.

The agent learned from simulated images of seed 0. This one has seed 1, and the agent's Dice on it is near
the mean of 200 such images (docs/results/few-labels.md).
"""

import sys
from pathlib import Path

import torch
from PIL import Image

import usrl
from usrl.data.phantom.dataset import load_phantom
from usrl.data.prompts import jittered_boxes
from usrl.metrics.overlap import dice

OUT = sys.argv[1] if sys.argv[1:] else Path(__file__).parents[1] / "film.webp"
NUMBER = 10

sample = load_phantom(NUMBER + 1, seed=1)[NUMBER]
box = jittered_boxes(sample)
agent = usrl.open_segmenter("contour-ppo", torch.device("cpu"))
first, *others = [Image.fromarray(frame) for frame in agent.film(sample.image, box, sample.target)]
shown_ms = [1200, *[300] * (len(others) - 1), 2000]
first.save(OUT, save_all=True, append_images=others, duration=shown_ms, loop=0, quality=80)
print(f"{sample.name}: Dice {dice(agent.segment(sample.image, box).mask, sample.target):.3f}, wrote {OUT}")
