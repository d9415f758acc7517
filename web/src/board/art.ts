/**
 * The drawn parts of a piece, by canvas 2D: each is baked once into a texture and shared by every piece like it.
 * Lengths are CSS pixels at 100 % (a cell is 60); `density` is texture pixels for each of them.
 * The numbers are the anatomy of the look: coin .87 of the cell, keyline 1.5, ring 3.5, plate 18 high.
 */
import type { Color, Palette } from "./palette";

export interface Baked {
  readonly canvas: HTMLCanvasElement;
  /** Size in CSS pixels at 100 %. */
  readonly width: number;
  readonly height: number;
}

/** From the edge of a piece's box to its coin, per cell; the coin is .87 of the cell. */
export const COIN = 0.87;
/** Room around the coin for ring, keyline, mark and shadow. */
export const FRAME_PAD = 15;
export const PLATE_HEIGHT = 18;
export const BADGE_SIZE = 22;

type Pen = CanvasRenderingContext2D;

function bake(width: number, height: number, density: number, draw: (pen: Pen) => void): Baked {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.ceil(width * density));
  canvas.height = Math.max(1, Math.ceil(height * density));
  const pen = canvas.getContext("2d");
  if (pen) {
    pen.scale(density, density);
    draw(pen);
  }
  return { canvas, width: canvas.width / density, height: canvas.height / density };
}

/** A coin's outline: a circle, or a box with fully rounded ends for pieces that are not square. */
function coin(pen: Pen, x: number, y: number, width: number, height: number, grow: number): void {
  const w = width + 2 * grow;
  const h = height + 2 * grow;
  pen.beginPath();
  pen.roundRect(x - w / 2, y - h / 2, w, h, Math.min(w, h) / 2);
}

/** The picture, cut to the coin and covering all of it. `width`, `height`: the coin's. */
export function pictureCoin(image: CanvasImageSource & Extent, width: number, height: number, density: number): Baked {
  return bake(width, height, density, (pen) => {
    coin(pen, width / 2, height / 2, width, height, -0.25);
    pen.clip();
    cover(pen, image, width, height);
  });
}

export interface Extent {
  readonly width: number;
  readonly height: number;
}

function cover(pen: Pen, image: CanvasImageSource & Extent, width: number, height: number): void {
  const scale = Math.max(width / image.width, height / image.height);
  const w = image.width * scale;
  const h = image.height * scale;
  pen.imageSmoothingQuality = "high";
  pen.drawImage(image, (width - w) / 2, (height - h) / 2, w, h);
}

/** Scenery fills its box and has no ring. */
export function pictureBox(image: CanvasImageSource & Extent, width: number, height: number, density: number): Baked {
  return bake(width, height, density, (pen) => {
    pen.imageSmoothingQuality = "high";
    pen.drawImage(image, 0, 0, width, height);
  });
}

/** What a piece without a picture, or with one that does not load, shows: two letters on its owner's colour. */
export function initialsCoin(
  letters: string,
  tint: Color,
  width: number,
  height: number,
  density: number,
  palette: Palette,
  square: boolean,
): Baked {
  return bake(width, height, density, (pen) => {
    if (square) {
      pen.beginPath();
      pen.roundRect(0, 0, width, height, 6);
    } else coin(pen, width / 2, height / 2, width, height, -0.25);
    pen.clip();
    pen.fillStyle = palette.of.keyline.css;
    pen.fillRect(0, 0, width, height);
    const light = pen.createRadialGradient(
      width * 0.42,
      height * 0.3,
      0,
      width / 2,
      height / 2,
      Math.max(width, height) * 0.62,
    );
    light.addColorStop(0, withAlpha(tint, 0.5));
    light.addColorStop(1, withAlpha(tint, 0.2));
    pen.fillStyle = light;
    pen.fillRect(0, 0, width, height);
    const size = Math.min(width, height) * (letters.length > 1 ? 0.4 : 0.48);
    pen.font = `400 ${size}px ${palette.fontDisplay}`;
    pen.textAlign = "center";
    pen.textBaseline = "alphabetic";
    const ink = pen.measureText(letters);
    const rise = (ink.actualBoundingBoxAscent - ink.actualBoundingBoxDescent) / 2;
    pen.fillStyle = palette.of.plateInk.css;
    pen.fillText(letters, width / 2, height / 2 + rise, width * 0.8);
  });
}

export interface FrameLook {
  /** The coin's size. */
  readonly width: number;
  readonly height: number;
  readonly color: Color;
  /** Hidden pieces wear the moon's dashed ring. */
  readonly hidden: boolean;
  /** The owner's mark as path data in a 14 x 14 box; empty for nobody's. */
  readonly mark: string;
}

