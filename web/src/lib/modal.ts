// Owns showing a dialog over the page, and where the focus goes once it is gone. Knows no particular dialog.

/** Shows `dialog` over the page. The returned function gives the focus back to where it was: the browser does so itself
 * for a dialog that is closed, but not for one that is removed from the page. */
export function modal(dialog: HTMLDialogElement): () => void {
  const before = document.activeElement;
  dialog.showModal();
  return () => {
    const lost = document.activeElement === null || document.activeElement === document.body;
    if (lost && before instanceof HTMLElement && before.isConnected) before.focus();
  };
}
