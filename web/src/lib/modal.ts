// Owns how a dialog comes to lie over the page, and who has the focus once it is gone. Knows no dialog.

/** Shows `dialog` over the page. What is returned gives the focus back to where it was, however the dialog went: the browser
 * itself does so for one that is closed, and not for one that is taken out of the page. */
export function modal(dialog: HTMLDialogElement): () => void {
  const before = document.activeElement;
  dialog.showModal();
  return () => {
    const lost = document.activeElement === null || document.activeElement === document.body;
    if (lost && before instanceof HTMLElement && before.isConnected) before.focus();
  };
}
