/** The Lucide icons that the client shows; the build puts exactly these into the page's sprite. */
export const ICONS = [
  "arrow-left", "arrow-right", "arrow-up", "check", "chevron-down", "chevron-up", "copy", "crosshair", "crown", "dices",
  "door-open", "download", "ellipsis", "eye", "eye-off", "file-x", "grid-3x3", "hand", "image-plus", "keyboard",
  "key-round", "link", "list-ordered", "lock", "lock-open", "log-out", "map", "map-plus", "maximize", "message-square",
  "minus", "moon", "mouse-pointer-2", "panel-right", "pencil", "plus", "redo-2", "rotate-cw", "ruler", "search", "settings",
  "sun", "swords", "trash-2", "triangle-alert", "undo-2", "user", "user-minus", "users", "wifi-off", "x",
] as const;

export type IconName = (typeof ICONS)[number];
