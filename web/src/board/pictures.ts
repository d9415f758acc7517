/** Fetches and decodes pictures: a few at a time, scaled down to what a board can show, each once. */

/** Longest side kept of a piece's picture, in pixels: enough for two cells at 400 %. */
const PIECE_PIXELS = 640;
const AT_ONCE = 6;

export type Picture =
  | { readonly state: "loading" }
  | { readonly state: "ready"; readonly bitmap: ImageBitmap }
  | { readonly state: "failed" };

const LOADING: Picture = { state: "loading" };
const FAILED: Picture = { state: "failed" };

export class Pictures {
  private readonly known = new Map<string, Picture>();
  private readonly queue: string[] = [];
  private running = 0;
  private closed = false;

  /** `onReady` is called after a picture came or failed. */
  constructor(private readonly onReady: (url: string) => void) {}

  /** What is known of it now; the first question starts the loading. */
  get(url: string): Picture {
    const picture = this.known.get(url);
    if (picture) return picture;
    this.known.set(url, LOADING);
    this.queue.push(url);
    this.pump();
    return LOADING;
  }

  /** Ask again for those that failed, as when the line is back. */
  retryFailed(): void {
    for (const [url, picture] of this.known) {
      if (picture.state !== "failed") continue;
      this.known.delete(url);
      this.onReady(url);
    }
  }

  /** Let go of all but these. */
  keepOnly(urls: ReadonlySet<string>): void {
    for (const [url, picture] of this.known) {
      if (urls.has(url) || picture.state === "loading") continue;
      if (picture.state === "ready") picture.bitmap.close();
      this.known.delete(url);
    }
  }

  close(): void {
    this.closed = true;
    this.queue.length = 0;
    this.keepOnly(new Set());
  }

  private pump(): void {
    while (this.running < AT_ONCE && !this.closed) {
      const url = this.queue.shift();
      if (url === undefined) return;
      this.running++;
      void this.load(url).then((picture) => {
        this.running--;
        if (this.closed) {
          if (picture.state === "ready") picture.bitmap.close();
          return;
        }
        this.known.set(url, picture);
        this.onReady(url);
        this.pump();
      });
    }
  }

  private async load(url: string): Promise<Picture> {
    try {
      const image = await decoded(url);
      const scale = Math.min(1, PIECE_PIXELS / Math.max(image.naturalWidth, image.naturalHeight));
      const bitmap = await createImageBitmap(image, {
        resizeWidth: Math.max(1, Math.round(image.naturalWidth * scale)),
        resizeHeight: Math.max(1, Math.round(image.naturalHeight * scale)),
        resizeQuality: "high",
      });
      return { state: "ready", bitmap };
    } catch {
      // gone, not ours to see, or not a picture: the piece shows its initials instead
      return FAILED;
    }
  }
}

/** The picture, decoded off the main thread. Rejects when it cannot be had. */
export async function decoded(url: string): Promise<HTMLImageElement> {
  const image = new Image();
  image.decoding = "async";
  image.src = url;
  await image.decode();
  if (image.naturalWidth === 0 || image.naturalHeight === 0)
    throw new DOMException("The picture is empty.", "EncodingError");
  return image;
}
