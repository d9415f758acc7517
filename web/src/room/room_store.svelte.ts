/**
 * One table as this browser knows it: the room folded from snapshot and events, what is still on its way, who is here.
 * The board reads it through `BoardPort`; the panels read it directly.
 */
import { Connection, type Reply } from "../protocol/connection";
import { imageAddress } from "../protocol/address";
import { problemOf, Refusal, sentences, UNREACHABLE, type Problem } from "../protocol/problem";
import type {
  ChatLine,
  Door,
  Drawing,
  Light,
  Me,
  Member,
  Room,
  RoomCommand,
  RoomEvent,
  Scene,
  Snapshot,
  Token,
  Wall,
} from "../protocol/types";
import type { BoardNews, BoardPort, LiveSignal, Move, NewToken, Person, TokenChange } from "./board_port";
import { evolve } from "./evolve";
import { readSignal } from "./live";
import { marksOf, MARKS } from "./people";
import { lineOf, NOT_ANSWERED_MS, stuckWords, waits, type Line } from "./line";
import { GIVEN_UP, Outbox } from "./outbox";
import { overlay, unanswered, WAITING_AT_MOST, type Pending } from "./pending";
import { counted } from "./words";

/** A line that was refused: it stays in the chat with its reason, to be changed, tried again or let go. */
export interface RefusedLine {
  /** The command's own: should it happen after all, the refusal is taken back. */
  id: string;
  /** How far the room had come then: later lines stand below it. */
  offset: number;
  command: RoomCommand;
  problem: Problem;
}

/** Something that happened at the table, told between the chat's lines. */
export interface Note {
  offset: number;
  text: string;
}

export interface Telling {
  note(text: string, action?: { label: string; run: () => void }): void;
  refuse(problem: Problem): void;
}

const NOTES_KEPT = 50;
const SLOW_SAID_MS = 4_000;
const TYPING_SHOWN_MS = 4_000;
const TYPING_SENT_EVERY_MS = 2_000;
const NOT_UNDONE: ReadonlySet<string> = new Set(["chat.say", "dice.roll", "member.role", "member.kick", "member.mute"]);
const NOBODY: Me = { id: "", role: "spectator" };

export class RoomStore implements BoardPort {
  room = $state.raw<Room | null>(null);
  offset = $state.raw(0);
  pending = $state.raw<readonly Pending[]>([]);
  /** What the table said when it put off what waits; null when it said nothing. */
  private putOff = $state.raw<Problem | null>(null);
  refused = $state.raw<readonly RefusedLine[]>([]);
  notes = $state.raw<readonly Note[]>([]);
  selection = $state.raw<ReadonlySet<string>>(new Set());
  closed = $state.raw<"removed" | "not-a-member" | "signed-out" | null>(null);
  connected = $state.raw(false);
  /** Who is on the line; null until it was told, then the snapshot's word holds. */
  private here = $state.raw<ReadonlySet<string> | null>(null);
  private viewed = $state.raw<string | null>(null);
  private lostAt = $state.raw<number | null>(Date.now());
  private everLive = $state.raw(false);
  /** How long the last answer took, as long as that says something about now. */
  private roundTrip = $state.raw(0);
  private roundTripAt = 0;
  private typingUntil = $state.raw<ReadonlyMap<string, number>>(new Map());
  private now = $state.raw(Date.now());

  private readonly connection: Connection;
  private readonly outbox: Outbox;
  private readonly signalHearers = new Set<(signal: LiveSignal, from: Person) => void>();
  private readonly newsHearers = new Set<(news: BoardNews) => void>();
  private readonly clock: ReturnType<typeof setInterval>;
  private typingSentAt = 0;
  /** How many commands were given that undo would take back, or that take something back. */
  private deeds = 0;

