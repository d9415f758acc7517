/**
 * The far end of the line, for tests without a server: a WebSocket that speaks just enough of the Centrifuge protocol.
 * What the table would answer is up to each test.
 */
import type { Room, RoomEvent } from "../src/protocol/types";

interface Command {
  id?: number;
  connect?: object;
  subscribe?: { channel: string; recover?: boolean; offset?: number };
  presence?: object;
  publish?: { channel: string; data: unknown };
  rpc?: { method: string; data: { id: string; type: string } & Record<string, unknown> };
}

type Publication = { offset: number; data: RoomEvent };

export class FarEnd {
  offset = 0;
  log: Publication[] = [];
  /** Commands that arrived, in order, each time they did. */
  heard: { id: string; type: string }[] = [];
  published: unknown[] = [];
  presence: Record<string, { user: string; client: string }> = {};
  subscribes = 0;
  /** What to answer a command; undefined leaves it unanswered. */
  answer: (command: { id: string; type: string } & Record<string, unknown>) => object | undefined = () => ({
    rpc: { data: { offset: this.offset } },
  });
  /** False refuses new connections, as a server that is down. */
  up = true;
  /** True lets everything be heard and answers nothing, as a server that stands still. */
  stands = false;
  private socket: FakeSocket | null = null;

  constructor(public room: Room) {}

  install(): void {
    // eslint-disable-next-line @typescript-eslint/no-this-alias
    const end = this;
    globalThis.WebSocket = class extends FakeSocket {
      constructor() {
        super(end);
      }
    } as unknown as typeof WebSocket;
  }

  opened(socket: FakeSocket): void {
    this.socket = socket;
  }

  cut(): void {
    this.socket?.drop();
  }

  /** An event at the table; `told` is sent at once, otherwise it is only in the log, as when the line is down. */
  happen(data: RoomEvent, told = true): void {
    this.offset += 1;
    const publication = { offset: this.offset, data };
    this.log.push(publication);
    if (told) this.push("room:r1", { pub: publication });
  }

  push(channel: string, what: object): void {
    this.socket?.tell({ push: { channel, ...what } });
  }

  hear(command: Command): object | undefined {
    const answer = this.answered(command);
    return this.stands ? undefined : answer;
  }

  private answered(command: Command): object | undefined {
    if (command.connect) return { connect: { client: "c", version: "far end", ping: 25, pong: true } };
    if (command.presence) return { presence: { presence: this.presence } };
    if (command.publish) {
      this.published.push(command.publish.data);
      return { publish: {} };
    }
    if (command.subscribe) return { subscribe: this.subscribed(command.subscribe) };
    if (command.rpc) {
      this.heard.push({ id: command.rpc.data.id, type: command.rpc.data.type });
      return this.answer(command.rpc.data);
    }
    return undefined;
  }

  private subscribed({ channel, recover, offset = 0 }: NonNullable<Command["subscribe"]>): object {
    if (channel.endsWith(":live")) return {};
    this.subscribes += 1;
    const position = { recoverable: true, positioned: true, epoch: "e" };
    if (!recover) {
      return { ...position, offset: this.offset, data: { epoch: "e", offset: this.offset, room: this.room } };
    }
    const publications = this.log.filter((publication) => publication.offset > offset);
    return { ...position, offset, was_recovering: true, recovered: true, publications };
  }
}

class FakeSocket {
  static readonly OPEN = 1;
  readyState = 0;
  private readonly listeners: ((event: { data: string }) => void)[] = [];
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: string }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onerror: ((event: unknown) => void) | null = null;

  constructor(private readonly end: FarEnd) {
    queueMicrotask(() => {
      if (!end.up) return this.drop();
      this.readyState = 1;
      end.opened(this);
      this.onopen?.();
    });
  }

  addEventListener(_name: "message", hear: (event: { data: string }) => void): void {
    this.listeners.push(hear);
  }

  send(frame: string): void {
    for (const line of frame.split("\n")) {
      const command = JSON.parse(line) as Command;
      const answer = this.end.hear(command);
      if (answer !== undefined) this.tell({ id: command.id, ...answer });
    }
  }

  tell(message: object): void {
    queueMicrotask(() => {
      if (this.readyState !== 1) return;
      const event = { data: JSON.stringify(message) };
      for (const hear of this.listeners) hear(event);
      this.onmessage?.(event);
    });
  }

  drop(): void {
    this.readyState = 3;
    this.onclose?.({ code: 1006, reason: "" });
  }

  close(): void {
    this.drop();
  }
}
