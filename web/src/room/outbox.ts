/**
 * What one has done and the table has not confirmed. A command leaves for good only when its fate is known: answered,
 * refused, or seen to have happened. Where nothing is known (no answer, a line that broke, a table that cannot save just
 * now) it is sent again under its own id, which does it once at most, until the table answers or its owner gives up on it.
 *
 * Order: commands are pipelined, but none leaves while one before it is in doubt. What is in doubt goes alone.
 */
import { Unanswered, type Reply } from "../protocol/connection";
import { Refusal, type Problem } from "../protocol/problem";
import type { RoomCommand } from "../protocol/types";
import { acknowledge, settled, unanswered, withoutPending, withPending, withSending, type Pending } from "./pending";

export const AGAIN_FIRST_MS = 500;
export const AGAIN_AT_MOST_MS = 8_000;

/** Whoever asked is told this when the sending was stopped: nobody knows whether it happened. */
export const GIVEN_UP: Problem = {
  status: 0,
  code: "given-up",
  what: "It is no longer sent.",
  why: "It may have happened after all.",
  mend: "Look at the table before you do it again.",
};

/** The same, of what had never left. */
const TAKEN_BACK: Problem = { ...GIVEN_UP, what: "It was not sent.", why: "Nothing happened.", mend: "" };

interface Asker {
  resolve: (reply: Reply) => void;
  reject: (why: unknown) => void;
}

export interface Sending {
  send(id: string, command: RoomCommand): Promise<Reply>;
  /** How far the room of this page has come. */
  reached(): number;
  /** The list, or what the table said when it put something off (null: nothing), is another one now. */
  changed(list: readonly Pending[], putOff: Problem | null): void;
}

export class Outbox {
  private list: readonly Pending[] = [];
  private putOff: Problem | null = null;
  private readonly askers = new Map<string, Asker>();
  private readonly flying = new Set<string>();
  private open = false;
  private failures = 0;
  private pause: ReturnType<typeof setTimeout> | null = null;

  constructor(private readonly sending: Sending) {}

  /** Send it now, or as soon as it may; rejects with a Refusal, never because nothing is known. */
  add(id: string, command: RoomCommand): Promise<Reply> {
    this.become(withPending(this.list, id, command, Date.now()));
    const answer = new Promise<Reply>((resolve, reject) => this.askers.set(id, { resolve, reject }));
    this.flow();
    return answer;
  }

  /** The line is there, and what it missed was told: what waits goes out. */
  opened(): void {
    this.open = true;
    this.endPause();
    this.flow();
  }

  /** The line is gone. */
  closed(): void {
    this.open = false;
    this.endPause();
    this.become(this.list, null);
  }

  /** The room has come to `offset`; `own` is the own command that brought it there, if it was one. */
  heard(offset: number, own: string | null): void {
    this.become(settled(this.list, offset, own));
    // One whose reply is still to come waits for that: only the reply has its result.
    if (own !== null && !this.flying.has(own)) this.answer(own, { offset });
    this.flow();
  }

  /** Send these no more; what the askers are told is returned: whether it may have happened. */
  giveUp(ids: ReadonlySet<string>): Problem {
    const sent = this.list.some((one) => ids.has(one.id) && one.sent > 0);
    const problem = sent ? GIVEN_UP : TAKEN_BACK;
    for (const id of ids) this.reject(id, new Refusal(problem));
    this.flow();
    return problem;
  }

  private flow(): void {
    if (!this.open || this.pause !== null) return;
    for (const one of unanswered(this.list)) {
      const flies = this.flying.has(one.id);
      if (!flies) void this.transmit(one);
      if (one.sent > (flies ? 1 : 0)) return; // in doubt: what comes after it waits for its answer
    }
  }

  private async transmit({ id, command }: Pending): Promise<void> {
    this.flying.add(id);
    this.become(withSending(this.list, id));
    let reply: Reply | null = null;
    let thrown: unknown = null;
    try {
      reply = await this.sending.send(id, command);
    } catch (error) {
      thrown = error;
    }
    this.flying.delete(id);
    if (reply !== null) {
      this.failures = 0;
      this.become(acknowledge(this.list, id, reply.offset, this.sending.reached()), null);
      this.answer(id, reply);
    } else if (!(thrown instanceof Unanswered)) {
      this.failures = 0;
      this.become(this.list, null);
      this.reject(id, thrown);
    } else if (!this.list.some((one) => one.id === id)) {
      this.answer(id, { offset: this.sending.reached() }); // its event came, only the reply was lost
    } else {
      this.become(this.list, thrown.said ?? this.putOff);
      this.rest();
      return;
    }
    this.flow();
  }

  /** Wait before the next try, longer each time, and not all tables' people at once. */
  private rest(): void {
    if (!this.open || this.pause !== null) return;
    const most = Math.min(AGAIN_AT_MOST_MS, AGAIN_FIRST_MS * 2 ** this.failures);
    const [chance = 0] = crypto.getRandomValues(new Uint8Array(1));
    this.failures += 1;
    this.pause = setTimeout(
      () => {
        this.pause = null;
        this.flow();
      },
      most * (0.5 + chance / 512),
    );
  }

  private endPause(): void {
    if (this.pause !== null) clearTimeout(this.pause);
    this.pause = null;
  }

  private answer(id: string, reply: Reply): void {
    this.askers.get(id)?.resolve(reply);
    this.askers.delete(id);
  }

  private reject(id: string, why: unknown): void {
    this.become(withoutPending(this.list, id));
    this.askers.get(id)?.reject(why);
    this.askers.delete(id);
  }

  private become(list: readonly Pending[], putOff: Problem | null = this.putOff): void {
    if (list === this.list && putOff === this.putOff) return;
    this.list = list;
    this.putOff = unanswered(list).length > 0 ? putOff : null;
    this.sending.changed(this.list, this.putOff);
  }
}
