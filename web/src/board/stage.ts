/**
 * The renderer and its layers. PixiJS draws when told to: its own tickers stay still, so an idle board costs nothing.
 * `pixi.js/unsafe-eval` must come before anything that draws: the content security policy allows no eval.
 */
import "pixi.js/unsafe-eval";
import "pixi.js/graphics";
import { autoDetectRenderer, Container, Ticker, type Renderer, type WebGLRenderer } from "pixi.js";
import { scaleOf, CELL, type Size, type View } from "./camera";

export class Stage {
  readonly root = new Container();
  /** In board space, 60 units a cell: below the grid's lines, and above them. */
  readonly ground = new Container({ isRenderGroup: true });
  readonly world = new Container({ isRenderGroup: true });
  /** In screen space: the grid between ground and world, and what lies over everything. */
  readonly lines = new Container();
  readonly over = new Container();

  private constructor(private readonly renderer: Renderer) {
    this.root.addChild(this.ground, this.lines, this.world, this.over);
  }

  /** Rejects when the browser offers neither WebGL nor a 2D canvas. */
  static async open(canvas: HTMLCanvasElement, size: Size, pixelRatio: number): Promise<Stage> {
    Ticker.system.autoStart = false;
    Ticker.system.stop();
    const renderer = await autoDetectRenderer({
      canvas,
      preference: ["webgl", "canvas"],
      width: Math.max(1, size.width),
      height: Math.max(1, size.height),
      resolution: pixelRatio,
      autoDensity: true,
      antialias: pixelRatio < 2,
      backgroundAlpha: 0,
      // events, accessibility and filters would each bring a ticker or a DOM overlay: the board has its own
      skipExtensionImports: true,
      // what is unused is let go by `Textures`, which knows better than a timer
      gcActive: false,
    });
    if (renderer.name === "webgl" && drawsInSoftware()) fewerTextures(renderer as WebGLRenderer);
    return new Stage(renderer);
  }

  get kind(): string {
    return this.renderer.name;
  }

  get pixelRatio(): number {
    return this.renderer.resolution;
  }

  resize(size: Size, pixelRatio: number): void {
    this.renderer.resize(Math.max(1, size.width), Math.max(1, size.height), pixelRatio);
  }

  setView(view: View): void {
    const scale = scaleOf(view) / CELL;
    // whole device pixels keep pictures and plates sharp
    const ratio = this.pixelRatio;
    const x = Math.round(view.x * ratio) / ratio;
    const y = Math.round(view.y * ratio) / ratio;
    for (const layer of [this.ground, this.world]) {
      layer.scale.set(scale);
      layer.position.set(x, y);
    }
  }

  draw(): void {
    this.renderer.render({ container: this.root });
  }

  destroy(): void {
    this.root.destroy({ children: true });
    this.renderer.destroy();
  }
}

/**
 * Without a graphics card the processor draws every pixel. It then reads all textures that a batch may choose from for
 * each of them: with four instead of sixteen a frame costs about half.
 */
const SOFTWARE = /swiftshader|llvmpipe|softpipe|software|basic render/i;
const SOFTWARE_TEXTURES = 4;

function drawsInSoftware(): boolean {
  const pen = document.createElement("canvas").getContext("webgl2");
  if (!pen) return false;
  const info = pen.getExtension("WEBGL_debug_renderer_info");
  const name: unknown = pen.getParameter(info ? info.UNMASKED_RENDERER_WEBGL : pen.RENDERER);
  pen.getExtension("WEBGL_lose_context")?.loseContext();
  return typeof name === "string" && SOFTWARE.test(name);
}

function fewerTextures({ limits }: WebGLRenderer): void {
  limits.maxBatchableTextures = Math.min(limits.maxBatchableTextures, SOFTWARE_TEXTURES);
}
