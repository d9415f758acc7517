/**
 * Why a command was refused. The server sends the sentences beside an error's code and slug, but the Centrifuge client
 * hands on only code and slug; so the socket it is given reads the sentences as they pass, and keeps them by command.
 * It also notes when it last heard anything at all, which tells a slow table from one that is not there any more.
 */

interface Line {
  id?: number;
  rpc?: { data?: { id?: string } };
  error?: { detail?: string };
}

const KEPT_AT_MOST = 500;

export class Reasons {
  private readonly commands = new Map<number, string>();
  private readonly details = new Map<string, string>();
  heardAt = 0;

  /** A WebSocket class for the Centrifuge client that lets this listen in. */
  socket(): typeof WebSocket {
    const { noteSent, noteReceived } = this;
    return class extends WebSocket {
      constructor(address: string | URL, protocols?: string | string[]) {
        super(address, protocols);
        this.addEventListener("message", ({ data }) => noteReceived(String(data)));
      }

      override send(data: string | BufferSource | Blob): void {
        if (this.readyState !== WebSocket.OPEN) return; // it closes: the browser would drop this as well, and complain
        noteSent(String(data));
        super.send(data);
      }
    };
  }

  /** The sentences for a refused command, once. */
  take(command: string): string {
    const detail = this.details.get(command) ?? "";
    this.details.delete(command);
    return detail;
  }

  private readonly noteSent = (frame: string): void => {
    if (!frame.includes('"rpc"')) return;
    for (const { id, rpc } of lines(frame)) {
      if (id !== undefined && rpc?.data?.id !== undefined) keep(this.commands, id, rpc.data.id);
    }
  };

  private readonly noteReceived = (frame: string): void => {
    this.heardAt = Date.now();
    if (!frame.includes('"error"')) return;
    for (const { id, error } of lines(frame)) {
      const command = id === undefined ? undefined : this.commands.get(id);
      if (command !== undefined && error?.detail !== undefined) keep(this.details, command, error.detail);
    }
  };
}

function lines(frame: string): Line[] {
  return frame.split("\n").flatMap((line) => {
    try {
      return [JSON.parse(line) as Line];
    } catch {
      return []; // the Centrifuge client itself answers for frames that are no JSON
    }
  });
}

/** Oldest out first: a map remembers the order in which things came. */
function keep<K>(map: Map<K, string>, key: K, value: string): void {
  map.set(key, value);
  if (map.size > KEPT_AT_MOST) map.delete(map.keys().next().value as K);
}
