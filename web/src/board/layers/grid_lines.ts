/** The grid's lines, one pixel wide at every zoom; they fade before they would turn into a grey veil. */
import "pixi.js/mesh";
import { Container, Graphics, Mesh, MeshGeometry, Sprite, Texture } from "pixi.js";
import type { Scene } from "../../protocol/types";
import { CELL, grown, scaleOf, visibleBox, type Box, type Size, type View } from "../camera";
import { hexLines } from "../hex_lines";
import type { Palette } from "../palette";

/** Pixels of a cell under which there are no lines, and over which they have their full strength. */
const FADE_FROM = 7;
const FADE_TO = 18;

export class GridLines {
  /** Square grids, in screen space, on whole device pixels. */
  readonly straight = new Container();
  /** Hex grids, in board space. */
  readonly hexes = new Container();
  private readonly pool: Sprite[] = [];
  private scene: Scene | null = null;
  private pictured = false;
  private color = 0;
  private strength = 1;
  private hexesFor: Box | null = null;
  private hexNode: Container | null = null;

  /** `meshes`: the renderer knows meshes; the 2D fallback does not. */
  constructor(private readonly meshes: boolean) {}

  /** `pictured`: the lines lie on a map, which may have any brightness, not on the bare floor. */
  show(scene: Scene | null, pictured: boolean, palette: Palette): void {
    this.scene = scene;
    this.pictured = pictured;
    const color = pictured ? palette.of.grid : palette.of.floorGrid;
    this.color = color.hex;
    this.strength = pictured ? 0.42 : 0.17;
    this.hexesFor = null;
  }

  draw(view: View, size: Size, pixelRatio: number): void {
    const { scene } = this;
    const cell = scaleOf(view);
    const fade = Math.min(1, Math.max(0, (cell - FADE_FROM) / (FADE_TO - FADE_FROM)));
    const type = scene?.grid.type ?? "none";
    this.straight.visible = type === "square" && fade > 0;
    this.hexes.visible = (type === "hex_row" || type === "hex_column") && fade > 0;
    if (!scene) return;
    if (this.straight.visible) this.drawSquares(scene, view, size, pixelRatio, this.strength * fade);
    if (this.hexes.visible) this.drawHexes(scene, view, size, this.strength * fade * (pixelRatio >= 1.75 ? 1.2 : 0.85));
  }

  private drawSquares(scene: Scene, view: View, size: Size, pixelRatio: number, alpha: number): void {
    const seen = visibleBox(view, size);
    const cell = scaleOf(view);
    const sharp = (value: number): number => Math.round(value * pixelRatio) / pixelRatio;
    const thick = Math.max(1, Math.round(pixelRatio * (this.pictured ? 1.1 : 1))) / pixelRatio;
    const left = sharp(Math.max(view.x, 0));
    const right = sharp(Math.min(view.x + scene.width * cell, size.width));
    const top = sharp(Math.max(view.y, 0));
    const bottom = sharp(Math.min(view.y + scene.height * cell, size.height));
    let used = 0;
    const line = (x: number, y: number, width: number, height: number): void => {
      const sprite = this.pool[used] ?? this.newLine();
      used++;
      sprite.visible = true;
      sprite.position.set(x, y);
      sprite.setSize(width, height);
      sprite.tint = this.color;
    };
    if (left < right && top < bottom) {
      for (let k = Math.max(0, Math.ceil(seen.x)); k <= Math.min(scene.width, seen.x + seen.width); k++) {
        line(sharp(view.x + k * cell - thick / 2), top, thick, bottom - top);
      }
      for (let k = Math.max(0, Math.ceil(seen.y)); k <= Math.min(scene.height, seen.y + seen.height); k++) {
        line(left, sharp(view.y + k * cell - thick / 2), right - left, thick);
      }
    }
    for (const sprite of this.pool.slice(used)) sprite.visible = false;
    this.straight.alpha = alpha;
  }

  private newLine(): Sprite {
    const sprite = new Sprite(Texture.WHITE);
    this.pool.push(sprite);
    this.straight.addChild(sprite);
    return sprite;
  }

  private drawHexes(scene: Scene, view: View, size: Size, alpha: number): void {
    const seen = visibleBox(view, size);
    this.hexes.alpha = Math.min(1, alpha);
    const type = scene.grid.type;
    if (type !== "hex_row" && type !== "hex_column") return;
    const drawn = this.hexesFor;
    const fresh =
      drawn !== null &&
      drawn.x <= seen.x &&
      drawn.y <= seen.y &&
      drawn.x + drawn.width >= seen.x + seen.width &&
      drawn.y + drawn.height >= seen.y + seen.height &&
      drawn.width < 6 * seen.width;
    if (fresh) return;
    const part = grown(seen, Math.max(seen.width, seen.height) / 4);
    this.hexesFor = part;
    this.hexNode?.destroy({ children: true });
    this.hexNode = this.lines(hexLines(type, scene, part));
    if (this.hexNode) this.hexes.addChild(this.hexNode);
  }

  private lines(segments: readonly number[]): Container | null {
    if (segments.length === 0) return null;
    if (this.meshes) {
      const positions = Float32Array.from(segments, (value) => value * CELL);
      const indices = Uint32Array.from({ length: positions.length / 2 }, (_, k) => k);
      const geometry = new MeshGeometry({
        positions,
        uvs: new Float32Array(positions.length),
        indices,
        topology: "line-list",
      });
      const mesh = new Mesh({ geometry, texture: Texture.WHITE });
      mesh.tint = this.color;
      mesh.on("destroyed", () => geometry.destroy(true));
      return mesh;
    }
    const pen = new Graphics();
    for (let k = 0; k + 3 < segments.length; k += 4) {
      const [x1 = 0, y1 = 0, x2 = 0, y2 = 0] = segments.slice(k, k + 4);
      pen.moveTo(x1 * CELL, y1 * CELL).lineTo(x2 * CELL, y2 * CELL);
    }
    return pen.stroke({ width: 1, color: this.color, pixelLine: true });
  }
}
