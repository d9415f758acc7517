"""The sample map in numbers: rooms, walls, doors and lights of the drowned cellar, in cells."""

import math

WIDTH, HEIGHT = 24, 16
PIXELS_PER_CELL = 70

Place = tuple[float, float]
Segment = tuple[Place, Place]

RECTANGLES = (
    (3, 3, 11, 9),  # hall
    (6, 1, 9, 3),  # stairs
    (-1, 6, 3, 7),  # way in from the west
    (11, 5, 14.4, 6),
    (17, 8.6, 18, 11),
    (14, 11, 20, 15),  # store
    (4, 11, 10, 15),  # crypt
    (6, 9, 7, 11),
    (10, 13, 14, 14),  # the way behind
)
ROUND = (17.5, 5.5, 3.5)
POOL = (17.5, 5.5, 1.9)
PILLARS = ((5.5, 4.5), (8.5, 4.5), (5.5, 7.5), (8.5, 7.5))
PILLAR_RADIUS = 0.36

CLOSED_DOORS: tuple[Segment, ...] = (((11, 5), (11, 6)), ((6, 9), (7, 9)), ((17, 11), (18, 11)))
OPEN_DOORS: tuple[Segment, ...] = (((10, 13), (10, 14)),)

WARM, CANDLE, COLD = "ffffb65c", "ffffd9a0", "ff7fd6d0"
LIGHTS: tuple[tuple[float, float, float, str, float], ...] = (
    # x, y, range, colour, intensity
    (4.0, 3.3, 5.0, WARM, 1.0),
    (10.0, 3.3, 5.0, WARM, 1.0),
    (7.0, 8.7, 3.5, CANDLE, 0.6),
    (3.3, 8.0, 4.0, WARM, 0.8),
    (15.2, 3.2, 5.0, WARM, 0.9),
    (19.8, 3.2, 5.0, WARM, 0.9),
    (17.5, 5.5, 4.5, COLD, 0.8),
    (16.2, 11.35, 5.0, WARM, 1.0),
    (19.6, 14.6, 3.0, CANDLE, 0.7),
    (5.0, 11.4, 4.0, CANDLE, 0.8),
    (9.0, 11.4, 4.0, CANDLE, 0.8),
    (1.0, 6.2, 3.5, WARM, 0.7),
)


def circle(x: float, y: float, radius: float, corners: int) -> list[Place]:
    """A closed ring of points."""
    turn = math.tau / corners
    ring = [
        (x + radius * math.cos(turn * n), y + radius * math.sin(turn * n)) for n in range(corners)
    ]
    return [*ring, ring[0]]


def arc(start: Place, end: Place) -> list[Place]:
    """Points on the round room's wall, clockwise as seen on the map."""
    x, y, radius = ROUND
    first = math.atan2(start[1] - y, start[0] - x)
    last = math.atan2(end[1] - y, end[0] - x)
    if last < first:
        last += math.tau
    steps = max(2, round((last - first) / 0.15))
    angles = [first + (last - first) * step / steps for step in range(steps + 1)]
    return [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]


def walls() -> list[list[Place]]:
    """The outer wall from the way in and back to it, and the rock that the rooms lie around."""
    west_high, west_low = (14.036, 5.0), (14.036, 6.0)
    south_left, south_right = (17.0, 8.964), (18.0, 8.964)
    inner_arc = arc(south_left, west_low)
    outer: list[Place] = [
        (0, 6), (3, 6), (3, 3), (6, 3), (6, 1), (9, 1), (9, 3), (11, 3), (11, 5),
        *arc(west_high, south_right),
        (18, 11), (20, 11), (20, 15), (14, 15), (14, 14), (10, 14), (10, 15), (4, 15), (4, 11),
        (6, 11), (6, 9), (3, 9), (3, 7), (0, 7),
    ]  # fmt: skip
    inner: list[Place] = [
        (11, 6),
        *reversed(inner_arc),
        (17, 11), (14, 11), (14, 13), (10, 13), (10, 11), (7, 11), (7, 9), (11, 9), (11, 6),
    ]  # fmt: skip
    return [outer, inner]


def pillars(radius: float = PILLAR_RADIUS) -> list[list[Place]]:
    """The sight lines of the hall's pillars."""
    return [circle(x, y, radius, 8) for x, y in PILLARS]
