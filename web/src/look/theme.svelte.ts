/** Night is the default; the choice is kept on this device. */
import { keep, kept } from "../parts/kept";

export type Theme = "dark" | "light" | "auto";

const KEY = "theme";

function stored(): Theme {
  const found = kept(KEY);
  return found === "light" || found === "auto" ? found : "dark";
}

class ThemeChoice {
  current = $state.raw<Theme>(stored());

  constructor() {
    document.documentElement.dataset["theme"] = this.current;
  }

  choose(theme: Theme): void {
    this.current = theme;
    document.documentElement.dataset["theme"] = theme;
    keep(KEY, theme);
  }

  /** Between night and day; from `auto` to the other of what is on. */
  toggle(): void {
    this.choose(this.isDark ? "light" : "dark");
  }

  get isDark(): boolean {
    if (this.current !== "auto") return this.current === "dark";
    return !matchMedia("(prefers-color-scheme: light)").matches;
  }
}

export const theme = new ThemeChoice();
