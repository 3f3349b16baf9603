// Owns how entries of the audit log become files: JSON Lines for programs, CSV for spreadsheets. Knows no page.
import type { Entry } from "./people";

const COLUMNS = ["seq", "at", "actor", "client_ip", "action", "subject", "outcome", "detail"] as const;

/** Returns one entry a line, as the gateway sent it. */
export function jsonLines(entries: readonly Entry[]): string {
  return entries.map((entry) => `${JSON.stringify(entry)}\n`).join("");
}

/** Returns a table with a header row (RFC 4180). No cell is read as a formula: names and details come from outside. */
export function csv(entries: readonly Entry[]): string {
  const rows = entries.map((entry) => COLUMNS.map((column) => cell(entry[column])));
  return [COLUMNS, ...rows].map((row) => `${row.join(",")}\r\n`).join("");
}

/** Returns a detail as one text. */
export function detailText(detail: unknown): string {
  if (detail === null || detail === undefined) return "";
  return typeof detail === "string" ? detail : JSON.stringify(detail);
}

function cell(value: unknown): string {
  const text = detailText(value);
  // Spreadsheets also skip a tab or a return in front of the sign of a formula.
  const harmless = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}

/** Saves a text as a file on the user's machine. */
export function download(name: string, type: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  Object.assign(link, { href: url, download: name });
  link.click();
  // The browser has taken the bytes by the next turn of its event loop.
  setTimeout(() => URL.revokeObjectURL(url));
}
