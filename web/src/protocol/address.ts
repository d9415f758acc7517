/** Every address of the client is relative to the page's base, so that it works under a sub-path behind a proxy. */

export function address(path: string): string {
  return new URL(path, document.baseURI).href;
}

/** The room stands in it so that a balancer can bring all of a room's members to one server, which ignores it. */
export function socketAddress(room: string): string {
  const url = new URL("ws", document.baseURI);
  url.searchParams.set("room", room);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

/** The page's own path below the base: "" for the lobby, "r/<room>" for a table. */
export function pathBelowBase(location: { href: string }): string {
  const base = new URL(document.baseURI).pathname;
  const path = new URL(location.href).pathname;
  return path.startsWith(base) ? path.slice(base.length) : path.replace(/^\//, "");
}

export function imageAddress(asset: string, thumbnail = false): string {
  return address(`api/assets/${encodeURIComponent(asset)}${thumbnail ? "/thumbnail" : ""}`);
}

/** The link that is enough to sit down: the invite stays in the fragment, which no server and no log ever sees. */
export function tableLink(room: string, invite?: string): string {
  return address(`r/${encodeURIComponent(room)}`) + (invite === undefined ? "" : `#${encodeURIComponent(invite)}`);
}
