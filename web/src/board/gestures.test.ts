// @vitest-environment node
import { beforeEach, describe, expect, it } from "vitest";
import type { Tool } from "../room/board_port";
import { Gestures, LONG_PRESS_MS, type Act, type Device, type Mods, type Target } from "./gestures";

const NONE: Mods = { shift: false, ctrl: false, alt: false };
const EMPTY: Target = { on: "empty" };
const MINE: Target = { on: "piece", token: "mine", movable: true, chosen: false };
const CHOSEN: Target = { ...MINE, chosen: true };
const THEIRS: Target = { on: "piece", token: "theirs", movable: false, chosen: false };

let tool: Tool;
let space: boolean;
let gestures: Gestures;
let clock: number;

beforeEach(() => {
  tool = "select";
  space = false;
  clock = 1000;
  gestures = new Gestures(() => ({ tool, space }));
});

interface Hand {
  id?: number;
  device?: Device;
  button?: number;
  mods?: Partial<Mods>;
}

function down(
  x: number,
  y: number,
  target: Target,
  { id = 1, device = "mouse", button = 0, mods = {} }: Hand = {},
): Act[] {
  clock += 10;
  return gestures.feed({
    type: "down",
    id,
    device,
    button,
    at: { x, y },
    mods: { ...NONE, ...mods },
    time: clock,
    target,
  });
}
function move(x: number, y: number, { id = 1, mods = {} }: Hand = {}): Act[] {
  clock += 10;
  return gestures.feed({ type: "move", id, at: { x, y }, mods: { ...NONE, ...mods }, time: clock });
}
function up(x: number, y: number, { id = 1, mods = {} }: Hand = {}): Act[] {
  clock += 10;
  return gestures.feed({ type: "up", id, at: { x, y }, mods: { ...NONE, ...mods }, time: clock });
}
const deeds = (acts: Act[]): string[] => acts.map((act) => act.do);

describe("choosing", () => {
  it("a press chooses, a click on the chosen one chooses it alone, Shift adds and takes away", () => {
    expect(down(5, 5, MINE)).toEqual([{ do: "choose", token: "mine", add: false }]);
    expect(up(5, 5)).toEqual([]);
    expect(down(5, 5, MINE, { mods: { shift: true } })).toEqual([{ do: "choose", token: "mine", add: true }]);
    expect(up(5, 5)).toEqual([]);
    clock += 1000;
    expect(down(5, 5, CHOSEN)).toEqual([]);
    expect(up(5, 5)).toEqual([{ do: "choose", token: "mine", add: false }]);
    clock += 1000;
    down(5, 5, CHOSEN, { mods: { shift: true } });
    expect(up(5, 5)).toEqual([{ do: "toggle", token: "mine" }]);
  });

  it("a click on the empty board lets go of the selection, but not with Shift", () => {
    down(5, 5, EMPTY);
    expect(deeds(up(5, 5))).toEqual(["clear"]);
    down(5, 5, EMPTY, { mods: { shift: true } });
    expect(up(5, 5)).toEqual([]);
  });

  it("a double click opens, two slow ones do not, nor two on different pieces", () => {
    down(5, 5, MINE);
    up(5, 5);
    down(5, 5, CHOSEN);
    expect(up(5, 5)).toEqual([{ do: "open", token: "mine" }]);
    down(5, 5, CHOSEN);
    up(5, 5);
    clock += 1000;
    down(5, 5, CHOSEN);
    expect(deeds(up(5, 5))).toEqual(["choose"]);
    down(5, 5, { ...CHOSEN, token: "other" });
    expect(deeds(up(5, 5))).toEqual(["choose"]);
  });

  it("the right button opens a piece's bar, and says nothing on the empty board", () => {
    down(5, 5, MINE, { button: 2 });
    expect(deeds(up(5, 5))).toEqual(["choose", "menu"]);
    down(5, 5, EMPTY, { button: 2 });
    expect(up(5, 5)).toEqual([]);
  });

  it("a frame drawn on the empty board takes what is in it", () => {
    down(5, 5, EMPTY, { mods: { shift: true } });
    expect(move(7, 7)).toEqual([]);
    expect(move(50, 60)).toEqual([{ do: "frame", from: { x: 5, y: 5 }, to: { x: 50, y: 60 } }]);
    expect(up(80, 90)).toEqual([{ do: "frameEnd", from: { x: 5, y: 5 }, to: { x: 80, y: 90 }, add: true }]);
    expect(gestures.doing).toBe("idle");
  });
});

