/** The pieces: a few shared sprites each, placed by the list, by a glide, or by the hand that holds them. */
import { Container, Sprite } from "pixi.js";
import type { Person } from "../room/board_port";
import { initials } from "../room/people";
import type { Token } from "../protocol/types";
import { badge, COIN, FRAME_PAD, frame, halo, initialsCoin, notch, pictureBox, pictureCoin, plate } from "./art";
import { CELL, grown, overlaps, visibleBox, type Box, type Size, type View } from "./camera";
import { stacked } from "./hit";
import { Glide, samePlace, type Place } from "./motion";
import type { Palette } from "./palette";
import type { Pictures } from "./pictures";
import { densityFor, type Textures } from "./textures";

/** Under this zoom plates go; between the two they keep their size on the screen. */
const PLATES_FROM = 0.6;
const PLATES_KEEP_TO = 2;
/** So many drawings are baked between two frames; a crowd that comes into view at once is dressed over several. */
const BAKES_A_FRAME = 48;

/** Of a piece that has clothes, but must have new ones. */
const STALE = "stale";

export interface Surroundings {
  readonly palette: Palette;
  readonly textures: Textures;
  readonly pictures: Pictures;
  person(id: string | null): Person | null;
  imageUrl(asset: string): string;
}

interface Piece {
  token: Token;
  /** Where it is shown now, which is not always where it stands. */
  shown: Place;
  glide: Glide | null;
  held: boolean;
  /** A size shown before it is agreed. */
  size: Size | null;
  readonly body: Container;
  readonly art: Sprite;
  readonly frame: Sprite;
  readonly extras: Map<Extra, Sprite>;
  plate: Sprite | null;
  /** A picture turns with the piece; letters stay upright, and the notch says where it looks. */
  turns: boolean;
  /** What its sprites were dressed for; a change means new clothes. */
  worn: string;
}

type Extra = "halo" | "eye" | "lock" | "notch";

export class Pieces {
  /** In board space; plates lie over all coins. */
  readonly bodies = new Container();
  readonly plates = new Container();
  private readonly pieces = new Map<string, Piece>();
  private readonly moving = new Set<Piece>();
  private order: readonly Token[] = [];
  private turn: string | null = null;
  private view: View = { zoom: 1, x: 0, y: 0 };
  private size: Size = { width: 1, height: 1 };
  private pixelRatio = 1;
  private drawnFor: Box | null = null;
  private drawnZoom = 0;

  constructor(private readonly around: Surroundings) {}

  /** Bottom first. */
  get stackedTokens(): readonly Token[] {
    return this.order;
  }

  token(id: string): Token | null {
    return this.pieces.get(id)?.token ?? null;
  }

  /** Where the piece is shown now, in cells. */
  shownBox(id: string): (Box & { rotation: number }) | null {
    const piece = this.pieces.get(id);
    return piece ? { ...piece.shown, ...sizeOf(piece) } : null;
  }

  /**
   * Take over a new list. Pieces that stand elsewhere glide there in `glideMs` of each. Gives the ids that are gone.
   */
  update(tokens: readonly Token[], turn: string | null, now: number, glideMs: (id: string) => number): string[] {
    const present = new Set(tokens.map((token) => token.id));
    const gone = [...this.pieces.keys()].filter((id) => !present.has(id));
    for (const id of gone) this.remove(id);
    let restack = gone.length > 0;
    for (const token of tokens) {
      const known = this.pieces.get(token.id);
      if (!known) {
        this.add(token);
        restack = true;
        continue;
      }
      const before = known.token;
      if (before === token) continue;
      known.token = token;
      if (before.layer !== token.layer || before.width !== token.width || before.height !== token.height)
        restack = true;
      known.size = null;
      if (!known.held) this.glideTo(known, placeOf(token), now, glideMs(token.id));
    }
    this.turn = turn;
    if (restack) {
      this.order = stacked(tokens);
      this.restack();
    } else this.order = this.order.map(({ id }) => this.pieces.get(id)?.token).filter((token) => token !== undefined);
    this.drawnFor = null;
    return gone;
  }

