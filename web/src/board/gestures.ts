/**
 * What pointers mean: a state machine from pointer events to deeds, without DOM, clock or board.
 * Points are CSS pixels on the board element. `feed` one input, carry out the acts it gives, and if `dueAt` is a time,
 * feed a `tick` then.
 */
import type { Tool } from "../room/board_port";
import type { Point } from "../protocol/types";

export type Handle = "turn" | "nw" | "ne" | "sw" | "se";
export type Device = "mouse" | "touch" | "pen";

export type Target =
  | { readonly on: "empty" }
  | { readonly on: "piece"; readonly token: string; readonly movable: boolean; readonly chosen: boolean }
  | { readonly on: "handle"; readonly token: string; readonly handle: Handle };

export interface Mods {
  readonly shift: boolean;
  readonly ctrl: boolean;
  readonly alt: boolean;
}

export interface Context {
  readonly tool: Tool;
  /** Space is held: the left button pans. */
  readonly space: boolean;
}

interface Moved {
  readonly id: number;
  readonly at: Point;
  readonly mods: Mods;
  readonly time: number;
}

export type Input =
  | ({ readonly type: "down"; readonly device: Device; readonly button: number; readonly target: Target } & Moved)
  | ({ readonly type: "move" | "up" } & Moved)
  | { readonly type: "cancel"; readonly id: number }
  | { readonly type: "escape" | "waypoint" }
  | { readonly type: "tick"; readonly time: number };

/** `free`: snapping is suspended (Alt). */
export type Act =
  | { readonly do: "choose"; readonly token: string; readonly add: boolean }
  | { readonly do: "toggle" | "open" | "menu"; readonly token: string }
  | { readonly do: "clear" | "putBack" | "frameCancel" | "panStart" | "panEnd" | "strokeCancel" | "measureEnd" }
  | { readonly do: "lift"; readonly token: string; readonly at: Point }
  | { readonly do: "grab"; readonly token: string; readonly handle: Handle; readonly at: Point }
  | { readonly do: "carry" | "drop" | "pull" | "letGo"; readonly at: Point; readonly free: boolean }
  | { readonly do: "frame"; readonly from: Point; readonly to: Point }
  | { readonly do: "frameEnd"; readonly from: Point; readonly to: Point; readonly add: boolean }
  | { readonly do: "pan"; readonly dx: number; readonly dy: number }
  | { readonly do: "pinch"; readonly factor: number; readonly at: Point; readonly dx: number; readonly dy: number }
  | { readonly do: "measureStart" | "measureTo"; readonly at: Point; readonly free: boolean }
  | { readonly do: "measureCorner" }
  | { readonly do: "strokeStart" | "strokeTo" | "strokeEnd" | "ping"; readonly at: Point };

/** A press becomes a drag beyond this many pixels; a finger trembles more than a mouse. */
const SLOP: Record<Device, number> = { mouse: 4, pen: 6, touch: 10 };
export const LONG_PRESS_MS = 650;
const DOUBLE_MS = 350;

type State =
  | { readonly name: "idle" }
  | { readonly name: "pressed"; readonly press: Press }
  | {
      readonly name: "carrying" | "pulling" | "panning" | "measuring" | "stroking" | "spent";
      readonly id: number;
      last: Point;
    }
  | { readonly name: "framing"; readonly id: number; readonly from: Point; readonly add: boolean }
  | { readonly name: "pinching"; readonly a: number; readonly b: number };

interface Press {
  readonly id: number;
  readonly device: Device;
  readonly button: number;
  readonly from: Point;
  readonly mods: Mods;
  readonly time: number;
  readonly target: Target;
}

const IDLE: State = { name: "idle" };

export class Gestures {
  private state: State = IDLE;
  private readonly touches = new Map<number, Point>();
  private lastClick: { token: string; time: number } | null = null;

  constructor(private readonly context: () => Context) {}

  /** What is going on, for the cursor and for the piece bar. */
  get doing(): State["name"] {
    return this.state.name;
  }

  /** When a `tick` is wanted: a finger or button held still turns into a long press then. */
  get dueAt(): number | null {
    return this.state.name === "pressed" && this.mayPing(this.state.press)
      ? this.state.press.time + LONG_PRESS_MS
      : null;
  }

