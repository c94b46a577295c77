"""RootSIFT features of an image, and those of two images that are each other's nearest."""

import cv2
import numpy as np

RATIO = 0.85  # of the distances to the nearest and the next nearest, at most


def root_sift(grey: np.ndarray, **settings: float) -> tuple[np.ndarray, np.ndarray]:
    """RootSIFT features (Arandjelovic and Zisserman, CVPR 2012).

    Args:
        grey: uint8, (H, W).
        settings: of `cv2.SIFT_create`.

    Returns:
        positions (N, 2), x and y in pixels, and descriptors (N, 128) of unit length, both float32.
    """
    detector = cv2.SIFT_create(**settings)  # type: ignore[attr-defined]
    points, descriptors = detector.detectAndCompute(grey, None)
    if descriptors is None:
        return np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32)
    descriptors = np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-9))
    return np.array([point.pt for point in points], np.float32), descriptors.astype(np.float32)


def mutual_neighbours(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Indices (N, 2) of descriptors that are each other's nearest and pass the ratio test."""
    similarity = first @ second.T
    nearest = similarity.argmax(1)
    best = similarity[np.arange(len(first)), nearest]
    similarity[np.arange(len(first)), nearest] = -1
    following = similarity.max(1)
    similarity[np.arange(len(first)), nearest] = best
    mutual = similarity.argmax(0)[nearest] == np.arange(len(first))
    # Distances of unit vectors: sqrt(2 - 2 s).
    distinct = 2 - 2 * best < RATIO**2 * (2 - 2 * following)
    indices = np.flatnonzero(mutual & distinct)
    return np.stack([indices, nearest[indices]], 1)
