/** What travels between server and browser (contract 8.1 and 8.3): ids are opaque, lengths on a board are cells of its grid. */

export type Role = "gm" | "player" | "spectator";
export type Visibility = "private" | "public";
export type Layer = "map" | "object" | "gm";
export type GridType = "square" | "hex_row" | "hex_column" | "none";
export type RollVisibility = "public" | "gm" | "self";
export type Fate = "kept" | "dropped" | "exploded" | "rerolled" | "success" | "failure";

export interface Point {
  x: number;
  y: number;
}

/** `size` is how many pixels of the background picture one cell covers. */
export interface Grid {
  type: GridType;
  size: number;
}

export interface Me {
  id: string;
  role: Role;
}

export interface Member {
  id: string;
  name: string;
  role: Role;
  online: boolean;
  muted?: boolean;
}

export interface Settings {
  gm_sees_all: boolean;
  players_add_tokens: boolean;
}

export interface Scene {
  id: string;
  name: string;
  width: number;
  height: number;
  grid: Grid;
  background: string | null;
  active: boolean;
}

export interface Token {
  id: string;
  scene: string;
  name: string;
  x: number;
  y: number;
  width: number;
  height: number;
  rotation: number;
  layer: Layer;
  image: string | null;
  owner: string | null;
  hidden: boolean;
  locked: boolean;
}

export interface Wall {
  id: string;
  scene: string;
  points: Point[];
}

export interface Door {
  id: string;
  scene: string;
  points: Point[];
  state: "closed" | "open";
}

export interface Light {
  id: string;
  scene: string;
  x: number;
  y: number;
  range: number;
  color: string;
  intensity: number;
}

export interface Drawing {
  id: string;
  scene: string;
  owner: string;
  shape: Record<string, unknown>;
  style: Record<string, unknown>;
}

export interface TurnEntry {
  name: string;
  value: number;
  token: string | null;
}

/** `current` is an index into `entries`, null for those who may not see whose turn it is. */
export interface Turn {
  active: boolean;
  round: number;
  current: number | null;
  entries: TurnEntry[];
}

export interface Die {
  sides: number | string;
  value: number;
  fate: Fate[];
}

export interface Roll {
  expression?: string;
  total?: number;
  dice?: Die[];
  label?: string;
}

export interface ChatEntry {
  offset: number;
  kind: "chat.said" | "dice.rolled";
  by: string;
  at: string;
  id: string;
  text: string;
  to: string[];
  visibility: RollVisibility;
  roll: Roll | null;
}

export interface Room {
  id: string;
  name: string;
  visibility: Visibility;
  tags: string[];
  settings: Settings;
  me: Me;
  members: Member[];
  scenes: Scene[];
  tokens: Token[];
  walls: Wall[];
  doors: Door[];
  lights: Light[];
  drawings: Drawing[];
  turn: Turn | null;
  chat: ChatEntry[];
}

export interface Snapshot {
  epoch: string;
  offset: number;
  room: Room;
}

export interface Shown {
  scenes?: Scene[];
  tokens?: Token[];
  drawings?: Drawing[];
  turn?: Turn | null;
}

export interface Gone {
  scenes?: string[];
  tokens?: string[];
  drawings?: string[];
}

interface EventBase {
  by?: string;
  at?: string;
  id?: string;
  shown?: Shown;
  gone?: Gone;
}

export interface Move {
  token: string;
  x: number;
  y: number;
  rotation?: number;
}

export type TokenFields = Partial<Omit<Token, "id" | "scene">>;
export type SceneFields = Partial<Omit<Scene, "id" | "active">>;

export type RoomEvent = EventBase &
  (
    | { type: "hidden" }
    | { type: "room.created"; room: string; name: string; visibility: Visibility; member_name: string; scene: Scene }
    | { type: "room.changed"; name?: string; visibility?: Visibility; tags?: string[]; settings?: Settings }
    | { type: "member.joined"; user: string; name: string; role: Role }
    | { type: "member.changed"; user: string; name?: string; role?: Role; muted?: boolean }
    | { type: "member.removed"; user: string; because: "left" | "kicked" | "banned" }
    | { type: "scene.created"; scene: Omit<Scene, "active"> }
    | ({ type: "scene.updated"; scene: string } & SceneFields)
    | { type: "scene.activated"; scene: string }
    | { type: "scene.removed"; scene: string }
    | { type: "scene.placed"; scene: string | null; members: string[] }
    | { type: "token.added"; token: Token }
    | { type: "token.moved"; token?: string; x?: number; y?: number; rotation?: number; moves?: Move[] }
    | ({ type: "token.updated"; token: string } & TokenFields)
    | { type: "token.removed"; token: string }
    | { type: "wall.changed"; walls?: Wall[]; removed?: string[] }
    | { type: "door.changed"; doors?: Door[]; removed?: string[] }
    | { type: "light.changed"; lights?: Light[]; removed?: string[] }
    | { type: "chat.said"; text: string; to?: string[] }
    | ({ type: "dice.rolled"; visibility: RollVisibility } & Roll)
    | { type: "turn.changed"; turn: Turn | null }
    | { type: "draw.added"; drawing: Drawing }
    | { type: "draw.removed"; drawing: string }
    | { type: "undone"; of: string; events: RoomEvent[] }
    | { type: "redone"; of: string; events: RoomEvent[] }
  );

export type RoomCommand =
  | { type: "scene.create"; name: string; width: number; height: number; grid?: Grid; background?: string | null }
  | ({ type: "scene.update"; scene: string } & SceneFields)
  | { type: "scene.activate"; scene: string }
  | { type: "scene.remove"; scene: string }
  | { type: "scene.place"; scene: string | null; members: string[] }
  | ({ type: "token.add"; name: string; x: number; y: number; scene?: string } & TokenFields)
  | { type: "token.move"; token: string; x: number; y: number; rotation?: number }
  | { type: "token.move"; moves: Move[] }
  | ({ type: "token.update"; token: string } & TokenFields)
  | { type: "token.remove"; token: string }
  | { type: "chat.say"; text: string; to?: string[] }
  | { type: "dice.roll"; expression: string; visibility?: RollVisibility; label?: string }
  | { type: "turn.set"; entries: TurnEntry[]; round?: number; current?: number }
  | { type: "turn.next" }
  | { type: "turn.previous" }
  | { type: "turn.end" }
  | { type: "draw.add"; shape: Record<string, unknown>; style?: Record<string, unknown>; scene?: string }
  | { type: "draw.remove"; drawing: string }
  | { type: "member.role"; user: string; role: Role }
  | { type: "member.kick"; user: string }
  | { type: "member.ban"; user: string }
  | { type: "member.mute"; user: string; muted: boolean }
  | {
      type: "room.update";
      name?: string;
      visibility?: Visibility;
      tags?: string[];
      settings?: Partial<Settings>;
    }
  | { type: "undo" }
  | { type: "redo" };