  readonly me = $derived<Me>(this.room?.me ?? NOBODY);
  readonly isGm = $derived(this.me.role === "gm");
  readonly members = $derived<Member[]>(
    (this.room?.members ?? []).map((member) => {
      const there = this.here === null ? member.online : this.here.has(member.id);
      const online = there || (this.connected && member.id === this.me.id);
      return online === member.online ? member : { ...member, online };
    }),
  );
  private readonly marks = $derived(marksOf(this.room?.members ?? []));
  readonly scenes = $derived<Scene[]>(this.room?.scenes ?? []);
  readonly activeScene = $derived<Scene | null>(this.scenes.find(({ active }) => active) ?? null);
  readonly scene = $derived<Scene | null>(
    this.scenes.find(({ id }) => id === this.viewed) ?? this.activeScene ?? this.scenes[0] ?? null,
  );
  /** Every piece this member may see, in all scenes, with the moves on their way. */
  readonly allTokens = $derived<Token[]>(overlay(this.room?.tokens ?? [], this.pending));
  readonly tokens = $derived<Token[]>(this.allTokens.filter(({ scene }) => scene === this.scene?.id));
  readonly drawings = $derived<Drawing[]>((this.room?.drawings ?? []).filter(({ scene }) => scene === this.scene?.id));
  readonly walls = $derived<Wall[]>((this.room?.walls ?? []).filter(({ scene }) => scene === this.scene?.id));
  readonly doors = $derived<Door[]>((this.room?.doors ?? []).filter(({ scene }) => scene === this.scene?.id));
  readonly lights = $derived<Light[]>((this.room?.lights ?? []).filter(({ scene }) => scene === this.scene?.id));
  readonly turn = $derived(this.room?.turn?.active ? this.room.turn : null);
  readonly turnTokens = $derived.by<string[]>(() => {
    const entries = this.turn?.entries ?? [];
    const first = this.turn?.current ?? 0;
    const inOrder = [...entries.slice(first), ...entries.slice(0, first)];
    const onView = new Set(this.tokens.map(({ id }) => id));
    return inOrder.flatMap(({ token }) => (token !== null && onView.has(token) ? [token] : []));
  });
  readonly turnToken = $derived.by<string | null>(() => {
    const current = this.turn?.current ?? null;
    const token = current === null ? null : (this.turn?.entries[current]?.token ?? null);
    return token !== null && this.tokens.some(({ id }) => id === token) ? token : null;
  });
  readonly chosen = $derived<Token[]>(this.tokens.filter(({ id }) => this.selection.has(id)));
  readonly chat = $derived<ChatLine[]>(this.room?.chat ?? []);
  readonly typing = $derived<string[]>(
    [...this.typingUntil].flatMap(([user, until]) => (until > this.now ? [this.personOf(user).name] : [])),
  );
  /** Lines and rolls of one's own that the table has not confirmed yet. */
  readonly unsaid = $derived(
    this.pending.filter(({ command }) => command.type === "chat.say" || command.type === "dice.roll"),
  );
  readonly line = $derived<Line>(
    lineOf({
      now: this.now,
      connected: this.connected,
      everLive: this.everLive,
      lostAt: this.lostAt ?? this.now,
      roundTrip: this.roundTrip,
      putOff: this.putOff,
      open: unanswered(this.pending),
    }),
  );
  /** What has had no answer for so long that one may want to give up on it. */
  readonly stuck = $derived<ReadonlySet<string>>(
    new Set(unanswered(this.pending).flatMap(({ id, askedAt }) => (this.now - askedAt > NOT_ANSWERED_MS ? [id] : []))),
  );
  /** Of those, what has no place in the chat to say so. */
  private readonly stuckDeeds = $derived(
    this.pending.filter((one) => this.stuck.has(one.id) && !this.unsaid.includes(one)),
  );
  /** Set while the line is down for long enough to say so, or while a deed has had no answer for long. */
  readonly lost = $derived.by<string | null>(() => {
    const stuck = this.stuckDeeds.length === 0 ? "" : stuckWords(this.stuckDeeds, this.connected, this.putOff);
    if (this.connected || this.line.tone !== "off") return stuck || null;
    const count = unanswered(this.pending).length;
    const kept = count === 0 ? "what you do waits here" : `${waits(count)} here`;
    return `Lost the table. Trying again; ${kept}. ${stuck}`.trim();
  });
  /** The way out of `lost`, where there is one. */
  readonly lostAction = $derived(
    this.stuckDeeds.length > 0
      ? { label: "Give up", run: (): void => this.giveUp(this.stuckDeeds.map(({ id }) => id)) }
      : null,
  );

  readonly live = {
    send: (signal: LiveSignal): void => this.connection.signal(signal),
    onSignal: (hear: (signal: LiveSignal, from: Person) => void): (() => void) => {
      this.signalHearers.add(hear);
      return () => this.signalHearers.delete(hear);
    },
  };

