/** The scene's floor and its picture, cut into tiles that every graphics card takes. */
import { Container, Graphics, ImageSource, Sprite, Texture } from "pixi.js";
import type { Scene } from "../../protocol/types";
import { CELL } from "../camera";
import type { Palette } from "../palette";
import { decoded } from "../pictures";

const TILE = 2048;
/** More pixels than these are scaled down: a map must not fill a phone's memory. */
const PIXELS_MAX = 48e6;
const PIXELS_MAX_SMALL = 16e6;

export class Ground {
  readonly node = new Container();
  private readonly floor = new Sprite();
  private readonly tiles = new Container();
  private readonly edge = new Graphics();
  private bitmaps: ImageBitmap[] = [];
  private scene: Scene | null = null;
  private shownUrl: string | null = null;
  private edgeColor = 0;
  /** Counts loads, so that a late one of a former scene is thrown away. */
  private load = 0;

  /** `onReady`: something to draw arrived. `onTrouble`: the picture could not be had (true), or that is over (false). */
  constructor(
    private readonly onReady: () => void,
    private readonly onTrouble: (failed: boolean) => void,
  ) {
    this.node.addChild(this.floor, this.tiles, this.edge);
  }

  show(scene: Scene | null, url: string | null): void {
    const resized = scene?.width !== this.scene?.width || scene?.height !== this.scene?.height;
    this.scene = scene;
    this.floor.visible = scene !== null;
    if (resized) this.drawFloor();
    if (url === this.shownUrl) {
      if (scene && resized) this.fitTiles(scene);
      return;
    }
    this.shownUrl = url;
    this.clear();
    this.onTrouble(false);
    if (url !== null) void this.fetch(url, ++this.load);
    else this.load++;
  }

  /** Try the picture again. */
  retry(): void {
    if (this.shownUrl === null) return;
    this.clear();
    void this.fetch(this.shownUrl, ++this.load);
  }

  relook(palette: Palette): void {
    const old = this.floor.texture;
    this.floor.texture = floorTexture(palette);
    if (old !== Texture.EMPTY) old.destroy(true);
    this.edgeColor = palette.of.keyline.hex;
    this.drawFloor();
  }

  destroy(): void {
    this.load++;
    this.clear();
    const floor = this.floor.texture;
    this.node.destroy({ children: true });
    if (floor !== Texture.EMPTY) floor.destroy(true);
  }

  private drawFloor(): void {
    const { scene, edge } = this;
    edge.clear();
    if (!scene) return;
    const width = scene.width * CELL;
    const height = scene.height * CELL;
    this.floor.setSize(width, height);
    edge.rect(0, 0, width, height).stroke({ width: 1, color: this.edgeColor, alpha: 0.6, pixelLine: true });
  }

  private async fetch(url: string, load: number): Promise<void> {
    try {
      const image = await decoded(url);
      if (load !== this.load) return;
      const { naturalWidth: width, naturalHeight: height } = image;
      const shrink = Math.min(1, Math.sqrt(pixelsMax() / (width * height)));
      const step = Math.floor(TILE / shrink);
      for (let y = 0; y < height; y += step) {
        for (let x = 0; x < width; x += step) {
          const w = Math.min(step, width - x);
          const h = Math.min(step, height - y);
          const bitmap = await createImageBitmap(image, x, y, w, h, {
            resizeWidth: Math.max(1, Math.round(w * shrink)),
            resizeHeight: Math.max(1, Math.round(h * shrink)),
            resizeQuality: "high",
          });
          if (load !== this.load) {
            bitmap.close();
            return;
          }
          this.addTile(bitmap, x / width, y / height, w / width, h / height);
        }
      }
    } catch {
      if (load === this.load) this.onTrouble(true);
    }
  }

  /** Place and size as parts of the scene, 0 to 1. */
  private addTile(bitmap: ImageBitmap, x: number, y: number, width: number, height: number): void {
    const { scene } = this;
    if (!scene) return;
    this.bitmaps.push(bitmap);
    const source = new ImageSource({ resource: bitmap, autoGenerateMipmaps: true, scaleMode: "linear" });
    const tile = new Tile(new Texture({ source }), x, y, width, height);
    tile.fitTo(scene);
    this.tiles.addChild(tile);
    this.onReady();
  }

  private fitTiles(scene: Scene): void {
    for (const tile of this.tiles.children) if (tile instanceof Tile) tile.fitTo(scene);
    this.onReady();
  }

  private clear(): void {
    for (const tile of this.tiles.removeChildren()) tile.destroy({ texture: true, textureSource: true });
    for (const bitmap of this.bitmaps) bitmap.close();
    this.bitmaps = [];
  }
}

class Tile extends Sprite {
  constructor(
    texture: Texture,
    private readonly left: number,
    private readonly top: number,
    private readonly wide: number,
    private readonly high: number,
  ) {
    super(texture);
  }

  fitTo(scene: Scene): void {
    const width = scene.width * CELL;
    const height = scene.height * CELL;
    this.position.set(this.left * width, this.top * height);
    this.setSize(this.wide * width, this.high * height);
  }
}

function pixelsMax(): number {
  return matchMedia("(pointer: coarse)").matches ? PIXELS_MAX_SMALL : PIXELS_MAX;
}

/** A bare table under one lamp: lighter in the middle. */
function floorTexture(palette: Palette): Texture {
  const side = 256;
  const canvas = document.createElement("canvas");
  canvas.width = side;
  canvas.height = side;
  const pen = canvas.getContext("2d");
  if (pen) {
    const light = pen.createRadialGradient(side / 2, side * 0.46, 0, side / 2, side / 2, side * 0.72);
    light.addColorStop(0, palette.of.floor.css);
    light.addColorStop(1, palette.of.floorEdge.css);
    pen.fillStyle = light;
    pen.fillRect(0, 0, side, side);
  }
  return new Texture({ source: new ImageSource({ resource: canvas, scaleMode: "linear" }) });
}
