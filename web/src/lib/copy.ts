// Owns how what is selected in a terminal gets onto the clipboard.
import type { Terminal } from "@xterm/xterm";

/** Copies what is selected; returns whether that worked. */
export async function copySelection(terminal: Terminal): Promise<boolean> {
  if (!terminal.hasSelection()) return false;
  try {
    // Without TLS there is no clipboard API.
    await navigator.clipboard.writeText(terminal.getSelection());
    return true;
  } catch {
    // xterm.js serves the command from its selection, where it has the focus.
    terminal.focus();
    return document.execCommand("copy");
  }
}
