/** The others at the table: their pointers, their pings, and where they carry pieces at this moment. */
import { Container, Graphics, Sprite } from "pixi.js";
import type { Person } from "../../room/board_port";
import type { Point } from "../../protocol/types";
import { arrow, loneMark, plate } from "../art";
import { CELL, toScreen, type View } from "../camera";
import { Glide, type Place } from "../motion";
import type { Color, Palette } from "../palette";
import type { Textures } from "../textures";

/** Signals come up to 30 a second; between two of them things move on evenly for this long. */
export const INTERPOLATE_MS = 80;
const NAME_SHOWN_MS = 2000;
const CURSOR_SILENT_MS = 10_000;
const FADE_MS = 600;
const PING_MS = 1800;
/** A preview nobody tells of any more goes; whoever still holds the piece says so again before. */
export const GHOST_SILENT_MS = 4000;

const even = (t: number): number => t;

interface Cursor {
  person: Person;
  at: Place;
  way: Glide;
  heard: number;
  readonly node: Container;
  readonly tip: Sprite;
  readonly name: Sprite;
}

interface Ping {
  readonly at: Point;
  readonly color: Color;
  readonly start: number;
  readonly pen: Graphics;
}

interface Ghost {
  readonly by: string;
  at: Place;
  way: Glide;
  heard: number;
  readonly offset: Point;
  readonly node: Container;
}

export class Company {
  /** Board space. */
  readonly ghosts = new Container({ alpha: 0.62 });
  /** Screen space. */
  readonly node = new Container();
  private readonly cursors = new Map<string, Cursor>();
  private readonly carried = new Map<string, Ghost>();
  private pings: Ping[] = [];

  /** `interpolate`: false jumps, for whoever asked for less motion. */
  constructor(private interpolate: boolean) {}

  setInterpolate(on: boolean): void {
    this.interpolate = on;
  }

  cursor(person: Person, at: Point, now: number): void {
    const to: Place = { ...at, rotation: 0 };
    let cursor = this.cursors.get(person.id);
    if (!cursor) {
      const node = new Container();
      const tip = new Sprite();
      const name = new Sprite({ roundPixels: true });
      node.addChild(tip, name);
      this.node.addChild(node);
      cursor = { person, at: to, way: new Glide(to, to, now, 0), heard: now, node, tip, name };
      this.cursors.set(person.id, cursor);
    }
    cursor.person = person;
    cursor.heard = now;
    cursor.way = new Glide(cursor.at, to, now, this.interpolate ? INTERPOLATE_MS : 0, even);
  }

  ping(color: Color, at: Point, now: number): void {
    const pen = new Graphics();
    this.node.addChild(pen);
    this.pings.push({ at, color, start: now, pen });
    if (this.pings.length > 20) this.pings.shift()?.pen.destroy();
  }

  /** `likeness` draws the coin for a piece that has none yet; null when the viewer does not see that piece. */
  carry(
    by: string,
    token: string,
    to: Place,
    from: Place,
    offset: Point,
    now: number,
    likeness: (token: string) => Container | null,
  ): void {
    let ghost = this.carried.get(token);
    if (ghost && ghost.by !== by) {
      this.drop(token);
      ghost = undefined;
    }
    if (!ghost) {
      const node = likeness(token);
      if (!node) return;
      this.ghosts.addChild(node);
      ghost = { by, at: from, way: new Glide(from, from, now, 0), heard: now, offset, node };
      this.carried.set(token, ghost);
    }
    ghost.heard = now;
    ghost.way = new Glide(ghost.at, to, now, this.interpolate ? INTERPOLATE_MS : 0, even);
  }

  /** The preview ends; gives where it was, so that the piece can go on from there. */
  drop(token: string): Place | null {
    const ghost = this.carried.get(token);
    if (!ghost) return null;
    ghost.node.destroy({ children: true });
    this.carried.delete(token);
    return ghost.at;
  }

  dropAllOf(person: string): void {
    for (const [token, ghost] of this.carried) if (ghost.by === person) this.drop(token);
  }

