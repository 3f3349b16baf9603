// Owns how the UI is bundled: everything under /assets/ with hashed names, nothing inlined, so that a strict CSP holds.
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";

/** Where `npm run dev` finds a running gateway; `server.listen` of its default configuration. */
const GATEWAY = "http://127.0.0.1:8022";

export default defineConfig({
  plugins: [svelte({ configFile: false })],
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    rollupOptions: { output: { manualChunks: { xterm: ["@xterm/xterm"] } } },
  },
  server: {
    // The gateway compares Origin exactly, so the proxy speaks with the gateway's own.
    proxy: { "/api": { target: GATEWAY, ws: true, changeOrigin: true, headers: { origin: GATEWAY } } },
  },
  test: { include: ["src/**/*.test.ts"] },
});
