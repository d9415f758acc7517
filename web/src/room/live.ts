/** Signals of the live channel come from other people's browsers: what does not look right is not taken. */
import type { LiveSignal, Move } from "./board_port";

const finite = (value: unknown): value is number => typeof value === "number" && Number.isFinite(value);
const POINTS_AT_MOST = 500;

export function readSignal(data: unknown): LiveSignal | null {
  if (typeof data !== "object" || data === null) return null;
  const { type, scene, x, y, moves = [], points = [] } = data as Record<string, unknown>;
  if (type === "typing") return { type };
  if (typeof scene !== "string") return null;
  switch (type) {
    case "cursor":
    case "ping":
      return finite(x) && finite(y) ? { type, scene, x, y } : null;
    case "drag":
      return Array.isArray(moves) ? { type, scene, moves: moves.slice(0, POINTS_AT_MOST).flatMap(readMove) } : null;
    case "measure":
      return Array.isArray(points) ? { type, scene, points: points.slice(0, POINTS_AT_MOST).flatMap(readPoint) } : null;
    default:
      return null;
  }
}

function readPoint(data: unknown): { x: number; y: number }[] {
  const { x, y } = (data ?? {}) as Record<string, unknown>;
  return finite(x) && finite(y) ? [{ x, y }] : [];
}

function readMove(data: unknown): Move[] {
  const { token, x, y, rotation } = (data ?? {}) as Record<string, unknown>;
  if (typeof token !== "string" || !finite(x) || !finite(y)) return [];
  return [{ token, x, y, ...(finite(rotation) && { rotation }) }];
}
