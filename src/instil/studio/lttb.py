"""Fewer points of a curve, chosen so that it looks the same.

Source: S. Steinarsson, *Downsampling Time Series for Visual Representation* (University of Iceland, 2013), section 4.2:
largest triangle, three buckets.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

Point = tuple[float, float]


def lttb(points: Sequence[Point], most: int) -> list[Point]:
    """Choose points of a curve: the first, the last, and of each bucket the one with the largest triangle.

    The triangle's other corners are the point chosen before, and the mean of the next bucket. So a peak of one step
    stays, which the mean of a bucket would hide.

    Args:
        points: Finite points, in order of x.
        most: Number of points to keep, at least 3. Fewer are returned as they are.

    Returns:
        Some of the points, in order.

    Example:
        >>> curve = [(x, 0.0) for x in range(100)]
        >>> curve[37] = (37, 5.0)
        >>> (37, 5.0) in lttb(curve, 10), len(lttb(curve, 10))
        (True, 10)
    """
    if most < 3 or len(points) <= most:
        return list(points)
    width = (len(points) - 2) / (most - 2)
    edges = [int(number * width) + 1 for number in range(most - 1)]  # of the buckets between first and last
    chosen = [points[0]]
    for number, (start, end) in enumerate(pairwise(edges)):
        following = points[end : edges[number + 2]] if number + 2 < len(edges) else points[-1:]
        mean_x = sum(x for x, _ in following) / len(following)
        mean_y = sum(y for _, y in following) / len(following)
        from_x, from_y = chosen[-1]

        def twice_the_area(
            point: Point, mean_x: float = mean_x, mean_y: float = mean_y, from_x: float = from_x, from_y: float = from_y
        ) -> float:
            return abs((from_x - mean_x) * (point[1] - from_y) - (from_x - point[0]) * (mean_y - from_y))

        chosen.append(max(points[start:end], key=twice_the_area))
    chosen.append(points[-1])
    return chosen