describe("carrying", () => {
  it("begins beyond the slop, at the point of the press, and ends with a drop", () => {
    down(10, 10, MINE);
    expect(move(12, 12)).toEqual([]);
    expect(move(30, 10)).toEqual([
      { do: "lift", token: "mine", at: { x: 10, y: 10 } },
      { do: "carry", at: { x: 30, y: 10 }, free: false },
    ]);
    expect(move(40, 10, { mods: { alt: true } })).toEqual([{ do: "carry", at: { x: 40, y: 10 }, free: true }]);
    expect(up(41, 10)).toEqual([{ do: "drop", at: { x: 41, y: 10 }, free: false }]);
  });

  it("is not for pieces of others: they are chosen, and stay", () => {
    expect(deeds(down(10, 10, THEIRS))).toEqual(["choose"]);
    expect(move(90, 90)).toEqual([]);
    expect(up(90, 90)).toEqual([]);
  });

  it("Escape puts back, and the same press starts nothing any more", () => {
    down(10, 10, MINE);
    move(60, 60);
    expect(deeds(gestures.feed({ type: "escape" }))).toEqual(["putBack"]);
    expect(move(90, 90)).toEqual([]);
    expect(up(90, 90)).toEqual([]);
    expect(gestures.doing).toBe("idle");
    down(10, 10, MINE);
    expect(deeds(move(60, 60))).toEqual(["lift", "carry"]);
  });

  it("a pointer that is lost puts back, and leaves no trace", () => {
    down(10, 10, MINE);
    move(60, 60);
    expect(deeds(gestures.feed({ type: "cancel", id: 1 }))).toEqual(["putBack"]);
    expect(gestures.doing).toBe("idle");
    expect(gestures.feed({ type: "cancel", id: 9 })).toEqual([]);
  });

  it("handles are pulled", () => {
    down(10, 10, { on: "handle", token: "mine", handle: "turn" });
    expect(move(60, 10)).toEqual([
      { do: "grab", token: "mine", handle: "turn", at: { x: 10, y: 10 } },
      { do: "pull", at: { x: 60, y: 10 }, free: false },
    ]);
    expect(deeds(up(60, 20))).toEqual(["letGo"]);
  });
});

describe("panning", () => {
  const pans = (): void => {
    const first = move(30, 14);
    expect(first).toEqual([{ do: "panStart" }, { do: "pan", dx: 20, dy: 4 }]);
    expect(move(35, 14)).toEqual([{ do: "pan", dx: 5, dy: 0 }]);
    expect(deeds(up(35, 14))).toEqual(["panEnd"]);
  };

  it("by middle and right button, over pieces too", () => {
    for (const button of [1, 2]) {
      expect(down(10, 10, MINE, { button })).toEqual([]);
      pans();
    }
  });

  it("by Space and by the hand", () => {
    space = true;
    expect(down(10, 10, MINE)).toEqual([]);
    pans();
    space = false;
    tool = "pan";
    expect(down(10, 10, MINE)).toEqual([]);
    pans();
  });

  it("by one finger on the empty board or on a piece of others; one's own piece is carried", () => {
    for (const target of [EMPTY, THEIRS]) {
      down(10, 10, target, { device: "touch" });
      pans();
    }
    down(10, 10, MINE, { device: "touch" });
    expect(move(17, 10)).toEqual([]);
    expect(deeds(move(40, 10))).toEqual(["lift", "carry"]);
  });
});

describe("two fingers", () => {
  it("pinch around their middle and pan together; what one of them began is undone", () => {
    down(100, 100, MINE, { device: "touch", id: 1 });
    move(140, 100, { id: 1 });
    expect(deeds(down(240, 100, EMPTY, { device: "touch", id: 2 }))).toEqual(["putBack", "panStart"]);
    expect(move(340, 100, { id: 2 })).toEqual([{ do: "pinch", factor: 2, at: { x: 240, y: 100 }, dx: 50, dy: 0 }]);
    expect(move(140, 110, { id: 1 })[0]).toMatchObject({ do: "pinch", dx: 0, dy: 5 });
    expect(up(340, 100, { id: 2 })).toEqual([]);
    expect(deeds(move(150, 110, { id: 1 }))).toEqual(["pan"]);
    expect(deeds(up(150, 110, { id: 1 }))).toEqual(["panEnd"]);
    expect(gestures.doing).toBe("idle");
  });

  it("a third finger changes nothing", () => {
    down(0, 0, EMPTY, { device: "touch", id: 1 });
    down(100, 0, EMPTY, { device: "touch", id: 2 });
    expect(down(50, 50, MINE, { device: "touch", id: 3 })).toEqual([]);
    expect(move(60, 60, { id: 3 })).toEqual([]);
    expect(up(60, 60, { id: 3 })).toEqual([]);
    expect(gestures.doing).toBe("pinching");
  });
});

