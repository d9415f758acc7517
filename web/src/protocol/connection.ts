/**
 * One table's line to the server: the Centrifuge client does the transport, the reconnecting and the recovery; here its
 * events become the few things the room store has to know. No handler may throw: the client would stop for good.
 */
import { Centrifuge, State, type PublicationContext, type Subscription } from "centrifuge";
import type { RoomCommand, RoomEvent, Snapshot } from "./types";
import { problemFromRpc, Refusal, type Problem } from "./problem";
import { socketAddress } from "./address";
import { Reasons } from "./reasons";

/**
 * Thrown when it is not known whether a command happened, or when the table cannot carry it out just now: it is to be sent
 * again under the same id. `said` is what the table said of it, if it said anything.
 */
export class Unanswered extends Error {
  constructor(readonly said: Problem | null = null) {
    super("unanswered");
  }
}

export interface Reply {
  offset: number;
  result?: Record<string, unknown>;
}

export interface Hearing {
  /** On the line and up to date; `snapshot` is null when only missed events follow. */
  onLive(snapshot: Snapshot | null): void;
  onEvent(offset: number, event: RoomEvent): void;
  onOffline(): void;
  /** For good: taken off the table, or no longer known. */
  onClosed(because: "removed" | "not-a-member" | "signed-out"): void;
  onSignal(signal: unknown, from: { user: string; client: string }): void;
  /** Who is on the line now, by user id. */
  onPresence(users: ReadonlySet<string>): void;
}

// The server's own words for an own call that was cut off: the Centrifuge client's error codes
const LOCAL_CODES_BELOW = 100;
const SERVER_FAULTS_FROM = 500;
const PERMISSION_DENIED = 103;
const INVALID_TOKEN = 3500;
/** The server pings every ten seconds; one that is later than this is not there any more. */
const PING_LATE_MS = 5_000;
/** A command without an answer for this long makes one ask whether anybody is there at all … */
const ASK_AFTER_MS = 2_000;
/** … and who says nothing at all for this long after that is left for another server, or another try. */
const SILENT_AFTER_MS = 3_000;

export class Connection {
  private readonly centrifuge: Centrifuge;
  private channel: Subscription;
  private readonly live: Subscription;
  private readonly clients = new Map<string, string>();
  private readonly reasons = new Reasons();
  private asking: ReturnType<typeof setTimeout> | null = null;

  constructor(
    private readonly room: string,
    private readonly hearing: Hearing,
  ) {
    this.centrifuge = new Centrifuge(socketAddress(room), {
      name: "tableforge-web",
      maxReconnectDelay: 8_000,
      maxServerPingDelay: PING_LATE_MS,
      websocket: this.reasons.socket(),
    });
    this.centrifuge.on("connecting", () => hearing.onOffline());
    this.centrifuge.on("disconnected", (ctx) => {
      hearing.onOffline();
      if (ctx.code === INVALID_TOKEN) hearing.onClosed("signed-out");
    });
    this.channel = this.subscribe();
    this.live = this.centrifuge.newSubscription(`room:${room}:live`);
    this.live.on("publication", (ctx) => {
      if (ctx.info) hearing.onSignal(ctx.data, { user: ctx.info.user, client: ctx.info.client });
    });
  }

  open(): void {
    this.channel.subscribe();
    this.live.subscribe();
    this.centrifuge.connect();
  }

  close(): void {
    if (this.asking !== null) clearTimeout(this.asking);
    this.centrifuge.disconnect();
  }

  /** Forget the position and ask for the room as it is now: for when an event could not be understood. */
  resync(): void {
    this.centrifuge.removeSubscription(this.channel);
    this.channel = this.subscribe();
    this.channel.subscribe();
  }

  /**
   * Ask the table for something; `id` names the deed, so that sending it twice does it once.
   * Throws Refusal when the table said no, Unanswered when nothing is known or the table put it off.
   */
  async command(id: string, command: RoomCommand): Promise<Reply> {
    const late = setTimeout(() => this.askWhetherThere(), ASK_AFTER_MS);
    try {
      const answer = await this.centrifuge.rpc("room.command", { room: this.room, id, ...command });
      return answer.data as Reply;
    } catch (thrown) {
      const problem: Problem = problemFromRpc(thrown, this.reasons.take(id));
      if (problem.status < LOCAL_CODES_BELOW) throw new Unanswered();
      if (problem.status >= SERVER_FAULTS_FROM || isTemporary(thrown)) throw new Unanswered(problem);
      throw new Refusal(problem);
    } finally {
      clearTimeout(late);
    }
  }

  /**
   * A server that stands still keeps its sockets open, and only its missing ping would tell. Saving may take its time, but
   * who is here is answered at once: whoever does not even say that is left.
   */
  private askWhetherThere(): void {
    if (this.asking !== null || this.centrifuge.state !== State.Connected) return;
    const askedAt = Date.now();
    this.asking = setTimeout(() => {
      this.asking = null;
      if (this.reasons.heardAt >= askedAt || this.centrifuge.state !== State.Connected) return;
      this.centrifuge.disconnect();
      this.centrifuge.connect();
    }, SILENT_AFTER_MS);
    this.channel.presence().catch(() => undefined); // whatever is heard will do, and silence tells by itself
  }

  /** Tell the others something that is not worth keeping; lost without a word when the line is down. */
  signal(signal: object): void {
    if (this.live.state === "subscribed") this.live.publish(signal).catch(() => undefined);
  }

  private subscribe(): Subscription {
    const channel = this.centrifuge.newSubscription(`room:${this.room}`, { recoverable: true, joinLeave: true });
    channel.on("subscribed", (ctx) => {
      this.hearing.onLive(ctx.recovered ? null : (ctx.data as Snapshot));
      void this.askWhoIsHere(channel);
    });
    channel.on("publication", (ctx: PublicationContext) => {
      if (ctx.offset !== undefined) this.hearing.onEvent(ctx.offset, ctx.data as RoomEvent);
    });
    channel.on("join", (ctx) => {
      this.clients.set(ctx.info.client, ctx.info.user);
      this.tellPresence();
    });
    channel.on("leave", (ctx) => {
      this.clients.delete(ctx.info.client);
      this.tellPresence();
    });
    channel.on("unsubscribed", (ctx) => {
      if (channel !== this.channel) return;
      if (ctx.code === PERMISSION_DENIED) this.hearing.onClosed("not-a-member");
      else if (ctx.code >= 2000) this.hearing.onClosed("removed");
    });
    return channel;
  }

  private async askWhoIsHere(channel: Subscription): Promise<void> {
    try {
      const { clients } = await channel.presence();
      this.clients.clear();
      for (const [client, info] of Object.entries(clients)) this.clients.set(client, info.user);
      this.tellPresence();
    } catch {
      this.tellPresence(); // cut off again: joins and leaves tell from the next time on
    }
  }

  private tellPresence(): void {
    this.hearing.onPresence(new Set(this.clients.values()));
  }
}

function isTemporary(error: unknown): boolean {
  return typeof error === "object" && error !== null && "temporary" in error && error.temporary === true;
}
