// Owns the part of the page that is in sight beside a soft keyboard. iOS lays the keyboard over the page, and heeds no
// `interactive-widget`; elsewhere the page itself gets smaller, and there is nothing to do.

/** Returns the height that is in sight of a page of height `whole`, in CSS; `null` if all of it is, or the user
 *  zooms. */
export function heightInSight(whole: number, { height, scale }: Pick<VisualViewport, "height" | "scale">): string | null {
  return scale === 1 && height < whole - 1 ? `${height}px` : null;
}

/** Keeps the page as high as what is in sight of it. */
export function followSight(): void {
  const seen = window.visualViewport;
  seen?.addEventListener("resize", () => {
    const { style, clientHeight } = document.documentElement;
    const height = heightInSight(clientHeight, seen);
    style.setProperty("--in-sight", height);
    // To the field with the focus the whole page was moved, out of sight.
    if (height !== null) scrollTo(0, 0);
  });
}