  /** Show the piece here until `release`. */
  hold(id: string, place: Place, size?: Size): void {
    const piece = this.pieces.get(id);
    if (!piece) return;
    piece.held = true;
    piece.glide = null;
    this.moving.delete(piece);
    if (size) {
      piece.size = size;
      this.dress(piece);
    }
    this.put(piece, place);
    piece.body.visible = true;
  }

  /** Let it glide to where the list has it. */
  release(id: string, now: number, ms: number): void {
    const piece = this.pieces.get(id);
    if (!piece?.held) return;
    piece.held = false;
    if (piece.size) {
      piece.size = null;
      this.dress(piece);
    }
    this.glideTo(piece, placeOf(piece.token), now, ms);
  }

  /** Start the next glide from here, as when a preview already showed the way. */
  jump(id: string, place: Place): void {
    const piece = this.pieces.get(id);
    if (piece && !piece.held) this.put(piece, place);
  }

  setView(view: View, size: Size, pixelRatio: number): void {
    this.view = view;
    this.size = size;
    this.pixelRatio = pixelRatio;
  }

  /** Everything new, as after a change of theme. */
  redress(): void {
    for (const piece of this.pieces.values()) piece.worn = STALE;
    this.drawnFor = null;
  }

  /** A picture came: whoever shows it takes it. */
  pictureCame(url: string): void {
    for (const piece of this.pieces.values()) {
      const { image } = piece.token;
      if (image !== null && this.around.imageUrl(image) === url) piece.worn = STALE;
    }
    this.drawnFor = null;
  }

  /** Moves what glides, shows what is in view. True while something still moves. */
  animate(now: number): boolean {
    for (const piece of this.moving) {
      if (!piece.glide) continue;
      this.put(piece, piece.glide.at(now));
      if (!piece.glide.done(now)) continue;
      piece.glide = null;
      this.moving.delete(piece);
    }
    const unfinished = this.cull();
    return unfinished || this.moving.size > 0;
  }

  /** The same coin once more, for a preview of where somebody carries it. */
  likeness(id: string): Container | null {
    const piece = this.pieces.get(id);
    if (!piece) return null;
    this.dress(piece);
    const copy = new Container();
    for (const sprite of [piece.art, piece.frame]) {
      const like = new Sprite({ texture: sprite.texture, anchor: 0.5, alpha: sprite.alpha, rotation: sprite.rotation });
      like.scale.copyFrom(sprite.scale);
      copy.addChild(like);
    }
    return copy;
  }

  private add(token: Token): void {
    const body = new Container({ visible: false });
    const art = new Sprite({ anchor: 0.5 });
    const ring = new Sprite({ anchor: 0.5 });
    body.addChild(art, ring);
    const piece: Piece = {
      token,
      shown: placeOf(token),
      glide: null,
      held: false,
      size: null,
      body,
      art,
      frame: ring,
      extras: new Map(),
      plate: null,
      turns: false,
      worn: "",
    };
    this.pieces.set(token.id, piece);
    this.put(piece, piece.shown);
  }

  private remove(id: string): void {
    const piece = this.pieces.get(id);
    if (!piece) return;
    this.pieces.delete(id);
    this.moving.delete(piece);
    piece.body.destroy({ children: true });
    piece.plate?.destroy();
  }

  private restack(): void {
    this.bodies.removeChildren();
    for (const { id } of this.order) {
      const piece = this.pieces.get(id);
      if (piece) this.bodies.addChild(piece.body);
    }
  }

  private glideTo(piece: Piece, to: Place, now: number, ms: number): void {
    if (samePlace(piece.shown, to) || ms <= 0) {
      piece.glide = null;
      this.moving.delete(piece);
      this.put(piece, to);
      return;
    }
    piece.glide = new Glide(piece.shown, to, now, ms);
    this.moving.add(piece);
  }

  private put(piece: Piece, place: Place): void {
    piece.shown = place;
    const { width, height } = sizeOf(piece);
    piece.body.position.set((place.x + width / 2) * CELL, (place.y + height / 2) * CELL);
    piece.art.rotation = piece.turns ? (place.rotation * Math.PI) / 180 : 0;
    this.placeNotch(piece);
    this.placePlate(piece);
  }

