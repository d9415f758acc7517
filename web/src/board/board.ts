/**
 * The board: brings port, view and layers together and draws when something changed. `Hands` does what pointers and
 * keys ask for; `Board.svelte` holds the elements.
 */
import type { BoardPort, BoardView, LiveSignal, Move, Person, Tool } from "../room/board_port";
import type { GridType, Point, Token } from "../protocol/types";
import { Announcer } from "./announcer";
import { around, overlaps, type Box, type Inset, type Size } from "./camera";
import { snap, tidy } from "./grid";
import { Hands } from "./hands";
import { hasHandles } from "./handles";
import { boxOf, emptyNear, middleOf } from "./hit";
import { Company } from "./layers/company";
import { Drawings } from "./layers/drawings";
import { GridLines } from "./layers/grid_lines";
import { Ground } from "./layers/ground";
import { Marks } from "./layers/marks";
import { Rulers } from "./layers/rulers";
import { Structure } from "./layers/structure";
import { Lens } from "./lens";
import { rows, type Row } from "./listing";
import { Frames } from "./motion";
import { onLookChange, readPalette, type Palette } from "./palette";
import { Pictures } from "./pictures";
import { Pieces, placeOf } from "./pieces";
import { Stage } from "./stage";
import { Textures, texturesBelow } from "./textures";

export interface BoardSettings {
  readonly tool: Tool;
  readonly snapping: boolean;
  readonly inset: Inset;
}

/** The parallel list. */
export interface Listed {
  readonly rows: readonly Row[];
  readonly selection: ReadonlySet<string>;
  /** Name of the scene on view. */
  readonly scene: string | null;
}

/** What the component and the page around it are told. */
export interface BoardHooks {
  list(list: Listed): void;
  /** For the polite live region. */
  say(words: string): void;
  mapTrouble(failed: boolean): void;
  view(view: BoardView): void;
  open(token: string): void;
  tool(tool: Tool): void;
}

const SIDES = ["top", "right", "bottom", "left"] as const;

export class Board {
  readonly hands: Hands;
  readonly rulers = new Rulers();
  readonly company: Company;
  readonly pieces: Pieces;
  palette: Palette;
  readonly lens: Lens;
  private readonly frames = new Frames((now) => this.draw(now));
  private readonly textures = new Textures();
  private readonly pictures: Pictures;
  private readonly ground: Ground;
  private readonly gridLines: GridLines;
  private readonly drawings = new Drawings();
  private readonly structure = new Structure();
  private readonly marks = new Marks();
  private readonly announcer = new Announcer();
  private readonly stops: (() => void)[] = [];
  private settings: BoardSettings;
  private sceneId: string | null = null;
  private viewDirty = true;
  private focused: string | null = null;
  private placeBefore = new Map<string, Point>();
  /** Pieces whose next change of place is one's own doing, and already on show. */
  private readonly expected = new Set<string>();
  private sayTimer: ReturnType<typeof setTimeout> | null = null;
  private wakeTimer: ReturnType<typeof setTimeout> | null = null;
  private told = "";
  private listed: readonly unknown[] = [];
  private listedSelection: ReadonlySet<string> | null = null;
  private rows: readonly Row[] = [];
  private connected: boolean;
  private closed = false;

  static async open(
    host: HTMLElement,
    canvas: HTMLCanvasElement,
    port: BoardPort,
    settings: BoardSettings,
    hooks: BoardHooks,
  ): Promise<Board> {
    const size = { width: host.clientWidth, height: host.clientHeight };
    const stage = await Stage.open(canvas, size, devicePixelRatio);
    return new Board(host, canvas, port, settings, hooks, stage, size);
  }

