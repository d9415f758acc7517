import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { Room, RoomEvent } from "../src/protocol/types";
import { CHAT_SHOWN, evolve } from "../src/room/evolve";
import { room, scene, token } from "./room";

interface Vector {
  snapshot: Room;
  events: { offset: number; data: RoomEvent }[];
  expected: Room;
}

const FOLDER = join(import.meta.dirname, "../../tests/vectors");
const vectors = existsSync(FOLDER) ? readdirSync(FOLDER).filter((name) => name.endsWith(".json")) : [];

describe("recorded logs", () => {
  it("are there", () => expect(vectors.length).toBeGreaterThan(0));

  it.each(vectors)("%s folds to what the server says", (name) => {
    const vector = JSON.parse(readFileSync(join(FOLDER, name), "utf8")) as Vector;
    const folded = vector.events.reduce((state, { offset, data }) => evolve(state, data, offset), vector.snapshot);
    expect(inOrder(folded)).toEqual(inOrder(vector.expected));
  });
});

/** Lists but the chat and the rows of turn have no order that means anything; nor has who is on the line now. */
function inOrder(of: Room): Room {
  const sorted = <T extends { id: string }>(list: T[]): T[] => [...list].sort((a, b) => a.id.localeCompare(b.id));
  return {
    ...of,
    members: sorted(of.members).map((member) => ({ ...member, online: false })),
    scenes: sorted(of.scenes),
    tokens: sorted(of.tokens),
    walls: sorted(of.walls),
    doors: sorted(of.doors),
    lights: sorted(of.lights),
    drawings: sorted(of.drawings),
    placed: sorted(of.placed),
  };
}

describe("evolve", () => {
  it("leaves the room as it is for what it may not see", () => {
    const before = room();
    expect(evolve(before, { type: "hidden" }, 5)).toBe(before);
  });

  it("takes away what is gone, puts in what is shown, then applies the event", () => {
    const before = room({ tokens: [token({ id: "old" }), token({ id: "t1" })] });
    const after = evolve(
      before,
      {
        type: "token.moved",
        token: "new",
        x: 7,
        y: 8,
        gone: { tokens: ["old"] },
        shown: { tokens: [token({ id: "new", x: 0, y: 0 })] },
      },
      5,
    );
    expect(after.tokens.map(({ id, x, y }) => [id, x, y])).toEqual([
      ["t1", 1, 2],
      ["new", 7, 8],
    ]);
  });

  it("moves several at once and keeps a rotation that is not named", () => {
    const before = room({ tokens: [token({ id: "a", rotation: 90 }), token({ id: "b" })] });
    const after = evolve(
      before,
      {
        type: "token.moved",
        moves: [
          { token: "a", x: 3, y: 3 },
          { token: "b", x: 4, y: 4, rotation: 45 },
          { token: "unseen", x: 9, y: 9 },
        ],
      },
      5,
    );
    expect(after.tokens.map(({ x, rotation }) => [x, rotation])).toEqual([
      [3, 90],
      [4, 45],
    ]);
    expect(before.tokens[0]?.x).toBe(1);
  });

  it("assigns null and false, and nothing that is left out", () => {
    const before = room({ tokens: [token({ image: "pic", hidden: true })] });
    const after = evolve(before, { type: "token.updated", token: "t1", image: null, hidden: false }, 5);
    expect(after.tokens[0]).toEqual(token({ image: null, hidden: false }));
  });

  it("takes a scene away with all that stands on it", () => {
    const before = room({
      scenes: [scene(), scene({ id: "s2", active: false })],
      tokens: [token(), token({ id: "t2", scene: "s2" })],
      walls: [{ id: "w", scene: "s2", points: [] }],
    });
    const after = evolve(before, { type: "scene.removed", scene: "s2" }, 5);
    expect([after.scenes.length, after.tokens.map(({ id }) => id), after.walls]).toEqual([1, ["t1"], []]);
  });

  it("puts members where the GM places them, and lets them follow again", () => {
    const away = evolve(room(), { type: "scene.placed", scene: "s2", members: ["u2"] }, 5);
    expect(away.placed).toEqual([{ id: "u2", scene: "s2" }]);
    expect(evolve(away, { type: "scene.placed", scene: null, members: ["u2"] }, 6).placed).toEqual([]);
  });

  it("brings a scene with what came with it", () => {
    const { active: _, ...stored } = scene({ id: "s2" });
    const walls = [{ id: "w", scene: "s2", points: [] }];
    const after = evolve(room(), { type: "scene.created", scene: stored, walls }, 5);
    expect([after.scenes.at(-1), after.walls]).toEqual([scene({ id: "s2", active: false }), walls]);
  });

  it("undoes by applying what that means", () => {
    const after = evolve(
      room(),
      { type: "undone", of: "c1", events: [{ type: "token.moved", token: "t1", x: 0, y: 0 }] },
      5,
    );
    expect([after.tokens[0]?.x, after.tokens[0]?.y]).toEqual([0, 0]);
  });

  it("keeps the last hundred lines", () => {
    let state = room();
    for (let offset = 1; offset <= CHAT_SHOWN + 5; offset += 1) {
      state = evolve(state, { type: "chat.said", text: `line ${offset}`, by: "u2", at: "", id: `c${offset}` }, offset);
    }
    expect([state.chat.length, state.chat[0]?.offset, state.chat.at(-1)?.offset]).toEqual([CHAT_SHOWN, 6, 105]);
  });

  it("keeps a secret roll without its outcome", () => {
    const state = evolve(room(), { type: "dice.rolled", visibility: "gm", by: "u2", at: "", id: "c" }, 9);
    expect(state.chat).toEqual([{ type: "dice.rolled", offset: 9, visibility: "gm", by: "u2", at: "", id: "c" }]);
  });

  it("leaves alone what a newer server tells", () => {
    const before = room();
    expect(evolve(before, { type: "card.played" } as unknown as RoomEvent, 5)).toBe(before);
  });
});
