// Owns how entries of the audit log become files: JSON Lines for programs, CSV for spreadsheets. Knows no page.
import type { Entry } from "./people";

const COLUMNS = ["seq", "at", "actor", "client_ip", "action", "subject", "outcome", "detail"] as const;

/** One entry a line, as the gateway told it. */
export function jsonLines(entries: readonly Entry[]): string {
  return entries.map((entry) => `${JSON.stringify(entry)}\n`).join("");
}

/** A table with a head (RFC 4180). A spreadsheet takes no cell for a formula: names and details come from outside. */
export function csv(entries: readonly Entry[]): string {
  const rows = entries.map((entry) => COLUMNS.map((column) => cell(entry[column])));
  return [COLUMNS, ...rows].map((row) => `${row.join(",")}\r\n`).join("");
}

/** What a detail says, as one text. */
export function detailText(detail: unknown): string {
  if (detail === null || detail === undefined) return "";
  return typeof detail === "string" ? detail : JSON.stringify(detail);
}

function cell(value: unknown): string {
  const text = detailText(value);
  // Tab and return, too, are skipped by spreadsheets that look for the sign of a formula.
  const harmless = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}

/** Hands a text to the person as a file. */
export function download(name: string, type: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  Object.assign(link, { href: url, download: name });
  link.click();
  // The browser has the bytes by the next turn.
  setTimeout(() => URL.revokeObjectURL(url));
}