  private constructor(
    readonly host: HTMLElement,
    readonly canvas: HTMLCanvasElement,
    readonly port: BoardPort,
    settings: BoardSettings,
    readonly hooks: BoardHooks,
    private readonly stage: Stage,
    size: Size,
  ) {
    this.settings = settings;
    this.lens = new Lens(
      {
        extent: () => this.extent,
        inset: () => this.settings.inset,
        travelMs: () => this.palette.baseMs,
        changed: () => this.viewChanged(),
      },
      size,
    );
    this.connected = port.connected;
    this.palette = readPalette(host);
    this.company = new Company(this.palette.glideMs > 0);
    this.pictures = new Pictures((url) => {
      this.pieces.pictureCame(url);
      this.frames.ask();
    });
    this.ground = new Ground(
      () => this.frames.ask(),
      (failed) => hooks.mapTrouble(failed),
    );
    this.gridLines = new GridLines(stage.kind === "webgl");
    const board = this;
    this.pieces = new Pieces({
      get palette() {
        return board.palette;
      },
      textures: this.textures,
      pictures: this.pictures,
      person: (id) => port.person(id),
      imageUrl: (asset) => port.imageUrl(asset),
    });
    this.hands = new Hands(this);
    stage.ground.addChild(this.ground.node, this.gridLines.hexes);
    stage.lines.addChild(this.gridLines.straight);
    stage.world.addChild(this.drawings.node, this.hands.sketching.pen, this.structure.node);
    stage.world.addChild(this.pieces.bodies, this.company.ghosts, this.pieces.plates);
    stage.over.addChild(this.marks.node, this.rulers.node, this.company.node);
    this.ground.relook(this.palette);
    this.listen();
    this.sync();
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    for (const stop of this.stops) stop();
    if (this.sayTimer !== null) clearTimeout(this.sayTimer);
    if (this.wakeTimer !== null) clearTimeout(this.wakeTimer);
    this.frames.close();
    this.hands.close();
    this.ground.destroy();
    this.stage.destroy();
    this.textures.destroy();
    this.pictures.close();
  }

  // ---- settings and view

  get tool(): Tool {
    return this.settings.tool;
  }

  get snapping(): boolean {
    return this.settings.snapping;
  }

  set(settings: BoardSettings): void {
    const { inset } = this.settings;
    this.settings = settings;
    if (SIDES.some((side) => inset[side] !== settings.inset[side])) this.lens.reframe();
    this.hands.refreshCursor();
    this.frames.ask();
  }

  /** The scene and every piece on it, in cells: nobody may look further away than this. */
  private get extent(): Box {
    const { scene, tokens } = this.port;
    const whole = { x: 0, y: 0, width: scene?.width ?? 1, height: scene?.height ?? 1 };
    return around([whole, ...tokens.map(boxOf)]) ?? whole;
  }

  private viewChanged(): void {
    this.viewDirty = true;
    this.hands.viewChanged();
    this.frames.ask();
  }

  zoomIn(): void {
    this.lens.step(1);
  }

  zoomOut(): void {
    this.lens.step(-1);
  }

  fit(): void {
    const { scene } = this.port;
    if (scene) this.lens.fit(scene);
  }

  /** Bring these pieces into the free view. */
  frame(ids: readonly string[]): void {
    const box = around(ids.flatMap((id) => this.pieces.token(id) ?? []).map(boxOf));
    if (box) this.lens.reveal(box);
  }

  /** A place for a new piece: an empty cell near the middle of the free view, as the corner of a piece of one cell. */
  freeCell(): Point {
    return emptyNear(this.port.tokens, this.grid, this.lens.middle);
  }

  /** The piece whose button in the parallel list has the focus; it is framed and brought into view. */
  focus(id: string | null): void {
    this.focused = id;
    if (id !== null) this.frame([id]);
    this.frames.ask();
  }

  get focusedPiece(): string | null {
    return this.focused;
  }

  redraw(): void {
    this.frames.ask();
  }

  retryMap(): void {
    this.ground.retry();
  }

  // ---- what the room says

  get grid(): GridType {
    return this.port.scene?.grid.type ?? "square";
  }

  /** Top left corner where a piece let go at `at` comes to stand. */
  snapped(at: Point, size: Size, free: boolean): Point {
    return free || !this.snapping ? { x: tidy(at.x), y: tidy(at.y) } : snap(this.grid, at, size);
  }

  /** The list shows the new places at once; a refusal brings the old ones back, and the pieces glide there. */
  move(moves: readonly Move[]): Promise<void> {
    for (const { token } of moves) this.expected.add(token);
    const done = this.port.moveTokens(moves);
    this.sync();
    return done;
  }

  /** Let go of pieces that were held; they glide to where the list has them. */
  release(ids: readonly string[], ms: number): void {
    const now = performance.now();
    for (const id of ids) this.pieces.release(id, now, ms);
    this.frames.ask();
  }

  /** Take over everything the port holds; cheap when little changed. */
  sync(): void {
    if (this.closed) return;
    const { port, palette } = this;
    const now = performance.now();
    const { scene } = port;
    const url = scene?.background == null ? null : port.imageUrl(scene.background);
    if ((scene?.id ?? null) !== this.sceneId) this.enter(scene?.id ?? null);
    this.ground.show(scene, url);
    this.gridLines.show(scene, url !== null, palette);
    this.drawings.update(port.drawings, palette);
    this.remember(port.tokens);
    this.dropGhosts(port.tokens);
    const gone = this.pieces.update(port.tokens, port.turnToken, now, (id) =>
      this.expected.has(id) ? palette.fastMs : palette.glideMs,
    );
    this.expected.clear();
    this.hands.listChanged(gone);
    if (port.connected && !this.connected) this.pictures.retryFailed();
    this.connected = port.connected;
    this.list();
    this.viewDirty = true;
    this.frames.ask();
  }

