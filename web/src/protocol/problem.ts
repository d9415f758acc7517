/** Every failure reaches a person as what happened, why, and how to mend it; this is where answers become that. */

export interface Problem {
  /** HTTP status or the status of a refused command; 0 when nothing answered. */
  status: number;
  /** The stable slug of the contract, such as `not-found`; `unreachable` when nothing answered. */
  code: string;
  what: string;
  why: string;
  mend: string;
}

export class Refusal extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(sentences(problem));
    this.name = "Refusal";
    this.problem = problem;
  }
}

export const UNREACHABLE: Problem = {
  status: 0,
  code: "unreachable",
  what: "The table could not be reached.",
  why: "Nothing answers at this address right now.",
  mend: "Look at your connection, then try again.",
};

/** What, why and mend in one line of sentences. */
export function sentences(problem: Problem): string {
  return [problem.what, problem.why, problem.mend].filter((part) => part !== "").join(" ");
}

const text = (value: unknown): string => (typeof value === "string" ? value : "");

/** Turns a problem document (or whatever a proxy sent in its place) into a problem. */
export function problemFromBody(status: number, body: unknown): Problem {
  const fields: Record<string, unknown> = typeof body === "object" && body !== null ? { ...body } : {};
  const what = text(fields["what"]);
  return {
    status,
    code: text(fields["code"]) || text(fields["type"]).split(/[/:#]/).pop() || String(status),
    what: what || text(fields["detail"]) || text(fields["title"]) || `The server answered ${status}.`,
    why: what ? text(fields["why"]) : "",
    mend: what ? text(fields["mend"]) : "",
  };
}

/** Turns the error of a refused command (contract 5: the slug as message) and its sentences into a problem. */
export function problemFromRpc(error: unknown, detail: string): Problem {
  const fields: Record<string, unknown> = typeof error === "object" && error !== null ? { ...error } : {};
  const status = typeof fields["code"] === "number" ? fields["code"] : 0;
  const code = text(fields["message"]) || String(status);
  return { status, code, what: detail || `The table refused this: ${code.replaceAll("-", " ")}.`, why: "", mend: "" };
}

/** The problem inside anything that was thrown. */
export function problemOf(thrown: unknown): Problem {
  return thrown instanceof Refusal ? thrown.problem : UNREACHABLE;
}
