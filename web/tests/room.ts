/** A small room to try things on. */
import type { Room, Scene, Token } from "../src/protocol/types";

export function scene(fields: Partial<Scene> = {}): Scene {
  return {
    id: "s1",
    name: "Cellar",
    width: 30,
    height: 20,
    grid: { type: "square", size: 70 },
    background: null,
    active: true,
    ...fields,
  };
}

export function token(fields: Partial<Token> = {}): Token {
  return {
    id: "t1",
    scene: "s1",
    name: "Sable",
    x: 1,
    y: 2,
    width: 1,
    height: 1,
    rotation: 0,
    layer: "object",
    image: null,
    owner: "u2",
    hidden: false,
    locked: false,
    ...fields,
  };
}

export function room(fields: Partial<Room> = {}): Room {
  return {
    id: "r1",
    name: "The Salt Road",
    visibility: "private",
    tags: [],
    settings: { gm_sees_all: false, players_add_tokens: true },
    me: { id: "u1", role: "gm" },
    members: [
      { id: "u1", name: "Mara", role: "gm", online: true, muted: false },
      { id: "u2", name: "Ilse", role: "player", online: false, muted: false },
    ],
    scenes: [scene()],
    tokens: [token()],
    walls: [],
    doors: [],
    lights: [],
    drawings: [],
    placed: [],
    turn: null,
    chat: [],
    ...fields,
  };
}
