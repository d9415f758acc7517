/** Keys of the table: single letters act only while nothing is being typed. */

export type Keys = Readonly<Record<string, () => void>>;

/** "Ctrl+Shift+z" for what was pressed; Cmd counts as Ctrl. Shift is named only where the key itself does not show it. */
export function pressed(event: KeyboardEvent): string {
  const control = event.ctrlKey || event.metaKey;
  const digit = /^Digit(\d)$/u.exec(event.code)?.[1];
  const key = event.shiftKey && digit ? digit : event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const shift = event.shiftKey && (control || digit !== undefined || event.key.length > 1);
  return `${control ? "Ctrl+" : ""}${shift ? "Shift+" : ""}${key}`;
}

/** Whether the focus is somewhere that takes letters itself. */
function typing(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  return target.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName);
}

export function tableKeys(event: KeyboardEvent, keys: Keys): void {
  if (event.defaultPrevented || event.altKey) return;
  const name = pressed(event);
  const act = keys[name];
  if (act === undefined) return;
  if (typing(event.target) && name !== "F6" && name !== "Escape") return;
  // Enter on a button presses that button
  if (name === "Enter" && event.target instanceof HTMLElement && event.target !== document.body) return;
  if (name !== "Escape") event.preventDefault(); // which the browser closes menus with
  if (name === "Escape" && typing(event.target)) (event.target as HTMLElement).blur();
  else act();
}