  /** Another scene is on view: nothing of the last one stays. */
  clear(): void {
    for (const token of [...this.carried.keys()]) this.drop(token);
    for (const cursor of this.cursors.values()) cursor.node.destroy({ children: true });
    this.cursors.clear();
    for (const { pen } of this.pings) pen.destroy();
    this.pings = [];
  }

  /** How soon another frame is needed: 0 at once, null never, else milliseconds. */
  draw(now: number, view: View, pixelRatio: number, textures: Textures, palette: Palette): number | null {
    const waits: number[] = [];
    for (const [id, cursor] of this.cursors) {
      const silent = now - cursor.heard;
      if (silent > CURSOR_SILENT_MS + FADE_MS) {
        cursor.node.destroy({ children: true });
        this.cursors.delete(id);
        continue;
      }
      waits.push(drawCursor(cursor, now, view, pixelRatio, textures, palette));
    }
    for (const [token, ghost] of this.carried) {
      if (now - ghost.heard > GHOST_SILENT_MS) {
        this.drop(token);
        continue;
      }
      ghost.at = ghost.way.at(now);
      ghost.node.position.set((ghost.at.x + ghost.offset.x) * CELL, (ghost.at.y + ghost.offset.y) * CELL);
      waits.push(ghost.way.done(now) ? GHOST_SILENT_MS - (now - ghost.heard) + 1 : 0);
    }
    this.pings = this.pings.filter((ping) => {
      const t = (now - ping.start) / PING_MS;
      if (t >= 1) {
        ping.pen.destroy();
        return false;
      }
      drawPing(ping, t, view, this.interpolate, palette);
      waits.push(0);
      return true;
    });
    return waits.length === 0 ? null : Math.min(...waits);
  }
}

function drawCursor(
  cursor: Cursor,
  now: number,
  view: View,
  pixelRatio: number,
  textures: Textures,
  palette: Palette,
): number {
  const { person, node, tip, name } = cursor;
  cursor.at = cursor.way.at(now);
  const silent = now - cursor.heard;
  const screen = toScreen(view, cursor.at);
  const color = palette.player(person.mark);
  node.position.set(Math.round(screen.x - 1), Math.round(screen.y - 1));
  node.alpha = Math.min(1, Math.max(0, 1 - (silent - CURSOR_SILENT_MS) / FADE_MS));
  tip.texture = textures.get(`c|${person.mark}|${pixelRatio}`, pixelRatio, () => arrow(color, pixelRatio, palette));
  const named = silent < NAME_SHOWN_MS;
  const mark = { path: person.markPath, color };
  const key = named ? `cn|${person.name}|${person.mark}|${pixelRatio}` : `cm|${person.mark}|${pixelRatio}`;
  name.texture = textures.get(key, pixelRatio, () =>
    named
      ? plate({ text: person.name, edge: color, mark }, pixelRatio, palette)
      : loneMark(mark.path, color, pixelRatio, palette),
  );
  name.position.set(13, 15);
  if (!cursor.way.done(now)) return 0;
  if (named) return NAME_SHOWN_MS - silent;
  return silent < CURSOR_SILENT_MS ? CURSOR_SILENT_MS - silent : 0;
}

/** Two rings that run outwards, twice; standing rings for whoever asked for less motion. */
function drawPing({ at, color, pen }: Ping, t: number, view: View, moves: boolean, palette: Palette): void {
  const { x, y } = toScreen(view, at);
  const fade = t < 0.7 ? 1 : 1 - (t - 0.7) / 0.3;
  pen.clear();
  const wave = moves ? (t * 2) % 1 : 0.4;
  pen.circle(x, y, 8).stroke({ width: 5, color: palette.of.keyline.hex, alpha: 0.5 * fade });
  pen.circle(x, y, 8).stroke({ width: 2.5, color: color.hex, alpha: fade });
  pen.circle(x, y, 10 + 30 * wave).stroke({ width: 1.75, color: color.hex, alpha: fade * (1 - wave) });
}
