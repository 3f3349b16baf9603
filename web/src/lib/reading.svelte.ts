// Owns whether terminals are read aloud by a screen reader, which the browser stores for all its pages.

const KEY = "pulsegate.screen-reader";

/** How terminals are read. */
export class Reading {
  /** Whether what a terminal shows is offered to a screen reader. */
  aloud = $state(kept());

  constructor() {
    addEventListener("storage", ({ key }) => key === KEY && (this.aloud = kept()));
  }

  /** Turns reading on or off, and keeps that. */
  turn(on: boolean): void {
    this.aloud = on;
    try {
      localStorage.setItem(KEY, String(on));
    } catch {
      // Without storage it lasts as long as this page.
    }
  }
}

function kept(): boolean {
  try {
    return localStorage.getItem(KEY) === "true";
  } catch {
    return false;
  }
}

/** The one way of reading in this page. */
export const reading = new Reading();
