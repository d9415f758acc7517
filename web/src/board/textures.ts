/** Baked drawings as textures, shared by key, so that a thousand pieces need a few dozen of them. */
import { ImageSource, Sprite, Texture, type Container } from "pixi.js";
import type { Baked } from "./art";

/** Pixels a cell may be baked at; a piece takes the next above its size on the screen. */
const LEVELS = [16, 32, 64, 128, 256];
const CELL_PIXELS = 60;
const SIDE_MAX = 1024;
/** Beyond this much memory, textures that no piece uses are let go. */
const KEEP_BYTES = 96 * 1024 * 1024;

/** Texture pixels for each CSS pixel at 100 %, for pieces shown at this zoom and device pixel ratio. */
export function densityFor(zoom: number, pixelRatio: number, longestSide: number): number {
  const need = zoom * pixelRatio * CELL_PIXELS * 0.9;
  const level = LEVELS.find((one) => one >= need) ?? LEVELS.at(-1) ?? 256;
  return Math.min(level / CELL_PIXELS, SIDE_MAX / Math.max(1, longestSide));
}

interface Kept {
  readonly texture: Texture;
  readonly bytes: number;
}

/** The textures of every sprite below this container. */
export function texturesBelow(container: Container, found = new Set<Texture>()): Set<Texture> {
  for (const child of container.children) {
    if (child instanceof Sprite) found.add(child.texture);
    texturesBelow(child, found);
  }
  return found;
}

export class Textures {
  /** How many were made so far. */
  baked = 0;
  private kept = new Map<string, Kept>();
  private retired: Kept[] = [];
  private bytes = 0;
  private sweepAbove = KEEP_BYTES;

  get(key: string, density: number, make: () => Baked): Texture {
    const known = this.kept.get(key);
    if (known) return known.texture;
    const { canvas } = make();
    this.baked++;
    const source = new ImageSource({ resource: canvas, resolution: density, scaleMode: "linear" });
    const texture = new Texture({ source });
    const bytes = canvas.width * canvas.height * 4;
    this.kept.set(key, { texture, bytes });
    this.bytes += bytes;
    return texture;
  }

  get wantsSweep(): boolean {
    return this.retired.length > 0 || this.bytes > this.sweepAbove;
  }

  /** After a change of theme or fonts nothing fits any more; textures still on show go with the next `sweep`. */
  retireAll(): void {
    this.retired.push(...this.kept.values());
    this.kept = new Map();
    this.bytes = 0;
  }

  /** Destroys what was retired, and when there is too much also what is merely kept, unless it is in use. */
  sweep(inUse: ReadonlySet<Texture>): void {
    this.retired = this.retired.filter((one) => {
      if (inUse.has(one.texture)) return true;
      one.texture.destroy(true);
      return false;
    });
    if (this.bytes <= this.sweepAbove) return;
    for (const [key, one] of this.kept) {
      if (inUse.has(one.texture)) continue;
      this.kept.delete(key);
      this.bytes -= one.bytes;
      one.texture.destroy(true);
    }
    // when all of it is on show, looking again at every frame would not help
    this.sweepAbove = Math.max(KEEP_BYTES, this.bytes * 1.25);
  }

  destroy(): void {
    this.retireAll();
    this.sweep(new Set());
  }
}
