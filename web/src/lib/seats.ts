// Owns how many pages of one browser hear events: over HTTP/1.1 it has six connections to a gateway, of all its windows together,
// and what finds none waits without a word. Knows no stream.

/** Leaves two connections for everything else. */
export const SEATS = 4;

/** Takes a seat; the result gives it back, and so does the end of the page. `null` where none is free, or nobody counts: browsers
 *  do in secure contexts only. */
export async function takeSeat(): Promise<(() => void) | null> {
  if (navigator.locks === undefined) return null;
  for (let seat = 0; seat < SEATS; seat += 1) {
    const leave = await sit(`pulsegate.events.${seat}`);
    if (leave !== null) return leave;
  }
  return null;
}

function sit(seat: string): Promise<(() => void) | null> {
  return new Promise((resolve) => {
    navigator.locks
      .request(seat, { ifAvailable: true }, (lock) => {
        if (lock === null) return resolve(null);
        return new Promise<void>((leave) => resolve(leave));
      })
      // A page that is on its way out gets none.
      .catch(() => resolve(null));
  });
}