  private list(): void {
    const { port } = this;
    const basis = [port.scene, port.tokens, port.turnTokens, port.turnToken, port.members, port.me];
    if (basis.some((part, k) => part !== this.listed[k])) {
      this.listed = basis;
      this.rows = rows(this.grid, port.tokens, port.turnTokens, port.turnToken, (token) => this.ownerName(token));
    } else if (port.selection === this.listedSelection) return;
    this.listedSelection = port.selection;
    this.hooks.list({ rows: this.rows, selection: port.selection, scene: port.scene?.name ?? null });
  }

  private ownerName({ owner }: Token): string | null {
    if (owner === null) return null;
    return owner === this.port.me.id ? "yours" : (this.port.person(owner)?.name ?? null);
  }

  private enter(id: string | null): void {
    const leaving = this.sceneId;
    this.sceneId = id;
    this.hands.cancel();
    this.company.clear();
    this.rulers.clear();
    this.placeBefore = new Map();
    const pictures = this.port.tokens.flatMap(({ image }) => (image === null ? [] : this.port.imageUrl(image)));
    this.pictures.keepOnly(new Set(pictures));
    this.lens.change(leaving, this.port.scene);
    if (leaving !== null)
      this.canvas.animate([{ opacity: 0 }, { opacity: 1 }], Math.max(90, this.palette.baseMs * 1.6));
  }

  private remember(tokens: readonly Token[]): void {
    for (const token of tokens) {
      const before = this.pieces.token(token.id);
      if (before && (before.x !== token.x || before.y !== token.y)) this.placeBefore.set(token.id, middleOf(before));
    }
  }

  /** A piece that somebody carried has landed: its preview hands over to it. */
  private dropGhosts(tokens: readonly Token[]): void {
    for (const token of tokens) {
      const before = this.pieces.token(token.id);
      if (!before || before === token || (before.x === token.x && before.y === token.y)) continue;
      const at = this.company.drop(token.id);
      if (at) this.pieces.jump(token.id, at);
    }
  }

  private hear(signal: LiveSignal, from: Person): void {
    if (signal.type === "typing" || signal.scene !== this.sceneId) return;
    const now = performance.now();
    switch (signal.type) {
      case "cursor":
        this.company.cursor(from, signal, now);
        break;
      case "ping":
        this.company.ping(this.palette.player(from.mark), signal, now);
        break;
      case "measure":
        this.rulers.set(from.id, signal.points, this.palette.player(from.mark), now);
        break;
      case "drag": {
        if (signal.moves.length === 0) this.company.dropAllOf(from.id);
        for (const move of signal.moves) this.hearCarry(from.id, move, now);
        break;
      }
    }
    this.frames.ask();
  }

  private hearCarry(by: string, move: { token: string; rotation?: number } & Point, now: number): void {
    const token = this.pieces.token(move.token);
    if (!token) return;
    const to = { x: move.x, y: move.y, rotation: move.rotation ?? token.rotation };
    const offset = { x: token.width / 2, y: token.height / 2 };
    this.company.carry(by, token.id, to, placeOf(token), offset, now, (id) => this.pieces.likeness(id));
  }

  private listen(): void {
    const { port, host, stops } = this;
    stops.push(port.onChange(() => this.sync()));
    stops.push(port.live.onSignal((signal, from) => this.hear(signal, from)));
    stops.push(
      port.onNews((news) => {
        this.announcer.add(news, (id) => this.placeSpokenOf(id, news.tokens));
        this.speakSoon();
      }),
    );
    stops.push(onLookChange(() => this.relook()));
    const resize = new ResizeObserver(() => this.resize());
    resize.observe(host);
    stops.push(() => resize.disconnect());
    const restored = (): void => this.frames.ask();
    this.canvas.addEventListener("webglcontextrestored", restored);
    stops.push(() => this.canvas.removeEventListener("webglcontextrestored", restored));
    void this.awaitFonts();
  }

  private placeSpokenOf(id: string, tokens: readonly Token[]): Point | null {
    const shown = this.pieces.token(id);
    const told = tokens.find((token) => token.id === id);
    if (shown && told && (shown.x !== told.x || shown.y !== told.y)) return middleOf(shown);
    return this.placeBefore.get(id) ?? null;
  }

