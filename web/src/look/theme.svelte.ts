/** Night is the default; the choice is kept on this device. */
export type Theme = "dark" | "light" | "auto";

const KEY = "tableforge.theme";

function stored(): Theme {
  try {
    const kept = localStorage.getItem(KEY);
    return kept === "light" || kept === "auto" ? kept : "dark";
  } catch {
    return "dark"; // storage is closed to this page: the choice then lasts as long as the page
  }
}

class ThemeChoice {
  current = $state.raw<Theme>(stored());

  constructor() {
    document.documentElement.dataset["theme"] = this.current;
  }

  choose(theme: Theme): void {
    this.current = theme;
    document.documentElement.dataset["theme"] = theme;
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      return; // as above
    }
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
