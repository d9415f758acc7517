import { describe, expect, it } from "vitest";
import { acknowledge, overlay, settled, unanswered, withoutPending, withPending } from "../src/room/pending";
import { token } from "./room";

const move = (x: number, id = "t1") => ({ type: "token.move" as const, token: id, x, y: 0 });

describe("commands on their way", () => {
  const tokens = [token(), token({ id: "t2", x: 5 })];

  it("lay their moves over the room, the newest on top, and leave the room alone", () => {
    const list = withPending(withPending([], "a", move(3), 0), "b", move(4), 1);
    expect(overlay(tokens, list).map(({ x }) => x)).toEqual([4, 5]);
    expect(tokens[0]?.x).toBe(1);
  });

  it("roll back when refused", () => {
    const list = withPending([], "a", move(3), 0);
    expect(overlay(tokens, withoutPending(list, "a"))).toBe(tokens);
  });

  it("roll back to the move before when only the later one is refused", () => {
    const list = withPending(withPending([], "a", move(3), 0), "b", move(9), 1);
    expect(overlay(tokens, withoutPending(list, "b"))[0]?.x).toBe(3);
  });

  it("stay laid over after the reply until the room itself has come that far", () => {
    const list = acknowledge(withPending([], "a", move(3), 0), "a", 7, 6);
    expect(unanswered(list)).toEqual([]);
    expect(overlay(tokens, list)[0]?.x).toBe(3);
    expect(settled(list, 7, null)).toEqual([]);
  });

  it("go with the reply when the event came first", () => {
    expect(acknowledge(withPending([], "a", move(3), 0), "a", 7, 7)).toEqual([]);
  });

  it("go with their event when the reply was lost", () => {
    const list = withPending(withPending([], "a", move(3), 0), "b", move(4), 1);
    expect(settled(list, 7, "a").map(({ id }) => id)).toEqual(["b"]);
  });

  it("stay the same list when nothing is settled", () => {
    const list = withPending([], "a", move(3), 0);
    expect(settled(list, 7, "other")).toBe(list);
  });

  it("hide a piece that is being taken away", () => {
    const list = withPending([], "a", { type: "token.remove", token: "t1" }, 0);
    expect(overlay(tokens, list).map(({ id }) => id)).toEqual(["t2"]);
  });

  it("keep turning while moving", () => {
    const list = withPending(withPending([], "a", { ...move(3), rotation: 90 }, 0), "b", move(4), 1);
    expect(overlay(tokens, list)[0]).toMatchObject({ x: 4, rotation: 90 });
  });
});
