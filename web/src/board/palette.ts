/**
 * The look's colours as numbers. PixiJS and canvas 2D know nothing of `light-dark()` and custom properties, so each
 * token is laid on a probe element and read back as the browser resolved it.
 */

/** What lies on the board keeps its night colours by day: maps bring their own light. */
const ALWAYS_NIGHT = {
  keyline: "var(--board-keyline)",
  grid: "var(--board-grid)",
  plate: "var(--board-plate)",
  plateInk: "var(--board-plate-ink)",
  select: "var(--board-select)",
  moon: "var(--board-moon)",
  focus: "var(--focus)",
  moonDeep: "color-mix(in oklab, var(--board-moon) 16%, var(--board-keyline))",
  /** Ring of a piece that nobody owns. */
  nobody: "color-mix(in oklab, var(--board-plate-ink) 58%, var(--board-keyline))",
  player1: "var(--player-1)",
  player2: "var(--player-2)",
  player3: "var(--player-3)",
  player4: "var(--player-4)",
  player5: "var(--player-5)",
  player6: "var(--player-6)",
  player7: "var(--player-7)",
  player8: "var(--player-8)",
} as const;

/** The bare table of a scene without a picture follows day and night. */
const BY_NIGHT = {
  floor: "color-mix(in oklab, var(--board-glow) 78%, var(--ink-2))",
  floorEdge: "color-mix(in oklab, var(--board-glow) 93%, var(--ink-2))",
  floorGrid: "var(--ink)",
} as const;
const BY_DAY: Record<keyof typeof BY_NIGHT, string> = {
  floor: "var(--surface-2)",
  floorEdge: "var(--board-glow)",
  floorGrid: "var(--ink)",
};

export type ColorName = keyof typeof ALWAYS_NIGHT | keyof typeof BY_NIGHT;

export interface Color {
  /** 0xRRGGBB, for PixiJS. */
  readonly hex: number;
  readonly alpha: number;
  /** "#rrggbb", for canvas 2D and for what goes over the wire. */
  readonly css: string;
}

export interface Palette {
  readonly of: Readonly<Record<ColorName, Color>>;
  /** The colour of member mark 1 to 8; of nobody for 0. */
  player(mark: number): Color;
  readonly fontUi: string;
  readonly fontDisplay: string;
  /** Durations in milliseconds; zero when the reader asked for less motion. */
  readonly glideMs: number;
  readonly baseMs: number;
  readonly fastMs: number;
}

/** Reads every colour through a probe inside `host`; call again when the theme or the media queries change. */
export function readPalette(host: HTMLElement): Palette {
  const probe = document.createElement("span");
  probe.setAttribute("aria-hidden", "true");
  probe.style.display = "none";
  host.append(probe);
  try {
    const read = resolver();
    const take = (value: string): Color => {
      probe.style.color = "";
      probe.style.color = value;
      return read(getComputedStyle(probe).color);
    };
    const of = {} as Record<ColorName, Color>;
    const floor = isDark(take("var(--surface-0)")) ? BY_NIGHT : BY_DAY;
    for (const [name, value] of Object.entries(floor)) of[name as ColorName] = take(value);
    // the look's own class, not a style: the build may spell `light-dark()` out for older browsers
    probe.className = "board-dark";
    for (const [name, value] of Object.entries(ALWAYS_NIGHT)) of[name as ColorName] = take(value);
    const style = getComputedStyle(host);
    const text = (name: string, otherwise: string): string => style.getPropertyValue(name).trim() || otherwise;
    const players = [
      of.nobody,
      of.player1,
      of.player2,
      of.player3,
      of.player4,
      of.player5,
      of.player6,
      of.player7,
      of.player8,
    ];
    return {
      of,
      player: (mark) => players[mark] ?? of.nobody,
      fontUi: text("--font-ui", "system-ui, sans-serif"),
      fontDisplay: text("--font-display", "serif"),
      glideMs: milliseconds(text("--t-glide", "180ms")),
      baseMs: milliseconds(text("--t-base", "160ms")),
      fastMs: milliseconds(text("--t-fast", "90ms")),
    };
  } finally {
    probe.remove();
  }
}

/** Any CSS colour the browser can paint, `oklab()` of a `color-mix` included, by painting one pixel with it. */
function resolver(): (css: string) => Color {
  const canvas = document.createElement("canvas");
  canvas.width = 1;
  canvas.height = 1;
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  return (css) => {
    if (!pen) return { hex: 0x808080, alpha: 1, css: "#808080" };
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = css;
    pen.fillRect(0, 0, 1, 1);
    const [r = 0, g = 0, b = 0, a = 255] = pen.getImageData(0, 0, 1, 1).data;
    const hex = (r << 16) | (g << 8) | b;
    return { hex, alpha: a / 255, css: `#${hex.toString(16).padStart(6, "0")}` };
  };
}

function isDark({ hex }: Color): boolean {
  const [red, green, blue] = [hex >> 16, (hex >> 8) & 255, hex & 255];
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue < 128;
}

function milliseconds(text: string): number {
  const value = Number.parseFloat(text);
  if (!Number.isFinite(value)) return 0;
  return /[^m]s$/.test(text) ? value * 1000 : value;
}

/** Calls `hear` after anything that changes what the probe reads. Returns the way to stop. */
export function onLookChange(hear: () => void): () => void {
  const observer = new MutationObserver(hear);
  observer.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme", "class", "style"] });
  const queries = ["(prefers-color-scheme: dark)", "(prefers-contrast: more)", "(prefers-reduced-motion: reduce)"].map(
    (query) => matchMedia(query),
  );
  for (const query of queries) query.addEventListener("change", hear);
  return () => {
    observer.disconnect();
    for (const query of queries) query.removeEventListener("change", hear);
  };
}
