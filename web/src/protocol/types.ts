/**
 * What travels, as the client works with it: the types generated from the server's own declarations, and the few that are
 * made of them.
 */
import type * as wire from "./wire";

export type * from "./wire";

/** A command as the panels ask for it; the room and the command's id are added on the way. */
export type RoomCommand = Asked<wire.RoomCommand>;
type Asked<C> = C extends unknown ? Omit<C, "room" | "id"> : never;

/** An event with something to see in it. */
export type SeenEvent = Exclude<wire.RoomEvent, wire.Hidden>;

export type Fate = wire.Die["fate"][number];
export type RollVisibility = wire.Rolled["visibility"];

/** The outcome of a roll, as a line of the chat and a reply have it; all of it is missing for those who may not see it. */
export type Roll = Pick<wire.RolledLine, "expression" | "total" | "dice" | "label">;

/** The room at an offset of its log, as its reader may see it; the epoch says which log. */
export interface Snapshot {
  epoch: string;
  offset: number;
  room: wire.Room;
}
