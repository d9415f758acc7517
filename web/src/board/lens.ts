/** The camera's hand: which view is on show, how it moves to the next, and which each scene was left with. */
import type { Point, Scene } from "../protocol/types";
import {
  between,
  bounded,
  centreOf,
  centredOn,
  fit,
  freeArea,
  nextStop,
  revealed,
  scaleOf,
  toBoard,
  toScreen,
  visibleBox,
  zoomTo,
  type Box,
  type Inset,
  type Size,
  type View,
} from "./camera";
import { easeOut } from "./motion";

interface Travel {
  readonly from: View;
  readonly to: View;
  readonly start: number;
  readonly ms: number;
}

export interface LensSurroundings {
  /** Everything there is to look at, in cells. */
  extent(): Box;
  inset(): Inset;
  /** How long a change of view by button takes. */
  travelMs(): number;
  /** Another view is on show, or will be. */
  changed(): void;
}

export class Lens {
  view: View = { zoom: 1, x: 0, y: 0 };
  private travel: Travel | null = null;
  /** The scene that is shown as a whole, until somebody looks elsewhere: it stays whole when the free area changes. */
  private fitted: Scene | null = null;
  private readonly left = new Map<string, View>();

  constructor(
    private readonly around: LensSurroundings,
    public size: Size,
  ) {}

  get free(): Box {
    return freeArea(this.size, this.around.inset());
  }

  get travelling(): boolean {
    return this.travel !== null;
  }

  /** The part of the board on view, in cells. */
  get visible(): Box {
    return visibleBox(this.view, this.size);
  }

  /** The board point in the middle of the free area. */
  get middle(): Point {
    return toBoard(this.view, centreOf(this.free));
  }

  /** Show this view now, as somebody wants it. */
  look(view: View): void {
    this.fitted = null;
    this.show(view);
  }

  private show(view: View): void {
    this.travel = null;
    this.view = bounded(view, this.around.extent(), this.free);
    this.around.changed();
  }

  /** One stop of the zoom buttons. */
  step(direction: 1 | -1): void {
    this.fitted = null;
    const from = this.aim;
    this.go(zoomTo(from, nextStop(from.zoom, direction), centreOf(this.free)));
  }

  fit(scene: Scene): void {
    this.fitted = scene;
    this.go(fit(whole(scene), this.free));
  }

  /** Bring the box (cells) into the free area; what is in it already moves nothing. */
  reveal(box: Box): void {
    const to = revealed(this.aim, box, this.free);
    if (to === this.aim) return;
    this.fitted = null;
    this.go(to);
  }

  /** Leave one scene's view, and take up the other's where it was left. */
  change(leaving: string | null, scene: Scene | null): void {
    if (leaving !== null && this.fitted === null) this.left.set(leaving, this.aim);
    else if (leaving !== null) this.left.delete(leaving);
    const known = scene ? this.left.get(scene.id) : undefined;
    this.fitted = known ? null : scene;
    if (scene) this.show(known ?? fit(whole(scene), this.free));
  }

  /** Chrome came or went over the board: a whole scene stays whole, any other view stays where it is. */
  reframe(): void {
    if (this.fitted) this.go(fit(whole(this.fitted), this.free));
  }

  resize(size: Size): void {
    const { middle } = this;
    const { zoom } = this.aim;
    this.size = size;
    this.show(this.fitted ? fit(whole(this.fitted), this.free) : centredOn(middle, zoom, this.free));
  }

  /** One frame of the movement; true while it goes on. */
  move(now: number): boolean {
    const { travel } = this;
    if (!travel) return false;
    const t = Math.min(1, Math.max(0, (now - travel.start) / travel.ms));
    this.view = between(travel.from, travel.to, easeOut(t));
    if (t >= 1) this.travel = null;
    return t < 1;
  }

  /** A box of the board (cells) in pixels of the element. */
  onScreen(box: Box): Box {
    const corner = toScreen(this.view, box);
    const scale = scaleOf(this.view);
    return { x: corner.x, y: corner.y, width: box.width * scale, height: box.height * scale };
  }

  private get aim(): View {
    return this.travel?.to ?? this.view;
  }

  private go(to: View): void {
    const aim = bounded(to, this.around.extent(), this.free);
    const ms = this.around.travelMs();
    if (ms <= 0) {
      this.show(aim);
      return;
    }
    this.travel = { from: this.view, to: aim, start: performance.now(), ms };
    this.around.changed();
  }
}

function whole(scene: Scene): Box {
  return { x: 0, y: 0, width: scene.width, height: scene.height };
}
