import type { IconName } from "../look/icons";

/** One row of a menu; `checked` makes it one of a choice. */
export interface MenuItem {
  label: string;
  icon?: IconName;
  tone?: "gm" | "bad";
  key?: string;
  disabled?: boolean;
  checked?: boolean;
  /** A line above this row. */
  apart?: boolean;
  run: () => void;
}