  feed(input: Input): Act[] {
    switch (input.type) {
      case "down":
        return this.down(input);
      case "move":
        return this.move(input);
      case "up":
        return this.up(input);
      case "cancel": {
        this.touches.delete(input.id);
        if (!this.owns(input.id)) return [];
        const acts = this.abandon();
        this.state = IDLE;
        return acts;
      }
      case "escape":
        return this.abandon();
      case "waypoint":
        return this.state.name === "measuring" ? [{ do: "measureCorner" }] : [];
      case "tick":
        return this.tick(input.time);
    }
  }

  private owns(id: number): boolean {
    const state = this.state;
    if (state.name === "idle") return false;
    if (state.name === "pressed") return state.press.id === id;
    if (state.name === "pinching") return state.a === id || state.b === id;
    return state.id === id;
  }

  private mayPing(press: Press): boolean {
    if (press.button !== 0) return false;
    return press.target.on === "empty" || press.device !== "mouse";
  }

  private down(input: Extract<Input, { type: "down" }>): Act[] {
    if (input.device === "touch") {
      this.touches.set(input.id, input.at);
      if (this.touches.size === 2) return this.startPinch();
      if (this.touches.size > 2) return [];
    }
    if (this.state.name !== "idle") return [];
    const { tool, space } = this.context();
    const { id, at, mods, target } = input;
    if (input.button === 1 || input.button === 2 || (input.button === 0 && (space || tool === "pan"))) {
      this.state = { name: "pressed", press: pressOf(input) };
      return [];
    }
    if (input.button !== 0) return [];
    if (tool === "measure" || (mods.ctrl && tool === "select")) {
      this.state = { name: "measuring", id, last: at };
      return [{ do: "measureStart", at, free: mods.alt }];
    }
    if (tool === "draw") {
      this.state = { name: "stroking", id, last: at };
      return [{ do: "strokeStart", at }];
    }
    this.state = { name: "pressed", press: pressOf(input) };
    if (tool === "ping") {
      this.state = { name: "spent", id, last: at };
      return [{ do: "ping", at }];
    }
    if (target.on === "piece" && !target.chosen) return [{ do: "choose", token: target.token, add: mods.shift }];
    return [];
  }

  private move(input: Extract<Input, { type: "move" | "up" }>): Act[] {
    const { id, at, mods } = input;
    const before = this.touches.get(id);
    if (before) this.touches.set(id, at);
    const state = this.state;
    if (!this.owns(id)) return [];
    switch (state.name) {
      case "pinching":
        return before ? this.pinch(state, id, before, at) : [];
      case "pressed":
        return far(state.press.from, at) > SLOP[state.press.device] ? this.begin(state.press, at, mods) : [];
      case "carrying":
        return [{ do: "carry", at, free: mods.alt }];
      case "pulling":
        return [{ do: "pull", at, free: mods.alt }];
      case "measuring":
        return [{ do: "measureTo", at, free: mods.alt }];
      case "stroking":
        return [{ do: "strokeTo", at }];
      case "framing":
        return [{ do: "frame", from: state.from, to: at }];
      case "panning": {
        const acts: Act[] = [{ do: "pan", dx: at.x - state.last.x, dy: at.y - state.last.y }];
        state.last = at;
        return acts;
      }
      default:
        return [];
    }
  }

  /** A press went beyond its slop: what kind of drag is it? */
  private begin(press: Press, at: Point, mods: Mods): Act[] {
    const { tool, space } = this.context();
    const { id, target, from } = press;
    const panning =
      press.button !== 0 ||
      space ||
      tool === "pan" ||
      (press.device === "touch" && target.on !== "handle" && !movable(target));
    if (panning) {
      this.state = { name: "panning", id, last: at };
      return [{ do: "panStart" }, { do: "pan", dx: at.x - from.x, dy: at.y - from.y }];
    }
    if (target.on === "handle") {
      this.state = { name: "pulling", id, last: at };
      return [
        { do: "grab", token: target.token, handle: target.handle, at: from },
        { do: "pull", at, free: mods.alt },
      ];
    }
    if (target.on === "piece") {
      if (!target.movable) {
        this.state = { name: "spent", id, last: at };
        return [];
      }
      this.state = { name: "carrying", id, last: at };
      return [
        { do: "lift", token: target.token, at: from },
        { do: "carry", at, free: mods.alt },
      ];
    }
    this.state = { name: "framing", id, from, add: press.mods.shift };
    return [{ do: "frame", from, to: at }];
  }

