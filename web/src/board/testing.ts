/** For the tests of this folder: a token with what matters to the test, and numbers that are random but repeat. */
import type { Token } from "../protocol/types";

export function token(id: string, x: number, y: number, change: Partial<Token> = {}): Token {
  const plain: Token = {
    id,
    scene: "s",
    name: id,
    x,
    y,
    width: 1,
    height: 1,
    rotation: 0,
    layer: "object",
    image: null,
    owner: null,
    hidden: false,
    locked: false,
  };
  return { ...plain, ...change };
}

/** Mulberry32: even numbers from 0 to 1, the same on every run. */
export function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

export function between(next: () => number, low: number, high: number): number {
  return low + next() * (high - low);
}
