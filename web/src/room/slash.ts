/** What a line in the composer means: something to say, a whisper, a roll, or something that is not understood. */
import type { Member, RollVisibility, RoomCommand } from "../protocol/types";

export type Line =
  | { kind: "say"; text: string }
  | { kind: "whisper"; to: string; text: string }
  | { kind: "roll"; expression: string; label: string; visibility: RollVisibility }
  | { kind: "refused"; what: string; mend: string };

const ROLLS: Readonly<Record<string, RollVisibility>> = {
  r: "public",
  roll: "public",
  gmr: "gm",
  gmroll: "gm",
  sr: "self",
  selfroll: "self",
};

const WHISPERS = new Set(["w", "whisper"]);

/** What to type for this command: the way back from `parseLine`, but for whom a whisper is. */
export function typedAs(command: RoomCommand): string {
  if (command.type === "chat.say") return command.text.startsWith("/") ? `/${command.text}` : command.text;
  if (command.type !== "dice.roll") return "";
  const word = { public: "r", gm: "gmr", self: "sr" }[command.visibility ?? "public"];
  return `/${word} ${command.expression}${command.label ? ` # ${command.label}` : ""}`;
}

/** `//` at the start says a slash; any other slash starts a command. */
export function parseLine(typed: string, members: readonly Member[], me: string): Line {
  const line = typed.trim();
  if (line.startsWith("//")) return { kind: "say", text: line.slice(1) };
  if (!line.startsWith("/")) return { kind: "say", text: line };
  const [, word = "", rest = ""] = /^\/(\S*)\s*([\s\S]*)$/u.exec(line) ?? [];
  const visibility = ROLLS[word.toLowerCase()];
  if (visibility !== undefined) return parseRoll(rest, visibility);
  if (WHISPERS.has(word.toLowerCase())) return parseWhisper(rest, members, me);
  return {
    kind: "refused",
    what: `There is no /${word}.`,
    mend: "Try /r, /gmr, /sr or /w; // at the start says a line that begins with a slash.",
  };
}

function parseRoll(rest: string, visibility: RollVisibility): Line {
  const [expression = "", ...comment] = rest.split("#");
  if (expression.trim() === "") {
    return { kind: "refused", what: "Nothing was rolled: no dice are named.", mend: "Try /r 2d6+3 # Shove." };
  }
  return { kind: "roll", expression: expression.trim(), label: comment.join("#").trim().slice(0, 80), visibility };
}

/** The longest name that the rest begins with wins, so that "Ann" never steals a whisper to "Ann Marie". */
function parseWhisper(rest: string, members: readonly Member[], me: string): Line {
  const quoted = /^"([^"]+)"\s*([\s\S]*)$/u.exec(rest);
  const others = members.filter((member) => member.id !== me);
  const spoken = (quoted ? `${quoted[1]} ${quoted[2]}` : rest).toLocaleLowerCase();
  const named = others
    .filter(({ name }) => {
      const wanted = name.toLocaleLowerCase();
      return spoken === wanted || spoken.startsWith(`${wanted} `) || spoken.startsWith(`${wanted}:`);
    })
    .sort((a, b) => b.name.length - a.name.length)[0];
  if (named === undefined) {
    const names = others.map(({ name }) => name).join(", ");
    return {
      kind: "refused",
      what: "Nothing was whispered: nobody of that name is at this table.",
      mend: names === "" ? "You are alone here." : `At the table: ${names}.`,
    };
  }
  const said = (quoted ? `${quoted[1]} ${quoted[2]}` : rest).slice(named.name.length).replace(/^:?\s*/u, "");
  if (said === "") {
    return {
      kind: "refused",
      what: `Nothing was whispered to ${named.name}: no words.`,
      mend: "Write them after the name.",
    };
  }
  return { kind: "whisper", to: named.id, text: said };
}
