/**
 * The client's fold: one room in, one room out. Events carry results, so this only assigns, adds and removes; every rule
 * of the table lives in the server. What a member may no longer see goes first, then what they may see from now on comes,
 * then the event itself. Lists that change are replaced, the others stay the same object.
 */
import type { ChatLine, Member, Role, Room, RoomEvent, Scene, SeenEvent, Token } from "../protocol/types";

export const CHAT_SHOWN = 100;

interface Named {
  readonly id: string;
}

function put<T extends Named>(list: T[], ...things: T[]): T[] {
  if (things.length === 0) return list;
  const next = [...list];
  const places = new Map(list.map((thing, at) => [thing.id, at]));
  for (const thing of things) {
    const at = places.get(thing.id);
    if (at === undefined) places.set(thing.id, next.push(thing) - 1);
    else next[at] = thing;
  }
  return next;
}

function drop<T extends Named>(list: T[], ids: readonly string[] | undefined): T[] {
  if (ids === undefined || ids.length === 0) return list;
  const gone = new Set(ids);
  return list.filter((thing) => !gone.has(thing.id));
}

/** Assigns the fields that are there; unknown ids change nothing, since what is not seen is not known. */
function assign<T extends Named>(list: T[], id: string, fields: Partial<T>): T[] {
  return list.some((thing) => thing.id === id)
    ? list.map((thing) => (thing.id === id ? { ...thing, ...fields } : thing))
    : list;
}

function withoutScene(room: Room, id: string): Room {
  const stays = (thing: { scene: string }): boolean => thing.scene !== id;
  return {
    ...room,
    scenes: drop(room.scenes, [id]),
    tokens: room.tokens.filter(stays),
    walls: room.walls.filter(stays),
    doors: room.doors.filter(stays),
    lights: room.lights.filter(stays),
    drawings: room.drawings.filter(stays),
    placed: room.placed.filter(stays),
  };
}

type Things = Partial<Pick<Room, "scenes" | "tokens" | "walls" | "doors" | "lights" | "drawings" | "placed">>;

/** Puts whole objects in, list by list. */
function withThings(room: Room, things: Things): Room {
  return {
    ...room,
    scenes: put(room.scenes, ...(things.scenes ?? [])),
    tokens: put(room.tokens, ...(things.tokens ?? [])),
    walls: put(room.walls, ...(things.walls ?? [])),
    doors: put(room.doors, ...(things.doors ?? [])),
    lights: put(room.lights, ...(things.lights ?? [])),
    drawings: put(room.drawings, ...(things.drawings ?? [])),
    placed: put(room.placed, ...(things.placed ?? [])),
  };
}

/** The room after `event`, the one at `offset` of its log, as this member was told of it. */
export function evolve(room: Room, event: RoomEvent, offset: number): Room {
  if (event.type === "hidden") return room;
  const { gone, shown } = event;
  let next = room;
  if (gone) {
    next = {
      ...next,
      scenes: drop(next.scenes, gone.scenes),
      tokens: drop(next.tokens, gone.tokens),
      walls: drop(next.walls, gone.walls),
      doors: drop(next.doors, gone.doors),
      lights: drop(next.lights, gone.lights),
      drawings: drop(next.drawings, gone.drawings),
      placed: drop(next.placed, gone.placed),
    };
  }
  if (shown) {
    next = withThings(next, shown);
    if (shown.turn !== undefined) next = { ...next, turn: shown.turn };
  }
  return apply(next, event, offset);
}