describe("tools", () => {
  it("Ctrl measures, with corners, and so does the ruler", () => {
    expect(deeds(down(10, 10, MINE, { mods: { ctrl: true } }))).toEqual(["measureStart"]);
    expect(deeds(move(60, 10))).toEqual(["measureTo"]);
    expect(deeds(gestures.feed({ type: "waypoint" }))).toEqual(["measureCorner"]);
    expect(deeds(up(60, 60))).toEqual(["measureEnd"]);
    expect(gestures.feed({ type: "waypoint" })).toEqual([]);
    tool = "measure";
    expect(deeds(down(10, 10, MINE))).toEqual(["measureStart"]);
    expect(deeds(gestures.feed({ type: "escape" }))).toEqual(["measureEnd"]);
  });

  it("draws and pings", () => {
    tool = "draw";
    expect(deeds(down(10, 10, MINE))).toEqual(["strokeStart"]);
    expect(deeds(move(20, 10))).toEqual(["strokeTo"]);
    expect(deeds(up(20, 10))).toEqual(["strokeEnd"]);
    down(10, 10, EMPTY);
    expect(deeds(gestures.feed({ type: "escape" }))).toEqual(["strokeCancel"]);
    up(10, 10);
    tool = "ping";
    expect(deeds(down(10, 10, MINE))).toEqual(["ping"]);
    expect(up(10, 10)).toEqual([]);
  });
});

describe("a long press", () => {
  const tick = (time: number): Act[] => gestures.feed({ type: "tick", time });

  it("pings on the empty board, once, and is no click", () => {
    down(10, 10, EMPTY);
    const due = gestures.dueAt ?? 0;
    expect(due).toBe(clock + LONG_PRESS_MS);
    expect(tick(due - 1)).toEqual([]);
    expect(tick(due)).toEqual([{ do: "ping", at: { x: 10, y: 10 } }]);
    expect(tick(due + 1)).toEqual([]);
    expect(move(90, 90)).toEqual([]);
    expect(up(90, 90)).toEqual([]);
  });

  it("of a finger on a piece opens its bar; a mouse resting on one does nothing", () => {
    down(10, 10, MINE, { device: "touch" });
    expect(tick(clock + LONG_PRESS_MS)).toEqual([{ do: "menu", token: "mine" }]);
    up(10, 10);
    down(10, 10, MINE);
    expect(gestures.dueAt).toBeNull();
  });

  it("is none once the pointer moved", () => {
    down(10, 10, EMPTY);
    move(40, 40);
    expect(gestures.dueAt).toBeNull();
    expect(tick(clock + LONG_PRESS_MS)).toEqual([]);
  });
});

describe("whatever comes", () => {
  it("every start has its end: random inputs leave nothing open", () => {
    const opened: Record<string, string> = {
      lift: "carry",
      grab: "pull",
      strokeStart: "stroke",
      measureStart: "measure",
    };
    const closed: Record<string, string> = {
      drop: "carry",
      putBack: "any",
      letGo: "pull",
      strokeEnd: "stroke",
      strokeCancel: "stroke",
      measureEnd: "measure",
    };
    let seed = 42;
    const next = (below: number): number => {
      seed = (seed * 1103515245 + 12345) & 0x7fffffff;
      return seed % below;
    };
    const targets: Target[] = [EMPTY, MINE, CHOSEN, THEIRS, { on: "handle", token: "mine", handle: "se" }];
    const tools: Tool[] = ["select", "pan", "measure", "draw", "ping"];
    let open: string | null = null;
    const take = (acts: Act[]): void => {
      for (const act of acts) {
        const opens = opened[act.do];
        if (opens !== undefined) {
          expect(open).toBeNull();
          open = opens;
        }
        const closes = closed[act.do];
        if (closes !== undefined) {
          if (closes !== "any") expect(open).toBe(closes);
          open = null;
        }
      }
    };
    const pressed = new Map<number, Device>();
    for (let k = 0; k < 20_000; k++) {
      const id = next(3);
      const x = next(300);
      const y = next(300);
      switch (next(9)) {
        case 0:
        case 1: {
          if (pressed.has(id)) break;
          const device: Device = id === 0 ? "mouse" : "touch";
          pressed.set(id, device);
          tool = tools[next(5)] ?? "select";
          take(down(x, y, targets[next(5)] ?? EMPTY, { id, device, button: device === "mouse" ? next(3) : 0 }));
          break;
        }
        case 2:
        case 3:
          if (pressed.delete(id)) take(up(x, y, { id }));
          break;
        case 4:
          if (pressed.delete(id)) take(gestures.feed({ type: "cancel", id }));
          break;
        case 5:
          if (next(4) === 0) take(gestures.feed({ type: "escape" }));
          break;
        case 6:
          clock += 300;
          take(gestures.feed({ type: "tick", time: clock }));
          break;
        default:
          take(move(x, y, { id }));
      }
      if (pressed.size === 0) {
        expect(gestures.doing).toBe("idle");
        expect(open).toBeNull();
      }
    }
  });
});
