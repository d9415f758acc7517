/** A house in which only the admin opens tables: the lobby asks for the token, sends it once and keeps it nowhere. */
import { cleanup, fireEvent, render, screen } from "@testing-library/svelte";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import Lobby from "../src/pages/Lobby.svelte";
import { session } from "../src/parts/session.svelte";

const TOKEN = "sesame";
let asked: { method: string; path: string; bearer: string | null }[];

function answer(path: string, method: string, bearer: string | null): [number, unknown] {
  if (path === "/api/session") return [200, { user: { id: "u1", name: "Ilse" } }];
  if (path === "/api/session/recovery") return [200, { code: "code" }];
  if (method === "GET") return [200, { rooms: [], next: null }];
  const refused = { what: "Nothing was done.", why: "Only the admin.", mend: "Send the token." };
  if (bearer === null) return [403, { code: "forbidden", ...refused }];
  if (bearer !== `Bearer ${TOKEN}`) return [401, { code: "unauthorized", ...refused }];
  return [201, { id: "r1", name: "Cellar", role: "gm", invite: "i" }];
}

beforeEach(() => {
  document.head.innerHTML = `<base href="${location.origin}/">`;
  history.replaceState(null, "", "/");
  localStorage.clear();
  session.user = { id: "u1", name: "Ilse" };
  asked = [];
  vi.stubGlobal("matchMedia", () => ({ matches: false, addEventListener: () => undefined }));
  vi.stubGlobal("fetch", (address: string | URL, { method = "GET", headers }: RequestInit = {}) => {
    const path = new URL(address, document.baseURI).pathname;
    const bearer = new Headers(headers).get("Authorization");
    asked.push({ method, path, bearer });
    const [status, body] = answer(path, method, bearer);
    return Promise.resolve(Response.json(body, { status }));
  });
});

afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

const create = (): Promise<boolean> => fireEvent.click(screen.getByRole("button", { name: "Create table" }));

describe("the lobby of a house in which only the admin opens tables", () => {
  it("asks for the admin token, and says when it is wrong", async () => {
    render(Lobby);
    expect(screen.queryByLabelText("Admin token")).toBeNull();
    await create();
    await fireEvent.input(await screen.findByLabelText("Admin token"), { target: { value: "guess" } });
    await create();
    expect(await screen.findByText(/not the admin token/u)).toBeTruthy();
    expect(session.user).not.toBeNull();
  });

  it("sends the token with that one request and keeps it nowhere", async () => {
    render(Lobby);
    await create();
    const field = await screen.findByLabelText<HTMLInputElement>("Admin token");
    await fireEvent.input(field, { target: { value: TOKEN } });
    await create();
    await vi.waitFor(() => expect(location.pathname).toBe("/r/r1"));
    expect(asked.filter(({ bearer }) => bearer !== null)).toEqual([
      { method: "POST", path: "/api/rooms", bearer: `Bearer ${TOKEN}` },
    ]);
    expect(JSON.stringify(localStorage)).not.toContain(TOKEN);
    expect(field.value).toBe("");
  });
});