  constructor(
    readonly id: string,
    private readonly telling: Telling,
  ) {
    this.outbox = new Outbox({
      send: (command, body) => this.send(command, body),
      reached: () => this.offset,
      changed: (list, putOff) => {
        this.pending = list;
        this.putOff = putOff;
        this.now = Date.now();
      },
    });
    this.connection = new Connection(id, {
      onLive: (snapshot) => this.heardLive(snapshot),
      onEvent: (offset, event) => this.heardEvent(offset, event),
      onOffline: () => this.heardOffline(),
      onClosed: (because) => {
        this.closed = because;
      },
      onSignal: (signal, from) => this.heardSignal(signal, from.user),
      onPresence: (users) => {
        this.here = users;
      },
    });
    this.clock = setInterval(() => this.tick(), 250);
  }

  open(): void {
    this.connection.open();
  }

  close(): void {
    clearInterval(this.clock);
    this.outbox.closed();
    this.connection.close();
  }

  // ---- what the board and the panels ask for

  /**
   * Ask the table; resolves with the reply, rejects with a Refusal. While nothing is known of it, it waits and is sent
   * again.
   */
  ask(command: RoomCommand, id = freshId()): Promise<Reply> {
    if (unanswered(this.pending).length >= WAITING_AT_MOST) {
      return Promise.reject(
        new Refusal({
          ...UNREACHABLE,
          what: "This did not happen.",
          why: `${WAITING_AT_MOST} changes already wait for the table.`,
          mend: "Wait until the line is back.",
        }),
      );
    }
    if (!NOT_UNDONE.has(command.type)) this.deeds += 1;
    return this.outbox.add(id, command);
  }

  /** Send these no more; they may have happened all the same. */
  giveUp(ids: Iterable<string>): void {
    this.telling.note(sentences(this.outbox.giveUp(new Set(ids))));
  }

  /** Ask, and tell of a refusal; true when it happened. */
  async act(command: RoomCommand, failed?: string): Promise<boolean> {
    try {
      await this.ask(command);
      return true;
    } catch (thrown) {
      const problem = problemOf(thrown);
      if (problem.code === GIVEN_UP.code) return false; // told already, and not as a failure
      this.telling.refuse(
        failed === undefined ? problem : { ...problem, what: failed, why: afterFirstSentence(problem.what) },
      );
      return false;
    }
  }

  /** A line or a roll: when refused it stays in the chat, with the reason. */
  async say(command: RoomCommand): Promise<void> {
    const id = freshId();
    try {
      await this.ask(command, id);
    } catch (thrown) {
      const problem = problemOf(thrown);
      if (problem.code === GIVEN_UP.code) return;
      this.refused = [...this.refused, { id, offset: this.offset, command, problem }].slice(-20);
    }
  }

  retry(line: RefusedLine): void {
    this.letGo(line);
    void this.say(line.command);
  }

  letGo(line: RefusedLine): void {
    this.refused = this.refused.filter(({ id }) => id !== line.id);
  }

  async moveTokens(moves: readonly Move[]): Promise<void> {
    const [first] = moves;
    if (first === undefined) return;
    const names = moves.map(({ token }) => this.allTokens.find(({ id }) => id === token)?.name ?? "A piece");
    const who = moves.length === 1 ? `${names[0]} did not move.` : `${counted(moves.length, "piece")} did not move.`;
    await this.act(
      moves.length === 1 ? { type: "token.move", ...first } : { type: "token.move", moves: [...moves] },
      who,
    );
  }

  async addToken(token: NewToken): Promise<void> {
    const scene = this.scene?.id;
    await this.act(
      { type: "token.add", ...token, ...(scene !== undefined && { scene }) },
      `${token.name} was not added.`,
    );
  }

  async removeTokens(ids: readonly string[]): Promise<void> {
    const going = this.allTokens.filter(({ id }) => ids.includes(id));
    this.selection = new Set([...this.selection].filter((id) => !ids.includes(id)));
    const done = await Promise.all(
      going.map(({ id, name }) => this.act({ type: "token.remove", token: id }, `${name} was not removed.`)),
    );
    const removed = going.filter((_, at) => done[at]);
    if (removed.length === 0) return;
    const words =
      removed.length === 1 ? `${removed[0]?.name} is off the board` : `${removed.length} pieces are off the board`;
    const deeds = this.deeds;
    this.telling.note(words, {
      label: "Undo",
      run: () => void this.undoRemoval(removed.length, deeds),
    });
  }

  async updateToken(id: string, change: TokenChange): Promise<void> {
    const name = this.allTokens.find((token) => token.id === id)?.name ?? "The piece";
    await this.act({ type: "token.update", token: id, ...change }, `${name} stays as it was.`);
  }

