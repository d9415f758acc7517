/** What is kept on this device; where storage is closed to the page it lasts as long as the page. */

const here = new Map<string, string>();

export function kept(key: string): string | null {
  try {
    return localStorage.getItem(`tableforge.${key}`);
  } catch {
    return here.get(key) ?? null;
  }
}

export function keep(key: string, value: string): void {
  try {
    localStorage.setItem(`tableforge.${key}`, value);
  } catch {
    here.set(key, value);
  }
}
