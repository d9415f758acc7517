/** A small picture for a table that has none: a few rooms and passages, always the same ones for the same table. */

export interface TableArt {
  rooms: { x: number; y: number; width: number; height: number; round: boolean }[];
  ways: string[];
  lamps: { x: number; y: number }[];
}

const CELL = 24;

/** Numbers from 0 to 1 that depend on the seed alone. */
function numbers(seed: string): () => number {
  let state = 2_166_136_261;
  for (const letter of seed) state = Math.imul(state ^ (letter.codePointAt(0) ?? 0), 16_777_619) >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Drawn for a box of 336 x 148, in cells of 24. */
export function tableArt(seed: string): TableArt {
  const next = numbers(seed);
  const between = (low: number, high: number): number => low + Math.floor(next() * (high - low + 1));
  const rooms = [0, 1, 2].map((column) => {
    const round = next() > 0.66;
    const height = between(3, 4);
    const width = round ? height : between(3, 4);
    return {
      x: (column * 5 - 1 + between(0, 1)) * CELL,
      y: between(-1, 2) * CELL + 12,
      width: width * CELL,
      height: height * CELL,
      round,
    };
  });
  const middle = (room: (typeof rooms)[number]): [number, number] => [
    room.x + Math.floor(room.width / 2 / CELL) * CELL + CELL / 2,
    room.y + Math.floor(room.height / 2 / CELL) * CELL + CELL / 2,
  ];
  const ways = rooms.slice(1).map((room, at) => {
    const [fromX, fromY] = middle(rooms[at] ?? room);
    const [toX, toY] = middle(room);
    return `M${fromX} ${fromY}H${toX}V${toY}`;
  });
  const lamps = rooms.map((room) => {
    const [x, y] = room.round ? [room.width / 2, room.height / 2] : [CELL * 1.5, CELL * 1.5];
    return { x: room.x + x, y: room.y + y };
  });
  return { rooms, ways, lamps };
}