  async addDrawing(shape: Record<string, unknown>, style: Record<string, unknown>): Promise<void> {
    const scene = this.scene?.id;
    await this.act({ type: "draw.add", shape, style, ...(scene !== undefined && { scene }) }, "The line was not kept.");
  }

  async removeDrawings(ids: readonly string[]): Promise<void> {
    await Promise.all(ids.map((drawing) => this.act({ type: "draw.remove", drawing }, "The line stays.")));
  }

  async undo(): Promise<void> {
    await this.stepBack("undo", "Nothing of yours is left to undo.");
  }

  async redo(): Promise<void> {
    await this.stepBack("redo", "Nothing is left to redo.");
  }

  /** Coming to the end of one's own deeds is no failure. */
  private async stepBack(type: "undo" | "redo", atTheEnd: string): Promise<void> {
    try {
      await this.ask({ type });
    } catch (thrown) {
      const problem = problemOf(thrown);
      if (problem.code === "nothing-to-undo") this.telling.note(atTheEnd);
      else if (problem.code !== GIVEN_UP.code) this.telling.refuse(problem);
    }
  }

  /** Undo takes back the newest deed; after another one since, it would take back the wrong one. */
  private async undoRemoval(count: number, deeds: number): Promise<void> {
    if (this.deeds !== deeds) {
      this.telling.note("You did something else since: Ctrl Z takes that back first.");
      return;
    }
    for (let done = 0; done < count; done += 1) if (!(await this.act({ type: "undo" }))) return;
  }

  select(ids: Iterable<string>): void {
    this.selection = new Set(ids);
  }

  /** Look at a scene (GM); null follows the one the players see. */
  view(scene: string | null): void {
    this.viewed = scene === this.activeScene?.id ? null : scene;
    this.selection = new Set();
  }

  /** Tell those who will hear the line that it is being written; a whisper is nobody else's business. */
  sayTyping(to: string | null): void {
    if (Date.now() - this.typingSentAt < TYPING_SENT_EVERY_MS) return;
    this.typingSentAt = Date.now();
    this.connection.signal({ type: "typing", ...(to !== null && { to: [to] }) });
  }

  mayMove(token: Token): boolean {
    return !token.locked && this.owns(token);
  }

  mayRemove(token: Token): boolean {
    return this.isGm || this.mayMove(token);
  }

  owns(token: Token): boolean {
    return this.isGm || (this.me.role === "player" && token.owner === this.me.id);
  }

  readonly mayAdd = $derived(
    this.isGm || (this.me.role === "player" && (this.room?.settings.players_add_tokens ?? false)),
  );

  person(id: string | null): Person | null {
    return id === null ? null : this.personOf(id);
  }

  /** Somebody by id, also when they have left. */
  personOf(id: string): Person {
    const member = this.members.find((known) => known.id === id);
    const mark = member ? (this.marks.get(id) ?? 0) : 0;
    return {
      id,
      name: member?.name ?? "Somebody who left",
      mark,
      markPath: MARKS[mark - 1]?.path ?? "",
      online: member?.online ?? false,
    };
  }

  imageUrl(asset: string, thumbnail = false): string {
    return imageAddress(asset, thumbnail);
  }

  onChange(hear: () => void): () => void {
    return $effect.root(() => {
      $effect(() => {
        void [this.scene, this.tokens, this.drawings, this.walls, this.doors, this.lights, this.members];
        void [this.selection, this.turnTokens, this.turnToken, this.connected, this.me];
        hear();
      });
    });
  }

  onNews(hear: (news: BoardNews) => void): () => void {
    this.newsHearers.add(hear);
    return () => this.newsHearers.delete(hear);
  }

  // ---- what the line brings

  private heardLive(snapshot: Snapshot | null): void {
    if (snapshot !== null) {
      this.room = snapshot.room;
      this.offset = snapshot.offset;
      this.notes = [];
      this.outbox.heard(snapshot.offset, null);
      this.keepSelection();
    }
    this.connected = true;
    this.everLive = true;
    this.lostAt = null;
    this.closed = null;
    // After the missed events, which follow in this same turn and may settle some of these by themselves
    setTimeout(() => {
      if (this.connected) this.outbox.opened();
    });
  }