function apply(room: Room, event: SeenEvent, offset: number): Room {
  switch (event.type) {
    case "room.created":
      return {
        ...room,
        name: event.name,
        visibility: event.visibility,
        members: put(room.members, newMember(event.by ?? "", event.member_name, "gm")),
        scenes: put(room.scenes, { ...event.scene, active: true }),
      };
    case "room.changed":
      return {
        ...room,
        name: event.name ?? room.name,
        visibility: event.visibility ?? room.visibility,
        tags: event.tags ?? room.tags,
        settings: event.settings ?? room.settings,
      };
    case "member.joined":
      return { ...room, members: put(room.members, newMember(event.user, event.name, event.role)) };
    case "member.changed": {
      const { user, name, role, muted } = event;
      const fields = { ...(name && { name }), ...(role && { role }), ...(muted !== undefined && { muted }) };
      return {
        ...room,
        me: role && user === room.me.id ? { ...room.me, role } : room.me,
        members: assign(room.members, user, fields),
      };
    }
    case "member.removed":
      return { ...room, members: drop(room.members, [event.user]), placed: drop(room.placed, [event.user]) };
    case "scene.created": {
      const { tokens, walls, doors, lights, drawings } = event;
      const scenes = put<Scene>(room.scenes, { ...event.scene, active: false });
      return { ...withThings(room, compact({ tokens, walls, doors, lights, drawings })), scenes };
    }
    case "scene.placed": {
      const { scene, members } = event;
      const placed = scene === null ? [] : members.map((id) => ({ id, scene }));
      return { ...room, placed: scene === null ? drop(room.placed, members) : put(room.placed, ...placed) };
    }
    case "scene.updated":
      return { ...room, scenes: assign(room.scenes, event.scene, pick(event, SCENE_FIELDS)) };
    case "scene.activated":
      return {
        ...room,
        scenes: room.scenes.map((scene) => ({ ...scene, active: scene.id === event.scene })),
      };
    case "scene.removed":
      return withoutScene(room, event.scene);
    case "token.added":
      return { ...room, tokens: put(room.tokens, event.token) };
    case "token.moved":
      return { ...room, tokens: moved(room.tokens, event) };
    case "token.updated":
      return { ...room, tokens: assign(room.tokens, event.token, pick(event, TOKEN_FIELDS)) };
    case "token.removed":
      return { ...room, tokens: drop(room.tokens, [event.token]) };
    case "wall.changed":
      return { ...room, walls: put(drop(room.walls, event.removed), ...(event.walls ?? [])) };
    case "door.changed":
      return { ...room, doors: put(drop(room.doors, event.removed), ...(event.doors ?? [])) };
    case "light.changed":
      return { ...room, lights: put(drop(room.lights, event.removed), ...(event.lights ?? [])) };
    case "chat.said": {
      const { by = "", at = "", id = "", text, to } = event;
      return told(room, { type: "chat.said", offset, by, at, id, text, ...(to && { to }) });
    }
    case "dice.rolled": {
      const { by = "", at = "", id = "", visibility, expression, total, dice, label } = event;
      const roll = compact({ expression, total, dice, label });
      return told(room, { type: "dice.rolled", offset, by, at, id, visibility, ...roll });
    }
    case "turn.changed":
      return { ...room, turn: event.turn };
    case "draw.added":
      return { ...room, drawings: put(room.drawings, event.drawing) };
    case "draw.removed":
      return { ...room, drawings: drop(room.drawings, [event.drawing]) };
    case "undone":
    case "redone":
      return event.events.reduce((state, inner) => evolve(state, inner, offset), room);
    default:
      return unknownEvent(event, room);
  }
}

/** A server newer than this page may tell of things it does not know yet; what it cannot show it leaves alone. */
function unknownEvent(_event: never, room: Room): Room {
  return room;
}

const SCENE_FIELDS = ["name", "width", "height", "grid", "background"] as const;
const TOKEN_FIELDS = [
  "name",
  "x",
  "y",
  "width",
  "height",
  "rotation",
  "layer",
  "image",
  "owner",
  "hidden",
  "locked",
] as const;

function pick<T extends object, K extends keyof T>(
  from: T,
  fields: readonly K[],
): { [F in K]?: Exclude<T[F], undefined> } {
  return compact(Object.fromEntries(fields.map((key) => [key, from[key]])) as Pick<T, K>);
}

/** Without the fields that are not there. */
function compact<T extends object>(fields: T): { [F in keyof T]?: Exclude<T[F], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as {
    [F in keyof T]?: Exclude<T[F], undefined>;
  };
}

function newMember(id: string, name: string, role: Role): Member {
  return { id, name, role, online: false, muted: false };
}

function moved(tokens: Token[], event: Extract<RoomEvent, { type: "token.moved" }>): Token[] {
  const { token, x, y, rotation } = event;
  const ways = new Map((event.moves ?? []).map((move) => [move.token, move]));
  if (token !== undefined && x !== undefined && y !== undefined) {
    ways.set(token, { token, x, y, ...(rotation !== undefined && { rotation }) });
  }
  return tokens.map((known) => {
    const way = ways.get(known.id);
    return way ? { ...known, x: way.x, y: way.y, rotation: way.rotation ?? known.rotation } : known;
  });
}

function told(room: Room, line: ChatLine): Room {
  return { ...room, chat: [...room.chat, line].slice(-CHAT_SHOWN) };
}
