// Owns how many pages of one browser receive events: over HTTP/1.1 all its windows together have six connections to a
// gateway, and a request that finds none free waits silently. Knows no stream.

/** Pages that receive events at a time; leaves two connections for everything else. */
export const SEATS = 4;

/** Takes a seat; the returned function gives it back, and so does closing the page. `null` if none is free, or if the
 *  browser has no locks to count them with, as outside secure contexts. */
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
      // A page that is being closed gets none.
      .catch(() => resolve(null));
  });
}
