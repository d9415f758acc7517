/** Walls, doors and lights, which only GMs are sent: thin, in moonlight, over the map and under the pieces. */
import { Container, Graphics } from "pixi.js";
import type { Door, Light, Wall } from "../../protocol/types";
import { CELL } from "../camera";
import type { Palette } from "../palette";
import { colorOf } from "./drawings";

export class Structure {
  readonly node = new Container();
  private pen: Graphics | null = null;
  private shown: { walls: readonly Wall[]; doors: readonly Door[]; lights: readonly Light[]; step: number } | null =
    null;

  /** Lines keep their width on the screen, in steps, so that a turn of the wheel does not rebuild them each time. */
  update(
    walls: readonly Wall[],
    doors: readonly Door[],
    lights: readonly Light[],
    zoom: number,
    palette: Palette,
  ): void {
    const step = Math.round(Math.log2(zoom) * 2);
    const { shown } = this;
    if (shown?.walls === walls && shown.doors === doors && shown.lights === lights && shown.step === step) return;
    this.shown = { walls, doors, lights, step };
    this.pen?.destroy();
    this.pen = null;
    if (walls.length + doors.length + lights.length === 0) return;
    this.pen = draw(walls, doors, lights, 2 ** (-step / 2), palette);
    this.node.addChild(this.pen);
  }

  /** Colours changed: draw anew next time. */
  forget(): void {
    this.shown = null;
  }
}

/** `px`: board units of one pixel on the screen. */
function draw(
  walls: readonly Wall[],
  doors: readonly Door[],
  lights: readonly Light[],
  px: number,
  palette: Palette,
): Graphics {
  const pen = new Graphics();
  const { moon, keyline } = palette.of;
  for (const wall of walls) path(pen, wall.points);
  if (walls.length > 0) {
    pen.stroke({ width: 3.5 * px, color: keyline.hex, alpha: 0.4, cap: "round", join: "round" });
    for (const wall of walls) path(pen, wall.points);
    pen.stroke({ width: 1.5 * px, color: moon.hex, alpha: 0.75, cap: "round", join: "round" });
  }
  for (const door of doors) {
    const [a, b] = door.points;
    if (!a || !b) continue;
    const open = door.state === "open";
    path(pen, [a, b]);
    pen.stroke({ width: 6 * px, color: keyline.hex, alpha: 0.85, cap: "round" });
    path(pen, [a, b]);
    pen.stroke({ width: open ? 1.5 * px : 3 * px, color: moon.hex, alpha: open ? 0.6 : 1, cap: "round" });
    for (const end of [a, b]) pen.circle(end.x * CELL, end.y * CELL, 3 * px);
    pen.fill({ color: open ? keyline.hex : moon.hex }).stroke({ width: 1.25 * px, color: moon.hex });
  }
  for (const light of lights) {
    const x = light.x * CELL;
    const y = light.y * CELL;
    const color = colorOf(light.color) ?? moon.hex;
    if (light.range > 0) pen.circle(x, y, light.range * CELL).stroke({ width: px, color, alpha: 0.14 });
    pen
      .circle(x, y, 5 * px)
      .fill({ color })
      .stroke({ width: 1.5 * px, color: keyline.hex });
    pen.circle(x, y, 8 * px).stroke({ width: 1.25 * px, color: moon.hex, alpha: 0.9 });
  }
  return pen;
}

function path(pen: Graphics, points: readonly { x: number; y: number }[]): void {
  points.forEach(({ x, y }, k) => (k === 0 ? pen.moveTo(x * CELL, y * CELL) : pen.lineTo(x * CELL, y * CELL)));
}
