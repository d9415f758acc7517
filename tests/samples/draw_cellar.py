"""Draws the sample map: a drowned cellar by torchlight, in the spirit of the product's own look.

Everything is drawn at twice the size and scaled down. The random numbers are seeded: the same Pillow draws the same map.
"""

import math
from random import Random

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from tests.samples import cellar_plan as plan

CELL = 2 * plan.PIXELS_PER_CELL
SIZE = (plan.WIDTH * CELL, plan.HEIGHT * CELL)
WALL = 0.48
"""How thick the hatched rock around the rooms is, in cells."""

Colour = tuple[int, int, int]

VOID, ROCK, HATCH, LINE = (9, 19, 21), (19, 15, 12), (66, 52, 39), (13, 9, 7)
FLOOR, SEAM = (168, 136, 100), (96, 74, 54)
WOOD, WOOD_DARK, WOOD_LIGHT = (122, 80, 44), (58, 35, 19), (168, 116, 66)
STONE, STONE_DARK, STONE_LIGHT = (128, 115, 98), (62, 52, 43), (168, 154, 133)


def draw() -> Image.Image:
    """The finished map, `PIXELS_PER_CELL` a cell."""
    rng = Random(20)
    floor = _rough(_rooms(0.0), rng)
    canvas = _ground(rng)
    _hatch(canvas, _rough(_rooms(WALL), rng), rng)
    lit = _lit(_flagstones(rng), rng, floor)
    canvas.paste(lit, (0, 0), floor)
    _outline(canvas, floor)
    _sconces(canvas)
    small = canvas.resize((SIZE[0] // 2, SIZE[1] // 2), Image.Resampling.LANCZOS)
    return small.filter(ImageFilter.UnsharpMask(radius=1.2, percent=50, threshold=2))


def _px(value: float) -> int:
    return round(value * CELL)


def _box(x: float, y: float, radius: float) -> tuple[int, int, int, int]:
    return _px(x - radius), _px(y - radius), _px(x + radius), _px(y + radius)


def _noise(rng: Random, grain: int, blur: float = 0.0) -> Image.Image:
    """Grey noise over the whole map whose spots are `grain` pixels large."""
    width, height = -(-SIZE[0] // grain), -(-SIZE[1] // grain)
    noise = Image.frombytes("L", (width, height), rng.randbytes(width * height))
    noise = noise.resize(SIZE, Image.Resampling.BICUBIC)
    return noise.filter(ImageFilter.GaussianBlur(blur)) if blur else noise


def _rooms(wider: float) -> Image.Image:
    mask = Image.new("L", SIZE, 0)
    pen = ImageDraw.Draw(mask)
    for left, top, right, bottom in plan.RECTANGLES:
        box = tuple(map(_px, (left - wider, top - wider, right + wider, bottom + wider)))
        pen.rounded_rectangle(box, radius=_px(wider * 0.7), fill=255)
    x, y, radius = plan.ROUND
    pen.ellipse(_box(x, y, radius + wider), fill=255)
    return mask


def _rough(mask: Image.Image, rng: Random) -> Image.Image:
    """Let the edge waver, as hewn stone does."""
    soft = mask.filter(ImageFilter.GaussianBlur(9))
    wavering = Image.blend(soft, _noise(rng, 26), 0.16)
    return wavering.point(lambda level: 255 if level > 128 else 0).filter(
        ImageFilter.GaussianBlur(1.2)
    )


def _ground(rng: Random) -> Image.Image:
    ground = Image.new("RGB", SIZE, VOID)
    tint = Image.new("RGB", SIZE, (15, 38, 42))
    ground = Image.composite(tint, ground, _noise(rng, 420).point(lambda level: level // 2))
    pen = ImageDraw.Draw(ground)
    for start in range(-SIZE[1], SIZE[0], 22):
        pen.line((start, SIZE[1], start + SIZE[1], 0), fill=(13, 30, 33), width=2)
    return ground


def _hatch(canvas: Image.Image, rock: Image.Image, rng: Random) -> None:
    """The rock that the rooms were cut into: dark, with three short strokes at a time."""
    shadow = rock.filter(ImageFilter.GaussianBlur(46)).point(lambda level: level * 4 // 5)
    canvas.paste((3, 7, 8), (0, 0), shadow)
    canvas.paste(ROCK, (0, 0), rock)
    pen = ImageDraw.Draw(canvas)
    step = 26
    for top in range(0, SIZE[1], step):
        for left in range(0, SIZE[0], step):
            x, y = left + rng.randrange(step), top + rng.randrange(step)
            if x >= SIZE[0] or y >= SIZE[1] or rock.getpixel((x, y)) != 255:
                continue
            angle = rng.random() * math.pi
            along = (math.cos(angle) * 15, math.sin(angle) * 15)
            across = (-math.sin(angle) * 8, math.cos(angle) * 8)
            shade = rng.uniform(0.55, 1.0)
            colour = tuple(int(part * shade) for part in HATCH)
            for stroke in (-1, 0, 1):
                middle = (x + across[0] * stroke, y + across[1] * stroke)
                pen.line(
                    (
                        middle[0] - along[0],
                        middle[1] - along[1],
                        middle[0] + along[0],
                        middle[1] + along[1],
                    ),
                    fill=colour,
                    width=3,
                )


# the floor and what stands on it


def _flagstones(rng: Random) -> Image.Image:
    floor = Image.new("RGB", SIZE, SEAM)
    pen = ImageDraw.Draw(floor)
    for row in range(plan.HEIGHT):
        for column in range(plan.WIDTH):
            for stone in _split((column, row, column + 1, row + 1), rng):
                _flagstone(pen, stone, rng)
    grain = Image.merge("RGB", [_noise(rng, 3, 1.0)] * 3)
    stains = Image.merge("RGB", [_noise(rng, 170)] * 3)
    floor = ImageChops.soft_light(
        floor, Image.blend(grain, Image.new("RGB", SIZE, (128,) * 3), 0.55)
    )
    floor = ImageChops.soft_light(floor, stains)
    damp = _noise(rng, 260).point(lambda level: max(0, level - 150))
    floor = Image.composite(Image.new("RGB", SIZE, (70, 84, 74)), floor, damp)
    _cracks(ImageDraw.Draw(floor), rng)
    return floor


def _split(
    box: tuple[float, float, float, float], rng: Random
) -> list[tuple[float, float, float, float]]:
    """Cut a cell into one to three stones."""
    left, top, right, bottom = box
    chance = rng.random()
    if chance < 0.4:
        return [box]
    cut = rng.uniform(0.4, 0.6)
    if chance < 0.7:
        return [(left, top, left + cut, bottom), (left + cut, top, right, bottom)]
    if chance < 0.9:
        return [(left, top, right, top + cut), (left, top + cut, right, bottom)]
    return [
        (left, top, right, top + cut),
        (left, top + cut, left + cut, bottom),
        (left + cut, top + cut, right, bottom),
    ]


def _flagstone(
    pen: ImageDraw.ImageDraw, stone: tuple[float, float, float, float], rng: Random
) -> None:
    left, top, right, bottom = (_px(edge) for edge in stone)
    shade, warm = rng.uniform(0.86, 1.06), rng.uniform(-5, 5)
    base = (FLOOR[0] * shade + warm, FLOOR[1] * shade, FLOOR[2] * shade - warm)
    fill = _shade(base, 1.0)

    def wander(x: int, y: int) -> tuple[float, float]:
        return x + rng.uniform(-2.5, 2.5), y + rng.uniform(-2.5, 2.5)

    corners = [
        wander(left + 3, top + 3), wander((left + right) // 2, top + 3), wander(right - 3, top + 3),
        wander(right - 3, bottom - 3), wander((left + right) // 2, bottom - 3), wander(left + 3, bottom - 3),
    ]  # fmt: skip
    pen.polygon(corners, fill=fill)
    pen.line(corners[:3], fill=_shade(base, 1.14), width=3)
    pen.line(corners[3:], fill=_shade(base, 0.82), width=3)


def _shade(colour: tuple[float, float, float], by: float) -> Colour:
    red, green, blue = (max(0, min(255, int(part * by))) for part in colour)
    return red, green, blue


def _cracks(pen: ImageDraw.ImageDraw, rng: Random) -> None:
    for _ in range(70):
        x, y = rng.uniform(0, SIZE[0]), rng.uniform(0, SIZE[1])
        heading = rng.uniform(0, math.tau)
        points = [(x, y)]
        for _ in range(rng.randrange(3, 7)):
            heading += rng.uniform(-0.8, 0.8)
            x, y = x + math.cos(heading) * 17, y + math.sin(heading) * 17
            points.append((x, y))
        pen.line(points, fill=(84, 64, 47), width=3)
        pen.line([(px + 2, py + 3) for px, py in points], fill=(182, 150, 112), width=1)


def _furnish(floor: Image.Image, rng: Random) -> None:
    """Everything that stands on the floor, each with its shadow first."""
    _stairs(ImageDraw.Draw(floor))
    _pool(floor, rng)
    _rug(floor)
    for x, y in plan.PILLARS:
        _pillar(floor, x, y)
    for x, y, long, wide in ((5.2, 13, 0.55, 1.0), (7.0, 13, 0.55, 1.0), (8.8, 13, 0.55, 1.0)):
        _sarcophagus(floor, x, y, long, wide)
    for x, y, size, turn in (
        (14.6, 11.7, 0.42, 4), (14.55, 12.65, 0.36, -9), (19.35, 11.65, 0.44, 7), (19.4, 12.6, 0.34, 18),
    ):  # fmt: skip
        _crate(floor, x, y, size, turn)
    for x, y in ((14.55, 14.45), (15.35, 14.5), (14.9, 13.75), (16.2, 14.55)):
        _barrel(floor, x, y)
    _table(floor)
    for x, y, count in (
        (10.4, 8.4, 9),
        (3.5, 3.6, 6),
        (9.6, 14.6, 7),
        (20.2, 7.2, 6),
        (12.5, 13.5, 5),
    ):
        _rubble(floor, x, y, count, rng)


def _shadow(
    floor: Image.Image, box: tuple[int, int, int, int], *, round_: bool, turn: float = 0.0
) -> None:
    left, top, right, bottom = box
    margin = 60
    size = (right - left + 2 * margin, bottom - top + 2 * margin)
    mask = Image.new("L", size, 0)
    pen = ImageDraw.Draw(mask)
    inner = (margin, margin, size[0] - margin, size[1] - margin)
    (pen.ellipse if round_ else pen.rectangle)(inner, fill=190)
    mask = mask.rotate(turn, resample=Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(12))
    floor.paste((16, 10, 6), (left - margin + 8, top - margin + 16), mask)


def _stairs(pen: ImageDraw.ImageDraw) -> None:
    """Seven steps up into the dark."""
    steps = 7
    for step in range(steps):
        top = 1 + (steps - 1 - step) * 1.9 / steps
        shade = 1.0 - 0.11 * step
        box = (_px(6.02), _px(top), _px(8.98), _px(top + 1.9 / steps))
        pen.rectangle(box, fill=_shade((176, 146, 110), shade))
        pen.rectangle((box[0], box[3] - 9, box[2], box[3]), fill=_shade((70, 52, 38), shade))
        pen.rectangle(
            (box[0], box[3] - 14, box[2], box[3] - 10), fill=_shade((206, 176, 136), shade)
        )


def _pool(floor: Image.Image, rng: Random) -> None:
    x, y, radius = plan.POOL
    pen = ImageDraw.Draw(floor)
    pen.ellipse(_box(x, y, radius + 0.34), fill=STONE_DARK)
    pen.ellipse(_box(x, y, radius + 0.30), fill=STONE)
    for step in range(28):
        angle = math.tau * step / 28
        near, far = radius + 0.02, radius + 0.30
        ends = [(_px(x + r * math.cos(angle)), _px(y + r * math.sin(angle))) for r in (near, far)]
        pen.line(ends, fill=STONE_DARK, width=5)
    pen.ellipse(_box(x, y, radius + 0.30), outline=STONE_LIGHT, width=3)
    pen.ellipse(_box(x, y, radius + 0.04), fill=(16, 30, 32))
    rings = 30
    for ring in range(rings):
        share = ring / rings
        colour = (int(62 - 46 * share), int(124 - 76 * share), int(122 - 68 * share))
        pen.ellipse(_box(x, y + 0.05 * share, radius * (1 - share)), fill=colour)
    ripples = Image.new("L", SIZE, 0)
    wet = ImageDraw.Draw(ripples)
    for _ in range(46):
        size = rng.uniform(0.25, radius - 0.1)
        start = rng.uniform(0, 360)
        wet.arc(
            _box(x, y, size),
            start,
            start + rng.uniform(14, 60),
            fill=rng.randrange(50, 130),
            width=4,
        )
    floor.paste((176, 226, 214), (0, 0), ripples.filter(ImageFilter.GaussianBlur(1.5)))
    edge = Image.new("L", SIZE, 0)
    ImageDraw.Draw(edge).ellipse(_box(x, y, radius + 0.03), outline=200, width=26)
    inside = Image.new("L", SIZE, 0)
    ImageDraw.Draw(inside).ellipse(_box(x, y, radius + 0.03), fill=255)
    edge = ImageChops.multiply(edge.filter(ImageFilter.GaussianBlur(12)), inside)
    floor.paste((6, 18, 20), (0, 0), edge)


def _rug(floor: Image.Image) -> None:
    box = (_px(5.9), _px(5.15), _px(8.1), _px(6.85))
    _shadow(floor, (box[0] + 4, box[1] + 2, box[2] - 6, box[3] - 8), round_=False)
    pen = ImageDraw.Draw(floor)
    for fringe in range(box[1] + 4, box[3], 12):
        pen.line((box[0] - 12, fringe, box[2] + 12, fringe), fill=(196, 166, 112), width=4)
    for inset, colour in (
        (0, (92, 28, 26)),
        (14, (176, 128, 62)),
        (20, (112, 36, 31)),
        (46, (150, 104, 52)),
        (50, (84, 26, 28)),
    ):
        pen.rectangle((box[0] + inset, box[1] + inset, box[2] - inset, box[3] - inset), fill=colour)
    middle_x, middle_y = (box[0] + box[2]) // 2, (box[1] + box[3]) // 2
    for half, colour in (
        (64, (176, 128, 62)),
        (54, (112, 36, 31)),
        (26, (176, 128, 62)),
        (16, (56, 18, 22)),
    ):
        pen.polygon(
            [(middle_x - half * 1.5, middle_y), (middle_x, middle_y - half),
             (middle_x + half * 1.5, middle_y), (middle_x, middle_y + half)],
            fill=colour,
        )  # fmt: skip


def _table(floor: Image.Image) -> None:
    """A long table with a candle, a jug and papers, against the south wall of the hall."""
    box = (_px(8.2), _px(8.12), _px(10.0), _px(8.78))
    _shadow(floor, box, round_=False)
    pen = ImageDraw.Draw(floor)
    pen.rectangle(box, fill=WOOD, outline=WOOD_DARK, width=5)
    for plank in range(1, 4):
        seam = box[1] + plank * (box[3] - box[1]) // 4
        pen.line((box[0] + 4, seam, box[2] - 4, seam), fill=WOOD_DARK, width=2)
    pen.line((box[0] + 5, box[1] + 6, box[2] - 5, box[1] + 6), fill=WOOD_LIGHT, width=3)
    for x, y, wide, high in ((8.7, 8.42, 0.2, 0.14), (9.05, 8.5, 0.16, 0.2)):
        pen.rectangle(
            (_px(x - wide), _px(y - high), _px(x + wide), _px(y + high)),
            fill=(214, 198, 158),
            outline=(120, 100, 70),
            width=2,
        )
    pen.ellipse(_box(9.6, 8.42, 0.13), fill=(78, 94, 92), outline=(28, 36, 36), width=4)


def _pillar(floor: Image.Image, x: float, y: float) -> None:
    half = plan.PILLAR_RADIUS + 0.06
    box = (_px(x - half), _px(y - half), _px(x + half), _px(y + half))
    _shadow(floor, box, round_=False)
    pen = ImageDraw.Draw(floor)
    pen.rounded_rectangle(box, radius=10, fill=STONE_DARK)
    pen.rounded_rectangle((box[0] + 4, box[1] + 4, box[2] - 6, box[3] - 6), radius=8, fill=STONE)
    for ring in range(24):
        share = ring / 24
        radius = plan.PILLAR_RADIUS * (1 - share)
        tone = 0.62 + 0.55 * share
        pen.ellipse(_box(x - 0.07 * share, y - 0.09 * share, radius), fill=_shade(STONE, tone))
    pen.ellipse(_box(x, y, plan.PILLAR_RADIUS), outline=STONE_DARK, width=4)


def _sarcophagus(
    floor: Image.Image, x: float, y: float, half_wide: float, half_long: float
) -> None:
    box = (_px(x - half_wide), _px(y - half_long), _px(x + half_wide), _px(y + half_long))
    _shadow(floor, box, round_=False)
    pen = ImageDraw.Draw(floor)
    pen.rectangle(box, fill=STONE_DARK)
    for inset, colour in (
        (5, STONE),
        (18, STONE_DARK),
        (22, STONE_LIGHT),
        (26, _shade(STONE, 0.92)),
    ):
        pen.rectangle((box[0] + inset, box[1] + inset, box[2] - inset, box[3] - inset), fill=colour)
    pen.ellipse(_box(x, y - half_long * 0.52, 0.17), fill=STONE_LIGHT, outline=STONE_DARK, width=4)
    body = [
        (x - 0.2, y - half_long * 0.28),
        (x + 0.2, y - half_long * 0.28),
        (x + 0.12, y + half_long * 0.7),
        (x - 0.12, y + half_long * 0.7),
    ]
    pen.polygon([(_px(a), _px(b)) for a, b in body], fill=STONE_LIGHT, outline=STONE_DARK, width=4)
    pen.line(
        (_px(x), _px(y - half_long * 0.2), _px(x), _px(y + half_long * 0.5)),
        fill=STONE_DARK,
        width=6,
    )
    pen.line(
        (_px(x - 0.1), _px(y - half_long * 0.08), _px(x + 0.1), _px(y - half_long * 0.08)),
        fill=STONE_DARK,
        width=6,
    )


def _crate(floor: Image.Image, x: float, y: float, half: float, turn: float) -> None:
    side = 2 * _px(half)
    _shadow(
        floor,
        (_px(x) - side // 2, _px(y) - side // 2, _px(x) + side // 2, _px(y) + side // 2),
        round_=False,
        turn=turn,
    )
    crate = Image.new("RGBA", (side, side), (*WOOD, 255))
    pen = ImageDraw.Draw(crate)
    for plank in range(1, 5):
        at = plank * side // 5
        pen.line((at, 0, at, side), fill=WOOD_DARK, width=3)
        pen.line((at + 3, 0, at + 3, side), fill=WOOD_LIGHT, width=1)
    pen.line((0, 0, side, side), fill=WOOD_DARK, width=22)
    pen.line((0, 0, side, side), fill=_shade(WOOD, 1.1), width=15)
    pen.rectangle((0, 0, side - 1, side - 1), outline=_shade(WOOD, 1.1), width=16)
    pen.rectangle((15, 15, side - 16, side - 16), outline=WOOD_DARK, width=3)
    pen.rectangle((0, 0, side - 1, side - 1), outline=WOOD_DARK, width=4)
    crate = crate.rotate(turn, resample=Image.Resampling.BICUBIC, expand=True)
    floor.paste(crate, (_px(x) - crate.width // 2, _px(y) - crate.height // 2), crate)


def _barrel(floor: Image.Image, x: float, y: float) -> None:
    radius = 0.36
    _shadow(floor, _box(x, y, radius), round_=True)
    pen = ImageDraw.Draw(floor)
    pen.ellipse(_box(x, y, radius), fill=WOOD_DARK)
    pen.ellipse(_box(x, y, radius - 0.03), fill=(92, 88, 82))
    pen.ellipse(_box(x, y, radius - 0.07), fill=WOOD)
    for plank in range(-3, 4):
        offset = plank * 0.085
        reach = math.sqrt(max(0.0, (radius - 0.08) ** 2 - offset**2))
        pen.line(
            (_px(x + offset), _px(y - reach), _px(x + offset), _px(y + reach)),
            fill=WOOD_DARK,
            width=3,
        )
    pen.ellipse(_box(x, y, radius - 0.07), outline=WOOD_DARK, width=4)
    pen.arc(_box(x, y, radius - 0.04), 190, 300, fill=(168, 160, 146), width=4)
    pen.ellipse(_box(x + 0.1, y + 0.06, 0.05), fill=WOOD_DARK)


def _rubble(floor: Image.Image, x: float, y: float, count: int, rng: Random) -> None:
    for _ in range(count):
        at_x, at_y = x + rng.gauss(0, 0.28), y + rng.gauss(0, 0.22)
        size = rng.uniform(0.05, 0.14)
        corners = [
            (_px(at_x + size * rng.uniform(0.7, 1.2) * math.cos(angle)), _px(at_y + size * rng.uniform(0.7, 1.2) * math.sin(angle)))
            for angle in (0.2, 1.3, 2.4, 3.5, 4.6, 5.6)
        ]  # fmt: skip
        _shadow(floor, _box(at_x, at_y, size * 0.7), round_=True)
        ImageDraw.Draw(floor).polygon(
            corners, fill=_shade(STONE, rng.uniform(0.8, 1.15)), outline=STONE_DARK, width=3
        )


# light


def _lit(floor: Image.Image, rng: Random, mask: Image.Image) -> Image.Image:
    """Furnish the floor, let the walls throw shadows on it and the lights shine."""
    _furnish(floor, rng)
    _doors(floor)
    dark = ImageChops.invert(mask)
    for blur, strength in ((70, 0.75), (22, 0.55)):
        shade = ImageChops.offset(dark, 6, 14).filter(ImageFilter.GaussianBlur(blur))
        floor = Image.composite(
            Image.new("RGB", SIZE, (20, 13, 9)),
            floor,
            shade.point(lambda level, s=strength: int(level * s)),
        )
    light = _light_map().resize(SIZE, Image.Resampling.BICUBIC)
    shone = ImageChops.multiply(floor, light)
    return ImageChops.add(shone, shone)


def _doors(floor: Image.Image) -> None:
    pen = ImageDraw.Draw(floor)
    for (x1, y1), (x2, y2) in plan.CLOSED_DOORS:
        wide, high = (0.11, 0.0) if x1 == x2 else (0.0, 0.11)
        box = (_px(x1 - wide), _px(y1 - high), _px(x2 + wide), _px(y2 + high))
        _shadow(floor, box, round_=False)
        pen.rectangle(box, fill=WOOD, outline=WOOD_DARK, width=5)
        long = box[3] - box[1] if wide else box[2] - box[0]
        for band in (0.2, 0.8):
            at = int(long * band)
            line = (
                (box[0], box[1] + at, box[2], box[1] + at)
                if wide
                else (box[0] + at, box[1], box[0] + at, box[3])
            )
            pen.line(line, fill=(40, 38, 36), width=9)
        pen.ellipse(
            _box((x1 + x2) / 2, (y1 + y2) / 2, 0.05),
            fill=(214, 160, 74),
            outline=(50, 34, 16),
            width=2,
        )
    for (x1, y1), (x2, y2) in plan.OPEN_DOORS:  # a portcullis, up
        for bar in range(7):
            share = (bar + 0.5) / 7
            pen.ellipse(
                _box(x1 + (x2 - x1) * share, y1 + (y2 - y1) * share, 0.055),
                fill=(46, 44, 42),
                outline=(120, 114, 104),
                width=2,
            )


def _light_map() -> Image.Image:
    """How much light falls where, 128 = the colour as painted; walls, pillars and shut doors keep it out."""
    step = 10
    width, height = SIZE[0] // step, SIZE[1] // step
    blockers = [
        (line[at], line[at + 1])
        for line in (*plan.walls(), *plan.pillars(0.2))
        for at in range(len(line) - 1)
    ] + list(plan.CLOSED_DOORS)
    values = [[66.0, 69.0, 80.0] for _ in range(width * height)]
    for x, y, reach, colour, strength in plan.LIGHTS:
        tint = [int(colour[at : at + 2], 16) / 255 for at in (2, 4, 6)]
        near = [pair for pair in blockers if _near(pair, x, y, reach)]
        for row in range(
            int(max(0, y - reach) * CELL / step), min(height, int((y + reach) * CELL / step) + 1)
        ):
            for column in range(
                int(max(0, x - reach) * CELL / step), min(width, int((x + reach) * CELL / step) + 1)
            ):
                at_x, at_y = (column + 0.5) * step / CELL, (row + 0.5) * step / CELL
                share = 1 - math.hypot(at_x - x, at_y - y) / reach
                if share <= 0 or any(_crosses(pair, (x, y), (at_x, at_y)) for pair in near):
                    continue
                shine = 128 * strength * share**1.6
                value = values[row * width + column]
                for channel in range(3):
                    value[channel] += shine * tint[channel]
    pixels = bytes(int(min(235.0, channel)) for value in values for channel in value)
    return Image.frombytes("RGB", (width, height), pixels).filter(ImageFilter.GaussianBlur(1.6))


def _near(pair: plan.Segment, x: float, y: float, reach: float) -> bool:
    (x1, y1), (x2, y2) = pair
    return (
        min(x1, x2) < x + reach
        and max(x1, x2) > x - reach
        and min(y1, y2) < y + reach
        and max(y1, y2) > y - reach
    )


def _crosses(pair: plan.Segment, start: plan.Place, end: plan.Place) -> bool:
    (ax, ay), (bx, by) = pair
    across = (end[0] - start[0]) * (by - ay) - (end[1] - start[1]) * (bx - ax)
    if not across:
        return False
    along = ((ax - start[0]) * (by - ay) - (ay - start[1]) * (bx - ax)) / across
    beside = (
        (ax - start[0]) * (end[1] - start[1]) - (ay - start[1]) * (end[0] - start[0])
    ) / across
    return 0.02 < along < 0.98 and 0 <= beside <= 1


def _outline(canvas: Image.Image, floor: Image.Image) -> None:
    """The dark line between floor and rock, with a rim of light on the rock above it."""
    edge = floor.filter(ImageFilter.GaussianBlur(3)).point(
        lambda level: 255 if 40 < level < 215 else 0
    )
    rim = ImageChops.subtract(ImageChops.offset(edge, 0, -9), floor).filter(
        ImageFilter.GaussianBlur(2)
    )
    canvas.paste((104, 84, 62), (0, 0), rim.point(lambda level: level * 3 // 5))
    canvas.paste(
        LINE, (0, 0), edge.filter(ImageFilter.MaxFilter(7)).filter(ImageFilter.GaussianBlur(1.2))
    )


def _sconces(canvas: Image.Image) -> None:
    """A small flame at every warm light, with a halo."""
    for x, y, _, colour, strength in plan.LIGHTS:
        if colour == plan.COLD:
            continue
        halo = Image.new("L", SIZE, 0)
        ImageDraw.Draw(halo).ellipse(_box(x, y, 0.3 * strength + 0.08), fill=150)
        canvas.paste((255, 206, 120), (0, 0), halo.filter(ImageFilter.GaussianBlur(24)))
        pen = ImageDraw.Draw(canvas)
        pen.ellipse(_box(x, y, 0.13), fill=(44, 32, 24), outline=(18, 12, 9), width=3)
        pen.ellipse(_box(x, y, 0.085), fill=(255, 170, 66))
        pen.ellipse(_box(x, y, 0.045), fill=(255, 240, 200))
