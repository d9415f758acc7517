/** How much room there is: phones get sheets in place of the dock. The widths are those of small.css. */
import { MediaQuery } from "svelte/reactivity";

class Narrow {
  private readonly phoneQuery = new MediaQuery("(max-width: 720px)");
  private readonly tabletQuery = new MediaQuery("(max-width: 1100px)");

  get phone(): boolean {
    return this.phoneQuery.current;
  }

  get desk(): boolean {
    return !this.tabletQuery.current;
  }

  /** Width of the dock in CSS pixels, as tokens.css and small.css have it. */
  get dock(): number {
    return this.tabletQuery.current ? 312 : 348;
  }
}

export const narrow = new Narrow();
