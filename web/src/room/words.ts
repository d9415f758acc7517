/** How the client says numbers, times and lists; the house style of the look (sentence case, units with a space). */

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "long" });

export function timeOfDay(at: string | number): string {
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? "" : clock.format(date);
}

/** "Today, 21:04", "Yesterday, 18:30" or "12 March". */
export function whenWas(at: string, now = new Date()): string {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return "";
  const days = Math.round((startOfDay(now) - startOfDay(date)) / 86_400_000);
  if (days === 0) return `Today, ${clock.format(date)}`;
  if (days === 1) return `Yesterday, ${clock.format(date)}`;
  return day.format(date);
}

function startOfDay(date: Date): number {
  return new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();
}

/** "11.2 of 18.4 MB"; kilobytes under one megabyte. */
export function progressInBytes(sent: number, total: number): string {
  const [unit, size] = total >= 1_000_000 ? ["MB", 1_000_000] : ["kB", 1_000];
  const say = (bytes: number): string => (bytes / size).toFixed(size === 1_000_000 ? 1 : 0);
  return `${say(sent)} of ${say(total)} ${unit}`;
}

export function counted(count: number, one: string, many = `${one}s`): string {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}

/** "Ilse", "Ilse and Tomas", "Ilse, Tomas and Noor". */
export function listed(names: readonly string[]): string {
  if (names.length < 2) return names.join("");
  return `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

/** A total or a die: whole, or up to six decimals, with a real minus sign. */
export function figure(value: number): string {
  return value.toLocaleString("en", { maximumFractionDigits: 6 }).replace("-", "−");
}