  /** Names were baked in whatever face was there: bake them again in the look's own. */
  private async awaitFonts(): Promise<void> {
    const { fontUi, fontDisplay } = this.palette;
    await Promise.allSettled([
      document.fonts.load(`560 12px ${fontUi}`),
      document.fonts.load(`400 24px ${fontDisplay}`),
    ]);
    if (!this.closed) this.relook();
  }

  private relook(): void {
    this.palette = readPalette(this.host);
    this.company.setInterpolate(this.palette.glideMs > 0);
    this.textures.retireAll();
    this.ground.relook(this.palette);
    this.structure.forget();
    this.pieces.redress();
    const { scene } = this.port;
    this.gridLines.show(scene, scene?.background != null, this.palette);
    this.viewDirty = true;
    this.frames.ask();
  }

  private resize(): void {
    const { clientWidth: width, clientHeight: height } = this.host;
    if (width === 0 || height === 0) return;
    this.stage.resize({ width, height }, devicePixelRatio);
    this.lens.resize({ width, height });
  }

  speakSoon(): void {
    const due = this.announcer.dueIn(performance.now());
    if (due === null || this.sayTimer !== null) return;
    this.sayTimer = setTimeout(() => {
      this.sayTimer = null;
      this.hooks.say(this.announcer.speak(performance.now(), this.grid));
    }, due);
  }

  // ---- drawing

  private draw(now: number): boolean {
    if (this.lens.travelling) this.viewDirty = true;
    let moving = this.lens.move(now);
    const { stage, palette, textures, port } = this;
    const { view, size } = this.lens;
    const ratio = stage.pixelRatio;
    if (this.viewDirty) {
      this.viewDirty = false;
      stage.setView(view);
      this.gridLines.draw(view, size, ratio);
      this.structure.update(port.walls, port.doors, port.lights, view.zoom, palette);
      this.pieces.setView(view, size, ratio);
    }
    moving = this.pieces.animate(now) || moving;
    const { chosen, focused } = this.frameBoxes();
    const { frame, landing } = this.hands;
    this.marks.draw({ chosen: landing.length > 0 ? [] : chosen, focused, frame, landing }, palette);
    moving = this.rulers.draw(now, view, this.grid, ratio, textures, palette) || moving;
    const wait = this.company.draw(now, view, ratio, textures, palette);
    if (textures.wantsSweep) textures.sweep(texturesBelow(stage.root));
    stage.draw();
    this.tell(chosen.map(({ box }) => box));
    if (wait === 0) return true;
    this.wakeIn(wait);
    return moving;
  }

  private frameBoxes(): { chosen: { box: Box; rotation: number; handles: boolean }[]; focused: Box | null } {
    const { selection } = this.port;
    const one = selection.size === 1 && this.tool === "select";
    const chosen = [...selection].flatMap((id) => {
      const token = this.pieces.token(id);
      const shown = this.pieces.shownBox(id);
      if (!token || !shown) return [];
      const box = this.lens.onScreen(shown);
      const handles = one && this.port.mayMove(token) && this.hands.busy !== "carrying" && hasHandles(box);
      return [{ box, rotation: shown.rotation, handles }];
    });
    const shown = this.focused === null ? null : this.pieces.shownBox(this.focused);
    return { chosen, focused: shown ? this.lens.onScreen(shown) : null };
  }

  private wakeIn(ms: number | null): void {
    if (this.wakeTimer !== null) clearTimeout(this.wakeTimer);
    this.wakeTimer = ms === null ? null : setTimeout(() => this.frames.ask(), ms + 1);
  }

  /** Tell the page around what it places by the view, when that changed. */
  private tell(chosen: readonly Box[]): void {
    const { host } = this;
    const { view, size } = this.lens;
    const busy = this.hands.busy !== "idle" || this.lens.travelling;
    const box = around(chosen);
    const inView = box !== null && overlaps(box, { x: 0, y: 0, ...size });
    const key = [view.zoom, view.x, view.y, busy, inView ? [box.x, box.y, box.width, box.height].join() : ""].join("|");
    if (key === this.told) return;
    this.told = key;
    host.dataset["zoom"] = String(view.zoom);
    host.dataset["panX"] = String(view.x);
    host.dataset["panY"] = String(view.y);
    const corner = host.getBoundingClientRect();
    const selection = inView
      ? { left: box.x + corner.left, top: box.y + corner.top, width: box.width, height: box.height }
      : null;
    this.hooks.view({ zoom: view.zoom, selection, busy });
  }
}
