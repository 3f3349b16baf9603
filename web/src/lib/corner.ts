// Owns the corner of a terminal in which the cards lie: away from the line that the user looks at. Knows no card.

/** The corner that cards lie in, always on the right. */
export type Corner = "top" | "bottom";

/** Parts of the terminal's height beyond which the cards give way: apart, so that they stay while a line moves about
 *  the middle. */
const [UPPER, LOWER] = [0.4, 0.6];

/** Returns the corner for cards that lie in `now`, while the user looks at a line `at` of the way down, 0 to 1; `null`:
 *  at none in sight. */
export function cornerFor(now: Corner, at: number | null): Corner {
  if (at === null) return now;
  if (at < UPPER) return "bottom";
  return at > LOWER ? "top" : now;
}