  /** Outside of the ring, where the picture's upper edge looks. */
  private placeNotch(piece: Piece): void {
    const sprite = piece.extras.get("notch");
    if (!sprite) return;
    const coin = coinSize(sizeOf(piece));
    const angle = (piece.shown.rotation * Math.PI) / 180;
    const out = Math.min(coin.width, coin.height) / 2 + 2 + 4.5 * this.keepScale();
    sprite.rotation = angle;
    sprite.position.set(Math.sin(angle) * out, -Math.cos(angle) * out);
  }

  private placePlate(piece: Piece): void {
    if (!piece.plate) return;
    const below = coinSize(sizeOf(piece)).height / 2 + 3.5 * this.keepScale();
    piece.plate.position.set(piece.body.x, piece.body.y + below);
  }

  /** Scale, in board space, of what keeps its size on the screen. */
  private keepScale(): number {
    return 1 / Math.min(PLATES_KEEP_TO, Math.max(PLATES_FROM, this.view.zoom));
  }

  /**
   * Dresses what is in view and a margin around it, hides the rest; does nothing while the view stays in the margin.
   * True when there is more to bake than fits into one frame: what is left wears its old clothes until the next.
   */
  private cull(): boolean {
    const { textures } = this.around;
    const seen = visibleBox(this.view, this.size);
    if (this.drawnFor && this.drawnZoom === this.view.zoom && contains(this.drawnFor, seen)) return false;
    const wide = grown(seen, Math.max(seen.width, seen.height) / 2);
    const keep = this.keepScale();
    const withPlates = this.view.zoom >= PLATES_FROM;
    const full = textures.baked + BAKES_A_FRAME;
    let left = false;
    for (const piece of this.pieces.values()) {
      const size = sizeOf(piece);
      const inView =
        overlaps(wide, { ...placeOf(piece.token), ...size }) || overlaps(wide, { ...piece.shown, ...size });
      const may = textures.baked < full;
      if (inView && may) this.dress(piece);
      else if (inView) left = true;
      piece.body.visible = inView && piece.worn !== "";
      for (const name of ["eye", "lock", "notch"] as const) piece.extras.get(name)?.scale.set(keep);
      this.placeNotch(piece);
      this.showPlate(piece, inView && withPlates, keep, may);
    }
    this.drawnFor = left ? null : wide;
    this.drawnZoom = this.view.zoom;
    return left;
  }

  /** `may`: a new one may be baked; else the old one, if there is one, is shown for now. */
  private showPlate(piece: Piece, visible: boolean, keep: number, may: boolean): void {
    const { palette, textures } = this.around;
    const { token } = piece;
    const named = visible && token.name !== "" && token.layer !== "map";
    if (named && may) {
      const density = this.pixelRatio * (this.view.zoom > PLATES_KEEP_TO ? 2 : 1);
      const moon = secret(token);
      const texture = textures.get(`p|${token.name}|${moon}|${density}`, density, () =>
        plate({ text: token.name, moon }, density, palette),
      );
      if (!piece.plate) {
        piece.plate = new Sprite({ texture, anchor: { x: 0.5, y: 0 }, roundPixels: true });
        this.plates.addChild(piece.plate);
      }
      piece.plate.texture = texture;
    }
    if (!piece.plate) return;
    piece.plate.visible = named;
    piece.plate.scale.set(keep);
    this.placePlate(piece);
  }

