/** The REST calls of the contract's 8.1 that the client makes. The session travels in a cookie no script can read. */
import type { Role, Snapshot, Visibility } from "./types";
import { address } from "./address";
import { problemFromBody, Refusal, UNREACHABLE } from "./problem";

export interface User {
  id: string;
  name: string;
}

export interface RoomSummary {
  id: string;
  name: string;
  members: number;
  updated: string;
  /** The role one has there; null at tables one does not sit at. */
  role: Role | null;
}

export interface RoomPage {
  rooms: RoomSummary[];
  next: string | null;
}

export interface CreatedRoom {
  id: string;
  name: string;
  role: Role;
  invite: string;
}

export interface Asset {
  id: string;
  kind: string;
  width: number;
  height: number;
  bytes: number;
}

/** The scene that a file became; `left_out` says line by line what of the file could not be read. */
export interface Imported {
  scene: { id: string };
  left_out: string[];
}

const ANSWER_WITHIN_MS = 20_000;

async function call<T>(method: string, path: string, body?: unknown, bearer?: string): Promise<T> {
  let answer: Response;
  try {
    answer = await fetch(address(path), {
      method,
      credentials: "same-origin",
      headers: {
        ...(body !== undefined && { "Content-Type": "application/json" }),
        ...(bearer !== undefined && { Authorization: `Bearer ${bearer}` }),
      },
      body: body === undefined ? null : JSON.stringify(body),
      signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
    });
  } catch {
    throw new Refusal(UNREACHABLE);
  }
  const said: unknown = await answer.json().catch(() => null);
  if (!answer.ok) throw new Refusal(problemFromBody(answer.status, said));
  return said as T;
}

/** Who am I; null for somebody without a session. */
export async function whoAmI(): Promise<User | null> {
  try {
    return (await call<{ user: User }>("GET", "api/session")).user;
  } catch (thrown) {
    if (thrown instanceof Refusal && thrown.problem.status === 401) return null;
    throw thrown;
  }
}

export async function sitDownAs(name: string, password?: string): Promise<User> {
  const body = password === undefined ? { name } : { name, password };
  return (await call<{ user: User }>("POST", "api/session", body)).user;
}

export async function recover(recovery: string): Promise<User> {
  return (await call<{ user: User }>("POST", "api/session", { recovery })).user;
}

export async function rename(name: string): Promise<User> {
  return (await call<{ user: User }>("PATCH", "api/session", { name })).user;
}

export const signOut = (): Promise<void> => call("DELETE", "api/session");

export async function recoveryCode(): Promise<string> {
  return (await call<{ code: string }>("POST", "api/session/recovery")).code;
}

export const listRooms = (limit = 50, cursor?: string): Promise<RoomPage> =>
  call("GET", `api/rooms?limit=${limit}${cursor === undefined ? "" : `&cursor=${encodeURIComponent(cursor)}`}`);

/** `admin` is the server's own token, for a house in which nobody else may open tables. */
export const createRoom = (name: string, visibility: Visibility, admin?: string): Promise<CreatedRoom> =>
  call("POST", "api/rooms", { name, visibility }, admin);

const room = (id: string): string => `api/rooms/${encodeURIComponent(id)}`;

export const deleteRoom = (id: string): Promise<void> => call("DELETE", room(id));

export const joinRoom = (id: string, invite: string | null): Promise<{ role: Role }> =>
  call("POST", `${room(id)}/join`, invite === null ? {} : { invite });

export const leaveRoom = (id: string): Promise<void> => call("DELETE", `${room(id)}/members/me`);

export async function makeInvite(id: string, role: Role): Promise<string> {
  return (await call<{ invite: string }>("POST", `${room(id)}/invites`, { role })).invite;
}

export const snapshot = (id: string): Promise<Snapshot> => call("GET", `${room(id)}/snapshot`);

/** How far a file is on its way: bytes sent, of how many. */
export type Progress = (sent: number, total: number) => void;

/** Send one file as `multipart/form-data`; XMLHttpRequest, since fetch tells nothing of an upload's progress. */
function upload<T>(path: string, file: File, progress: Progress, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const form = new FormData();
    form.append("file", file, file.name);
    request.open("POST", address(path));
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => progress(event.loaded, event.total));
    request.addEventListener("load", () => {
      const said: unknown = request.response;
      if (request.status >= 200 && request.status < 300) resolve(said as T);
      else reject(new Refusal(problemFromBody(request.status, said)));
    });
    request.addEventListener("error", () => reject(new Refusal(UNREACHABLE)));
    request.addEventListener("abort", () => reject(new Refusal({ ...UNREACHABLE, code: "cancelled" })));
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(form);
  });
}

/** `cell` is how many pixels of a plain picture make a cell; a map editor's file knows it by itself. */
export const importFile = (
  id: string,
  file: File,
  cell: number,
  progress: Progress,
  signal: AbortSignal,
): Promise<Imported> => upload(`${room(id)}/imports?cell=${cell}`, file, progress, signal);

export const uploadAsset = (file: File, progress: Progress, signal: AbortSignal): Promise<Asset> =>
  upload("api/assets", file, progress, signal);
