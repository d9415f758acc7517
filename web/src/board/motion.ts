/** Movements that last a moment, and the one place that asks for frames: nothing runs while nothing moves. */
import type { Point } from "../protocol/types";

/** The look's `--ease-out`, near enough. */
export function easeOut(t: number): number {
  return 1 - (1 - t) ** 3;
}

/** Where something stands: its top left corner in cells, and degrees clockwise. */
export interface Place extends Point {
  readonly rotation: number;
}

export function samePlace(a: Place, b: Place): boolean {
  return Math.abs(a.x - b.x) < 1e-6 && Math.abs(a.y - b.y) < 1e-6 && Math.abs(a.rotation - b.rotation) < 1e-6;
}

/** A way from one place to another; turning takes the shorter side round. */
export class Glide {
  private readonly turn: number;

  constructor(
    private readonly from: Place,
    private readonly to: Place,
    private readonly start: number,
    private readonly ms: number,
    private readonly ease: (t: number) => number = easeOut,
  ) {
    this.turn = ((((to.rotation - from.rotation) % 360) + 540) % 360) - 180;
  }

  at(now: number): Place {
    if (this.done(now)) return this.to;
    const t = this.ease(Math.max(0, (now - this.start) / this.ms));
    return {
      x: this.from.x + (this.to.x - this.from.x) * t,
      y: this.from.y + (this.to.y - this.from.y) * t,
      rotation: this.from.rotation + this.turn * t,
    };
  }

  done(now: number): boolean {
    return this.ms <= 0 || now - this.start >= this.ms;
  }
}

/** Draws a frame when asked, and goes on for as long as a frame says that something still moves. */
export class Frames {
  private handle = 0;
  private closed = false;

  /** `draw` gives true when another frame is wanted. */
  constructor(private readonly draw: (now: number) => boolean) {}

  ask(): void {
    if (this.handle === 0 && !this.closed) this.handle = requestAnimationFrame(this.run);
  }

  close(): void {
    this.closed = true;
    cancelAnimationFrame(this.handle);
    this.handle = 0;
  }

  private readonly run = (now: number): void => {
    this.handle = 0;
    if (this.draw(now)) this.ask();
  };
}

/** Signals of the live channel: at most 30 a second. */
export const SIGNAL_MS = 34;

/** Two decimals are plenty for a signal that is gone in a moment. */
export function brief(value: number): number {
  return Math.round(value * 100) / 100;
}

/** Lets a signal through at most every `ms`, and the last one always, a little later. */
export class Throttle<T> {
  private waiting: { value: T } | null = null;
  private timer: ReturnType<typeof setTimeout> | null = null;

  constructor(
    private readonly ms: number,
    private readonly send: (value: T) => void,
  ) {}

  offer(value: T): void {
    if (this.timer !== null) {
      this.waiting = { value };
      return;
    }
    this.send(value);
    this.timer = setTimeout(this.elapsed, this.ms);
  }

  /** Forget what waits, as when the movement it tells of has ended. */
  drop(): void {
    this.waiting = null;
  }

  close(): void {
    this.drop();
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
  }

  private readonly elapsed = (): void => {
    this.timer = null;
    const waiting = this.waiting;
    this.waiting = null;
    if (waiting) this.offer(waiting.value);
  };
}
