// Owns how values become text for people: sizes, times, durations, and titles that come from an untrusted target.

/** Longest terminal title; the rest is cut off. */
export const TITLE_CHARACTERS = 128;

// C0, C1, zero-width and bidirectional controls: they could reorder or hide what surrounds a title.
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

/** Returns a title as plain text: no control or bidirectional characters, at most 128 characters. */
export function plainTitle(untrusted: string): string {
  return [...untrusted.slice(0, TITLE_CHARACTERS * 4).replace(UNSAFE, "")].slice(0, TITLE_CHARACTERS).join("").trim();
}

const UNITS = ["B", "KB", "MB", "GB", "TB"] as const;

/** Returns a size in powers of 1000, as `1.2 MB`. */
export function bytes(count: number): string {
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

/** Returns a duration in milliseconds with its two largest units, as `3 h 05 m`. */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const [days, hours] = [Math.floor(seconds / 86_400), Math.floor(seconds / 3_600) % 24];
  const minutes = Math.floor(seconds / 60) % 60;
  const two = (n: number) => String(n).padStart(2, "0");
  if (days > 0) return `${days} d ${two(hours)} h`;
  if (hours > 0) return `${hours} h ${two(minutes)} m`;
  if (minutes > 0) return `${minutes} m ${two(seconds % 60)} s`;
  return `${seconds} s`;
}

/** Returns how long ago a moment was, as `3 m ago`; `–` if unknown. */
export function ago(time: string | null, now: number): string {
  if (time === null) return "–";
  const ms = now - Date.parse(time);
  if (ms < 2_000) return "now";
  return `${duration(ms).replace(/^(\d+ [dhm]) .*/, "$1")} ago`;
}

/** Returns a moment in the reader's own time zone; `–` if unknown. */
export function moment(time: string | null): string {
  return time === null ? "–" : new Date(time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

/** Returns a moment of the day of `now` as its time, any other with its date. */
export function timeOrMoment(time: string, now: number): string {
  const then = new Date(time);
  return then.toDateString() === new Date(now).toDateString() ? then.toLocaleTimeString() : moment(time);
}