  private up(input: Extract<Input, { type: "move" | "up" }>): Act[] {
    const { id, at, mods } = input;
    this.touches.delete(id);
    if (!this.owns(id)) return [];
    const state = this.state;
    this.state = IDLE;
    switch (state.name) {
      case "pressed":
        return this.click(state.press, input.time);
      case "carrying":
        return [{ do: "drop", at, free: mods.alt }];
      case "pulling":
        return [{ do: "letGo", at, free: mods.alt }];
      case "measuring":
        return [{ do: "measureEnd" }];
      case "stroking":
        return [{ do: "strokeEnd", at }];
      case "framing":
        return [{ do: "frameEnd", from: state.from, to: at, add: state.add }];
      case "panning":
        return [{ do: "panEnd" }];
      case "pinching": {
        // the finger that stays goes on panning
        const rest = state.a === id ? state.b : state.a;
        this.state = { name: "panning", id: rest, last: this.touches.get(rest) ?? at };
        return [];
      }
      default:
        return [];
    }
  }

  private click(press: Press, time: number): Act[] {
    const { target, mods } = press;
    if (press.button === 2) {
      if (target.on !== "piece") return [];
      const acts: Act[] = target.chosen ? [] : [{ do: "choose", token: target.token, add: false }];
      return [...acts, { do: "menu", token: target.token }];
    }
    const { tool, space } = this.context();
    if (press.button !== 0 || space || tool === "pan") return [];
    if (target.on === "empty") {
      this.lastClick = null;
      return mods.shift ? [] : [{ do: "clear" }];
    }
    if (target.on === "handle") return [];
    const again = !mods.shift && this.lastClick?.token === target.token && time - this.lastClick.time < DOUBLE_MS;
    this.lastClick = again ? null : { token: target.token, time };
    if (again) return [{ do: "open", token: target.token }];
    if (!target.chosen) return [];
    return mods.shift ? [{ do: "toggle", token: target.token }] : [{ do: "choose", token: target.token, add: false }];
  }

  private tick(time: number): Act[] {
    const due = this.dueAt;
    if (this.state.name !== "pressed" || due === null || time < due) return [];
    const { id, from, target } = this.state.press;
    this.state = { name: "spent", id, last: from };
    return target.on === "piece" ? [{ do: "menu", token: target.token }] : [{ do: "ping", at: from }];
  }

  private startPinch(): Act[] {
    const acts = this.abandon();
    const [a, b] = [...this.touches.keys()];
    if (a === undefined || b === undefined) return acts;
    this.state = { name: "pinching", a, b };
    return [...acts, { do: "panStart" }];
  }

  private pinch(state: Extract<State, { name: "pinching" }>, id: number, before: Point, at: Point): Act[] {
    const other = this.touches.get(state.a === id ? state.b : state.a);
    if (!other) return [];
    const was = Math.max(1, far(before, other));
    const middle = { x: (at.x + other.x) / 2, y: (at.y + other.y) / 2 };
    const dx = (at.x - before.x) / 2;
    const dy = (at.y - before.y) / 2;
    return [{ do: "pinch", factor: Math.max(1, far(at, other)) / was, at: middle, dx, dy }];
  }

  /** Stop whatever is going on, with nothing changed. */
  private abandon(): Act[] {
    const state = this.state;
    // the pointer is still down: it must not start anything again before it is lifted
    this.state =
      state.name === "idle" || state.name === "pinching"
        ? IDLE
        : { name: "spent", id: state.name === "pressed" ? state.press.id : state.id, last: { x: 0, y: 0 } };
    switch (state.name) {
      case "carrying":
      case "pulling":
        return [{ do: "putBack" }];
      case "framing":
        return [{ do: "frameCancel" }];
      case "measuring":
        return [{ do: "measureEnd" }];
      case "stroking":
        return [{ do: "strokeCancel" }];
      case "panning":
      case "pinching":
        return [{ do: "panEnd" }];
      default:
        return [];
    }
  }
}

function pressOf(input: Extract<Input, { type: "down" }>): Press {
  const { id, device, button, at, mods, time, target } = input;
  return { id, device, button, from: at, mods, time, target };
}

function movable(target: Target): boolean {
  return target.on === "piece" && target.movable;
}

function far(a: Point, b: Point): number {
  return Math.hypot(a.x - b.x, a.y - b.y);
}
