// Owns the start of the page: mounts the UI, and offers tests a way to read the terminal in front.
import { mount } from "svelte";
import "./app.css";
import "./pages.css";
import { clientId } from "./lib/client";
import { followSight } from "./lib/sight";
import { workspace } from "./lib/workspace.svelte";
import App from "./ui/App.svelte";

declare global {
  interface Window {
    /** A read-only helper for tests: a canvas has no text to look at. */
    pulsegate: { text(): string };
  }
}

window.pulsegate = Object.freeze({ text: () => workspace.screen?.text() ?? "" });

followSight();
// Before anything else: once terminals are drawn, a busy page hears late that its id is free.
void clientId();
const root = document.getElementById("app");
if (root !== null) mount(App, { target: root });
