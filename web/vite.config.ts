import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import type { Plugin } from "vite";
import { defineConfig, type ViteUserConfig } from "vitest/config";
import { ICONS } from "./src/look/icons.ts";

/** The first with light-dark(): spelt out for older ones it would be settled on :root, and pieces lose their night. */
const LIGHT_DARK = ["chrome123", "edge123", "firefox120", "safari17.5"];

/** Puts the icons the client uses into the page as one sprite, so that no request and no markup from code is needed. */
function iconSprite(): Plugin {
  const symbol = (name: string): string => {
    const file = fileURLToPath(new URL(`node_modules/lucide-static/icons/${name}.svg`, import.meta.url));
    const inner = /<svg[^>]*>([\s\S]*)<\/svg>/.exec(readFileSync(file, "utf8"))?.[1];
    if (inner === undefined) throw new Error(`lucide-static/icons/${name}.svg holds no drawing`);
    return `<symbol id="i-${name}" viewBox="0 0 24 24">${inner.replace(/\s+/g, " ").trim()}</symbol>`;
  };
  return {
    name: "icon-sprite",
    transformIndexHtml: (html) => html.replace("<!-- icons -->", ICONS.map(symbol).join("")),
  };
}

/** The page of `tableforge bench`: one script and one style that Python puts into a file; faces lie in the style. */
const REPORT: ViteUserConfig = {
  publicDir: false,
  build: {
    outDir: "../src/tableforge/web/static/report",
    emptyOutDir: true,
    assetsInlineLimit: 1_000_000,
    modulePreload: false,
    cssCodeSplit: false, // or the script would bring the style, which the policy of the page forbids
    cssTarget: LIGHT_DARK,
    rolldownOptions: {
      input: "src/report/main.ts",
      output: { format: "iife", entryFileNames: "report.js", assetFileNames: "report[extname]" },
    },
  },
};

const client = (mode: string): ViteUserConfig => ({
  base: "./",
  plugins: [svelte(), iconSprite()],
  // Svelte's own server build would be picked in tests otherwise
  ...(mode === "test" ? { resolve: { conditions: ["browser"] } } : {}),
  build: {
    outDir: "../src/tableforge/web/static",
    emptyOutDir: true,
    assetsInlineLimit: 0, // data: addresses are not in the content security policy
    chunkSizeWarningLimit: 900, // PixiJS comes as one piece
    cssTarget: LIGHT_DARK,
  },
  test: { environment: "jsdom", include: ["tests/**/*.test.ts", "src/**/*.test.ts"] },
});

export default defineConfig(({ mode }) => (mode === "report" ? REPORT : client(mode)));
