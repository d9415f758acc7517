/** Two pages, told apart by the address below the base: the lobby and a table. */
import { pathBelowBase, tableLink, address } from "../protocol/address";
import { parseTableLink } from "../room/link";

export type Route = { page: "lobby" } | { page: "table"; room: string; invite: string | null };

function read(): Route {
  const path = pathBelowBase(location);
  const table = parseTableLink(`/${path}${location.hash}`);
  return table === null ? { page: "lobby" } : { page: "table", ...table };
}

class Router {
  current = $state.raw<Route>(read());

  constructor() {
    addEventListener("popstate", () => (this.current = read()));
    addEventListener("hashchange", () => (this.current = read()));
  }

  toTable(room: string, invite: string | null = null): void {
    history.pushState(null, "", tableLink(room, invite ?? undefined));
    this.current = read();
  }

  toLobby(): void {
    history.pushState(null, "", address(""));
    this.current = read();
  }

  /** The invite has done its work: it goes out of the address bar, so that a copied address gives nothing away. */
  dropInvite(): void {
    if (this.current.page !== "table" || this.current.invite === null) return;
    const { room } = this.current;
    history.replaceState(null, "", tableLink(room));
    this.current = { page: "table", room, invite: null };
  }
}

export const router = new Router();