  private heardEvent(offset: number, event: RoomEvent): void {
    if (this.room === null || offset <= this.offset) return;
    if (offset > this.offset + 1) {
      this.connection.resync();
      return;
    }
    const before = this.room;
    try {
      this.room = evolve(before, event, offset);
    } catch {
      this.connection.resync(); // an event of another shape than this page knows: the snapshot has its outcome
      return;
    }
    this.offset = offset;
    const { by, id } = event.type === "hidden" ? {} : event;
    const own = by === this.me.id ? (id ?? null) : null;
    this.outbox.heard(offset, own);
    if (this.refused.some((line) => line.id === own)) this.refused = this.refused.filter((line) => line.id !== own);
    const typing = new Map(this.typingUntil);
    if (event.type === "chat.said" && typing.delete(by ?? "")) this.typingUntil = typing;
    this.keepSelection();
    this.takeNote(before, event, offset);
    this.tellNews(before, event);
  }

  private heardOffline(): void {
    if (this.connected) this.lostAt = Date.now();
    this.connected = false;
    this.outbox.closed();
    this.here = null;
    this.now = Date.now();
  }

  private heardSignal(data: unknown, user: string): void {
    const signal = readSignal(data);
    if (signal === null || user === this.me.id) return;
    if (signal.type === "typing") {
      this.typingUntil = new Map(this.typingUntil).set(user, Date.now() + TYPING_SHOWN_MS);
      this.now = Date.now();
    }
    const from = this.personOf(user);
    for (const hear of this.signalHearers) hear(signal, from);
  }

  private async send(id: string, command: RoomCommand): Promise<Reply> {
    const sentAt = Date.now();
    const reply = await this.connection.command(id, command);
    this.roundTripAt = Date.now();
    this.roundTrip = this.roundTripAt - sentAt;
    return reply;
  }

  private keepSelection(): void {
    if (this.selection.size === 0) return;
    const there = new Set(this.tokens.map(({ id }) => id));
    const kept = [...this.selection].filter((id) => there.has(id));
    if (kept.length !== this.selection.size) this.selection = new Set(kept);
  }

  private takeNote(before: Room, event: RoomEvent, offset: number): void {
    const text = this.noteOf(before, event);
    if (text !== null) this.notes = [...this.notes, { offset, text }].slice(-NOTES_KEPT);
  }

  private noteOf(before: Room, event: RoomEvent): string | null {
    switch (event.type) {
      case "scene.activated": {
        const scene = this.scenes.find(({ id }) => id === event.scene);
        return scene ? `Everyone moved to ${scene.name}` : null;
      }
      case "member.joined":
        return `${event.name} sat down`;
      case "member.removed": {
        const name = before.members.find(({ id }) => id === event.user)?.name ?? "Somebody";
        return event.because === "left" ? `${name} left the table` : `${name} was taken off the table`;
      }
      default:
        return null;
    }
  }

  private tellNews(before: Room, event: RoomEvent): void {
    if (event.type === "hidden" || event.by === undefined || event.by === this.me.id || this.room === null) return;
    const by = this.personOf(event.by);
    const onView = (tokens: Token[], ids: readonly string[]): Token[] =>
      tokens.filter(({ id, scene }) => ids.includes(id) && scene === this.scene?.id);
    const tell = (kind: BoardNews["kind"], tokens: Token[]): void => {
      if (tokens.length > 0) for (const hear of this.newsHearers) hear({ kind, by, tokens });
    };
    if (event.type === "token.moved") {
      const ids = event.moves?.map(({ token }) => token) ?? (event.token === undefined ? [] : [event.token]);
      tell("moved", onView(this.room.tokens, ids));
    } else if (event.type === "token.added") tell("added", onView(this.room.tokens, [event.token.id]));
    else if (event.type === "token.removed") tell("removed", onView(before.tokens, [event.token]));
  }

  private tick(): void {
    if (this.roundTrip > 0 && Date.now() - this.roundTripAt > SLOW_SAID_MS) this.roundTrip = 0;
    const waits = this.pending.length > 0 || !this.connected || this.typingUntil.size > 0;
    if (!waits) return;
    this.now = Date.now();
    if ([...this.typingUntil.values()].some((until) => until <= this.now)) {
      this.typingUntil = new Map([...this.typingUntil].filter(([, until]) => until > this.now));
    }
  }
}

/** The reason alone: the first sentence says again that it did not happen, in words that name nothing. */
function afterFirstSentence(detail: string): string {
  return detail.replace(/^[^.]*\.\s*/u, "") || detail;
}

/** An id for a deed or a line; `randomUUID` is not there on a page without TLS, as at a table in one's own house. */
export function freshId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
