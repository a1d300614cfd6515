"""Maps an image of any size to the square working image and back, with the aspect ratio kept."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from usrl.data.sample import BoolMask, FloatArray, GrayImage
from usrl.errors import UserError


@dataclass(frozen=True)
class Letterbox:
    """A centred, zero-padded square view of an image, and the way back.

    Pixel centres lie at integer coordinates, so that a native point maps as
    ``x_working = (x_native + 0.5) * scale_x - 0.5 + left``. The resized sides are whole pixels, hence the
    two scales differ slightly from ``scale``; points use exactly the scales that the resize used.
    """

    native_shape: tuple[int, int]  # (H, W), px
    size: int  # side of the working image, px
    scale: float  # nominal working px per native px, size / max(H, W)
    top: int  # px of padding above the image
    left: int  # px of padding to its left

    @classmethod
    def fit(cls, shape: tuple[int, int], size: int) -> "Letterbox":
        """Return the letterbox of an image, (H, W), whose long side fills a square of this size."""
        height, width = int(shape[0]), int(shape[1])
        if min(height, width, size) < 1:
            raise UserError(
                f"shape and size must be at least 1 px, got shape {(height, width)} and size {size}; "
                "pass the (H, W) of a non-empty image and a positive size"
            )
        scale = size / max(height, width)
        rows, columns = _resized_shape((height, width), scale)
        return cls((height, width), size, scale, (size - rows) // 2, (size - columns) // 2)

    @property
    def resized_shape(self) -> tuple[int, int]:
        """(rows, columns) that the image covers inside the square, px."""
        return _resized_shape(self.native_shape, self.scale)

    def image(self, image: GrayImage) -> GrayImage:
        """Return the working image, uint8, (size, size), of a native one, uint8, (H, W). The padding is zero.

        Area averaging shrinks, bilinear interpolation enlarges.
        """
        if image.shape != self.native_shape:
            raise UserError(
                f"this letterbox fits arrays of shape {self.native_shape}, got {image.shape}; "
                "make one for this image with Letterbox.fit"
            )
        rows, columns = self.resized_shape
        method = cv2.INTER_AREA if self.scale < 1 else cv2.INTER_LINEAR
        square = np.zeros((self.size, self.size), np.uint8)
        if (rows, columns) != self.native_shape:
            image = cv2.resize(image, (columns, rows), interpolation=method)
        square[self.top : self.top + rows, self.left : self.left + columns] = image
        return square

    def target(self, mask: BoolMask) -> BoolMask:
        """Return the working mask, bool, (size, size): pixels that the native mask covers by half or more."""
        return self.image(mask.astype(np.uint8) * np.uint8(255)) > 127

    def points_to_working(self, points: ArrayLike) -> FloatArray:
        """Map points (x, y), shape (..., 2), from native to working px, float32."""
        scale, offset = self._affine()
        return ((np.asarray(points, np.float64) + 0.5) * scale - 0.5 + offset).astype(np.float32)

    def points_to_native(self, points: ArrayLike) -> FloatArray:
        """Map points (x, y), shape (..., 2), from working to native px, float32."""
        scale, offset = self._affine()
        return ((np.asarray(points, np.float64) + 0.5 - offset) / scale - 0.5).astype(np.float32)

    def boxes_to_working(self, boxes: ArrayLike) -> FloatArray:
        """Return native boxes (x0, y0, x1, y1), shape (B, 4), in working px, float32, shape (B, 4)."""
        return self.points_to_working(np.reshape(boxes, (-1, 2, 2))).reshape(-1, 4)

    def boxes_to_native(self, boxes: ArrayLike) -> FloatArray:
        """Return working boxes (x0, y0, x1, y1), shape (B, 4), in native px, float32, shape (B, 4)."""
        return self.points_to_native(np.reshape(boxes, (-1, 2, 2))).reshape(-1, 4)

    def to_native(self, array: NDArray[np.floating]) -> FloatArray:
        """Return a working map (size, size), such as a probability, at native resolution, float32, (H, W).

        The padding is cut off; bilinear interpolation enlarges, area averaging shrinks.
        """
        if array.shape != (self.size, self.size):
            raise UserError(
                f"a working map must be of shape {(self.size, self.size)}, got {array.shape}; "
                "pass the map of the letterboxed image"
            )
        rows, columns = self.resized_shape
        inner = array[self.top : self.top + rows, self.left : self.left + columns].astype(np.float32)
        height, width = self.native_shape
        method = cv2.INTER_LINEAR if self.scale <= 1 else cv2.INTER_AREA
        return np.asarray(cv2.resize(inner, (width, height), interpolation=method), np.float32)

    def _affine(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the scale that the resize applies and the offset, each (x, y)."""
        scale = np.array(self.resized_shape[::-1]) / self.native_shape[::-1]
        return scale, np.array([self.left, self.top], np.float64)


def _resized_shape(shape: tuple[int, int], scale: float) -> tuple[int, int]:
    """Return the whole-pixel (rows, columns) of an image after scaling; never less than one pixel."""
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))
