/** Pointer, wheel and drop events of the board's canvas, turned into gestures. */
import type { Point } from "../protocol/types";
import type { Board } from "./board";
import { panBy, toBoard, wheelFactor, zoomTo } from "./camera";
import type { Device, Mods } from "./gestures";

/** Listens until the function it gives is called. `ondrop` gets files let fall on the board, and the cell under them. */
export function listenToPointers(board: Board, ondrop: (files: File[], at: Point) => void): () => void {
  const { canvas, hands, host, lens } = board;
  const { gestures } = hands;
  const ending = new AbortController();
  let timer: ReturnType<typeof setTimeout> | null = null;

  const at = (event: MouseEvent): Point => {
    const corner = canvas.getBoundingClientRect();
    return { x: event.clientX - corner.left, y: event.clientY - corner.top };
  };
  /** A button held still becomes a long press: ask the gestures again then. */
  const arm = (): void => {
    if (timer !== null) clearTimeout(timer);
    const due = gestures.dueAt;
    timer = due === null ? null : setTimeout(tick, Math.max(0, due - performance.now()) + 1);
  };
  const tick = (): void => {
    timer = null;
    // moves that wait in the queue come before the next frame: they may say that this is no long press after all
    requestAnimationFrame(() => hands.run(gestures.feed({ type: "tick", time: performance.now() })));
  };

  const down = (event: PointerEvent): void => {
    const point = at(event);
    const device = deviceOf(event);
    host.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    hands.hover(point, false);
    const { pointerId: id, button } = event;
    const target = hands.targetAt(point, device === "touch");
    const time = performance.now();
    hands.run(gestures.feed({ type: "down", id, device, button, at: point, mods: modsOf(event), time, target }));
    arm();
    event.preventDefault();
  };
  const move = (event: PointerEvent): void => {
    const point = at(event);
    hands.hover(point, event.pointerType !== "touch");
    hands.run(
      gestures.feed({ type: "move", id: event.pointerId, at: point, mods: modsOf(event), time: performance.now() }),
    );
    arm();
  };
  const up = (event: PointerEvent): void => {
    const point = at(event);
    hands.run(
      gestures.feed({ type: "up", id: event.pointerId, at: point, mods: modsOf(event), time: performance.now() }),
    );
    if (event.pointerType === "touch") hands.hover(null, false);
    arm();
  };
  const cancel = (event: PointerEvent): void => {
    hands.run(gestures.feed({ type: "cancel", id: event.pointerId }));
    arm();
  };
  const wheel = (event: WheelEvent): void => {
    event.preventDefault();
    const { view } = lens;
    if (!event.ctrlKey && Math.abs(event.deltaX) > Math.abs(event.deltaY)) lens.look(panBy(view, -event.deltaX, 0));
    else lens.look(zoomTo(view, view.zoom * wheelFactor(event.deltaY, event.deltaMode, event.ctrlKey), at(event)));
    hands.refreshCursor();
  };
  const over = (event: DragEvent): void => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
  };
  const drop = (event: DragEvent): void => {
    const files = [...(event.dataTransfer?.files ?? [])];
    if (files.length === 0) return;
    event.preventDefault();
    ondrop(files, toBoard(lens.view, at(event)));
  };

  const { signal } = ending;
  canvas.addEventListener("pointerdown", down, { signal });
  canvas.addEventListener("pointermove", move, { signal });
  canvas.addEventListener("pointerup", up, { signal });
  canvas.addEventListener("pointercancel", cancel, { signal });
  canvas.addEventListener("pointerleave", () => hands.hover(null, false), { signal });
  canvas.addEventListener("wheel", wheel, { signal, passive: false });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault(), { signal });
  // the middle button would start the browser's own scrolling
  canvas.addEventListener("mousedown", (event) => event.button === 1 && event.preventDefault(), { signal });
  host.addEventListener("dragover", over, { signal });
  host.addEventListener("drop", drop, { signal });
  return () => {
    ending.abort();
    if (timer !== null) clearTimeout(timer);
  };
}

function deviceOf(event: PointerEvent): Device {
  return event.pointerType === "touch" || event.pointerType === "pen" ? event.pointerType : "mouse";
}

function modsOf(event: PointerEvent): Mods {
  return { shift: event.shiftKey, ctrl: event.ctrlKey || event.metaKey, alt: event.altKey };
}
