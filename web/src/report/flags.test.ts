import { describe, expect, it } from "vitest";
import { placed } from "./flags";

describe("labels of moments", () => {
  it("stand to the right of their lines, to the left at the edge", () => {
    expect(placed([{ at: 50, width: 60 }, { at: 290, width: 60 }], 40, 300, 1)).toEqual([
      { left: 55, row: 0 },
      { left: 225, row: 0 },
    ]); // prettier-ignore
  });

  it("take another row where they would touch", () => {
    const found = placed([{ at: 50, width: 60 }, { at: 80, width: 60 }, { at: 90, width: 60 }], 40, 300, 3); // prettier-ignore
    expect(found?.map((one) => one.row)).toEqual([0, 1, 2]);
  });

  it("become numbers where all rows are full", () => {
    expect(placed([{ at: 50, width: 60 }, { at: 80, width: 60 }], 40, 300, 1)).toBeNull(); // prettier-ignore
    expect(placed([{ at: 60, width: 400 }], 40, 300, 3)).toBeNull();
  });
});