/** Ring, keyline, mark, and the shadow that falls from the coin; drawn over the picture. */
export function frame(look: FrameLook, density: number, palette: Palette): Baked {
  const { width, height } = look;
  const w = width + 2 * FRAME_PAD;
  const h = height + 2 * FRAME_PAD;
  const x = w / 2;
  const y = h / 2;
  const thin = Math.sqrt(Math.min(1, Math.min(width, height) / 50));
  return bake(w, h, density, (pen) => {
    shadow(pen, x, y, width, height, palette.of.keyline);
    pen.lineWidth = 1.5;
    pen.strokeStyle = palette.of.keyline.css;
    coin(pen, x, y, width, height, 1.5);
    pen.stroke();
    coin(pen, x, y, width, height, -0.5);
    if (look.hidden) {
      pen.lineWidth = 2.5 * thin;
      pen.strokeStyle = palette.of.moon.css;
      pen.setLineDash(dashes(width, height));
    } else {
      pen.lineWidth = 3.5 * thin;
      pen.strokeStyle = look.color.css;
    }
    pen.stroke();
    pen.setLineDash([]);
    // a mark sits on the coin's shoulder, the left one where the eye-off badge takes the right
    const side = look.hidden ? -1 : 1;
    const reach = Math.min(width, height) / 2;
    const shoulder = { x: width / 2 - reach + reach * 0.78, y: height / 2 - reach + reach * 0.74 };
    if (look.mark) markAt(pen, look.mark, x + side * shoulder.x, y - shoulder.y, 16 * thin, look.color, palette);
  });
}

/** Five on, four off, stretched a little so that the ring closes without a seam. */
function dashes(width: number, height: number): number[] {
  const round = Math.min(width, height);
  const length = Math.PI * round + 2 * Math.abs(width - height);
  const period = length / Math.max(4, Math.round(length / 9));
  return [(period * 5) / 9, (period * 4) / 9];
}

/** Only outside the coin: what is half transparent must not look dirty. */
function shadow(pen: Pen, x: number, y: number, width: number, height: number, keyline: Color): void {
  const far = 4000;
  pen.save();
  pen.beginPath();
  pen.rect(-far, -far, 2 * far, 2 * far);
  const w = width + 2;
  const h = height + 2;
  pen.roundRect(x - w / 2, y - h / 2, w, h, Math.min(w, h) / 2);
  pen.clip("evenodd");
  const density = pen.getTransform().a;
  pen.shadowColor = withAlpha(keyline, 0.75);
  pen.shadowBlur = 7 * density;
  // the shape itself is drawn far away: only its shadow lands here
  pen.shadowOffsetX = far * density;
  pen.shadowOffsetY = 5 * density;
  coin(pen, x - far, y, width, height, 1);
  pen.fill();
  pen.restore();
}

export function markAt(
  pen: Pen,
  path: string,
  x: number,
  y: number,
  size: number,
  color: Color,
  palette: Palette,
): void {
  pen.save();
  pen.translate(x - size / 2, y - size / 2);
  pen.scale(size / 14, size / 14);
  const outline = new Path2D(path);
  pen.lineJoin = "round";
  pen.lineWidth = 3.2;
  pen.strokeStyle = palette.of.keyline.css;
  pen.stroke(outline);
  pen.fillStyle = color.css;
  pen.fill(outline, "evenodd");
  pen.restore();
}

/** The lamp's light around the piece whose turn it is: soft, with one clear line, and dark around it for bright maps. */
export function halo(width: number, height: number, density: number, palette: Palette): Baked {
  const pad = 22;
  return bake(width + 2 * pad, height + 2 * pad, density, (pen) => {
    const { select, keyline } = palette.of;
    for (const [grow, line, color, alpha] of [
      [12, 13, keyline, 0.16],
      [11, 8, keyline, 0.2],
      [7, 14, select, 0.16],
      [6, 9, select, 0.3],
      [6.5, 2, select, 0.95],
    ] as const) {
      coin(pen, width / 2 + pad, height / 2 + pad, width, height, grow);
      pen.lineWidth = line;
      pen.strokeStyle = withAlpha(color, alpha);
      pen.stroke();
    }
  });
}

export interface PlateLook {
  readonly text: string;
  readonly moon?: boolean;
  /** A coloured edge, for cursors' names and the ruler. */
  readonly edge?: Color;
  readonly mark?: { readonly path: string; readonly color: Color };
  readonly size?: "name" | "measure";
}

const PLATE_TEXT_MAX = 168;

