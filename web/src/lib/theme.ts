// Owns the terminal's colours and font; the page's own colours stand in app.css.
import type { ISearchDecorationOptions } from "@xterm/addon-search";
import type { ITerminalOptions, ITheme } from "@xterm/xterm";

/** Fonts that operating systems bring along, so that none is fetched. */
export const FONT =
  'ui-monospace, "SF Mono", "Cascadia Mono", "JetBrains Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace';

/** Terminal options of the dark scheme. */
export const DARK: ITerminalOptions = {
  minimumContrastRatio: 1,
  theme: {
    background: "#0d1114",
    foreground: "#d7dee3",
    cursor: "#4fd8b4",
    cursorAccent: "#0d1114",
    selectionBackground: "#2b4a52",
    selectionInactiveBackground: "#24363c",
    scrollbarSliderBackground: "#ffffff1f",
    scrollbarSliderHoverBackground: "#ffffff33",
    scrollbarSliderActiveBackground: "#ffffff40",
    overviewRulerBorder: "#0d1114",
    black: "#1b2227",
    red: "#f2777a",
    green: "#7fce8d",
    yellow: "#e5c07b",
    blue: "#73b3f3",
    magenta: "#c99bee",
    cyan: "#5ecdc8",
    white: "#c9d1d6",
    brightBlack: "#66747d",
    brightRed: "#ff9a9c",
    brightGreen: "#a2e5ad",
    brightYellow: "#f6dba4",
    brightBlue: "#9dcbfb",
    brightMagenta: "#debdf9",
    brightCyan: "#8fe6e1",
    brightWhite: "#f4f7f9",
  },
};

/** Terminal options of the light scheme; programs that assume a dark background are kept readable. */
export const LIGHT: ITerminalOptions = {
  minimumContrastRatio: 4.5,
  theme: {
    background: "#fdfdfc",
    foreground: "#20292e",
    cursor: "#0b7a62",
    cursorAccent: "#fdfdfc",
    selectionBackground: "#bfe3da",
    selectionInactiveBackground: "#dcebe7",
    scrollbarSliderBackground: "#0000001f",
    scrollbarSliderHoverBackground: "#00000033",
    scrollbarSliderActiveBackground: "#00000040",
    overviewRulerBorder: "#fdfdfc",
    black: "#20292e",
    red: "#b3261e",
    green: "#1d7a36",
    yellow: "#8a6100",
    blue: "#1f5fae",
    magenta: "#8337a6",
    cyan: "#0c737c",
    white: "#6b777d",
    brightBlack: "#5b676d",
    brightRed: "#cf3a32",
    brightGreen: "#2c9148",
    brightYellow: "#a27300",
    brightBlue: "#3377cc",
    brightMagenta: "#9d4fc1",
    brightCyan: "#1b8c96",
    brightWhite: "#39444a",
  },
};

/** The colours of a search: of its matches, and of the selection meanwhile, which lies over the current match. */
interface Search {
  matches: ISearchDecorationOptions;
  current: Pick<ITheme, "selectionBackground" | "selectionInactiveBackground" | "selectionForeground">;
}

const RULER = { matchOverviewRuler: "#c98a1b", activeMatchColorOverviewRuler: "#e5a93c" };

/** Colours of a search in the dark scheme. */
export const DARK_SEARCH: Search = {
  matches: { ...RULER, matchBackground: "#57491c", activeMatchBackground: "#7d5712" },
  current: { selectionBackground: "#e5b567", selectionInactiveBackground: "#e5b567", selectionForeground: "#0d1114" },
};

/** Colours of a search in the light scheme. */
export const LIGHT_SEARCH: Search = {
  matches: { ...RULER, matchBackground: "#f3e2ac", activeMatchBackground: "#f0bf5a" },
  current: { selectionBackground: "#8a6100", selectionInactiveBackground: "#8a6100", selectionForeground: "#fdfdfc" },
};
