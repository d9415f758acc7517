/** Short words over the board: three at most, six seconds each unless somebody is reading them. */
import type { IconName } from "../look/icons";
import { sentences, type Problem } from "../protocol/problem";

export interface Toast {
  readonly key: number;
  /** `refused` is read out at once, `note` when the reader is free. */
  readonly tone: "note" | "refused";
  readonly text: string;
  readonly icon: IconName;
  readonly action?: { label: string; run: () => void };
}

const SHOWN_AT_MOST = 3;
export const SHOWN_FOR_MS = 6_000;

class Toasts {
  list = $state.raw<readonly Toast[]>([]);
  private nextKey = 1;

  /** A note that is on show already is not said again. */
  tell(text: string, more: Partial<Omit<Toast, "key" | "text">> = {}): number {
    const tone = more.tone ?? "note";
    const shown = this.list.find((known) => known.text === text && known.tone === "note");
    if (shown && tone === "note" && !more.action) return shown.key;
    const toast: Toast = {
      icon: tone === "note" ? "check" : "triangle-alert",
      ...more,
      key: this.nextKey++,
      tone,
      text,
    };
    const others = this.list.filter((known) => known.text !== text);
    this.list = [...others, toast].slice(-SHOWN_AT_MOST);
    return toast.key;
  }

  refuse(problem: Problem, action?: Toast["action"]): void {
    this.tell(sentences(problem), action ? { tone: "refused", action } : { tone: "refused" });
  }

  take(key: number): void {
    this.list = this.list.filter((toast) => toast.key !== key);
  }
}

export const toasts = new Toasts();