/** A dark plate with a short text on it. */
export function plate(look: PlateLook, density: number, palette: Palette): Baked {
  const measure = look.size === "measure";
  const font = `560 ${measure ? 12 : 11.5}px ${palette.fontUi}`;
  const height = (measure ? 26 : PLATE_HEIGHT) + (look.mark ? 2 : 0);
  const side = measure ? 14 : 8;
  const lead = look.mark ? 15 : 0;
  const text = clipped(look.text, font, PLATE_TEXT_MAX);
  const width = Math.ceil(widthOf(text, font)) + 2 * side + lead;
  return bake(width, height, density, (pen) => {
    pen.beginPath();
    pen.roundRect(0, 0, width, height, height / 2);
    pen.fillStyle = withAlpha(palette.of.plate, look.edge ? 0.95 : palette.of.plate.alpha);
    pen.fill();
    if (look.edge) {
      pen.beginPath();
      pen.roundRect(0.75, 0.75, width - 1.5, height - 1.5, height / 2 - 0.75);
      pen.lineWidth = 1.5;
      pen.strokeStyle = measure ? withAlpha(look.edge, 0.5) : look.edge.css;
      pen.stroke();
    }
    if (look.mark) markAt(pen, look.mark.path, side + 4.5, height / 2, 11, look.mark.color, palette);
    pen.font = font;
    pen.textBaseline = "alphabetic";
    pen.fillStyle = look.moon ? palette.of.moon.css : palette.of.plateInk.css;
    pen.fillText(text, side + lead, height / 2 + 4);
  });
}

let ruler: Pen | null = null;
function widthOf(text: string, font: string): number {
  ruler ??= document.createElement("canvas").getContext("2d");
  if (!ruler) return text.length * 7;
  ruler.font = font;
  return ruler.measureText(text).width;
}

function clipped(text: string, font: string, most: number): string {
  if (widthOf(text, font) <= most) return text;
  const letters = [...text];
  while (letters.length > 1 && widthOf(`${letters.join("")}…`, font) > most) letters.pop();
  return `${letters.join("").trimEnd()}…`;
}

/** Outlines of the icons that badges carry (Lucide, in a 24 x 24 box). */
const ICON = {
  "eye-off":
    "M10.733 5.076a10.744 10.744 0 0 1 11.205 6.575 1 1 0 0 1 0 .696 10.747 10.747 0 0 1-1.444 2.49" +
    "M14.084 14.158a3 3 0 0 1-4.242-4.242M17.479 17.499a10.75 10.75 0 0 1-15.417-5.151 1 1 0 0 1 0-.696 10.75 10.75 0 0 1 4.446-5.143M2 2l20 20",
  lock: "M5 11h14a2 2 0 0 1 2 2v7a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2v-7a2 2 0 0 1 2-2zM7 11V7a5 5 0 0 1 10 0v4",
} as const;

export function badge(icon: keyof typeof ICON, density: number, palette: Palette): Baked {
  const moon = icon === "eye-off";
  const ink = moon ? palette.of.moon : palette.of.plateInk;
  return bake(BADGE_SIZE, BADGE_SIZE, density, (pen) => {
    const middle = BADGE_SIZE / 2;
    pen.beginPath();
    pen.arc(middle, middle, moon ? 10 : 9, 0, Math.PI * 2);
    pen.fillStyle = moon ? palette.of.moonDeep.css : palette.of.keyline.css;
    pen.fill();
    pen.lineWidth = 1.5;
    pen.strokeStyle = moon ? ink.css : withAlpha(ink, 0.55);
    pen.stroke();
    const size = moon ? 13 : 11;
    pen.translate(middle - size / 2, middle - size / 2);
    pen.scale(size / 24, size / 24);
    pen.lineWidth = 2.4;
    pen.lineCap = "round";
    pen.lineJoin = "round";
    pen.strokeStyle = ink.css;
    pen.stroke(new Path2D(ICON[icon]));
  });
}

/** Points to where a turned piece looks; drawn above the coin, turned with it. */
export function notch(density: number, color: Color, palette: Palette): Baked {
  return bake(14, 9, density, (pen) => {
    pen.beginPath();
    pen.moveTo(7, 1);
    pen.lineTo(12.5, 8);
    pen.lineTo(1.5, 8);
    pen.closePath();
    pen.lineJoin = "round";
    pen.lineWidth = 2;
    pen.strokeStyle = palette.of.keyline.css;
    pen.stroke();
    pen.fillStyle = color.css;
    pen.fill();
  });
}

/** A member's mark by itself. */
export function loneMark(path: string, color: Color, density: number, palette: Palette): Baked {
  return bake(18, 18, density, (pen) => markAt(pen, path, 9, 9, 12, color, palette));
}

/** Another member's pointer; its tip is at 1, 1. */
export function arrow(color: Color, density: number, palette: Palette): Baked {
  return bake(20, 20, density, (pen) => {
    pen.translate(1, 1);
    pen.beginPath();
    pen.moveTo(0, 0);
    pen.lineTo(5, 17);
    pen.lineTo(9, 10.5);
    pen.lineTo(16.5, 8.5);
    pen.closePath();
    pen.lineJoin = "round";
    pen.lineWidth = 1.5;
    pen.fillStyle = color.css;
    pen.fill();
    pen.strokeStyle = palette.of.keyline.css;
    pen.stroke();
  });
}

export function withAlpha(color: Color, alpha: number): string {
  const part = Math.round(Math.min(1, Math.max(0, alpha)) * 255);
  return `${color.css}${part.toString(16).padStart(2, "0")}`;
}
