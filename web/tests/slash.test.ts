import { describe, expect, it } from "vitest";
import { parseLine } from "../src/room/slash";
import type { Member } from "../src/protocol/types";

const member = (id: string, name: string): Member => ({ id, name, role: "player", online: true, muted: false });
const members = [member("me", "Mara"), member("a", "Ann"), member("am", "Ann Marie"), member("t", "Tomas")];
const parse = (line: string) => parseLine(line, members, "me");

describe("a line in the composer", () => {
  it("is said as it is", () => expect(parse("  hello <b>you</b> ")).toEqual({ kind: "say", text: "hello <b>you</b>" }));
  it("says a slash after two", () => expect(parse("//shrug")).toEqual({ kind: "say", text: "/shrug" }));

  it.each([
    ["/r 2d6+3", "public"],
    ["/roll 2d6+3", "public"],
    ["/R 2d6+3", "public"],
    ["/gmr 2d6+3", "gm"],
    ["/sr 2d6+3", "self"],
  ])("%s rolls", (line, visibility) =>
    expect(parse(line)).toEqual({ kind: "roll", expression: "2d6+3", label: "", visibility }),
  );

  it("takes what follows # as the roll's name", () =>
    expect(parse("/r d20+5 # Shove")).toEqual({
      kind: "roll",
      expression: "d20+5",
      label: "Shove",
      visibility: "public",
    }));

  it("rolls nothing without dice", () => expect(parse("/r").kind).toBe("refused"));
  it("does not know other words", () => expect(parse("/fog")).toMatchObject({ what: "There is no /fog." }));

  it("whispers to the longest name", () => {
    expect(parse("/w Ann Marie come here")).toEqual({ kind: "whisper", to: "am", text: "come here" });
    expect(parse("/w ann come here")).toEqual({ kind: "whisper", to: "a", text: "come here" });
    expect(parse('/w "Ann Marie" come')).toEqual({ kind: "whisper", to: "am", text: "come" });
    expect(parse("/w Tomas: psst")).toEqual({ kind: "whisper", to: "t", text: "psst" });
  });

  it("whispers nothing to nobody, and never says it aloud instead", () => {
    expect(parse("/w Noor psst").kind).toBe("refused");
    expect(parse("/w Tomas").kind).toBe("refused");
    expect(parse("/w Mara psst").kind).toBe("refused");
    expect(parse("/w Tomasina psst").kind).toBe("refused");
  });
});
