// Tests that the matches of a search can be read, and that the current one stands out.
import { expect, test } from "vitest";
import { DARK, DARK_SEARCH, LIGHT, LIGHT_SEARCH } from "./theme";

/** Returns the relative luminance of `#rrggbb` (WCAG 2.2). */
function luminance(colour = ""): number {
  const part = (at: number) => {
    const value = parseInt(colour.slice(at, at + 2), 16) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  };
  return 0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5);
}

/** Returns the contrast of two colours, 1…21. */
function contrast(one?: string, other?: string): number {
  const [dark, bright] = [luminance(one), luminance(other)].sort((a, b) => a - b) as [number, number];
  return (bright + 0.05) / (dark + 0.05);
}

test.each([
  ["dark", DARK, DARK_SEARCH],
  ["light", LIGHT, LIGHT_SEARCH],
])("the_current_match_stands_out_from_the_others_in_the_%s_scheme", (_, { theme }, { matches, current }) => {
  for (const background of [current.selectionBackground, current.selectionInactiveBackground]) {
    expect(contrast(background, matches.matchBackground)).toBeGreaterThan(3);
    expect(contrast(background, theme?.background)).toBeGreaterThan(contrast(matches.matchBackground, theme?.background));
    expect(contrast(background, current.selectionForeground)).toBeGreaterThan(4.5);
  }
  for (const background of [matches.matchBackground, matches.activeMatchBackground])
    expect(contrast(background, theme?.foreground)).toBeGreaterThan(4.5);
});