  private dress(piece: Piece): void {
    const { token } = piece;
    const { palette, textures, pictures } = this.around;
    const size = sizeOf(piece);
    const scenery = token.layer === "map";
    const coin = scenery ? { width: size.width * CELL, height: size.height * CELL } : coinSize(size);
    const density = densityFor(this.view.zoom, this.pixelRatio, Math.max(coin.width, coin.height) + 2 * FRAME_PAD);
    const owner = this.around.person(token.owner);
    const mark = owner?.mark ?? 0;
    const color = palette.player(mark);
    const hidden = secret(token);
    const hasTurn = token.id === this.turn;
    const worn = [
      token.name,
      token.image,
      coin.width,
      coin.height,
      density,
      mark,
      hidden,
      token.locked,
      hasTurn,
      scenery,
      token.rotation % 360 !== 0,
      this.pixelRatio,
    ].join("|");
    if (worn === piece.worn) return;
    piece.worn = worn;
    const shape = `${coin.width}|${coin.height}|${density}`;
    const picture = token.image === null ? null : pictures.get(this.around.imageUrl(token.image));
    if (picture?.state === "ready") {
      const { bitmap } = picture;
      const cut = scenery ? pictureBox : pictureCoin;
      piece.art.texture = textures.get(`a|${token.image ?? ""}|${scenery}|${shape}`, density, () =>
        cut(bitmap, coin.width, coin.height, density),
      );
    } else {
      const letters = initials(token.name);
      const tint = mark > 0 ? color : palette.player(tintOf(token.name));
      piece.art.texture = textures.get(`i|${letters}|${tint.hex}|${scenery}|${shape}`, density, () =>
        initialsCoin(letters, tint, coin.width, coin.height, density, palette, scenery),
      );
    }
    piece.art.alpha = hidden ? 0.5 : 1;
    piece.turns = picture?.state === "ready";
    piece.art.rotation = piece.turns ? (piece.shown.rotation * Math.PI) / 180 : 0;
    piece.frame.visible = !scenery || hidden;
    piece.frame.texture = textures.get(`f|${mark}|${hidden}|${shape}`, density, () =>
      frame({ ...coin, color, hidden, mark: owner?.markPath ?? "" }, density, palette),
    );
    this.wear(piece, "halo", hasTurn && !scenery, `h|${shape}`, density, () =>
      halo(coin.width, coin.height, density, palette),
    );
    const sharp = 2 * this.pixelRatio;
    const reach = Math.min(coin.width, coin.height) / 2;
    const corner = { x: coin.width / 2 - reach * 0.23, y: coin.height / 2 - reach * 0.23 };
    const eye = this.wear(piece, "eye", hidden, "b|eye", sharp, () => badge("eye-off", sharp, palette));
    eye?.position.set(corner.x, -corner.y);
    const lock = this.wear(piece, "lock", token.locked, "b|lock", sharp, () => badge("lock", sharp, palette));
    lock?.position.set(-corner.x, corner.y);
    const facing = token.rotation % 360 !== 0 && !scenery;
    this.wear(piece, "notch", facing, `n|${mark}|${hidden}`, sharp, () =>
      notch(sharp, hidden ? palette.of.moon : color, palette),
    );
    this.placeNotch(piece);
  }

  private wear(
    piece: Piece,
    name: Extra,
    on: boolean,
    key: string,
    density: number,
    make: () => ReturnType<typeof badge>,
  ): Sprite | null {
    const worn = piece.extras.get(name);
    if (!on) {
      worn?.destroy();
      piece.extras.delete(name);
      return null;
    }
    const texture = this.around.textures.get(key, density, make);
    const sprite = worn ?? new Sprite({ anchor: 0.5 });
    sprite.texture = texture;
    if (!worn) {
      piece.extras.set(name, sprite);
      if (name === "halo") piece.body.addChildAt(sprite, 0);
      else piece.body.addChild(sprite);
      if (name !== "halo") sprite.scale.set(this.keepScale());
    }
    return sprite;
  }
}

export function placeOf(token: Token): Place {
  return { x: token.x, y: token.y, rotation: token.rotation };
}

function sizeOf(piece: Piece): Size {
  const { width, height } = piece.size ?? piece.token;
  return { width, height };
}

export function coinSize(size: Size): Size {
  const margin = (1 - COIN) * CELL * Math.min(size.width, size.height);
  return { width: size.width * CELL - margin, height: size.height * CELL - margin };
}

/** Only GMs ever get these. */
function secret(token: Token): boolean {
  return token.hidden || token.layer === "gm";
}

function tintOf(name: string): number {
  let sum = 0;
  for (const letter of name) sum = (sum * 31 + (letter.codePointAt(0) ?? 0)) >>> 0;
  return (sum % 7) + 1;
}

function contains(outer: Box, inner: Box): boolean {
  return (
    inner.x >= outer.x &&
    inner.y >= outer.y &&
    inner.x + inner.width <= outer.x + outer.width &&
    inner.y + inner.height <= outer.y + outer.height
  );
}
