import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";
import { ICONS } from "./src/look/icons.ts";

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

export default defineConfig(({ mode }) => ({
  base: "./",
  plugins: [svelte(), iconSprite()],
  // Svelte's own server build would be picked in tests otherwise
  ...(mode === "test" ? { resolve: { conditions: ["browser"] } } : {}),
  build: {
    outDir: "../src/tableforge/web/static",
    emptyOutDir: true,
    assetsInlineLimit: 0, // data: addresses are not in the content security policy
    chunkSizeWarningLimit: 900, // PixiJS comes as one piece
    // the first with light-dark(): spelt out for older ones it would be settled on :root, and pieces lose their night
    cssTarget: ["chrome123", "edge123", "firefox120", "safari17.5"],
  },
  test: { environment: "jsdom", include: ["tests/**/*.test.ts", "src/**/*.test.ts"] },
}));
