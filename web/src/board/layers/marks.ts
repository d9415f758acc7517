/** What the viewer is doing: frames around chosen pieces, the selection frame, where a piece will land. Screen space. */
import { Container, Graphics } from "pixi.js";
import type { Box } from "../camera";
import { CORNER, frameOf, handlePoints, KNOB } from "../handles";
import type { Palette } from "../palette";

export interface Chosen {
  readonly box: Box;
  readonly rotation: number;
  readonly handles: boolean;
}

export interface MarksShown {
  readonly chosen: readonly Chosen[];
  /** The piece whose button in the list has the focus. */
  readonly focused: Box | null;
  readonly frame: Box | null;
  /** Where carried pieces will land. */
  readonly landing: readonly Box[];
}

export class Marks {
  readonly node = new Container();
  private readonly pen = new Graphics();

  constructor() {
    this.node.addChild(this.pen);
  }

  draw({ chosen, focused, frame, landing }: MarksShown, palette: Palette): void {
    const { pen } = this;
    const { select, keyline } = palette.of;
    pen.clear();
    for (const box of landing) {
      pen.rect(box.x, box.y, box.width, box.height).fill({ color: select.hex, alpha: 0.16 });
      dashed(pen, box);
      pen.stroke({ width: 2, color: select.hex, cap: "butt" });
    }
    if (chosen.length > 0) {
      const frames = chosen.map(({ box }) => frameOf(box));
      const outline = (): Graphics => {
        for (const { x, y, width, height } of frames) pen.rect(x, y, width, height);
        return pen;
      };
      outline().stroke({ width: 3.5, color: keyline.hex, alpha: 0.35 });
      outline().stroke({ width: 1.75, color: select.hex, alpha: 0.75 });
      for (const { box, rotation, handles } of chosen) if (handles) drawHandles(pen, frameOf(box), rotation, palette);
    }
    if (focused) {
      const around = frameOf(focused);
      const outer = { x: around.x - 3, y: around.y - 3, width: around.width + 6, height: around.height + 6 };
      pen
        .roundRect(outer.x, outer.y, outer.width, outer.height, 6)
        .stroke({ width: 4.5, color: keyline.hex, alpha: 0.8 });
      pen.roundRect(outer.x, outer.y, outer.width, outer.height, 6).stroke({ width: 2, color: palette.of.focus.hex });
    }
    if (frame) {
      pen.rect(frame.x, frame.y, frame.width, frame.height);
      pen.fill({ color: select.hex, alpha: 0.08 }).stroke({ width: 1.25, color: select.hex, alpha: 0.9 });
    }
  }
}

function drawHandles(pen: Graphics, frame: Box, rotation: number, palette: Palette): void {
  const { select, keyline } = palette.of;
  const points = handlePoints(frame, rotation);
  pen.moveTo(points.arm.x, points.arm.y).lineTo(points.turn.x, points.turn.y);
  pen.stroke({ width: 1.75, color: select.hex });
  for (const corner of [points.nw, points.ne, points.sw, points.se]) {
    pen.roundRect(corner.x - CORNER / 2, corner.y - CORNER / 2, CORNER, CORNER, 2);
  }
  pen.circle(points.turn.x, points.turn.y, KNOB);
  pen.fill({ color: keyline.hex }).stroke({ width: 1.75, color: select.hex });
}

/** Five on, four off, along the box's edge. */
function dashed(pen: Graphics, box: Box): void {
  const sides = [
    [box.x, box.y, box.width, 0],
    [box.x + box.width, box.y, 0, box.height],
    [box.x + box.width, box.y + box.height, -box.width, 0],
    [box.x, box.y + box.height, 0, -box.height],
  ] as const;
  for (const [x, y, dx, dy] of sides) {
    const length = Math.abs(dx + dy);
    const count = Math.min(60, Math.max(1, Math.round(length / 9)));
    for (let k = 0; k < count; k++) {
      const from = (k + 0.22) / count;
      const to = (k + 0.78) / count;
      pen.moveTo(x + dx * from, y + dy * from).lineTo(x + dx * to, y + dy * to);
    }
  }
}
