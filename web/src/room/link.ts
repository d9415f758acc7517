/** A link to a table, as somebody pastes it: the whole address, or only its end. */

export interface TableAddress {
  room: string;
  invite: string | null;
}

/** Null when the text names no table. Any host will do: people paste what they were sent, proxies rename hosts. */
export function parseTableLink(pasted: string): TableAddress | null {
  const found = /(?:^|\/)r\/([^/?#\s]+)\/?(?:\?[^#\s]*)?(?:#(\S*))?$/u.exec(pasted.trim());
  if (!found?.[1]) return null;
  return { room: decoded(found[1]), invite: found[2] ? decoded(found[2]) : null };
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // a stray percent sign: taken as it stands, the server says that there is no such table
  }
}
