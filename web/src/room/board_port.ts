/**
 * What the board needs of the room, and nothing else: the room store implements it, the board reads it.
 * Every list is of the scene on view only, already as this member may see it, and with the member's own
 * unanswered moves laid over it (optimistic). Lists are replaced, never changed in place: compare by identity.
 */
import type { Door, Drawing, Layer, Light, Me, Member, Point, Scene, Token, Wall } from "../protocol/types";

/** Tools of the rail; `draw` is a freehand line. */
export type Tool = "select" | "pan" | "measure" | "draw" | "ping";

/** One piece's place; x and y are its top left corner in cells, rotation in degrees clockwise. */
export interface Move {
  token: string;
  x: number;
  y: number;
  rotation?: number;
}

/** What a new piece is made from; the server fills in the rest. */
export interface NewToken {
  name: string;
  x: number;
  y: number;
  width?: number;
  height?: number;
  rotation?: number;
  layer?: Layer;
  image?: string | null;
  owner?: string | null;
  hidden?: boolean;
  locked?: boolean;
}

export type TokenChange = Partial<Omit<Token, "id" | "scene">>;

/** Signals of the live channel: never stored, may be lost. Points and places are in cells of `scene`. */
export type LiveSignal =
  | { type: "cursor"; scene: string; x: number; y: number }
  | { type: "drag"; scene: string; moves: Move[] } // an empty list ends the preview
  | { type: "ping"; scene: string; x: number; y: number }
  | { type: "measure"; scene: string; points: Point[] } // an empty list ends it
  | { type: "typing"; to?: string[] };

export interface Person {
  id: string;
  name: string;
  /** 1 to 8: colour `--player-N` and the mark of the same number; 0 for somebody no longer a member. */
  mark: number;
  /** The mark's outline in a 14 x 14 box, as SVG path data; empty when mark is 0. */
  markPath: string;
  online: boolean;
}

/** Something others did that the board may want to speak of (parallel list, live region). */
export interface BoardNews {
  kind: "moved" | "added" | "removed";
  by: Person;
  tokens: readonly Token[];
}

export interface BoardPort {
  readonly me: Me;
  readonly scene: Scene | null;
  readonly tokens: readonly Token[];
  readonly drawings: readonly Drawing[];
  /** GM only for now: empty for the others. */
  readonly walls: readonly Wall[];
  readonly doors: readonly Door[];
  readonly lights: readonly Light[];
  readonly members: readonly Member[];
  readonly selection: ReadonlySet<string>;
  /** Ids of the pieces in the order of turns (those that are on view), first the one whose turn it is. */
  readonly turnTokens: readonly string[];
  /** The piece whose turn it is, if one is on view. */
  readonly turnToken: string | null;
  /** False while offline: moves still queue, the board stays usable. */
  readonly connected: boolean;

  /** Optimistic: the lists show the move at once. Never rejects: a refusal rolls back and is told by a toast. */
  moveTokens(moves: readonly Move[]): Promise<void>;
  addToken(token: NewToken): Promise<void>;
  removeTokens(ids: readonly string[]): Promise<void>;
  updateToken(id: string, change: TokenChange): Promise<void>;
  addDrawing(shape: Record<string, unknown>, style: Record<string, unknown>): Promise<void>;
  removeDrawings(ids: readonly string[]): Promise<void>;
  undo(): Promise<void>;
  redo(): Promise<void>;
  select(ids: Iterable<string>): void;

  readonly live: {
    /** Dropped without a word while offline; the board throttles (cursor 30 a second at most). */
    send(signal: LiveSignal): void;
    /** Signals of the other members only, never your own. Returns the way to stop. */
    onSignal(hear: (signal: LiveSignal, from: Person) => void): () => void;
  };

  /** May this member move, turn or delete it? Locked pieces may not be moved by anyone. */
  mayMove(token: Token): boolean;
  mayRemove(token: Token): boolean;
  person(id: string | null): Person | null;
  /** Address of a picture, relative to the page's base. */
  imageUrl(asset: string, thumbnail?: boolean): string;

  /** Called once after any of the lists or fields above changed, several changes gathered in one call. */
  onChange(hear: () => void): () => void;
  onNews(hear: (news: BoardNews) => void): () => void;
}

/** A rectangle of the window in CSS pixels. */
export interface ViewRect {
  left: number;
  top: number;
  width: number;
  height: number;
}

/** What the board tells the page around it, through the callback prop `onview`, at most once a frame. */
export interface BoardView {
  /** 1 = a cell is 60 CSS pixels. */
  zoom: number;
  /** Around the chosen pieces, for the piece bar; null when nothing is chosen or it is out of sight. */
  selection: ViewRect | null;
  /** True while pieces are dragged or the view is panned: the piece bar steps aside. */
  busy: boolean;
}

/**
 * Props of Board.svelte. `inset` is what the chrome covers, in CSS pixels: fit-to-scene and "centre" use the free rest.
 * Methods the component exports: zoomIn(), zoomOut(), fit(), frame(ids), freeCell(): Point (an empty cell near the
 * centre of the free view, snapped, for a new piece).
 */
export interface BoardProps {
  port: BoardPort;
  tool: Tool;
  snapping: boolean;
  inset: { top: number; right: number; bottom: number; left: number };
  onview?: (view: BoardView) => void;
  /** Enter or a double click on a piece: show and focus its bar. */
  onopen?: (token: string) => void;
  /** Files let fall on the board, with the cell under the pointer. */
  ondropfiles?: (files: File[], at: Point) => void;
  /** A tool key was pressed while the board had the focus, or a tool is done (ping once, then back to select). */
  ontool?: (tool: Tool) => void;
}
